"""Progress of a run, and its random keys."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from prudence.types import Key

ACT, UPDATE, INIT, FORESIGHT, SWITCH, FIT = PURPOSES = range(6)
"""Purposes of random keys."""


@dataclass
class Counters:
    """The progress of a run.

    Attributes:
        decisions: number of decisions in all environments.
        updates: number of gradient steps, or of rollouts for an on-policy agent.
        seconds: training time.
    """

    decisions: int = 0
    updates: int = 0
    seconds: float = 0.0


class Keys:
    """The random keys of a run. A key depends only on the run's seed, a purpose (``roots``), and an index."""

    def __init__(self, seed: int):
        root = jax.random.key(seed)
        self.roots = {purpose: jax.random.fold_in(root, purpose) for purpose in PURPOSES}
        self._fold = jax.jit(jax.random.fold_in)

    def __call__(self, purpose: int, index: int) -> Key:
        return self._fold(self.roots[purpose], index)
