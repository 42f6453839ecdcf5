"""Soft values and the temperature, by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.ops.soft import soft_values, temperature_loss


def test_entropy_is_worth_its_temperature():
    # 2 + .5 · .8 = 2.4; a likely action (ln π = 1) is worth less, 2 - .5.
    found = soft_values(jnp.array([2.0, 2.0]), jnp.array([-0.8, 1.0]), jnp.array(0.5))
    np.testing.assert_allclose(found, [2.4, 1.5], rtol=1e-6)


@pytest.mark.parametrize(("entropy", "slope"), [(0.8, 0.9), (-1.0, 0.0), (-3.0, -1.0)])
def test_the_temperature_falls_while_the_entropy_is_above_its_target(entropy, slope):
    # α = .5, target -1: the slope is .5 (H + 1), and a step against it lowers α where it is positive.
    loss = jax.jit(temperature_loss, static_argnums=2)
    found = jax.grad(loss)(jnp.log(jnp.array(0.5)), jnp.array(entropy), -1.0)
    np.testing.assert_allclose(found, slope, atol=1e-6)
