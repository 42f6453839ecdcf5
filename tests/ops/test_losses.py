"""Free bits and cross-entropy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.ops.losses import balanced_kl, binary_cross_entropy


def test_free_nats_act_on_each_entry():
    dynamics, representation = balanced_kl(jnp.array([0.2, 3.0]), jnp.array([5.0, 0.9]), 1.0)
    np.testing.assert_allclose(dynamics, [1.0, 3.0])
    np.testing.assert_allclose(representation, [5.0, 1.0])


def test_no_gradient_below_the_free_nats():
    slope = jax.grad(lambda kl: balanced_kl(kl, kl, 1.0)[0].sum())(jnp.array([0.2, 3.0]))
    np.testing.assert_allclose(slope, [0.0, 1.0])


@pytest.mark.parametrize(("logit", "target"), [(0.0, 1.0), (1.5, 0.0), (-2.0, 0.3)])
def test_binary_cross_entropy(logit, target):
    p = 1 / (1 + np.exp(-logit))
    expected = -target * np.log(p) - (1 - target) * np.log(1 - p)
    assert binary_cross_entropy(jnp.array(logit), jnp.array(target)) == pytest.approx(expected, rel=1e-5)


def test_binary_cross_entropy_is_finite_for_large_logits():
    assert binary_cross_entropy(jnp.array(1e4), jnp.array(0.0)) == 1e4
