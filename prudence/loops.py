"""How experience and learning alternate, and for how long: one dataclass for each way (prudence/training has what runs
them)."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Loop(abc.ABC):
    """How often a run looks up from learning. Its progress has a unit (``Learning.unit``).

    Attributes:
        log_every, evaluate_every, checkpoint_every: progress between two of them; 0 means never.
        evaluate_episodes: episodes of each evaluation during training.
    """

    log_every: int
    evaluate_every: int
    checkpoint_every: int
    evaluate_episodes: int = 5

    @abc.abstractmethod
    def run_updates(self, raw_steps: int) -> int:
        """Updates of the whole run, where a decision lasts ``raw_steps``; at least 1."""


@dataclass(frozen=True, kw_only=True)
class OnlineLoop(Loop):
    """How long a run in environments is, and how many of them there are. Progress is in raw environment steps.

    Attributes:
        steps: raw environment steps of the whole run (over all environments, repeats counted).
        num_envs: environments that are stepped together.
        workers: processes beside this one that they are spread over; 0 steps them all in this one.
        decisions_per_iteration: decisions, over all environments, between two moments at which nothing is under way.
    """

    steps: int
    num_envs: int
    workers: int
    decisions_per_iteration: int


@dataclass(frozen=True, kw_only=True)
class ReplayLoop(OnlineLoop):
    """Decisions go into a replay, and gradient steps are made on sequences drawn from it. Acting and updates run side
    by side, so actions come from weights that are ``decisions_per_iteration`` old at the most.

    Attributes:
        prefill: decisions taken at random before the first update.
        updates_per_decision: gradient steps for each decision ("train ratio" / (batch size × length)).
        updates_per_dispatch: gradient steps in one call of the compiled update.
        batch_size: B. batch_length: T.
        replay_capacity: decisions kept.
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
        """Raw steps after which an update is made."""
        return raw_steps * (self.prefill + math.ceil(update / self.updates_per_decision))


@dataclass(frozen=True, kw_only=True)
class RolloutLoop(OnlineLoop):
    """An iteration is one rollout of all environments and one update on it, which is then forgotten."""

    steps: int = 10_000_000
    num_envs: int = 8
    workers: int = 1
    decisions_per_iteration: int = 20_000
    log_every: int = 1
    evaluate_every: int = 500_000
    checkpoint_every: int = 100_000

    def run_updates(self, raw_steps: int) -> int:
        return max(1, self.steps // (self.decisions_per_iteration * raw_steps))
