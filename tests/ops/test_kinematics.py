"""Dead reckoning by hand: what moves straight, in circles, and in both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.ops.kinematics import dead_reckoning


@pytest.mark.parametrize("compile_it", [jax.jit, lambda f: f])
def test_straight_ahead_and_sideways(compile_it):
    """Half a second at 2 m/s ahead, then on average 1 m/s ahead and 1 m/s to the left: 1 m, and half a metre each."""
    velocity = jnp.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
    position, heading = compile_it(dead_reckoning)(velocity, jnp.zeros(3), 0.5)
    np.testing.assert_allclose(position, [[0, 0], [1, 0], [1.5, 0.5]], atol=1e-6)
    np.testing.assert_allclose(heading, [0, 0, 0])


def test_a_circle_is_closed_whatever_the_length_of_a_step():
    """At π m/s and π/2 rad/s the radius is 2 m; a second is a quarter of the circle around (0, 2)."""
    velocity, turning = jnp.tile(jnp.array([jnp.pi, 0.0]), (5, 1)), jnp.full(5, jnp.pi / 2)
    position, heading = dead_reckoning(velocity, turning, 1.0)
    np.testing.assert_allclose(position, [[0, 0], [2, 2], [0, 4], [-2, 2], [0, 0]], atol=1e-5)
    np.testing.assert_allclose(heading, np.arange(5) * np.pi / 2, rtol=1e-6)


def test_turning_on_the_spot_and_then_ahead():
    """A quarter turn to the right at rest; then, no longer turning, 3 m ahead: along -y."""
    velocity = jnp.array([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    turning = jnp.array([-jnp.pi, 0.0, 0.0, 0.0])
    position, heading = dead_reckoning(velocity, turning, 1.0)
    np.testing.assert_allclose(heading, [0, -np.pi / 2, -np.pi / 2, -np.pi / 2], rtol=1e-6)
    np.testing.assert_allclose(position, [[0, 0], [0, 0], [0, -1.5], [0, -4.5]], atol=1e-6)
