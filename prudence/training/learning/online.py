"""The common part of learning methods that collect experience in environments."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from prudence.envs.check import check_second_instance
from prudence.envs.interface import interface_from
from prudence.envs.vector import VectorEnv, make_vector, require_end
from prudence.evidence.evaluate import PARALLEL
from prudence.loops import OnlineLoop
from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.config import differences
from prudence.runs.directory import RunDirectory
from prudence.training.collect import Collector
from prudence.training.learning.base import Learning
from prudence.training.progress import Counters, Keys
from prudence.types import EpisodeSummary, Metrics, Spaces


class OnlineLearning(Learning):
    """A learning method with environments. Progress is counted in raw environment steps, so repeats count.

    Attributes:
        busy: time in which environments ran or the agent learned, in seconds.
        collecting: total time from the beginning of an iteration to its last decision, in seconds.
    """

    unit = "steps"

    def __init__(self, config: RunConfig, run: RunDirectory, counters: Counters, keys: Keys) -> None:
        assert isinstance(config.loop, OnlineLoop)
        self._loop, self._counters, self._keys = config.loop, counters, keys
        self._env = make_vector(config.env, config.loop.num_envs, seed=config.seed, workers=config.loop.workers)
        with contextlib.ExitStack() as failing:
            failing.callback(self._env.close)
            require_end(self._env)
            self.spaces = spaces_of(self._env)
            self.agent = config.make_agent(self.spaces)
            self._collector = Collector(self.agent, self._env, self.spaces, counters, keys, config.seed)
            failing.pop_all()
        self.busy = self.collecting = 0.0

    @property
    def now(self) -> int:
        return self._counters.decisions * self._env.raw_steps

    @property
    def end(self) -> int:
        return self._loop.steps

    @property
    def stride(self) -> int:
        return self._loop.decisions_per_iteration * self._env.raw_steps

    @property
    def evaluation_processes(self) -> tuple[int, int]:
        return self._loop.evaluation_processes(PARALLEL)

    @property
    def notes(self) -> Sequence[str]:
        return self._env.interface.notes

    @property
    def carry(self) -> Any:
        return self._collector.carry

    @property
    def finished(self) -> list[EpisodeSummary]:
        return self._collector.finished

    @property
    def recent(self) -> list[EpisodeSummary]:
        return list(self._collector.recent)

    @property
    def acting(self) -> Metrics:
        return self._collector.acting

    def start(self) -> None:
        self._collector.start()
        evaluated_here = self._loop.evaluate_every > 0 and self.evaluation_processes[1] == 0
        if evaluated_here and self._loop.num_envs // (self._loop.workers + 1) <= 1:  # Else there are several already.
            check_second_instance(self._env.config)

    def restore(self, meta: Mapping[str, Any], carry: Any) -> None:
        _refuse_other_interface(meta.get(checkpoint.INTERFACE), self._env)
        self._resume(meta, whole=self._collector.restore(meta, carry))

    def _resume(self, meta: Mapping[str, Any], *, whole: bool) -> None:
        """Restores the experience. ``whole`` is False if environments could not be restored and were reset instead."""

    def saved(self) -> dict[str, Any]:
        return {checkpoint.INTERFACE: self._env.interface.content(), **self._collector.saved()}

    def commit(self) -> None:
        pass

    def close(self) -> None:
        self._env.close()

    def foresight(self, state: Any) -> Metrics:
        return {}

    def shares(self, elapsed: float) -> Metrics:
        return {
            "time/idle_share": 1 - min(1.0, self.busy / elapsed),
            "time/collect_share": self.collecting / elapsed,
            "time/simulate_share": self._collector.simulating / elapsed,
        }


def spaces_of(env: VectorEnv) -> Spaces:
    """The spaces of a vector of environments, with the length of an episode."""
    return dataclasses.replace(env.spaces, episode_steps=env.steps_per_episode)


def _refuse_other_interface(saved: Any, env: VectorEnv) -> None:
    """Refuses to go on where the environment's own observations or actions have changed, such as an action's bounds."""
    if saved is None:
        return  # Older checkpoints do not have it.
    was, now = interface_from(saved), env.interface
    before = {own.name: own for own in was.observations}
    pairs = [(own.name, before.get(own.name, own), own) for own in now.observations] + [
        ("action", was.action, now.action)
    ]
    changed = [f"{name}: {differences(there, here)}" for name, there, here in pairs if there != here]
    if changed:
        raise checkpoint.CheckpointMismatch(
            f"{env.config.task} has changed since the checkpoint was saved:\n  "
            + "\n  ".join(changed)
            + "\nRestore the "
            "environment as it was, or train anew (--restart)"
        )
