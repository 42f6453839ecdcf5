"""SafeReach as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from prudence.envs.base import EnvError, Layout, entries
from prudence.envs.reach import (
    OBSERVATIONS,
    PANDA,
    TASKS,
    TIME_LIMIT,
    Actions,
    ReachOptions,
    Reward,
    RobotName,
    find_panda,
)
from prudence.envs.reach import task as rules
from prudence.envs.reach.robots import Hand, Panda, Robot
from prudence.envs.reach.scene import CAMERA
from prudence.envs.rendering import Cameras, fixed_camera, shared_renderer
from prudence.envs.sensors import Quality

STRIDE = np.array([0.015] * 3 + [0.05] * 3)
"""The change of the command that an action of 1 means, in a raw step: 1.5 cm and .05 rad."""
LEAD = np.array([0.03] * 3 + [0.15] * 3)
"""The command is no further than this from where the fingertips are, so that it does not run away from them."""
TILT = 0.5
"""Largest rotation about each axis, in rad."""
GLANCES, SUBSTEPS = 5, 5
"""A raw step of 50 ms has five times five physics steps of 2 ms. Contacts are looked for after every five."""
CENTIMETRES = 100.0
COORDINATES = entries(
    {
        "pose": (6,),
        "velocimeter": (3,),
        "target": (3,),
        "obstacles": (rules.MOST_OBSTACLES, 3),
        "present": (rules.MOST_OBSTACLES,),
    }.items()
)
"""The entries of ``coordinates``, the same in all tasks."""


class ReachEnv(gym.Env[Any, Any]):
    """The task: touch the target with the fingertips, and touch no obstacle on the way.

    A step is one decision: ``action_repeat`` raw steps of 50 ms. Only the state after the last one is observed.
    ``info["cost"]`` is the number of raw steps in which the robot touched an obstacle, or in which obstacles still
    moved since it did. ``info["goals"]`` is 1 when the target is touched for the first time, and ``info["success"]`` is
    true from then on.

    Attributes:
        robot: the robot and the model.
        data: the state of the physics.
        time_limit: number of raw steps until truncation.
        layout: the named entries of the vector observations.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    cost_names = ("cost_obstacle",)

    def __init__(
        self,
        task: str = "SafeReach-v0",
        *,
        obs: tuple[str, ...] = ("coordinates",),
        action_repeat: int = 1,
        time_limit: int = TIME_LIMIT,
        robot: RobotName = "auto",
        actions: Actions = "pose",
        reward: Reward = "sparse",
        image_size: int = 64,
        quality: Quality = "fast",
        render_mode: str | None = "rgb_array",
        render_size: int = 256,
    ) -> None:
        """
        Args:
            task: one of ``TASKS``.
            obs: any of ``coordinates`` and ``vision``.
            action_repeat: number of raw steps in one decision.
            time_limit: number of raw steps until truncation.
            robot, actions, reward, image_size, quality: as in :class:`~prudence.envs.reach.ReachOptions`.
            render_mode: ``rgb_array``, or None for no pictures from ``render``.
            render_size: height and width of the pictures from ``render``.

        Raises:
            EnvError: the value of an argument does not exist, or the Panda's files are not installed.
        """
        options = ReachOptions(robot, actions, reward, image_size, quality)
        if task not in TASKS:
            raise EnvError(f"SafeReach: task={task!r} must be one of {', '.join(TASKS)}.")
        if not obs or not set(obs) <= set(OBSERVATIONS):
            raise EnvError(f"SafeReach: obs={obs!r} must be any of {', '.join(OBSERVATIONS)}.")
        self._variant = rules.VARIANTS[task]
        self.robot = _make_robot(options.robot, self._variant)
        self.data = mujoco.MjData(self.robot.model)
        self._dense, self._obs, self._repeat, self.time_limit = reward == "dense", obs, action_repeat, time_limit
        self.render_mode, self._render_size = render_mode, render_size
        self._key = f"{task}-{options.robot}"
        self._cameras = Cameras(self.robot.model, [CAMERA], image_size, quality, self._key, self.robot.spec.compile)
        self._find_things()
        self._begin(rules.draw_layout(self._variant, np.random.default_rng(0)))
        vectors = {"coordinates": ("coordinates", COORDINATES), "vision": ("pose", COORDINATES[:1])}
        self.layout: Layout = dict(vectors[name] for name in obs)
        self.observation_space = gym.spaces.Dict({key: _space_of(value) for key, value in self._observe().items()})
        self.action_space = gym.spaces.Box(-1.0, 1.0, (6 if actions == "pose" else 3,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode. ``seed`` determines the whole episode. Without it the random stream continues.

        Args:
            seed: of the episode.
            options: ``{"layout": Layout}`` sets things as that says (:class:`prudence.envs.reach.task.Layout`).
        """
        gym.Env.reset(self, seed=seed)
        drawn = rules.draw_layout(self._variant, self.np_random)
        self._begin((options or {}).get("layout", drawn))
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        change = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        total_reward, cost, goals = 0.0, 0, 0
        for _ in range(self._repeat):
            touched, before = self._advance(change), self._distance
            self._distance = self._target_distance()
            total_reward += rules.reward(before, self._distance, dense=self._dense)
            self._touched = self._touched or touched
            cost += touched or (self._touched and rules.moving(self.data.qvel[self._velocities]))
            reached = self._distance <= rules.TOUCH
            goals, self._reached = goals + (reached and not self._reached), self._reached or reached
            self._steps += 1
            if self._steps >= self.time_limit:
                break
        info = {"cost": float(cost), "goals": int(goals), "success": self._reached}
        return self._observe(), total_reward, False, self._steps >= self.time_limit, info

    def render(self) -> UInt8[np.ndarray, "size size 3"] | None:
        """A picture of the scene with shadows, by the camera of ``vision``. None without a render mode."""
        if self.render_mode is None:
            return None
        model, key = self.robot.model, ("outside", self._key, self._render_size)
        renderer = shared_renderer(key, self.robot.spec.compile, self._render_size, "fidelity")
        return renderer.draw(model, self.data, [fixed_camera(model, CAMERA)])[:, 0].copy()

    def _find_things(self) -> None:
        model, number = self.robot.model, len(self._variant.obstacles)
        bodies = [model.body(f"obstacle{i}").id for i in range(number)]
        self._bodies = np.array(bodies, int)
        joints = [model.joint(f"obstacle{i}") for i in range(number)]
        self._positions = [int(joint.qposadr[0]) for joint in joints]
        starts = np.array([int(joint.dofadr[0]) for joint in joints], int)
        self._velocities = starts[:, None] + np.arange(6)
        self._target = int(model.body("target").mocapid[0])
        role = np.zeros(model.nbody, int)  # 1: of the robot; 2: an obstacle. Both together make 3.
        role[list(self.robot.bodies)], role[self._bodies] = 1, 2
        self._role = role[model.geom_bodyid]

    def _begin(self, layout: rules.Layout) -> None:
        model, data = self.robot.model, self.data
        mujoco.mj_resetData(model, data)
        x, y = rules.TARGETS[layout.target]
        data.mocap_pos[self._target] = x, y, rules.TABLE + rules.TARGET_HEIGHT / 2
        for start, place in zip(self._positions, layout.obstacles, strict=True):
            height = rules.TABLE + rules.OBSTACLE.size[2] / 2
            data.qpos[start : start + 7] = *rules.PLACES[place], height, 1.0, 0.0, 0.0, 0.0
        self._command = np.concatenate([rules.START + np.append(layout.offset, 0.0), np.zeros(3)])
        self.robot.place(data, self._command)
        mujoco.mj_forward(model, data)
        self._steps, self._touched, self._reached = 0, False, False
        self._past, self._velocity = self.robot.pose(data), np.zeros(3)
        self._distance = self._target_distance()

    def _advance(self, change: Float[np.ndarray, " A"]) -> bool:
        """Takes a raw step. Returns whether the robot touched an obstacle in it."""
        model, data, here = self.robot.model, self.data, self._past
        wanted = self._command + STRIDE * np.concatenate([change, np.zeros(6 - len(change))])
        wanted = np.clip(wanted, here - LEAD, here + LEAD)
        low, high = np.append(rules.LOW, [-TILT] * 3), np.append(rules.HIGH, [TILT] * 3)
        self._command = np.clip(wanted, low, high)
        self.robot.drive(data, self._command)
        touched = False
        for _ in range(GLANCES):
            mujoco.mj_step(model, data, SUBSTEPS)
            touched = touched or bool((self._role[data.contact.geom].sum(axis=1) == 3).any())
        mujoco.mj_kinematics(model, data)  # A physics step leaves poses, which are drawn too, as they were before it.
        now = self.robot.pose(data)
        self._velocity = (now[:3] - here[:3]) / (GLANCES * SUBSTEPS * model.opt.timestep)
        self._past = now
        return touched

    def _target_distance(self) -> float:
        return rules.target_distance(self.data.mocap_pos[self._target] - self._past[:3], self._variant.target)

    def _observe(self) -> dict[str, np.ndarray]:
        observation, tip = {}, self._past[:3]
        middle = (rules.LOW[:2] + rules.HIGH[:2]) / 2
        pose = np.concatenate([CENTIMETRES * (tip - [*middle, rules.TABLE]), self._past[3:]])
        if "coordinates" in self._obs:
            number = len(self._bodies)
            obstacles, present = np.zeros((rules.MOST_OBSTACLES, 3)), np.arange(rules.MOST_OBSTACLES) < number
            obstacles[:number] = self.data.xpos[self._bodies] - tip
            away = self.data.mocap_pos[self._target] - tip
            lengths = CENTIMETRES * np.concatenate([self._velocity, away, obstacles.ravel()])
            observation["coordinates"] = np.concatenate([pose, lengths, present]).astype(np.float32)
        if "vision" in self._obs:
            observation["image"] = self._cameras(self.robot.model, self.data)
            observation["pose"] = pose.astype(np.float32)
        return observation


def entry(coordinates: Float[np.ndarray, " F"], name: str) -> np.ndarray:
    """The named entry of an observation ``coordinates``."""
    found = next(one for one in COORDINATES if one.name == name)
    return coordinates[found.start : found.stop].reshape(found.shape)


def _make_robot(name: str, variant: rules.Variant) -> Robot:
    if name == "hand":
        return Hand(variant)
    assets = find_panda()
    if assets is None:
        raise EnvError(f"robot='panda' needs the Panda's files. Install them with\n{PANDA}\nor choose robot='hand'.")
    return Panda(variant, assets)


def _space_of(value: np.ndarray) -> gym.spaces.Box:
    image = value.dtype == np.uint8
    return gym.spaces.Box(0 if image else -np.inf, 255 if image else np.inf, value.shape, value.dtype.type)
