"""On-policy learning: rollouts and updates alternate."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from prudence.run_config import RunConfig
from prudence.runs.directory import RunDirectory
from prudence.training.learning.online import OnlineLearning
from prudence.training.progress import UPDATE, Counters, Keys
from prudence.types import Metrics, Transition


class RolloutLearning(OnlineLearning):
    """Collects a rollout with the current policy, learns from it in one dispatch, and discards it.

    Raises:
        ValueError: ``decisions_per_iteration`` is not a multiple of ``num_envs``.
    """

    def __init__(self, config: RunConfig, run: RunDirectory, counters: Counters, keys: Keys) -> None:
        super().__init__(config, run, counters, keys)
        self._length = self._loop.decisions_per_iteration // self._loop.num_envs

    @property
    def plan(self) -> str:
        return f"rollouts of {self._length:,} decisions in each of {self._loop.num_envs} environments"

    def iterate(self, state: Any) -> tuple[Any, Metrics]:
        started = time.perf_counter()
        self._collector.begin()
        rows = [self._collector.last]
        rows += [self._collector.step(self._collector.act(state)) for _ in range(self._length)]
        self.collecting += time.perf_counter() - started
        for summary in self._collector.finished:
            state = self.agent.on_episode(state, summary)
        rollout: Transition = jax.tree.map(lambda *column: np.stack(column, 1)[None], *rows)
        state, metrics = self.agent.update(state, rollout, key=self._keys(UPDATE, self._counters.updates))
        self._counters.updates += 1
        metrics = {name: float(value) for name, value in metrics.items()}
        self.busy += time.perf_counter() - started
        return state, metrics
