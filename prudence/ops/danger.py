"""Costs that are read off observations: functions for :class:`prudence.types.CostFunction`."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.types import Observation


def near(
    observation: Observation, *, name: str, start: int, stop: int, radius: float, cost: float
) -> Float[Array, "*batch 1"]:
    """``cost`` where any of the positions ``observation[name][..., start:stop]``, pairs in the agent's frame, is within
    ``radius`` (SafeDreamer's low-dimensional planner)."""
    positions = observation[name][..., start:stop]
    distance = jnp.hypot(positions[..., 0::2], positions[..., 1::2])
    return jnp.where((distance <= radius).any(-1, keepdims=True), cost, 0.0)
