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
"""Of the physics' 10 ms in a raw step: few, since they are of the fourth order."""
SWING = 0.5
"""The share of its hovering force by which a rotor's force can be changed."""
MAX_VELOCITY = np.array([1.5, 1.5, 1.0])
MAX_TURNING = 2.0
"""Forward, to the left and up in m/s, and to the left in rad/s: what actions of 1 ask for."""


class Flight:
    """Holds the model, which is the same in every episode of a level, and the state.

    Attributes:
        arena: the episode's.
        goal: ``[3]`` in the world.
        hazards: ``[n, 3]`` the middles of the hazards, where they are now.
        airframe: for controllers.
        seconds_per_step: that a raw step lasts.
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
        """Level and at rest where ``arena`` says. The goal has to be placed next."""
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
        """One raw step."""
        for _ in range(SUBSTEPS):
            self.data.ctrl[:] = self._rotors(action)
            mujoco.mj_step(self.model, self.data)
        if self._moving:
            self._place_hazards()

    @property
    def position(self) -> Float[np.ndarray, " 3"]:
        """In the world, in metres."""
        return self.data.qpos[:3].copy()

    @property
    def velocity(self) -> Float[np.ndarray, " 3"]:
        """In the world, in m/s."""
        return self.data.qvel[:3].copy()

    @property
    def rates(self) -> Float[np.ndarray, " 3"]:
        """About the body's axes, in rad/s."""
        return self.data.qvel[3:].copy()

    @property
    def rotation(self) -> Float[np.ndarray, "3 3"]:
        """Of the body; its columns are the body's axes. Taken from the state, since ``xmat`` is of the last substep."""
        matrix = np.empty(9)
        mujoco.mju_quat2Mat(matrix, self.data.qpos[3:])
        return matrix.reshape(3, 3)

    @property
    def touches(self) -> bool:
        """Whether the quadrotor touches the floor, the only thing that it can touch."""
        return self.data.ncon > 0

    def sensors(self) -> Float[np.ndarray, "3 3"]:
        """Velocimeter, accelerometer and gyro, of the present state and the forces that led to it."""
        mujoco.mj_forward(self.model, self.data)
        return self.data.sensordata.reshape(3, 3).copy()

    def _place_hazards(self) -> None:
        places = self.arena.hazards(self.data.time)
        self.hazards = np.concatenate([places, np.full((len(places), 1), HAZARD_HEIGHT / 2)], axis=1)
        self.data.mocap_pos[1:] = self.hazards  # Mocap bodies are numbered as they were added: the goal first.

    def _rotors(self, action: Float[np.ndarray, " 4"]) -> Float[np.ndarray, " 4"]:
        hover = self.airframe.hover
        if self._actions == "rotors":
            return hover * (1 + SWING * action)
        forces = self._hold(action[:3] * MAX_VELOCITY, action[3] * MAX_TURNING)
        return control.feasible(forces, hover * (1 - SWING), hover * (1 + SWING))

    def _hold(self, wanted: Float[np.ndarray, " 3"], turning: float) -> Float[np.ndarray, " 4"]:
        """Forces that hold a velocity, given along the body's heading, to its left and upwards."""
        rotation = self.rotation
        x, y = rotation[:2, 0] / np.hypot(rotation[0, 0], rotation[1, 0])
        forward, left, up = wanted
        world = np.array([x * forward - y * left, y * forward + x * left, up])
        acceleration = control.hold_velocity(world, self.velocity)
        return control.rotor_forces(self.airframe, acceleration, turning, rotation, self.rates)
