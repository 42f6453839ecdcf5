"""Wrappers that convert any Gymnasium environment to the format that the rest of Prudence expects.

Gymnasium's wrappers override methods of a concrete class. No other module does this for Gymnasium's classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from prudence.envs.base import EnvError, goals_of

NO_COST = (
    "{task} reports no cost: info['cost'] is missing from its step(). Set info['cost'] = float(...) in step() "
    "(0.0 where nothing is harmed), or an array with one number a constraint and a cost_names attribute, "
    "or return the six-tuple (observation, reward, cost, terminated, truncated, info). "
    "examples/01_custom_environment.py shows it."
)


class Costs(gym.Wrapper):
    """Converts ``info["cost"]`` to ``float32 [C]``, with C = ``len(cost_names)``.

    ``env.step`` may return five values, or six with the cost after the reward.

    Args:
        env: reports ``info["cost"]``: a float, or an array in the order of its ``cost_names``.
        task: the name of the environment in error messages.
        costs: ``total`` sums all costs. ``separate`` keeps those of ``env.cost_names``. A sequence of names selects
            costs: each is searched in ``env.cost_names``, then among the keys of ``info``.

    Raises:
        EnvError: ``costs`` is ``separate`` and ``env`` has no ``cost_names``; or, in ``step``, the environment does
            not report a selected cost.
    """

    def __init__(self, env: gym.Env, task: str, costs: Literal["total", "separate"] | Sequence[str]) -> None:
        gym.Wrapper.__init__(self, env)
        self._task = task
        self._declared = tuple(getattr(env.unwrapped, "cost_names", ()))
        if costs == "separate" and not self._declared:
            raise EnvError(
                f"{task} does not say which costs it has: give its class the attribute "
                "cost_names = ('cost_a', 'cost_b') in the order of info['cost'], or use costs='total'."
            )
        self._total = costs == "total"
        self.cost_names = ("cost",) if self._total else self._declared if costs == "separate" else tuple(costs)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        result: tuple = tuple(self.env.step(action))
        if len(result) == 6:
            observation, reward, cost, terminated, truncated, info = result
            info = {**info, "cost": cost}
        else:
            observation, reward, terminated, truncated, info = result
        cost = self._total_cost(info) if self._total else np.array([self._named(info, n) for n in self.cost_names])
        return observation, float(reward), terminated, truncated, {**info, "cost": cost.astype(np.float32)}

    def _total_cost(self, info: dict[str, Any]) -> np.ndarray:
        if "cost" not in info:
            raise EnvError(NO_COST.format(task=self._task))
        return np.sum(np.asarray(info["cost"], np.float64)).reshape(1)

    def _named(self, info: dict[str, Any], name: str) -> float:
        if name not in self._declared:
            if name not in info:
                known = sorted({*self._declared, *(key for key in info if key.startswith("cost"))})
                raise EnvError(f"{self._task} reports no cost {name!r}; it reports {known}.")
            return float(info[name])
        if "cost" not in info:
            raise EnvError(NO_COST.format(task=self._task))
        values = np.atleast_1d(np.asarray(info["cost"], np.float64))
        if len(values) != len(self._declared):
            raise EnvError(f"{self._task}: info['cost'] has {len(values)} numbers, but cost_names is {self._declared}.")
        return float(values[self._declared.index(name)])


class DictObservation(gym.ObservationWrapper):
    """Converts observations to a dict of pictures and vectors.

    Pictures (``uint8 [height, width, channels]``) stay as they are. Everything else becomes a ``float32`` vector. An
    observation that is not in a Dict gets the name ``image`` or ``state``.

    Raises:
        EnvError: the space is not a Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these.
    """

    def __init__(self, env: gym.Env, task: str) -> None:
        gym.ObservationWrapper.__init__(self, env)
        source = env.observation_space
        self._alone = not isinstance(source, spaces.Dict)
        parts = {"": source} if self._alone else dict(source.spaces)  # pyright: ignore[reportAttributeAccessIssue]
        self._parts = {key or ("image" if _is_image(part) else "state"): part for key, part in parts.items()}
        for key, part in self._parts.items():
            if not isinstance(part, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
                raise EnvError(f"{task}: observation {key!r} is a {type(part).__name__}; use a Box or a Dict of them.")
        self.observation_space = spaces.Dict({key: _as_box(part) for key, part in self._parts.items()})

    def observation(self, observation: Any) -> dict[str, np.ndarray]:
        values = {key: observation if self._alone else observation[key] for key in self._parts}
        return {
            key: np.asarray(values[key], np.uint8)
            if _is_image(part)
            else np.asarray(spaces.flatten(part, values[key]), np.float32)
            for key, part in self._parts.items()
        }


class RescaleAction(gym.ActionWrapper):
    """Converts a bounded Box of any shape to ``float32 [-1, 1]^A``. A Discrete space stays, with actions from 0 on.

    Raises:
        EnvError: the space is an unbounded Box or of another type.
    """

    def __init__(self, env: gym.Env, task: str) -> None:
        gym.ActionWrapper.__init__(self, env)
        space = env.action_space
        if isinstance(space, spaces.Box):
            if not space.is_bounded("both"):
                raise EnvError(f"{task}: its actions are unbounded; give its Box action space finite low and high.")
            self.action_space = spaces.Box(-1.0, 1.0, (int(np.prod(space.shape)),), np.float32)
        elif not isinstance(space, spaces.Discrete):
            raise EnvError(f"{task}: actions are a {type(space).__name__}; Prudence takes a Box or a Discrete space.")

    def action(self, action: Any) -> Any:
        space = self.env.action_space
        if isinstance(space, spaces.Discrete):
            return int(action) + int(space.start)
        assert isinstance(space, spaces.Box)
        unit = (np.clip(np.asarray(action, np.float64), -1.0, 1.0).reshape(space.shape) + 1.0) / 2.0
        return (space.low + unit * (space.high.astype(np.float64) - space.low)).astype(space.dtype)


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


def _is_image(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


def _as_box(space: spaces.Space) -> spaces.Space:
    return space if _is_image(space) else spaces.Box(-np.inf, np.inf, (spaces.flatdim(space),), np.float32)
