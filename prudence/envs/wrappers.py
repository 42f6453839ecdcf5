"""Wrappers that convert any Gymnasium environment to the format that the rest of Prudence expects.

Gymnasium's wrappers override methods of a concrete class. No other module does this for Gymnasium's classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from prudence.envs.base import EnvError, goals_of
from prudence.envs.interface import interface_for
from prudence.types import ObservationSpec

NO_COST = (
    "{task} reports no cost: info['cost'] is missing from its step(). Set info['cost'] = float(...) in step() "
    "(0.0 where nothing is harmed), or an array with one number for each constraint, "
    "or return the six-tuple (observation, reward, cost, terminated, truncated, info). "
    "examples/01_custom_environment.py shows it."
)


def own_time_limit(env: gym.Env, task: str) -> int | None:
    """The number of steps after which ``env`` itself truncates an episode, as far as it says so.

    Its wrappers of the class ``TimeLimit`` say so, wherever they stand, and its attribute ``time_limit``.

    Raises:
        EnvError: the attribute is no number of steps.
    """
    limits, inner = [], env
    while isinstance(inner, gym.Wrapper):
        if isinstance(inner, TimeLimit):
            limits.append(int(inner._max_episode_steps))
        inner = inner.env
    declared = env.get_wrapper_attr("time_limit") if env.has_wrapper_attr("time_limit") else None
    if declared is not None:
        if not _is_count(declared):
            raise EnvError(f"{task}: its attribute time_limit is {declared!r}: make it a number of steps, or None.")
        limits.append(int(declared))
    return min(limits, default=None)


def _is_count(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return bool(value >= 1) and float(value).is_integer()


def _declared_costs(env: gym.Env, task: str) -> tuple[str, ...]:
    """The attribute ``cost_names`` of ``env``. Empty without it."""
    names = env.get_wrapper_attr("cost_names") if env.has_wrapper_attr("cost_names") else ()
    several = not isinstance(names, str) and isinstance(names, Sequence)
    if not several or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise EnvError(f"{task}: its attribute cost_names is {names!r}: make it a tuple of different names.")
    return tuple(names)


class Costs(gym.Wrapper):
    """Converts ``info["cost"]`` to ``float32 [C]``, with C = ``len(cost_names)``.

    ``env.step`` may return five values, or six with the cost after the reward.

    Args:
        env: reports ``info["cost"]``: a float, or an array in the order of its ``cost_names``.
        task: the name of the environment in error messages.
        costs: ``total`` sums all costs. ``separate`` keeps those of ``env.cost_names``. A sequence of names selects
            costs: each is searched in ``env.cost_names``, then among the keys of ``info``. In an array without
            ``cost_names``, costs are numbered: ``cost_0``, ``cost_1``.

    Attributes:
        reported: number of costs in the latest ``info["cost"]``. None before the first step.

    Raises:
        EnvError: ``costs`` is ``separate`` and ``env`` has no ``cost_names``, or these are no names; or, in ``step``,
            the environment does not report a selected cost, or returns neither five nor six values.
    """

    def __init__(self, env: gym.Env, task: str, costs: Literal["total", "separate"] | Sequence[str]) -> None:
        gym.Wrapper.__init__(self, env)
        self._task = task
        self.declared_costs = self._declared = _declared_costs(env, task)
        self.reported: int | None = None
        if costs == "separate" and not self._declared:
            raise EnvError(
                f"{task} does not say which costs it has: give its class the attribute "
                "cost_names = ('cost_a', 'cost_b') in the order of info['cost'], or select them by number: "
                "--env.costs cost_0 cost_1 (costs=('cost_0', 'cost_1')), or use costs='total'."
            )
        self._total = costs == "total"
        self.cost_names = ("cost",) if self._total else self._declared if costs == "separate" else tuple(costs)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        result: tuple = tuple(self.env.step(action))
        if len(result) == 6:
            observation, reward, cost, terminated, truncated, info = result
            info = {**info, "cost": cost}
        elif len(result) == 5:
            observation, reward, terminated, truncated, info = result
        else:
            raise EnvError(
                f"{self._task}: its step() returns {len(result)} values: return (observation, reward, terminated, "
                "truncated, info), as Gymnasium says."
            )
        cost = self._total_cost(info) if self._total else np.array([self._named(info, n) for n in self.cost_names])
        with np.errstate(over="ignore"):  # What is too large for float32 becomes infinite, which is refused later.
            cost = cost.astype(np.float32)
        return observation, float(reward), terminated, truncated, {**info, "cost": cost}

    def _total_cost(self, info: dict[str, Any]) -> np.ndarray:
        if "cost" not in info:
            raise EnvError(NO_COST.format(task=self._task))
        return np.sum(self._values(info)).reshape(1)

    def _named(self, info: dict[str, Any], name: str) -> float:
        names = self._declared or self._numbered(info)
        if name not in names:
            if name not in info:
                known = sorted({*names, *(key for key in info if key.startswith("cost"))})
                raise EnvError(f"{self._task} reports no cost {name!r}; it reports {known}.")
            return float(info[name])
        if "cost" not in info:
            raise EnvError(NO_COST.format(task=self._task))
        values = self._values(info)
        if len(values) != len(names):
            raise EnvError(f"{self._task}: info['cost'] has {len(values)} numbers, but cost_names is {names}.")
        return float(values[names.index(name)])

    def _numbered(self, info: dict[str, Any]) -> tuple[str, ...]:
        """Names of the costs in an array that has none."""
        several = "cost" in info and np.ndim(info["cost"]) > 0
        return tuple(f"cost_{number}" for number in range(len(self._values(info)))) if several else ()

    def _values(self, info: dict[str, Any]) -> np.ndarray:
        values = np.asarray(info["cost"], np.float64).reshape(-1)
        self.reported = len(values)
        return values


class Adapted(gym.Wrapper):
    """Converts observations and actions to Prudence's format, by an :class:`~prudence.envs.interface.Interface`.

    The first observations of a reset and of a step are held against the observation space. A wrong shape, values that
    the dtype of their space cannot hold, and values beyond its bounds are refused: they would be learned from without a
    word.

    Attributes:
        interface: the mapping, which a saved policy applies too.
        found: is told what is wrong with an observation, of every reset and step, instead of an error. None refuses.

    Raises:
        EnvError: Prudence does not support the spaces; or, in ``reset`` and ``step``, an observation is not in its
            space.
    """

    def __init__(self, env: gym.Env, task: str, *, image_size: int | None = None, action_repeat: int = 1) -> None:
        gym.Wrapper.__init__(self, env)
        self._task = task
        own = env.observation_space
        try:
            self.interface = interface_for(own, env.action_space, image_size=image_size, action_repeat=action_repeat)
        except ValueError as error:
            raise EnvError(f"{task}: {error}.") from error
        self._own = dict(own.spaces) if isinstance(own, spaces.Dict) else {self.interface.observations[0].name: own}
        self._unchecked = {"reset", "step"}
        self.found: Callable[[str], None] | None = None
        self.observation_space = spaces.Dict(
            {one.name: _space_of(one.spec) for one in self.interface.observations}  #
        )
        kind, size = self.interface.action.spec
        discrete = kind == "discrete"
        self.action_space = spaces.Discrete(size) if discrete else spaces.Box(-1.0, 1.0, (size,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation, "reset"), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        own = self.interface.action
        chosen = own.choice(action) if own.kind == "discrete" else own.decode(action)
        observation, reward, terminated, truncated, info = self.env.step(chosen)
        return self._seen(observation, "step"), float(reward), terminated, truncated, info

    def _seen(self, observation: Any, after: str) -> dict[str, np.ndarray]:
        if self.found is not None:
            return self._told(observation, self.found)
        if after not in self._unchecked:
            return self.interface.encode(observation)
        try:
            seen = self.interface.encode(observation)
            self._check_bounds(observation)
        except ValueError as error:
            raise EnvError(f"{self._task}, at its first {after}: {error}.") from error
        self._unchecked.remove(after)
        return seen

    def _told(self, observation: Any, found: Callable[[str], None]) -> dict[str, np.ndarray]:
        seen = self.interface.encode(observation)
        try:
            self._check_bounds(observation)
        except ValueError as error:
            found(str(error))
        return seen

    def _check_bounds(self, observation: Any) -> None:
        """Raises ValueError if a number is beyond the bounds of its space, by more than rounding."""
        for name, space in self._own.items():
            if isinstance(space, spaces.Box | spaces.MultiBinary):
                own = observation[name] if isinstance(observation, Mapping) else observation
                value = np.asarray(own, np.float64)
                slack = 1e-5 * np.maximum(1.0, np.abs(value))
                bounds = (space.low, space.high) if isinstance(space, spaces.Box) else (0, 1)
                beyond = (value < bounds[0] - slack) | (value > bounds[1] + slack)
                if beyond.any():
                    at = int(np.flatnonzero(beyond)[0])
                    low, high = (np.broadcast_to(b, value.shape).reshape(-1)[at] for b in bounds)
                    raise ValueError(
                        f"observation {name!r} has {value.reshape(-1)[at]:g} at place {at}, beyond its bounds "
                        f"[{low:g}, {high:g}]: correct the value, or the bounds of its space"
                    )


class ActionRepeat(gym.Wrapper):
    """Repeats an action, sums rewards, costs and numbers of goals, and truncates after ``time_limit`` raw steps."""

    def __init__(self, env: gym.Env, repeat: int, time_limit: int | None) -> None:
        gym.Wrapper.__init__(self, env)
        self.time_limit = time_limit
        self._repeat = repeat
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._steps = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, terminated, truncated, info = None, False, False, {}
        total_reward, total_cost, goals = 0.0, 0.0, 0
        for _ in range(self._repeat):
            observation, reward, terminated, truncated, info = self.env.step(action)
            self._steps += 1
            total_reward += float(reward)
            total_cost = total_cost + info["cost"]
            goals += goals_of(info) or 0
            truncated = truncated or (self.time_limit is not None and self._steps >= self.time_limit)
            if terminated or truncated:
                break
        return (
            observation,
            total_reward,
            terminated,
            truncated,
            {**info, "cost": total_cost, **({} if goals_of(info) is None else {"goals": goals})},
        )


class Spent(gym.Wrapper):
    """Adds the observation ``spent``, ``float32 [C]``: the sum of each cost since the episode began.

    Raises:
        EnvError: the environment already has an observation of that name.
    """

    def __init__(self, env: gym.Env, task: str) -> None:
        gym.Wrapper.__init__(self, env)
        assert isinstance(env.observation_space, spaces.Dict)
        if "spent" in env.observation_space.spaces:
            raise EnvError(f"{task} has an observation 'spent' already: rename it, or leave out EnvConfig.spent.")
        self._nothing = np.zeros(len(env.get_wrapper_attr("cost_names")), np.float32)
        box = spaces.Box(0.0, np.inf, self._nothing.shape, np.float32)
        self.observation_space = spaces.Dict({**env.observation_space.spaces, "spent": box})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._spent = self._nothing
        return {**observation, "spent": self._spent}, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._spent = self._spent + np.asarray(info["cost"], np.float32)
        return {**observation, "spent": self._spent}, float(reward), terminated, truncated, info


def _space_of(spec: ObservationSpec) -> spaces.Space:
    return (
        spaces.Box(0, 255, spec.shape, np.uint8)
        if spec.is_image
        else spaces.Box(-np.inf, np.inf, spec.shape, np.float32)
    )
