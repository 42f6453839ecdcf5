"""Recorded steps, and their vector observations as one vector ``[F]``."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from prudence.types import Batch, Observation, Spaces


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
        seen = np.asarray(flat(rows.observation, spaces))
        before, after = seen[:, :-1][follows], seen[:, 1:][follows]
        parts = (rows.prev_action, rows.reward, rows.cost, rows.is_terminal)
        action, reward, cost, terminal = (x[:, 1:][follows].astype(np.float32) for x in parts)
        return cls(before, action, after - before, reward, cost, terminal)


def flat(observation: Observation, spaces: Spaces) -> Float[Array | np.ndarray, "*batch F"]:
    """All observations in one vector, in the order of their names. NumPy stays NumPy."""
    names = sorted(spaces.observations)
    rank = len(spaces.observations[names[0]].shape)
    batch = np.shape(observation[names[0]])[: np.ndim(observation[names[0]]) - rank]
    parts = [observation[name].reshape(*batch, -1) for name in names]
    return (np if isinstance(parts[0], np.ndarray) else jnp).concatenate(parts, -1)


def named(vector: Float[Array, "*batch F"], spaces: Spaces) -> Observation:
    """The inverse of :func:`flat`."""
    shapes = {name: spaces.observations[name].shape for name in sorted(spaces.observations)}
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = jnp.split(vector, ends[:-1].tolist(), -1)
    return {n: x.reshape(*x.shape[:-1], *shape) for (n, shape), x in zip(shapes.items(), parts, strict=True)}
