"""Training loops: how acting and learning alternate, and for how long. prudence/training runs them."""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, TypeVar

from prudence.ranges import Count, Few, Natural, ShareBelowOne, Size, between

Environments = Annotated[int, between(1, 4096)]
Workers = Annotated[int, between(0, 4096)]
Decisions = Annotated[int, between(1, 10_000_000)]
L = TypeVar("L", bound="Loop")


@dataclass(frozen=True, kw_only=True)
class Loop(abc.ABC):
    """Intervals of logs, evaluations and checkpoints. A run's progress has a unit (:attr:`unit`).

    Attributes:
        unit: the unit of progress, and the name of the field with the length of the run.
        free: names of the fields that may differ when a run goes on, besides its length.
        log_every, evaluate_every, checkpoint_every: progress between two logs, evaluations or checkpoints; 0 means
            never.
        evaluate_episodes: episodes in each evaluation during training.
    """

    unit: ClassVar[str]
    free: ClassVar[tuple[str, ...]] = ()
    log_every: Natural
    evaluate_every: Natural
    checkpoint_every: Natural
    evaluate_episodes: Annotated[int, between(1, 100_000)] = 5

    @property
    def length(self) -> int:
        """Progress at which the run ends."""
        return getattr(self, self.unit)

    def with_length(self: L, length: int) -> L:
        """The same loop with another length."""
        return replace(self, **{self.unit: length})

    def continued(self, by: Loop) -> Loop:
        """This loop with the settings of ``by`` that may differ when a run goes on: its length, and ``free``."""
        if type(by) is not type(self):
            return self
        return replace(self, **{name: getattr(by, name) for name in (self.unit, *self.free)})

    @abc.abstractmethod
    def progress_at(self, update: int, raw_steps: int) -> int:
        """Progress after which update number ``update`` is made. A decision lasts ``raw_steps`` raw steps."""

    @abc.abstractmethod
    def run_updates(self, raw_steps: int) -> int:
        """Number of updates in the whole run, at least 1. A decision lasts ``raw_steps`` raw steps."""

    @abc.abstractmethod
    def evaluation_processes(self, parallel: int) -> tuple[int, int]:
        """The number of environments that an evaluation steps together, and of its worker processes.

        ``parallel`` is the number of environments if training does not ask for fewer.
        """

    @abc.abstractmethod
    def problems(self, raw_steps: int) -> Iterator[str]:
        """What numbers, each within its range, have wrong together. A decision lasts ``raw_steps`` raw steps."""

    def check(self, raw_steps: int) -> None:
        """Raises ValueError with all :meth:`problems`, if there are any."""
        if problems := list(self.problems(raw_steps)):
            raise ValueError("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class OnlineLoop(Loop):
    """Length of a run in environments, and how they are stepped. Progress is in raw environment steps.

    Attributes:
        steps: raw environment steps of the whole run, summed over environments and counting action repeats.
        num_envs: number of environments that are stepped together.
        workers: worker processes that step the environments; 0 steps them all in the main process. As many as
            environments give each a process of its own, in evaluations too: choose that where only one can be in a
            process.
        decisions_per_iteration: decisions in one iteration, summed over environments. Logs, evaluations and
            checkpoints happen between iterations.
    """

    unit = "steps"
    steps: Count
    num_envs: Environments
    workers: Workers
    decisions_per_iteration: Decisions

    def evaluation_processes(self, parallel: int) -> tuple[int, int]:
        """``parallel`` and none, unless every environment of training has a process of its own. Those of an evaluation
        then have one, too, and there are no more of them."""
        if self.workers < self.num_envs:
            return parallel, 0
        return (number := min(parallel, self.num_envs)), number

    def problems(self, raw_steps: int) -> Iterator[str]:
        rest = self.decisions_per_iteration % self.num_envs
        if rest:
            given, number = self.decisions_per_iteration, self.num_envs
            yield (
                f"decisions_per_iteration={given} must be a multiple of num_envs={number}, since environments step "
                f"together: give --loop.decisions-per-iteration {given - rest + number} or "
                f"another multiple, or --loop.num-envs {math.gcd(given, number)}"
            )


@dataclass(frozen=True, kw_only=True)
class ReplayLoop(OnlineLoop):
    """Off-policy loop: decisions are stored in a replay, and updates use sequences sampled from it.

    Acting and updating run in parallel. The weights that choose an action are therefore at most
    ``decisions_per_iteration`` decisions old.

    Attributes:
        prefill: random decisions before the first update.
        updates_per_decision: gradient steps for each decision ("train ratio" / (batch size × length)).
        updates_per_dispatch: gradient steps in one call of the compiled update.
        batch_size: B, sequences in a batch.
        batch_length: T, steps of a sequence.
        replay_capacity: number of decisions that the replay keeps.
        recent_share: probability that a sequence of the replay is chosen from the newest ``recent_decisions``.
            Otherwise it is chosen from all (emphasis on recent experience; Wang and Ross 2019).
        recent_decisions: number of decisions that count as recent.
        devices: devices (GPUs) that share the sequences of each batch. A run may go on with another number.
    """

    free = ("devices",)
    steps: Count = 1_000_000
    num_envs: Environments = 1
    workers: Workers = 0
    decisions_per_iteration: Decisions = 2
    log_every: Natural = 1000
    evaluate_every: Natural = 25_000
    checkpoint_every: Natural = 25_000
    prefill: Natural = 1000
    updates_per_decision: Annotated[float, between(1e-6, 1000)] = 0.5
    updates_per_dispatch: Few = 1
    batch_size: Size = 16
    batch_length: Size = 64
    replay_capacity: Count = 1_000_000
    recent_share: Annotated[float, between(0, 1)] = 0.0
    recent_decisions: Natural = 10_000
    devices: Few = 1

    def run_updates(self, raw_steps: int) -> int:
        return max(1, self._owed(raw_steps))

    def _owed(self, raw_steps: int) -> int:
        """Gradient steps that the decisions of the whole run owe."""
        return int(self.updates_per_decision * (self.steps // raw_steps - self.prefill))

    def problems(self, raw_steps: int) -> Iterator[str]:
        yield from OnlineLoop.problems(self, raw_steps)
        yield from _shares(self.batch_size, self.devices)
        if self._owed(raw_steps) < self.updates_per_dispatch:
            yield (
                f"the run would never learn: steps={self.steps} are {self.steps // raw_steps:,} decisions, of which "
                f"prefill={self.prefill} come before the first update, and with updates_per_decision="
                f"{self.updates_per_decision:g} the rest owes fewer than updates_per_dispatch="
                f"{self.updates_per_dispatch} gradient steps: give more --steps, or a smaller --loop.prefill"
            )
        needed = max(self.prefill, self.batch_length * self.num_envs)
        if self.replay_capacity < needed:
            yield (
                f"replay_capacity={self.replay_capacity} cannot hold what is learned from: prefill={self.prefill} "
                f"decisions, and sequences of batch_length={self.batch_length} in each of num_envs={self.num_envs} "
                f"environments: give --loop.replay-capacity {needed} or more"
            )
        least = self.batch_length * self.num_envs
        if self.recent_share and self.recent_decisions < least:
            yield (
                f"recent_decisions={self.recent_decisions} hold no sequence of batch_length={self.batch_length} of "
                f"num_envs={self.num_envs} environments: give --loop.recent-decisions {least} or more"
            )

    def progress_at(self, update: int, raw_steps: int) -> int:
        return raw_steps * (self.prefill + math.ceil(update / self.updates_per_decision))


@dataclass(frozen=True, kw_only=True)
class MixedLoop(ReplayLoop):
    """Replay loop that goes on from an offline run: batches have sequences of its data set and of the replay.

    The first ``prefill`` decisions are the agent's, too, since it has learned already.

    Attributes:
        dataset: the directory of the data set.
        digest: the digest of its content.
        offline_share: share of the sequences of a batch that come from the data set. None draws every sequence that
            there is with the same probability, as if the data set were a part of the replay (FOSP). Policy expansion
            has .5 (Zhang, Xu and Yu 2023).
    """

    dataset: str = ""
    digest: str = ""
    offline_share: Annotated[float, between(0, 1)] | None = None

    def continued(self, by: Loop) -> Loop:
        """A data set may have been moved, if its content is the same."""
        on = Loop.continued(self, by)
        return replace(on, dataset=by.dataset) if isinstance(by, MixedLoop) and by.digest == self.digest else on

    def problems(self, raw_steps: int) -> Iterator[str]:
        yield from ReplayLoop.problems(self, raw_steps)
        if not self.dataset:
            yield (
                "this loop learns from a data set and a replay: begin with an offline run, which has one (--start-from "
                "RUN)"
            )


@dataclass(frozen=True, kw_only=True)
class RolloutLoop(OnlineLoop):
    """On-policy loop: each iteration collects one rollout in all environments, and updates on it.

    Attributes:
        replay_capacity: number of decisions that are kept on the disk. An update then gets all of them, not only the
            newest rollout. 0 discards each rollout.
    """

    steps: Count = 10_000_000
    num_envs: Environments = 8
    workers: Workers = 1
    decisions_per_iteration: Decisions = 20_000
    log_every: Natural = 1
    evaluate_every: Natural = 500_000
    checkpoint_every: Natural = 100_000
    replay_capacity: Natural = 0

    def progress_at(self, update: int, raw_steps: int) -> int:
        return update * self.decisions_per_iteration * raw_steps

    def run_updates(self, raw_steps: int) -> int:
        return max(1, self.steps // (self.decisions_per_iteration * raw_steps))

    def problems(self, raw_steps: int) -> Iterator[str]:
        yield from OnlineLoop.problems(self, raw_steps)
        rollout = self.decisions_per_iteration * raw_steps
        if self.steps < rollout:
            yield (
                f"steps={self.steps} end the run within its first rollout, which takes {rollout:,} steps "
                f"(decisions_per_iteration={self.decisions_per_iteration}, {raw_steps} steps each): give more --steps, "
                "or fewer --loop.decisions-per-iteration"
            )
        if 0 < self.replay_capacity < self.decisions_per_iteration:
            yield (
                f"replay_capacity={self.replay_capacity} holds less than a rollout of decisions_per_iteration="
                f"{self.decisions_per_iteration}: give more --loop.replay-capacity"
            )


@dataclass(frozen=True, kw_only=True)
class OfflineLoop(Loop):
    """Gradient steps on a data set, without environments. Progress is in gradient steps.

    Attributes:
        dataset: the directory of the data set.
        digest: the digest of its content.
        updates: gradient steps of the whole run.
        updates_per_iteration: gradient steps in one iteration. Logs, evaluations and checkpoints happen between
            iterations.
        updates_per_dispatch: gradient steps in one call of the compiled update.
        batch_size: B, sequences in a batch.
        batch_length: T, steps of a sequence.
        holdout: share of each source's episodes, its last ones, that is never learned from. The model's loss and its
            predictions are measured on them.
        evaluate_every: gradient steps between two evaluations in the task's environment; 0 needs no environment.
        foresight_every: gradient steps between two measurements of the model on held-out episodes; 0 means never.
        devices: devices (GPUs) that share the sequences of each batch. A run may go on with another number.
    """

    unit = "updates"
    free = ("devices",)
    dataset: str = ""
    digest: str = ""
    updates: Count = 30_000
    updates_per_iteration: Annotated[int, between(1, 100_000)] = 40
    updates_per_dispatch: Few = 1
    batch_size: Size = 16
    batch_length: Size = 64
    holdout: ShareBelowOne = 0.05
    log_every: Natural = 200
    evaluate_every: Natural = 0
    foresight_every: Natural = 2_000
    checkpoint_every: Natural = 2_000
    devices: Few = 1

    def continued(self, by: Loop) -> Loop:
        """A data set may have been moved, if its content is the same."""
        on = Loop.continued(self, by)
        return replace(on, dataset=by.dataset) if isinstance(by, OfflineLoop) and by.digest == self.digest else on

    def progress_at(self, update: int, raw_steps: int) -> int:
        return update

    def evaluation_processes(self, parallel: int) -> tuple[int, int]:
        return parallel, 0

    def run_updates(self, raw_steps: int) -> int:
        return self.updates

    def problems(self, raw_steps: int) -> Iterator[str]:
        yield from _shares(self.batch_size, self.devices)
        rest = self.updates_per_iteration % self.updates_per_dispatch
        if rest:
            given, number = self.updates_per_iteration, self.updates_per_dispatch
            yield (
                f"updates_per_iteration={given} must be a multiple of updates_per_dispatch={number}: give "
                f"--loop.updates-per-iteration {given - rest + number} or another multiple"
            )
        if not self.dataset:
            yield "an offline run learns from a data set: give --dataset DIRECTORY (`prudence dataset` makes one)"


def _shares(batch_size: int, devices: int) -> Iterator[str]:
    """What is wrong with a batch that devices share."""
    rest = batch_size % devices
    if rest:
        yield (
            f"batch_size={batch_size} must be a multiple of devices={devices}, since each takes as many sequences: "
            f"give --loop.batch-size {batch_size - rest + devices}, or --loop.devices {math.gcd(batch_size, devices)}"
        )
