"""The two robots of SafeReach: a hand without an arm, and a Franka Emika Panda. Both bring their fingertips to a pose.

A *pose* is the fingertips' position in metres, then a rotation vector in rad, in the world's frame. With a rotation of
0 the fingers point straight down.
"""

from __future__ import annotations

import abc
from pathlib import Path

import mujoco
import numpy as np
from jaxtyping import Float

from prudence.envs.reach.scene import furnish
from prudence.envs.reach.task import START, Variant

_HAND = Path(__file__).parent.parent / "assets" / "reach_hand.xml"
TIP = "tip"
"""Name of the site between the fingertips."""

_ARM = slice(0, 7)
_HOME = (0.0, -0.4, 0.0, -2.5, 0.0, 0.53, 0.0)
"""Angles of the arm's joints (rad) near ``START``, with the fingers down."""
_REACH = 0.26
"""From the origin of the Panda's last link to its fingertips, in metres."""
STEEL, RUBBER = (0.86, 0.88, 0.9, 1.0), (0.3, 0.32, 0.36, 1.0)
"""Colours of the arm and of the fingers."""
_DAMPING = 1e-3
"""λ², in m² and rad²."""


class Robot(abc.ABC):
    """A robot in a scene.

    Attributes:
        spec: the model's specification: the robot, and what :func:`~prudence.envs.reach.scene.furnish` adds.
        model: the compiled model.
        bodies: numbers of the robot's bodies.
    """

    spec: mujoco.MjSpec
    model: mujoco.MjModel
    bodies: tuple[int, ...]

    @abc.abstractmethod
    def place(self, data: mujoco.MjData, pose: Float[np.ndarray, " 6"]) -> None:
        """Puts the robot at rest at ``pose``, which it also holds."""

    @abc.abstractmethod
    def drive(self, data: mujoco.MjData, pose: Float[np.ndarray, " 6"]) -> None:
        """Makes the robot move towards ``pose`` in the physics steps that follow."""

    @abc.abstractmethod
    def pose(self, data: mujoco.MjData) -> Float[np.ndarray, " 6"]:
        """Where the fingertips are."""


class Hand(Robot):
    """A hand without an arm, on a spring that follows the command."""

    def __init__(self, variant: Variant) -> None:
        self.spec = mujoco.MjSpec.from_file(str(_HAND))
        furnish(self.spec, variant)
        self.model = self.spec.compile()
        self.bodies = (self.model.body("hand").id,)
        self._joint = self.model.joint("hand").qposadr[0]

    def place(self, data: mujoco.MjData, pose: Float[np.ndarray, " 6"]) -> None:
        self.drive(data, pose)
        data.qpos[self._joint : self._joint + 7] = np.concatenate([pose[:3], quaternion(pose[3:])])

    def drive(self, data: mujoco.MjData, pose: Float[np.ndarray, " 6"]) -> None:
        data.mocap_pos[0], data.mocap_quat[0] = pose[:3], quaternion(pose[3:])

    def pose(self, data: mujoco.MjData) -> Float[np.ndarray, " 6"]:
        start = self._joint
        return np.concatenate([data.qpos[start : start + 3], rotation_vector(data.qpos[start + 3 : start + 7])])


