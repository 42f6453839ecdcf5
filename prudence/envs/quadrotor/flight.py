"""The physics of one episode: a quadrotor, a goal and hazards in MuJoCo."""

from __future__ import annotations

from typing import Literal

import mujoco
import numpy as np
from jaxtyping import Float

from prudence.envs.quadrotor import control
from prudence.envs.quadrotor.model import HAZARD_HEIGHT, airframe, make_spec
from prudence.envs.quadrotor.task import Arena, Level

Actions = Literal["rotors", "velocity"]
SUBSTEPS = 2
"""Physics steps of 10 ms in a raw step. Two are enough, because the integrator is of fourth order."""
SWING = 0.5
"""The largest change of a rotor's force, as a share of its hovering force."""
MAX_VELOCITY = np.array([1.5, 1.5, 1.0])
MAX_TURNING = 2.0
"""The meaning of an action of 1: ``MAX_VELOCITY`` forward, to the left and upwards in m/s, and ``MAX_TURNING`` to the
left in rad/s."""


class Flight:
    """The physics model and its state. The model is the same in every episode of a level.

    Attributes:
        arena: the arena of the episode.
        goal: ``[3]`` position of the goal in the world, in metres.
        hazards: ``[n, 3]`` current positions of the hazards' centres in the world, in metres.
        airframe: properties of the quadrotor, for controllers.
        seconds_per_step: duration of a raw step.
    """

    arena: Arena
    goal: Float[np.ndarray, " 3"]
    hazards: Float[np.ndarray, "n 3"]

    def __init__(self, level: Level, actions: Actions) -> None:
        self.spec = make_spec(level.hazards)
        self.model = self.spec.compile()
        self.data = mujoco.MjData(self.model)
        self.airframe = airframe(self.model)
        self._actions, self._moving = actions, level.moving > 0
        self.seconds_per_step = self.model.opt.timestep * SUBSTEPS

    def begin(self, arena: Arena) -> None:
        """Starts an episode: the quadrotor is level and at rest at the start of ``arena``. Place the goal next."""
        mujoco.mj_resetData(self.model, self.data)
        self.arena = arena
        self.data.qpos[:3] = arena.start
        self.data.qpos[3:] = np.cos(arena.yaw / 2), 0.0, 0.0, np.sin(arena.yaw / 2)
        self._place_hazards()

    def place_goal(self, goal: Float[np.ndarray, " 3"]) -> None:
        """Moves the goal."""
        self.goal = goal
        self.data.mocap_pos[0] = goal

    def advance(self, action: Float[np.ndarray, " 4"]) -> None:
        """Takes one raw step."""
        for _ in range(SUBSTEPS):
            self.data.ctrl[:] = self._rotors(action)
            mujoco.mj_step(self.model, self.data)
        if self._moving:
            self._place_hazards()

    @property
    def position(self) -> Float[np.ndarray, " 3"]:
        """The quadrotor's position in the world, in metres."""
        return self.data.qpos[:3].copy()

    @property
    def velocity(self) -> Float[np.ndarray, " 3"]:
        """The quadrotor's velocity in the world, in m/s."""
        return self.data.qvel[:3].copy()

    @property
    def rates(self) -> Float[np.ndarray, " 3"]:
        """The angular velocity about the body's axes, in rad/s."""
        return self.data.qvel[3:].copy()

    @property
    def rotation(self) -> Float[np.ndarray, "3 3"]:
        """The body's rotation matrix; its columns are the body's axes.

        It is computed from the state, because MuJoCo's ``xmat`` is not up to date after a step.
        """
        matrix = np.empty(9)
        mujoco.mju_quat2Mat(matrix, self.data.qpos[3:])
        return matrix.reshape(3, 3)

    @property
    def touches(self) -> bool:
        """Whether the quadrotor touches the floor. It cannot touch anything else."""
        return self.data.ncon > 0

    def sensors(self) -> Float[np.ndarray, "3 3"]:
        """Velocimeter, accelerometer and gyro, for the current state and the last control forces."""
        mujoco.mj_forward(self.model, self.data)
        return self.data.sensordata.reshape(3, 3).copy()

    def _place_hazards(self) -> None:
        places = self.arena.hazards(self.data.time)
        self.hazards = np.concatenate([places, np.full((len(places), 1), HAZARD_HEIGHT / 2)], axis=1)
        self.data.mocap_pos[1:] = self.hazards  # Mocap bodies have the order in which they were added: the goal first.

    def _rotors(self, action: Float[np.ndarray, " 4"]) -> Float[np.ndarray, " 4"]:
        hover = self.airframe.hover
        if self._actions == "rotors":
            return hover * (1 + SWING * action)
        forces = self._hold(action[:3] * MAX_VELOCITY, action[3] * MAX_TURNING)
        return control.feasible(forces, hover * (1 - SWING), hover * (1 + SWING))

    def _hold(self, wanted: Float[np.ndarray, " 3"], turning: float) -> Float[np.ndarray, " 4"]:
        """Rotor forces that track a velocity, given along the body's heading, to its left and upwards."""
        rotation = self.rotation
        x, y = rotation[:2, 0] / np.hypot(rotation[0, 0], rotation[1, 0])
        forward, left, up = wanted
        world = np.array([x * forward - y * left, y * forward + x * left, up])
        acceleration = control.hold_velocity(world, self.velocity)
        return control.rotor_forces(self.airframe, acceleration, turning, rotation, self.rates)
