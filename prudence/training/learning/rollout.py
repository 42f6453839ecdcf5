"""On-policy learning: rollouts and updates alternate."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from prudence.data.replay import Replay
from prudence.loops import RolloutLoop
from prudence.run_config import RunConfig
from prudence.runs.directory import RunDirectory
from prudence.training.learning.online import OnlineLearning
from prudence.training.progress import UPDATE, Counters, Keys
from prudence.types import Batch, Metrics, Transition


class RolloutLearning(OnlineLearning):
    """Collects a rollout with the current policy, and learns from it in one update.

    If the loop has a ``replay_capacity``, rollouts are kept in a replay, and each update gets all of them.

    Raises:
        ValueError: ``decisions_per_iteration`` is not a multiple of ``num_envs``.
    """

    def __init__(self, config: RunConfig, run: RunDirectory, counters: Counters, keys: Keys) -> None:
        assert isinstance(config.loop, RolloutLoop)
        super().__init__(config, run, counters, keys)
        self._length = self._loop.decisions_per_iteration // self._loop.num_envs
        self._capacity, self._directory, self._seed = config.loop.replay_capacity, run.replay, config.seed
        self._replay: Replay | None = None

    @property
    def plan(self) -> str:
        kept = f", of which {self._capacity:,} are kept" if self._capacity else ""
        return f"rollouts of {self._length:,} decisions in each of {self._loop.num_envs} environments{kept}"

    def start(self) -> None:
        super().start()
        self._open()
        if self._replay is not None:
            self._replay.clear()
            self._replay.add(self._collector.last)

    def _resume(self, meta: Mapping[str, Any], *, whole: bool) -> None:
        self._open()
        if self._replay is not None:
            self._replay.restore(meta["replay"])
            if not whole:
                self._replay.interrupt()
                self._replay.add(self._collector.last)

    def _open(self) -> None:
        if self._capacity:
            number = self._loop.num_envs
            self._replay = Replay(self._directory, self._env.spaces, number, capacity=self._capacity, seed=self._seed)

    def saved(self) -> dict[str, Any]:
        return {**super().saved(), **({} if self._replay is None else {"replay": self._replay.state()})}

    def commit(self) -> None:
        if self._replay is not None:
            self._replay.commit()

    def iterate(self, state: Any) -> tuple[Any, Metrics]:
        started = time.perf_counter()
        self._collector.begin()
        rows = [self._collector.last]
        rows += [self._collector.step(self._collector.act(state)) for _ in range(self._length)]
        self.collecting += time.perf_counter() - started
        for summary in self._collector.finished:
            state = self.agent.on_episode(state, summary)
        experience = jax.tree.map(lambda x: x[None], self._experience(rows))
        state, metrics = self.agent.update(state, experience, key=self._keys(UPDATE, self._counters.updates))
        self._counters.updates += 1
        metrics = {name: float(value) for name, value in metrics.items()}
        self.busy += time.perf_counter() - started
        return state, metrics

    def _experience(self, rows: list[Transition]) -> Batch:
        """What the agent learns from, ``[E, T, ...]``: the rollout, or everything that is kept."""
        if self._replay is None:
            return jax.tree.map(lambda *column: np.stack(column, 1), *rows)
        for row in rows[1:]:  # The first one ended the rollout before.
            self._replay.add(row)
        return self._replay.recorded()
