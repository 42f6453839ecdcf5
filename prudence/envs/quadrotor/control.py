"""The inner loop that keeps a quadrotor stable: from a velocity to the four rotors' forces.

A simplified geometric controller (Lee, Leok and McClamroch 2010, "Geometric tracking control of a quadrotor UAV on
SE(3)"): only the direction of the thrust and the turning rate are held, so that no heading is needed.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from prudence.envs.quadrotor.model import Airframe

GRAVITY = 9.81
ATTITUDE_GAIN, RATE_GAIN = 100.0, 20.0
"""Per s² and per s: critically damped with a time constant of 0.1 s."""
TURNING_GAIN = 5.0
VELOCITY_GAIN = 2.5
MAX_ACCELERATION = 4.0
"""m/s²: a tilt of 22°, and within what the rotors can lift."""


def hold_velocity(wanted: Float[np.ndarray, " 3"], velocity: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 3"]:
    """The acceleration, in m/s², that brings ``velocity`` to what is wanted; both in one frame, in m/s."""
    return limited(VELOCITY_GAIN * (wanted - velocity), MAX_ACCELERATION)


def rotor_forces(
    airframe: Airframe,
    acceleration: Float[np.ndarray, " 3"],
    turning: float,
    rotation: Float[np.ndarray, "3 3"],
    rates: Float[np.ndarray, " 3"],
) -> Float[np.ndarray, " 4"]:
    r"""Forces that turn the thrust towards where it accelerates the body as wanted, and hold it there.

    With :math:`f = R^T (a + g e_z)` the specific force in the body's frame, :math:`\theta` its angle from the body's z
    axis and :math:`e` the unit vector along :math:`e_z \times f`,

    .. math::
        T = m f_z, \qquad \tau = J \big(k_R\, \theta e - k_\omega\, (\omega_x, \omega_y, 0)
        + k_\psi\, (0, 0, \dot\psi - \omega_z)\big)

    Args:
        acceleration: a, in the world's frame, in m/s².
        turning: :math:`\dot\psi` about the body's z axis, in rad/s.
        rotation: R, of which the columns are the body's axes.
        rates: :math:`\omega` in the body's frame, in rad/s.

    Returns:
        Newtons, as :data:`~prudence.envs.quadrotor.model.ROTORS` are ordered; see :func:`feasible`.
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
    """Forces between ``low`` and ``high`` that keep the torques, for which the thrust gives way; where there are none,
    clipped."""
    shift = min(high - forces.max(), 0.0) or max(low - forces.min(), 0.0)
    return np.clip(forces + shift, low, high)


def limited(vector: Float[np.ndarray, " n"], longest: float) -> Float[np.ndarray, " n"]:
    """``vector``, shortened to ``longest`` if it is longer."""
    length = np.sqrt(vector @ vector)
    return vector if length <= longest else vector * (longest / length)
