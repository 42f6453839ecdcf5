"""Policies that do not learn, as agents: uniform actions, and scripts."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import numpy as np

from prudence.cores.base import Agent, Mode
from prudence.types import Batch, EpisodeSummary, Key, Metrics, Observation, Spaces

Script = Callable[[Observation], Any]
"""From the named observations of one environment to its action. It may have ``reset()``, called at each first one."""


@dataclass(frozen=True)
class FixedPolicy(Agent):
    """An agent that acts by a script, or uniformly at random, and learns nothing.

    Attributes:
        spaces: of the environment.
        make: makes the script of one environment; None acts uniformly.
    """

    spaces: Spaces
    make: Callable[[], Script] | None = None

    def init(self, *, key: Key) -> None:
        return None

    def init_carry(self, num_envs: int) -> tuple[Script, ...] | int:
        return num_envs if self.make is None else tuple(self.make() for _ in range(num_envs))

    def act(
        self, state: Any, carry: Any, observation: Observation, is_first: Any, *, key: Key, mode: Mode
    ) -> tuple[Any, Any, Metrics]:
        if self.make is None:
            return _uniform(self.spaces, carry, key), carry, {}
        actions = []
        for index, script in enumerate(carry):
            if is_first[index] and hasattr(script, "reset"):
                script.reset()
            seen = {name: np.array(value[index]) for name, value in observation.items()}
            actions.append(_as_action(script(seen), self.spaces))
        return np.stack(actions), carry, {}

    def update(self, state: Any, batches: Batch, *, key: Key) -> tuple[Any, Metrics]:
        return state, {}

    def on_episode(self, state: Any, summary: EpisodeSummary) -> Any:
        return state

    def report(
        self, state: Any, batch: Batch, *, key: Key, context: int = 25, samples: int = 1
    ) -> dict[str, np.ndarray]:
        return {}


def find_script(name: str, spaces: Spaces) -> Callable[[], Script]:
    """What makes the script that ``module:name`` is: a function of the observations, or a class of such objects.

    A class is called once for each environment, so that its objects may remember. It is called without arguments, or
    with ``spaces`` if it has a parameter of that name. So is a function that has one: it returns the script.

    Args:
        name: ``module:name``.
        spaces: of the environment.

    Raises:
        ValueError: there is no such thing.
    """
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:  # An installed command does not search the current folder by itself.
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"there is no scripted policy {name!r} ({error}): name a function of the observations, or a class of such "
            "functions, as module:name"
        ) from error
    if not callable(found):
        raise ValueError(f"{name} is a {type(found).__name__}, not a function of the observations or a class")
    if _takes_spaces(found):
        return cast(Callable[[], Script], partial(found, spaces=spaces))
    return found if isinstance(found, type) else lambda: found


def _takes_spaces(found: Callable[..., Any]) -> bool:
    try:
        return "spaces" in inspect.signature(found).parameters
    except ValueError:  # Some functions of compiled modules have no signature.
        return False


def _uniform(spaces: Spaces, num_envs: int, key: Key) -> np.ndarray:
    size = spaces.action.size
    if spaces.action.kind == "discrete":
        return np.eye(size, dtype=np.float32)[np.asarray(jax.random.randint(key, (num_envs,), 0, size))]
    return np.asarray(jax.random.uniform(key, (num_envs, size), minval=-1.0))


def _as_action(action: Any, spaces: Spaces) -> np.ndarray:
    value, size = np.asarray(action), spaces.action.size
    if spaces.action.kind == "discrete" and value.ndim == 0:
        if not 0 <= int(value) < size:
            raise ValueError(f"the scripted policy chose action {int(value)} of {size}: choose from 0 to {size - 1}")
        return np.eye(size, dtype=np.float32)[int(value)]
    if value.shape != (size,):
        raise ValueError(f"the scripted policy gave an action of shape {value.shape}: give {size} numbers in [-1, 1]")
    return value.astype(np.float32)
