"""The inner control loop that keeps a quadrotor stable: from a velocity to the four rotors' forces.

It is a simplified geometric controller (Lee, Leok and McClamroch 2010, "Geometric tracking control of a quadrotor UAV
on SE(3)"). It tracks only the direction of the thrust and the turning rate, so it needs no heading.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from prudence.envs.quadrotor.model import Airframe

GRAVITY = 9.81
ATTITUDE_GAIN, RATE_GAIN = 100.0, 20.0
"""In 1/s² and 1/s. The attitude is critically damped, with a time constant of 0.1 s."""
TURNING_GAIN = 5.0
VELOCITY_GAIN = 2.5
MAX_ACCELERATION = 4.0
"""In m/s². It corresponds to a tilt of 22°, and the rotors have enough force for it."""


def hold_velocity(wanted: Float[np.ndarray, " 3"], velocity: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 3"]:
    """The acceleration, in m/s², that brings ``velocity`` to ``wanted``. Both are in m/s in the same frame."""
    return limited(VELOCITY_GAIN * (wanted - velocity), MAX_ACCELERATION)


def rotor_forces(
    airframe: Airframe,
    acceleration: Float[np.ndarray, " 3"],
    turning: float,
    rotation: Float[np.ndarray, "3 3"],
    rates: Float[np.ndarray, " 3"],
) -> Float[np.ndarray, " 4"]:
    r"""Rotor forces that turn the thrust to the direction of the wanted acceleration, and keep it there.

    The specific force in the body's frame is :math:`f = R^T (a + g e_z)`. :math:`\theta` is its angle from the body's
    z axis, and :math:`e` is the unit vector along :math:`e_z \times f`. Thrust and torque are

    .. math::
        T = m f_z, \qquad \tau = J \big(k_R\, \theta e - k_\omega\, (\omega_x, \omega_y, 0)
        + k_\psi\, (0, 0, \dot\psi - \omega_z)\big)

    Args:
        airframe: mass, inertia and geometry of the quadrotor.
        acceleration: a, the wanted acceleration in the world's frame, in m/s².
        turning: :math:`\dot\psi`, the wanted turning rate about the body's z axis, in rad/s.
        rotation: R; its columns are the body's axes.
        rates: :math:`\omega`, the angular velocity in the body's frame, in rad/s.

    Returns:
        Forces in newtons, in the order of :data:`~prudence.envs.quadrotor.model.ROTORS`. They may be out of the
        rotors' range; see :func:`feasible`.
    """
    force = rotation.T @ (acceleration + np.array([0.0, 0.0, GRAVITY]))
    x, y, z = force
    aside = np.hypot(x, y)
    x, y = np.array([x, y]) * (np.arctan2(aside, z) / max(aside, 1e-9))
    wx, wy, wz = rates
    turn = np.array(
        [-ATTITUDE_GAIN * y - RATE_GAIN * wx, ATTITUDE_GAIN * x - RATE_GAIN * wy, TURNING_GAIN * (turning - wz)]
    )
    return airframe.allocation @ np.r_[airframe.mass * force[2], airframe.inertia * turn]


def feasible(forces: Float[np.ndarray, " 4"], low: float, high: float) -> Float[np.ndarray, " 4"]:
    """Brings forces into the range from ``low`` to ``high``.

    All forces shift by the same amount, which changes the thrust but keeps the torques. Forces that are still out of
    range are clipped.
    """
    shift = min(high - forces.max(), 0.0) or max(low - forces.min(), 0.0)
    return np.clip(forces + shift, low, high)


def limited(vector: Float[np.ndarray, " n"], longest: float) -> Float[np.ndarray, " n"]:
    """``vector``, shortened to ``longest`` if it is longer."""
    length = np.sqrt(vector @ vector)
    return vector if length <= longest else vector * (longest / length)
