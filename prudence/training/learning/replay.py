"""Learning from replay: decisions and gradient steps run in parallel, at a fixed ratio."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from prudence.cores.base import Fitting
from prudence.data.memory import check_fits, memory_plan
from prudence.data.mixture import Mixture
from prudence.data.replay import Replay
from prudence.data.windows import Windows
from prudence.inspection.open_loop import measure
from prudence.loops import ReplayLoop
from prudence.run_config import RunConfig
from prudence.runs.directory import RunDirectory
from prudence.training.learning.online import OnlineLearning
from prudence.training.learning.steps import Devices, learn
from prudence.training.progress import FIT, FORESIGHT, Counters, Keys
from prudence.types import Metrics

_FORESIGHT_SEQUENCES = 64
_REPLAY_CHUNK = 1024


class ReplayLearning(OnlineLearning):
    """Learns from replay in a thread, while the main thread collects experience.

    The learning thread uses windows that were drawn before the iteration. The main thread acts with the weights from
    before the iteration.
    """

    def __init__(self, config: RunConfig, run: RunDirectory, counters: Counters, keys: Keys) -> None:
        assert isinstance(config.loop, ReplayLoop)
        self._devices = Devices(config.loop.devices)
        super().__init__(config, run, counters, keys)
        loop, env = config.loop, self._env
        self._replay_loop = loop
        self._open = functools.partial(
            Replay,
            run.replay,
            env.spaces,
            env.num_envs,
            capacity=loop.replay_capacity,
            recent=loop.recent_share,
            window=loop.recent_decisions,
            seed=config.seed,
            chunk_size=_REPLAY_CHUNK,
        )
        self._plan = memory_plan(
            self.spaces,
            loop.replay_capacity,
            env.num_envs,
            chunk_size=_REPLAY_CHUNK,
            checkpoint_every=loop.checkpoint_every // env.raw_steps,
        )
        try:
            check_fits(self._plan, run.replay)
        except BaseException:
            env.close()
            raise
        self._pool = ThreadPoolExecutor(1, "learn")

    @property
    def plan(self) -> str:
        return str(self._plan)

    def start(self) -> None:
        super().start()
        self._replay = self._open()
        self._replay.clear()
        self._replay.add(self._collector.last)

    def _resume(self, meta: Mapping[str, Any], *, whole: bool) -> None:
        self._replay = self._open()
        self._replay.restore(meta["replay"])
        if not whole:
            self._replay.interrupt()
            self._replay.add(self._collector.last)

    def saved(self) -> dict[str, Any]:
        return {**super().saved(), "replay": self._replay.state()}

    def commit(self) -> None:
        self._replay.commit()

    def close(self) -> None:
        self._pool.shutdown()
        super().close()

    def iterate(self, state: Any) -> tuple[Any, Metrics]:
        started = time.perf_counter()
        state = self._fit(state)
        fitted = time.perf_counter()
        self._collector.begin()
        windows = self._draw()
        learning = self._pool.submit(self._learn, state, windows) if windows else None
        self._collect(state)
        collected = time.perf_counter()
        metrics: Metrics = {}
        if learning is not None:
            state, metrics, learned = learning.result()
            self._counters.updates += len(windows) * self._replay_loop.updates_per_dispatch
            self.busy += max(collected, learned) - started
        else:
            self.busy += collected - started
        for summary in self._collector.finished:
            state = self.agent.on_episode(state, summary)
        self.collecting += collected - fitted
        return state, metrics

    def _fit(self, state: Any) -> Any:
        """Fits the agent's model to everything that is recorded, if it has one for which that is due."""
        learned_from = self._counters.decisions - self._replay_loop.prefill
        if not isinstance(self.agent, Fitting) or learned_from < 0 or not self._replay.ready(2):
            return state
        every, before = self.agent.fit_every, learned_from - self._replay_loop.decisions_per_iteration
        if learned_from // every == before // every:
            return state
        return self.agent.fit(state, self._replay.recorded(), key=self._keys(FIT, self._counters.decisions))

    def _draw(self) -> list[Windows]:
        """Draws the windows for the updates that are due after the decisions so far."""
        loop = self._replay_loop
        trained_on = self._counters.decisions - loop.prefill
        if trained_on < 0 or not self._sampler.ready(loop.batch_length):
            return []
        owed = loop.updates_per_decision * (trained_on + loop.decisions_per_iteration) - self._counters.updates
        dispatches = int(owed) // loop.updates_per_dispatch
        return [
            self._sampler.draw(loop.batch_size, loop.batch_length, loop.updates_per_dispatch) for _ in range(dispatches)
        ]

    def _learn(self, state: Any, windows: list[Windows]) -> tuple[Any, Metrics, float]:
        """Takes gradient steps on the windows, in a separate thread.

        Returns:
            The agent's state, mean metrics, and the time at which the steps ended (``time.perf_counter``).
        """
        state, metrics = learn(
            self.agent, state, windows, self._sampler.gather, self._keys, self._counters.updates, self._devices
        )
        return state, metrics, time.perf_counter()

    def _collect(self, state: Any) -> None:
        """Takes the iteration's decisions in the environments, and adds the new rows to replay."""
        collector = self._collector
        for _ in range(self._replay_loop.decisions_per_iteration // collector.env.num_envs):
            prefilling = self._counters.decisions < self._replay_loop.prefill
            actions = self._first_actions(state) if prefilling else collector.act(state)
            self._replay.add(collector.step(actions))

    @property
    def _sampler(self) -> Replay | Mixture:
        """What batches are drawn from."""
        return self._replay

    def _first_actions(self, state: Any) -> np.ndarray:
        """Actions before the first update."""
        return self._collector.explore()

    def foresight(self, state: Any) -> Metrics:
        length = self._replay_loop.batch_length
        if not self._replay.ready(length) or length < 2:
            return {}
        batch, context = self._replay.newest(_FORESIGHT_SEQUENCES, length), length // 2
        key = self._keys(FORESIGHT, self._counters.decisions)
        return measure(self.agent, state, batch, context=context, key=key)[0].metrics()
