"""SafetyQuadrotorGoal as a Gymnasium environment."""

from __future__ import annotations

from typing import Any, Literal, get_args

import gymnasium as gym
import mujoco
import numpy as np
from jaxtyping import Float, UInt8

from prudence.envs.base import EnvError, Layout, Overhead
from prudence.envs.quadrotor import TIME_LIMIT, sensing, task
from prudence.envs.quadrotor.flight import Actions, Flight
from prudence.envs.quadrotor.model import GOAL_RADIUS
from prudence.envs.rendering import Cameras, Overview, shared_renderer
from prudence.envs.sensors import OBSERVATIONS, Quality, nearest_entries
from prudence.types import PRIVILEGED

MARGIN, CEILING = 1.0, 2.5
"""An episode ends this many metres beyond the arena's extent, or this many metres above the floor."""


class QuadrotorEnv(gym.Env[Any, Any]):
    """The task: fly to the goal, a sphere in the air, without flying through hazards, which are cylinders on the floor.

    A new goal appears whenever one is reached. A step is one decision: ``action_repeat`` raw steps of 20 ms. Only the
    state after the last one is observed. ``info["cost"]`` is the number of raw steps in a hazard, and
    ``info["goals"]`` the number of goals reached.

    Attributes:
        flight: the physics, and the airframe for controllers.
        time_limit: number of raw steps until truncation.
        layout: the named entries of the vector observations.
        precise: the names of the entries of ``lidar`` that tell the distance of the nearest object of a kind.
        privileged: names of the observations that only training uses.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012
    cost_names = ("cost_hazards",)

    def __init__(
        self,
        level: int = 1,
        actions: Actions = "rotors",
        *,
        obs: tuple[str, ...] = ("vision",),
        action_repeat: int = 1,
        cameras: Literal["front", "both"] = "front",
        image_size: int = 64,
        quality: Quality = "fast",
        time_limit: int = TIME_LIMIT,
        paper_privileged: bool = False,
        lidar_arc: float = 360.0,
        lidar_scale: Literal["linear", "inverse"] = "linear",
        lidar_nearest: bool = False,
        nearest_first: bool = False,
        render_mode: str | None = "rgb_array",
        render_size: int = 256,
    ) -> None:
        """
        Args:
            level: 0 has no hazards, and 1 has eight. 2 has fourteen, of which four move, and a larger arena.
            actions: ``rotors``: the force of each rotor, from .5 to 1.5 times its hovering force. ``velocity``: the
                velocities forward, to the left and upwards, and the turning rate to the left. An inner control loop
                tracks them.
            obs: any of ``vision``, ``coordinates`` and ``lidar``.
            action_repeat: number of raw steps in one decision.
            cameras, image_size, quality: options of ``vision``, as in :class:`~prudence.envs.sensors.SensorOptions`.
            time_limit: number of raw steps until truncation.
            paper_privileged: adds the observation ``privileged``, with what the AsymDreamer paper lists in Table 5.
            lidar_arc: the lidar's field of view in degrees. Its middle is straight ahead.
            lidar_scale: the scale of the lidar's bins, as in :class:`~prudence.envs.sensors.SensorOptions`.
            lidar_nearest: ``lidar`` ends with the largest value of each ring.
            nearest_first: ``coordinates`` sort the hazards by their distance.
            render_mode: ``rgb_array``, or None for no pictures from ``render``.
            render_size: height and width of the pictures from ``render``.

        Raises:
            EnvError: the value of an argument does not exist or is not allowed.
        """
        choices = {
            "obs": (bool(obs) and set(obs) <= set(OBSERVATIONS), obs, f"any of {', '.join(OBSERVATIONS)}"),
            "level": (level in range(len(task.LEVELS)), level, f"0 to {len(task.LEVELS) - 1}"),
            "actions": (actions in get_args(Actions), actions, " or ".join(get_args(Actions))),
            "cameras": (cameras in ("front", "both"), cameras, "front or both"),
            "quality": (quality in get_args(Quality), quality, " or ".join(get_args(Quality))),
            "lidar_scale": (lidar_scale in ("linear", "inverse"), lidar_scale, "linear or inverse"),
            "lidar_arc": (0 < lidar_arc <= 360, lidar_arc, "above 0 and at most 360 degrees"),
        }
        for name, (is_one, value, known) in choices.items():
            if not is_one:
                raise EnvError(f"SafetyQuadrotorGoal: {name}={value!r} must be {known}.")
        self.flight, self._level = Flight(task.LEVELS[level], actions), task.LEVELS[level]
        self._repeat, self.time_limit, self._arc = action_repeat, time_limit, lidar_arc
        self._scale = lidar_scale
        self.render_mode, self._render_size, self._name = render_mode, render_size, f"quadrotor{level}"
        names = ("vision",) if cameras == "front" else ("vision", "vision_back")
        pictures = Cameras(self.flight.model, names, image_size, quality, self._name, self.flight.spec.compile)
        self._cameras = pictures if "vision" in obs else None
        self._overview = Overview(self._level.extent + 0.3, self._name, self.flight.spec.compile)
        self.privileged = (PRIVILEGED,) * paper_privileged
        self._start(np.random.default_rng(0))
        self._seen = self._situation()
        self._vectors = sensing.selections(
            lambda: self._seen,
            obs,
            paper=paper_privileged,
            nearest_first=nearest_first,
            lidar_nearest=lidar_nearest,
        )
        self.layout: Layout = {key: chosen.entries for key, chosen in self._vectors.items()}
        self.precise = nearest_entries(self.layout)
        self.observation_space = gym.spaces.Dict({key: _space_of(value) for key, value in self._observe().items()})
        self.action_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode. ``seed`` determines the whole episode. Without it the random stream continues."""
        gym.Env.reset(self, seed=seed)
        self._start(self.np_random)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        action = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        total_reward, cost, goals, terminated = 0.0, 0, 0, False
        before = self._past[0]
        for _ in range(self._repeat):
            self.flight.advance(action)
            self._steps += 1
            terminated, reached = self._has_crashed(), self._distance() <= GOAL_RADIUS
            total_reward += self._reward(action, before, alive=not terminated, reached=reached)
            cost += task.in_hazard(self.flight.position, self.flight.hazards[:, :2])
            goals, before = goals + reached, action
            if reached:
                self._next_goal(self.np_random)
            self._last_distance = self._distance()
            if terminated or self._steps >= self.time_limit:
                break
        self._past = np.concatenate([action[None], self._past[:-1]])
        truncated = self._steps >= self.time_limit and not terminated
        return self._observe(), total_reward, terminated, truncated, {"cost": float(cost), "goals": goals}

    def render(self) -> UInt8[np.ndarray, "size size 3"] | None:
        """A picture of the arena, diagonally from above, with shadows. None without a render mode."""
        if self.render_mode is None:
            return None
        camera = mujoco.MjvCamera()
        camera.lookat[:], camera.distance = (0.0, 0.0, 0.45), 3.5 * self._level.extent
        camera.azimuth, camera.elevation = 60.0, -28.0
        key = ("outside", self._name, self._render_size)
        renderer = shared_renderer(key, self.flight.spec.compile, self._render_size, "fidelity")
        mujoco.mj_forward(self.flight.model, self.flight.data)
        return renderer.draw(self.flight.model, self.flight.data, [camera])[:, 0].copy()

    def overhead(self, radius: float | None = None) -> Overhead:
        """The arena from straight above. ``radius`` shows so many metres around the quadrotor instead."""
        flight, seconds = self.flight, self.flight.seconds_per_step * self._repeat
        mujoco.mj_forward(flight.model, flight.data)
        x, y, _ = flight.rotation[:, 0]
        return self._overview(flight.model, flight.data, flight.position, float(np.arctan2(y, x)), seconds, radius)

    def _start(self, rng: np.random.Generator) -> None:
        self.flight.begin(task.draw_arena(self._level, rng))
        self._next_goal(rng)
        self._last_distance, self._steps = self._distance(), 0
        self._past = np.zeros((sensing.PAST_ACTIONS, 4))

    def _next_goal(self, rng: np.random.Generator) -> None:
        self.flight.place_goal(task.draw_goal(self._level, self.flight.arena, self.flight.position, rng))

    def _distance(self) -> float:
        away = self.flight.goal - self.flight.position
        return float(np.sqrt(away @ away))

    def _reward(
        self, action: Float[np.ndarray, " 4"], before: Float[np.ndarray, " 4"], *, alive: bool, reached: bool
    ) -> float:
        flight, nearer = self.flight, self._last_distance - self._distance()
        ahead, left, up = (flight.goal - flight.position) @ flight.rotation
        angle = float(np.arctan2(np.hypot(left, up), ahead))
        return task.reward(nearer, angle, action, before, flight.rates, alive=alive, reached=reached)

    def _has_crashed(self) -> bool:
        """Whether the quadrotor touched the floor, turned over, or flew out of the arena."""
        position = self.flight.position
        outside = np.abs(position[:2]).max() > self._level.extent + MARGIN or position[2] > CEILING
        return bool(self.flight.touches or self.flight.rotation[2, 2] <= 0 or outside)

    def _observe(self) -> dict[str, np.ndarray]:
        self._seen = self._situation()
        observation = {key: vector() for key, vector in self._vectors.items()}
        if self._cameras is not None:
            observation["image"] = self._cameras(self.flight.model, self.flight.data)
        return observation

    def _situation(self) -> dict[str, np.ndarray]:
        """All quantities that vector observations use. Reading them also updates what MuJoCo derives from the state."""
        flight = self.flight
        return sensing.situation(
            flight.sensors(),
            flight.position,
            flight.rotation,
            flight.goal,
            flight.hazards,
            self._past,
            self._arc,
            self._scale,
        )


def _space_of(value: np.ndarray) -> gym.spaces.Box:
    image = value.dtype == np.uint8
    return gym.spaces.Box(0 if image else -np.inf, 255 if image else np.inf, value.shape, value.dtype.type)
