"""Learning from a data set: gradient steps, without environments."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import jax

from prudence.cores.base import Modelling
from prudence.data.dataset import Dataset
from prudence.envs import custom
from prudence.envs.base import EnvConfig
from prudence.envs.vector import make_vector
from prudence.inspection.open_loop import measure
from prudence.loops import OfflineLoop
from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.directory import RunDirectory
from prudence.training.learning.base import Learning
from prudence.training.learning.online import spaces_of
from prudence.training.learning.steps import Devices, learn
from prudence.training.progress import FORESIGHT, Counters, Keys
from prudence.types import Metrics, Spaces

_FORESIGHT_SEQUENCES = 64


class OfflineLearning(Learning):
    """Learns from the episodes of a data set. Progress is counted in gradient steps.

    The last episodes of each source are held out. The model's loss and predictions are measured on them. No environment
    is made, unless evaluation asks for one.

    Raises:
        DatasetError: there is no such data set, it has changed, or its episodes are shorter than a batch's sequences.
        ValueError: the data set does not suit the agent, or the environment of an evaluation.
    """

    unit = "updates"

    def __init__(self, config: RunConfig, run: RunDirectory, counters: Counters, keys: Keys) -> None:
        assert isinstance(config.loop, OfflineLoop)
        self._loop, self._counters, self._keys = config.loop, counters, keys
        self._devices = Devices(config.loop.devices)
        self._dataset = Dataset(config.loop.dataset, seed=config.seed).expect(config.loop.digest)
        self._learned, self._held = self._dataset.hold_out(config.loop.holdout)
        self._learned.require(config.loop.batch_length)
        self.spaces = _with_time_limit(self._dataset)
        self.agent = config.make_agent(self.spaces)
        if config.loop.evaluate_every:
            custom.require_environment(config.env.task)  # A file named it: it must be an environment to be made.
            require_same_spaces(self.spaces, config.env)
        self.busy = 0.0

    @property
    def now(self) -> int:
        return self._counters.updates

    @property
    def end(self) -> int:
        return self._loop.updates

    @property
    def stride(self) -> int:
        return self._loop.updates_per_iteration

    @property
    def plan(self) -> str:
        learned, held = self._learned, self._held
        return (
            f"{learned.decisions:,} decisions of {len(learned.episodes):,} episodes in {self._dataset.directory}; "
            f"{len(held.episodes):,} more are held out"
        )

    def start(self) -> None:
        pass

    def restore(self, meta: Mapping[str, Any], carry: Any) -> None:
        self._learned.restore(meta["dataset"])

    def saved(self) -> dict[str, Any]:
        known = self._dataset.manifest.interface
        return {"dataset": self._learned.state()} | ({} if known is None else {checkpoint.INTERFACE: known})

    def commit(self) -> None:
        pass

    def close(self) -> None:
        pass

    def iterate(self, state: Any) -> tuple[Any, Metrics]:
        started, loop = time.perf_counter(), self._loop
        number = -(-min(loop.updates_per_iteration, self.end - self.now) // loop.updates_per_dispatch)
        windows = [
            self._learned.draw(loop.batch_size, loop.batch_length, loop.updates_per_dispatch) for _ in range(number)
        ]
        state, metrics = learn(
            self.agent, state, windows, self._learned.gather, self._keys, self._counters.updates, self._devices
        )
        self._counters.updates += number * loop.updates_per_dispatch
        self.busy += time.perf_counter() - started
        return state, metrics

    @property
    def foresight_every(self) -> int:
        return self._loop.foresight_every

    def foresight(self, state: Any) -> Metrics:
        """The model's loss (``holdout/*``) and its predictions of held-out episodes."""
        length = self._loop.batch_length
        if not self._held.ready(length) or length < 2:
            return {}
        batch, key = self._held.spread(_FORESIGHT_SEQUENCES, length), self._keys(FORESIGHT, self._counters.updates)
        loss_key, report_key = jax.random.split(key)
        metrics = measure(self.agent, state, batch, context=length // 2, key=report_key)[0].metrics()
        if isinstance(self.agent, Modelling):
            losses = self.agent.model_losses(state, jax.device_put(batch), key=loss_key)
            metrics |= {name.replace("model/", "holdout/"): float(value) for name, value in losses.items()}
        return metrics

    def shares(self, elapsed: float) -> Metrics:
        return {"time/idle_share": 1 - min(1.0, self.busy / elapsed)}


def _with_time_limit(dataset: Dataset) -> Spaces:
    """The spaces of a dataset. If nobody knows the time limit (imported data), it is the longest episode."""
    spaces = dataset.spaces
    if spaces.episode_steps is not None:
        return spaces
    return dataclasses.replace(spaces, episode_steps=max(episode.length for episode in dataset.episodes))


def require_same_spaces(spaces: Spaces, env: EnvConfig) -> None:
    """Refuses an environment in which a policy that learned from ``spaces`` cannot act.

    Raises:
        ValueError: observations, actions or costs differ. The message names the difference.
    """
    with contextlib.closing(make_vector(env, 1, seed=0)) as envs:
        own = spaces_of(envs)
    differing = {
        "observations": (dict(spaces.observation), dict(own.observation)),
        "actions": (spaces.action, own.action),
        "costs": (spaces.costs, own.costs),
    }
    wrong = [
        f"{name} {there} in the data set, {here} in {env.task}"
        for name, (there, here) in differing.items()
        if there != here
    ]
    if wrong:
        raise ValueError(
            f"the data set and the task differ: {'; '.join(wrong)}. Evaluate in the task of the data "
            "(--task), with its observations and action repeat, or without evaluation (--loop.evaluate-every 0)"
        )