class Panda(Robot):
    """A Franka Emika Panda with closed fingers. Its position actuators get the angles of inverse kinematics."""

    def __init__(self, variant: Variant, assets: Path) -> None:
        """``assets`` is the folder of its model, :func:`prudence.envs.reach.find_panda`."""
        self.spec = _panda(assets)
        arm = [body.name for body in self.spec.bodies if body.name.startswith("panda0")]
        furnish(self.spec, variant)
        self.model = self.spec.compile()
        self.bodies = tuple(self.model.body(name).id for name in arm)
        self._tip = self.model.site(TIP).id
        self._imagined = mujoco.MjData(self.model)
        self._imagined.qpos[_ARM] = _HOME
        self._home = self._solve(np.concatenate([START, np.zeros(3)]), iterations=100)

    def place(self, data: mujoco.MjData, pose: Float[np.ndarray, " 6"]) -> None:
        self._imagined.qpos[_ARM] = self._home
        data.qpos[_ARM] = data.ctrl[_ARM] = self._solve(pose, iterations=20)

    def drive(self, data: mujoco.MjData, pose: Float[np.ndarray, " 6"]) -> None:
        self._imagined.qpos[_ARM] = data.ctrl[_ARM]
        data.ctrl[_ARM] = self._solve(pose, iterations=3)

    def pose(self, data: mujoco.MjData) -> Float[np.ndarray, " 6"]:
        turn = np.zeros(4)
        mujoco.mju_mat2Quat(turn, data.site_xmat[self._tip])
        return np.concatenate([data.site_xpos[self._tip], rotation_vector(turn)])

    def _solve(self, pose: Float[np.ndarray, " 6"], iterations: int) -> Float[np.ndarray, " 7"]:
        r"""Angles that bring the fingertips to ``pose``, from those of the imagined arm, by damped least squares.

        :math:`q \leftarrow q + J^T (J J^T + \lambda^2 I)^{-1} e`, with the error :math:`e` of position and rotation.
        """
        data, limits = self._imagined, self.model.jnt_range[_ARM]
        jacobian, wanted = np.zeros((6, self.model.nv)), quaternion(pose[3:])
        for _ in range(iterations):
            mujoco.mj_kinematics(self.model, data)
            mujoco.mj_comPos(self.model, data)
            mujoco.mj_jacSite(self.model, data, jacobian[:3], jacobian[3:], self._tip)
            error = np.concatenate([pose[:3] - data.site_xpos[self._tip], self._turn_to(wanted)])
            arm = jacobian[:, _ARM]
            moved = arm.T @ np.linalg.solve(arm @ arm.T + _DAMPING * np.eye(6), error)
            data.qpos[_ARM] = np.clip(data.qpos[_ARM] + moved, limits[:, 0], limits[:, 1])
        return data.qpos[_ARM].copy()

    def _turn_to(self, wanted: Float[np.ndarray, " 4"]) -> Float[np.ndarray, " 3"]:
        """The rotation vector, in the world's frame, that turns the imagined fingertips to ``wanted``."""
        turn = np.zeros(4)
        mujoco.mju_mat2Quat(turn, self._imagined.site_xmat[self._tip])
        turn[1:] *= -1
        product = np.zeros(4)
        mujoco.mju_mulQuat(product, wanted, turn)
        return rotation_vector(product)


def quaternion(rotation: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 4"]:
    """The unit quaternion of a rotation vector (rad)."""
    found, angle = np.zeros(4), float(np.linalg.norm(rotation))
    mujoco.mju_axisAngle2Quat(found, rotation / max(angle, 1e-12), angle)
    return found


def rotation_vector(turn: Float[np.ndarray, " 4"]) -> Float[np.ndarray, " 3"]:
    """The rotation vector (rad) of a unit quaternion."""
    found = np.zeros(3)
    mujoco.mju_quat2Vel(found, turn, 1.0)
    return found


def _panda(assets: Path) -> mujoco.MjSpec:
    """The Panda's model with its collision meshes only, and a site at the fingertips."""
    parts = ("assets.xml", "chain.xml", "actuator.xml")
    text = (
        '<mujoco model="reach_panda"><include file="assets.xml"/><worldbody><include file="chain.xml"/></worldbody>'
        '<include file="actuator.xml"/></mujoco>'
    )
    spec = mujoco.MjSpec.from_string(text, include={part: (assets / part).read_bytes() for part in parts})
    spec.meshdir = str(assets / "meshes")
    for thing in [*spec.geoms, *spec.meshes]:  # The other meshes are finer, and drawing them takes 20 times as long.
        if getattr(thing, "meshname", thing.name).endswith("_viz"):
            spec.delete(thing)
    for body in spec.bodies:
        body.gravcomp = 1.0  # The compiled model would ignore it.
    for geom in spec.geoms:
        geom.rgba = STEEL if geom.type == mujoco.mjtGeom.mjGEOM_MESH else RUBBER
    # The last link's z axis points down. Turned about x by half a turn, the site is parallel to the world.
    turn = np.zeros(4)
    mujoco.mju_mulQuat(turn, [np.cos(np.pi / 8), 0, 0, -np.sin(np.pi / 8)], [0.0, 1.0, 0.0, 0.0])
    spec.body("panda0_link7").add_site(name=TIP, pos=[0, 0, _REACH], quat=turn, rgba=[0, 0, 0, 0])
    return spec
