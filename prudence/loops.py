"""Training loops: how acting and learning alternate, and for how long. prudence/training runs them."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Loop(abc.ABC):
    """Intervals of logs, evaluations and checkpoints. A run's progress has a unit (``Learning.unit``).

    Attributes:
        log_every, evaluate_every, checkpoint_every: progress between two logs, evaluations or checkpoints; 0 means
            never.
        evaluate_episodes: episodes in each evaluation during training.
    """

    log_every: int
    evaluate_every: int
    checkpoint_every: int
    evaluate_episodes: int = 5

    @abc.abstractmethod
    def run_updates(self, raw_steps: int) -> int:
        """Number of updates in the whole run, at least 1. A decision lasts ``raw_steps`` raw steps."""


@dataclass(frozen=True, kw_only=True)
class OnlineLoop(Loop):
    """Length of a run in environments, and how they are stepped. Progress is in raw environment steps.

    Attributes:
        steps: raw environment steps of the whole run, summed over environments and counting action repeats.
        num_envs: number of environments that are stepped together.
        workers: worker processes that step the environments; 0 steps them all in the main process.
        decisions_per_iteration: decisions in one iteration, summed over environments. Logs, evaluations and
            checkpoints happen between iterations.
    """

    steps: int
    num_envs: int
    workers: int
    decisions_per_iteration: int


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
    """

    steps: int = 1_000_000
    num_envs: int = 1
    workers: int = 0
    decisions_per_iteration: int = 2
    log_every: int = 1000
    evaluate_every: int = 25_000
    checkpoint_every: int = 25_000
    prefill: int = 1000
    updates_per_decision: float = 0.5
    updates_per_dispatch: int = 1
    batch_size: int = 16
    batch_length: int = 64
    replay_capacity: int = 1_000_000

    def run_updates(self, raw_steps: int) -> int:
        return max(1, int(self.updates_per_decision * (self.steps // raw_steps - self.prefill)))

    def steps_at(self, update: int, raw_steps: int) -> int:
        """Raw steps of the run after which update number ``update`` is made."""
        return raw_steps * (self.prefill + math.ceil(update / self.updates_per_decision))


@dataclass(frozen=True, kw_only=True)
class RolloutLoop(OnlineLoop):
    """On-policy loop: each iteration collects one rollout in all environments, updates on it and discards it."""

    steps: int = 10_000_000
    num_envs: int = 8
    workers: int = 1
    decisions_per_iteration: int = 20_000
    log_every: int = 1
    evaluate_every: int = 500_000
    checkpoint_every: int = 100_000

    def run_updates(self, raw_steps: int) -> int:
        return max(1, self.steps // (self.decisions_per_iteration * raw_steps))
