"""Recorded steps, with their observations as one vector ``[F]``."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from prudence.models.vectors import vector
from prudence.types import Batch, Spaces


class Records(NamedTuple):
    """n recorded steps: NumPy arrays with a leading axis n.

    Attributes:
        observations: ``[n, F]`` where the action was taken.
        actions: ``[n, A]``.
        changes: ``[n, F]`` the next observation minus this one.
        rewards: ``[n]``.
        costs: ``[n, C]``.
        terminal: ``[n]`` 1 where the episode terminated with the next observation, else 0.
    """

    observations: np.ndarray
    actions: np.ndarray
    changes: np.ndarray
    rewards: np.ndarray
    costs: np.ndarray
    terminal: np.ndarray

    @classmethod
    def of(cls, batch: Batch, spaces: Spaces) -> Records:
        """The steps of ``[B, T]`` sequences. A row with ``is_first`` does not follow from the row before it."""
        rows = jax.tree.map(np.asarray, batch)
        follows = ~rows.is_first[:, 1:]
        seen = np.asarray(vector(rows.observation, spaces.observations))
        before, after = seen[:, :-1][follows], seen[:, 1:][follows]
        parts = (rows.prev_action, rows.reward, rows.cost, rows.is_terminal)
        action, reward, cost, terminal = (x[:, 1:][follows].astype(np.float32) for x in parts)
        return cls(before, action, after - before, reward, cost, terminal)
