"""The quadrotor's MuJoCo model, and the properties of it that controllers need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float

_XML = Path(__file__).parent.parent / "assets" / "quadrotor.xml"
HAZARD_RADIUS, HAZARD_HEIGHT = 0.1, 1.0
GOAL_RADIUS = 0.3
BODY_RADIUS = 0.18
"""Distance from the centre to the tip of a propeller, in metres."""
ROTORS = ("front_left", "back_left", "back_right", "front_right")


def make_spec(hazards: int) -> mujoco.MjSpec:
    """The model of the quadrotor, the goal and ``hazards`` hazards with the names ``hazard0``, ``hazard1``, ...

    The goal and the hazards are mocap bodies, so they can be moved.
    """
    spec = mujoco.MjSpec.from_file(str(_XML))
    style = spec.find_default("hazard")
    for i in range(hazards):
        body = spec.worldbody.add_body(name=f"hazard{i}", mocap=True, pos=[0, 0, HAZARD_HEIGHT / 2])
        body.add_geom(style, name=f"hazard{i}")
    return spec


@dataclass(frozen=True, eq=False)
class Airframe:
    """The properties of the quadrotor that a controller needs.

    Attributes:
        mass: mass in kg.
        inertia: ``[3]`` moments of inertia about the body's axes, in kg m².
        mixing: ``[4, 4]`` matrix from the rotors' forces (N) to thrust (N) and torques about x, y, z (N m).
        allocation: ``[4, 4]`` inverse of ``mixing``: from thrust and torques to the rotors' forces.
    """

    mass: float
    inertia: Float[np.ndarray, " 3"]
    mixing: Float[np.ndarray, "4 4"]
    allocation: Float[np.ndarray, "4 4"]

    @property
    def hover(self) -> float:
        """The force of each rotor in hovering flight, a quarter of the weight, in N."""
        return self.mass * 9.81 / 4


def airframe(model: mujoco.MjModel) -> Airframe:
    """Reads the airframe from the model's body, sites and actuators."""
    body = model.body("agent").id
    x, y, _ = np.array([model.site(name).pos for name in ROTORS]).T
    twist = np.array([model.actuator(name).gear[5] for name in ROTORS])
    # A force at (x, y) along z has the torque (y, -x, 0).
    mixing = np.stack([np.ones(4), y, -x, twist])
    # The principal axes are the body's axes, but MuJoCo sorts them by size.
    turn = np.zeros(9)
    mujoco.mju_quat2Mat(turn, model.body_iquat[body])
    turn = turn.reshape(3, 3)
    inertia = np.diag(turn @ np.diag(model.body_inertia[body]) @ turn.T)
    return Airframe(float(model.body_mass[body]), inertia, mixing, np.linalg.inv(mixing))
