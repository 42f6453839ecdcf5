"""Optimiser steps by hand."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.nets import Linear
from prudence.optim import Optimised, OptimiserConfig


def layer(weight: float) -> Linear:
    net = Linear(1, 1, key=jax.random.key(0))
    return eqx.tree_at(lambda n: (n.weight, n.bias), net, (jnp.full((1, 1), weight), jnp.zeros(1)))


def test_adams_first_step_is_the_learning_rate():
    net, gradient = layer(3.0), layer(0.02)
    after, metrics = Optimised.init(net, OptimiserConfig(0.1)).descend(gradient, "net")
    assert after.module.weight == pytest.approx(2.9, rel=1e-4)
    assert after.module.bias == 0.0
    assert metrics["net/gradient_norm"] == pytest.approx(0.02)


def test_the_gradient_norm_is_clipped():
    # With eps = 1, Adam's first step is rate · g / (|g| + 1): g = 10 is clipped to 1, so half the rate.
    after, metrics = Optimised.init(layer(3.0), OptimiserConfig(0.1, clip=1.0, eps=1.0)).descend(layer(10.0), "net")
    assert after.module.weight == pytest.approx(2.95)
    assert metrics["net/gradient_norm"] == pytest.approx(10.0)  # As it was before clipping.


def test_laprop_steps_against_the_gradient_whatever_its_size():
    config = OptimiserConfig(0.1, kind="laprop", clip=1e9)
    for size in (1e-3, 1e3):
        state = Optimised.init(layer(3.0), config)
        for expected in (2.9, 2.8, 2.7):  # The momentum is a mean of steps, not their sum.
            state, _ = state.descend(layer(size), "net")
            assert state.module.weight == pytest.approx(expected, rel=1e-3)


def test_warm_up_starts_at_zero():
    state = Optimised.init(layer(3.0), OptimiserConfig(0.1, warmup=10))
    weights = []
    for _ in range(3):
        state, _ = state.descend(layer(0.02), "net")
        weights.append(float(state.module.weight[0, 0]))
    # Rates 0, .01, .02 on a constant gradient.
    np.testing.assert_allclose(weights, [3.0, 2.99, 2.97], rtol=1e-4)


def test_a_cyclic_rate_starts_each_cycle_at_its_peak():
    # LAMBDA's: 5e-4 at steps 0 and 400, 1e-4 at 200, 3e-4 at 100 and, as at every snapshot of SWAG, at 500.
    rate = OptimiserConfig(1e-4, cycle=400, cycle_peak=5.0).rate
    np.testing.assert_allclose([rate(n) for n in (0, 100, 200, 400, 500, 700)], np.array([5, 3, 1, 5, 3, 3]) * 1e-4)
    with pytest.raises(ValueError, match="cycle and warmup exclude each other"):
        OptimiserConfig(1e-4, cycle=400, warmup=10)
