"""Where a run stands, and the random keys that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from prudence.types import Key

ACT, UPDATE, INIT, FORESIGHT = range(4)
"""Purposes of random keys."""


@dataclass
class Counters:
    """Where a run stands. ``decisions`` are over all environments; ``updates`` are gradient steps, or rollouts that
    were learned from."""

    decisions: int = 0
    updates: int = 0
    seconds: float = 0.0


class Keys:
    """The keys of a run, derived from its seed alone: of a purpose (``roots``), and of an index within it."""

    def __init__(self, seed: int):
        root = jax.random.key(seed)
        self.roots = {purpose: jax.random.fold_in(root, purpose) for purpose in (ACT, UPDATE, INIT, FORESIGHT)}
        self._fold = jax.jit(jax.random.fold_in)

    def __call__(self, purpose: int, index: int) -> Key:
        return self._fold(self.roots[purpose], index)
