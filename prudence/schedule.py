"""What the loops of all agents have in common."""

from __future__ import annotations

import abc
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule(abc.ABC):
    """How long a run is, over how many environments, and how often it looks up from learning.

    Attributes:
        steps: raw environment steps of the whole run (over all environments, repeats counted).
        num_envs: environments that are stepped together.
        workers: processes beside this one that they are spread over; 0 steps them all in this one.
        decisions_per_iteration: decisions, over all environments, between two moments at which nothing is under way.
        log_every, evaluate_every, checkpoint_every: raw steps between two of them; 0 means never.
        evaluate_episodes: episodes of each evaluation during training.
    """

    steps: int
    num_envs: int
    workers: int
    decisions_per_iteration: int
    log_every: int
    evaluate_every: int
    checkpoint_every: int
    evaluate_episodes: int = 5

    @abc.abstractmethod
    def run_updates(self, raw_steps: int) -> int:
        """Updates of the whole run, where a decision lasts ``raw_steps``; at least 1."""
