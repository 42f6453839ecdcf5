"""Environments that misbehave, which the tests of training name by ``module:Class``."""

from __future__ import annotations

from typing import Any

import numpy as np
from envs.custom import Counter


class Poisoned(Counter):
    """Its reward is NaN at the fourth step of every episode."""

    def step(self, action: Any) -> Any:
        observation, reward, *rest = Counter.step(self, action)
        return observation, np.nan if self.count == 4 else reward, *rest


class Flaky(Counter):
    """Raises at the third step of the second episode, once in each environment."""

    episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.episodes += 1
        return Counter.reset(self, seed=seed)

    def step(self, action: Any) -> Any:
        if self.episodes == 2 and self.count == 2:
            raise RuntimeError("the wheel came off")
        return Counter.step(self, action)


class Registrar(Counter):
    """Notes which seeds each instance was reset with."""

    instances: list[list[int | None]] = []  # noqa: RUF012 (shared on purpose)

    def __init__(self) -> None:
        Counter.__init__(self)
        self.seeds: list[int | None] = []
        Registrar.instances.append(self.seeds)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.seeds.append(seed)
        return Counter.reset(self, seed=seed)
