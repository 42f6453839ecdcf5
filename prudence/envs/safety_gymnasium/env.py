"""A task of Safety-Gymnasium as a Gymnasium environment."""

from __future__ import annotations

import re
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np

from prudence.envs.base import EnvConfig, EnvError, Layout, Overhead
from prudence.envs.safety_gymnasium import costs, sensing
from prudence.envs.safety_gymnasium.rendering import FromAbove, Vision
from prudence.envs.safety_gymnasium.rollout import Rollouts
from prudence.envs.safety_gymnasium.task import make_builder
from prudence.envs.sensors import SensorOptions, nearest_entries
from prudence.types import PRIVILEGED, CostFunction

HAZARD_MARGIN = 0.05
"""Metres by which ``cost_function`` enlarges the radius of hazards (SafeDreamer's code uses .25 for .2)."""


class SafetyEnv(gym.Env[Any, Any]):
    """A task of the suite. Rewards, costs and terminations equal the suite's, for the same seed and actions.

    A step is one decision: ``action_repeat`` raw steps. Only the state after the last one is observed. If the task has
    goals, ``info["goals"]`` is the number of goals that the step reached.

    Attributes:
        cost_names: the names of the columns of ``info["cost"]``. Each column is the number of raw steps with that
            cost.
        time_limit: number of raw steps until truncation.
        layout: the named entries of ``lidar``, ``coordinates`` and the privileged observation.
        precise: the names of the entries of ``lidar`` that tell the distance of the nearest object of a kind.
        cost_function: computes the cost from ``coordinates``, or from the nearest hazard in ``lidar``, if hazards are
            the task's only cost; else None.

    Raises:
        EnvError: the task does not report the costs that the configuration selects.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, config: EnvConfig) -> None:
        match = re.match("Safety(Point|Car|Racecar|Doggo|Ant)", config.task)
        assert match is not None
        self._config, self._agent = config, match.group(1)
        self._builder = make_builder(config.task, self._agent)
        self._task = self._builder.task
        if config.time_limit is not None:
            self._task.num_steps = config.time_limit
        self.time_limit = int(self._task.num_steps)
        self._builder.reset(seed=0)  # This builds the world, so that its bodies can be looked up by name.
        self._observers = self._make_observers()
        self.layout: Layout = {
            name: observer.entries for name, observer in self._observers.items() if not isinstance(observer, Vision)
        }
        self.precise = nearest_entries(self.layout)
        self._from_above: FromAbove | None = None
        self.cost_names, self._cost_keys = self._select_costs()
        self.cost_function = self._cost_of_hazards()
        self.observation_space = gym.spaces.Dict(
            {name: _space_of(observer) for name, observer in self._observers.items()}
        )
        space = self._builder.action_space
        self._centre, self._span = (space.low + space.high) / 2, (space.high - space.low) / 2
        self.action_space = gym.spaces.Box(-1.0, 1.0, space.shape, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Starts an episode. ``seed`` determines the whole episode. Without it the suite's random stream continues."""
        self._builder.reset(seed=seed)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        control = self._control(action)
        total_reward, total_cost, goals = 0.0, [0.0] * len(self._cost_keys), 0
        terminated = truncated = False
        for _ in range(self._config.action_repeat):
            _, reward, _, terminated, truncated, info = self._builder.step(control)
            total_reward += float(reward)
            total_cost = [total + info.get(key, 0.0) for total, key in zip(total_cost, self._cost_keys, strict=True)]
            goals += "goal_met" in info
            if terminated or truncated:
                break
        info: dict[str, Any] = {"cost": np.array(total_cost, np.float32)}
        if hasattr(self._task, "goal") or hasattr(self._task, "buttons"):  # Circle and Run have no goals.
            info["goals"] = goals
        return self._observe(), total_reward, bool(terminated), bool(truncated), info

    def rollouts(self, *, sleeping: bool = True) -> Rollouts:
        """A simulator of plans. Every call starts from the state that this environment has at that time.

        ``sleeping`` is as in :class:`~prudence.envs.safety_gymnasium.rollout.Rollouts`.
        """
        return Rollouts(self._builder, self._control, self._cost_keys, self._config.action_repeat, sleeping=sleeping)

    def render(self) -> Any:
        """A picture of the arena from above, ``uint8 [256, 256, 3]``."""
        return self.overhead().picture

    def overhead(self, radius: float | None = None) -> Overhead:
        """The picture of :meth:`render` with the agent's pose. ``radius`` shows so many metres around the agent."""
        if self._from_above is None:
            physics = self._task.sim_conf
            raw_step = self._task.model.opt.timestep * physics.frameskip_binom_n * physics.frameskip_binom_p
            self._from_above = FromAbove(self._task, raw_step * self._config.action_repeat)
        return self._from_above(radius)

    def _control(self, action: np.ndarray) -> np.ndarray:
        """Converts an action in [-1, 1] to the actuators' unit."""
        return self._centre + self._span * np.asarray(action, np.float64)

    def _observe(self) -> dict[str, np.ndarray]:
        mujoco.mj_forward(self._task.model, self._task.data)  # Updates the sensors to the new state.
        return {name: observer() for name, observer in self._observers.items()}

    def _make_observers(self) -> dict[str, Any]:
        config, task, options = self._config, self._task, self._config.options
        assert isinstance(options, SensorOptions)
        size, quality = options.image_size, options.quality
        makers = {
            "lidar": (
                "lidar",
                lambda: sensing.Lidar(
                    task, options.lidar_arc, options.lidar_scale, options.lidar_nearest, options.lidar_fades
                ),
            ),
            "coordinates": ("coordinates", lambda: sensing.Coordinates(task, self._agent, options.nearest_first)),
            "vision": ("image", lambda: Vision(task, config.task, options.cameras, size, quality)),
        }
        observers = {name: make() for name, make in (makers[mode] for mode in config.obs)}
        if config.privileged == "paper":
            observers[PRIVILEGED] = sensing.papers_privileged(task, config.task, self._agent)
        return observers

    def _cost_of_hazards(self) -> CostFunction | None:
        """The cost function on ``coordinates``, or on the nearest hazard in ``lidar``, if hazards are the only cost.

        A decision that ends in a hazard, or within ``HAZARD_MARGIN`` of one, gets the largest cost of a decision. A
        lidar that fades, or that does not see all around, does not tell it.
        """
        if costs.cost_names(self._task) != ("cost_hazards",):
            return None
        radius, cost = float(self._task.hazards.size) + HAZARD_MARGIN, float(self._config.action_repeat)
        placed = {
            (name, entry.name): entry
            for name, parts in self.layout.items()
            if name not in self._config.privileged
            for entry in parts
        }
        if place := placed.get(("coordinates", "hazards")):
            arguments = {"name": "coordinates", "start": place.start, "stop": place.stop, "radius": radius}
            return CostFunction("prudence.ops.danger:near", (*arguments.items(), ("cost", cost)))
        options = self._config.options
        assert isinstance(options, SensorOptions)
        sees_all = options.lidar_arc == 360 and not options.lidar_fades
        if sees_all and (place := placed.get(("lidar", "hazards_nearest"))):
            observer = self._observers["lidar"]
            assert isinstance(observer, sensing.Lidar)
            arguments = {"name": "lidar", "index": place.start, "threshold": observer.reading(radius)}
            return CostFunction("prudence.ops.danger:above", (*arguments.items(), ("cost", cost)))
        return None

    def _select_costs(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the constraints, and the suite's key for each of them."""
        known, wanted = costs.cost_names(self._task), self._config.costs
        if wanted == "total":
            return ("cost",), ("cost_sum",)
        names = known if wanted == "separate" else wanted
        absent = [name for name in names if name not in known]
        if absent or not names:
            raise EnvError(
                f"{self._config.task} reports {', '.join(known) or 'no cost at all'}, "
                f"not {', '.join(absent) or 'separate costs'}; choose among these, or costs='total'."
            )
        return names, names


def _space_of(observer: Any) -> gym.spaces.Box:
    if isinstance(observer, Vision):
        return gym.spaces.Box(0, 255, observer.shape, np.uint8)
    return gym.spaces.Box(-np.inf, np.inf, (observer.size,), np.float32)
