"""Kinematics in the plane."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def dead_reckoning(
    velocity: Float[Array, "T 2"], turning: Float[Array, " T"], seconds: float | Float[Array, ""]
) -> tuple[Float[Array, "T 2"], Float[Array, " T"]]:
    r"""Positions and headings of a body, from the velocities that it measures in its own frame.

    The results are in the frame of its first pose:

    .. math::
        \theta_{t+1} = \theta_t + \bar\omega_t \Delta, \qquad p_{t+1} = p_t + \Delta\,
        \frac{\sin(\bar\omega_t \Delta / 2)}{\bar\omega_t \Delta / 2}\, R\big(\theta_t + \bar\omega_t \Delta / 2\big)
        \, \bar v_t

    :math:`\bar v_t` and :math:`\bar\omega_t` are the means of the measurements at t and t + 1. The displacement is the
    chord of an arc, so it is exact if both are constant between t and t + 1.

    Args:
        velocity: in metres per second, along the body's x and y axes.
        turning: in radians per second, anticlockwise.
        seconds: Δ, the time between two measurements.

    Returns:
        Positions in metres and headings in radians.
    """
    turned = (turning[1:] + turning[:-1]) / 2 * seconds
    heading = jnp.concatenate([jnp.zeros(1, turning.dtype), jnp.cumsum(turned)])
    x, y = ((velocity[1:] + velocity[:-1]) / 2 * jnp.sinc(turned / (2 * jnp.pi))[:, None] * seconds).T
    cosine, sine = jnp.cos(heading[:-1] + turned / 2), jnp.sin(heading[:-1] + turned / 2)
    moved = jnp.stack([cosine * x - sine * y, sine * x + cosine * y], 1)
    return jnp.concatenate([jnp.zeros((1, 2), velocity.dtype), jnp.cumsum(moved, 0)]), heading
