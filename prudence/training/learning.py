"""What one iteration of a run does: two ways of alternating experience and learning.

Nothing is under way between two iterations, which is where checkpoints are taken, so what a run computes depends
neither on timing nor on interruptions.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from prudence.cores.base import Agent
from prudence.data.memory import check_fits, memory_plan
from prudence.data.replay import Replay, Windows
from prudence.inspection.open_loop import measure
from prudence.loops import ReplayLoop, RolloutLoop
from prudence.training.collect import FORESIGHT, UPDATE, Collector, Counters, Keys
from prudence.types import Metrics, Spaces, Transition

_FORESIGHT_SEQUENCES = 64
_REPLAY_CHUNK = 1024


class Learning(abc.ABC):
    """One way of collecting and learning.

    Attributes:
        busy: seconds in which environments were stepped or the agent learnt.
        collecting: seconds from an iteration's beginning to its last decision.
    """

    busy: float = 0.0
    collecting: float = 0.0

    @property
    @abc.abstractmethod
    def plan(self) -> str:
        """What it will take up, for a person."""

    @abc.abstractmethod
    def start(self) -> None:
        """A fresh run, whose environments have been reset."""

    @abc.abstractmethod
    def restore(self, meta: Mapping[str, Any], whole: bool) -> None:
        """Brings back what ``saved`` put into ``meta``; not ``whole`` where the environments were reset instead."""

    @abc.abstractmethod
    def saved(self) -> dict[str, Any]:
        """What a checkpoint has to hold beside agent and environments."""

    @abc.abstractmethod
    def commit(self) -> None:
        """A checkpoint with what ``saved`` returned is on the disk."""

    @abc.abstractmethod
    def iterate(self, state: Any) -> tuple[Any, Metrics]:
        """Takes ``decisions_per_iteration`` decisions and learns: the agent's next state."""

    @abc.abstractmethod
    def close(self) -> None:
        """The run is over."""

    @abc.abstractmethod
    def foresight(self, state: Any) -> Metrics:
        """How well the agent foresees the newest experience, where that can be said."""


def make_learning(
    config: ReplayLoop | RolloutLoop,
    agent: Agent,
    collector: Collector,
    spaces: Spaces,
    counters: Counters,
    keys: Keys,
    replay: Path,
    seed: int,
) -> Learning:
    """The way of learning that ``config`` is of."""
    if isinstance(config, RolloutLoop):
        return OnPolicyLearning(config, agent, collector, counters, keys)
    return ReplayLearning(config, agent, collector, spaces, counters, keys, replay, seed)


class OnPolicyLearning(Learning):
    """Takes a rollout with the present policy, then learns from it, in one dispatch, and forgets it."""

    def __init__(self, config: RolloutLoop, agent: Agent, collector: Collector, counters: Counters, keys: Keys) -> None:
        self._agent, self._collector, self._counters, self._keys = agent, collector, counters, keys
        self._length, rest = divmod(config.decisions_per_iteration, collector.env.num_envs)
        if rest or not self._length:
            raise ValueError(
                f"decisions_per_iteration={config.decisions_per_iteration} must be a multiple of "
                f"num_envs={collector.env.num_envs}"
            )

    @property
    def plan(self) -> str:
        return f"rollouts of {self._length:,} decisions in each of {self._collector.env.num_envs} environments"

    def start(self) -> None:
        pass

    def restore(self, meta: Mapping[str, Any], whole: bool) -> None:
        pass

    def saved(self) -> dict[str, Any]:
        return {}

    def commit(self) -> None:
        pass

    def close(self) -> None:
        pass

    def foresight(self, state: Any) -> Metrics:
        return {}

    def iterate(self, state: Any) -> tuple[Any, Metrics]:
        started = time.perf_counter()
        rows = [self._collector.last]
        rows += [self._collector.step(self._collector.act(state)) for _ in range(self._length)]
        self.collecting += time.perf_counter() - started
        for summary in self._collector.finished:
            state = self._agent.on_episode(state, summary)
        rollout: Transition = jax.tree.map(lambda *column: np.stack(column, 1)[None], *rows)
        state, metrics = self._agent.update(state, rollout, key=self._keys(UPDATE, self._counters.updates))
        self._counters.updates += 1
        metrics = {name: float(value) for name, value in metrics.items()}
        self.busy += time.perf_counter() - started
        return state, metrics


class ReplayLearning(Learning):
    """Takes decisions and the gradient steps that they owe, side by side: a thread learns from windows that were drawn
    before the iteration, while this one steps the environments with the weights from before it."""

    def __init__(
        self,
        config: ReplayLoop,
        agent: Agent,
        collector: Collector,
        spaces: Spaces,
        counters: Counters,
        keys: Keys,
        directory: Path,
        seed: int,
    ) -> None:
        self._config, self._agent, self._collector = config, agent, collector
        self._counters, self._keys = counters, keys
        num_envs = collector.env.num_envs
        self._open = lambda: Replay(
            directory,
            collector.env.spaces,
            num_envs,
            capacity=config.replay_capacity,
            seed=seed,
            chunk_size=_REPLAY_CHUNK,
        )
        self._plan = memory_plan(
            spaces,
            config.replay_capacity,
            num_envs,
            chunk_size=_REPLAY_CHUNK,
            checkpoint_every=config.checkpoint_every // collector.env.raw_steps,
        )
        check_fits(self._plan, directory)
        self._pool = ThreadPoolExecutor(1, "learn")

    @property
    def plan(self) -> str:
        return str(self._plan)

    def start(self) -> None:
        self._replay = self._open()
        self._replay.clear()
        self._replay.add(self._collector.last)

    def restore(self, meta: Mapping[str, Any], whole: bool) -> None:
        self._replay = self._open()
        self._replay.restore(meta["replay"])
        if not whole:
            self._replay.add(self._collector.last)

    def saved(self) -> dict[str, Any]:
        return {"replay": self._replay.state()}

    def commit(self) -> None:
        self._replay.commit()

    def close(self) -> None:
        self._pool.shutdown()

    def iterate(self, state: Any) -> tuple[Any, Metrics]:
        started = time.perf_counter()
        windows = self._draw()
        learning = self._pool.submit(self._learn, state, windows) if windows else None
        self._collect(state)
        collected = time.perf_counter()
        metrics: Metrics = {}
        if learning is not None:
            state, metrics, learned = learning.result()
            self._counters.updates += len(windows) * self._config.updates_per_dispatch
            self.busy += max(collected, learned) - started
        else:
            self.busy += collected - started
        for summary in self._collector.finished:
            state = self._agent.on_episode(state, summary)
        self.collecting += collected - started
        return state, metrics

    def _draw(self) -> list[Windows]:
        """Windows for the updates that the decisions so far owe."""
        loop = self._config
        trained_on = self._counters.decisions - loop.prefill
        if trained_on < 0 or not self._replay.ready(loop.batch_length):
            return []
        owed = loop.updates_per_decision * (trained_on + loop.decisions_per_iteration) - self._counters.updates
        dispatches = int(owed) // loop.updates_per_dispatch
        return [
            self._replay.draw(loop.batch_size, loop.batch_length, loop.updates_per_dispatch) for _ in range(dispatches)
        ]

    def _learn(self, state: Any, windows: list[Windows]) -> tuple[Any, Metrics, float]:
        """Gradient steps on the windows; runs in a thread of its own. Returns when it ended, too."""
        history = []
        for index, chosen in enumerate(windows):
            key = self._keys(UPDATE, self._counters.updates + index * self._config.updates_per_dispatch)
            state, metrics = self._agent.update(state, jax.device_put(self._replay.gather(chosen)), key=key)
            history.append(metrics)
        means = jax.tree.map(lambda *values: float(np.mean([np.asarray(v) for v in values])), *history)
        return jax.block_until_ready(state), means, time.perf_counter()

    def _collect(self, state: Any) -> None:
        """Steps the environments and adds what arrives to replay."""
        collector = self._collector
        for _ in range(self._config.decisions_per_iteration // collector.env.num_envs):
            prefilling = self._counters.decisions < self._config.prefill
            self._replay.add(collector.step(collector.explore() if prefilling else collector.act(state)))

    def foresight(self, state: Any) -> Metrics:
        length = self._config.batch_length
        if not self._replay.ready(length) or length < 2:
            return {}
        batch, context = self._replay.newest(_FORESIGHT_SEQUENCES, length), length // 2
        key = self._keys(FORESIGHT, self._counters.decisions)
        return measure(self._agent, state, batch, context=context, key=key)[0].metrics()
