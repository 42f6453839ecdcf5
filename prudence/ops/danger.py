"""Cost functions of observations, for :class:`prudence.types.CostFunction`."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.types import Observation


def above(
    observation: Observation, *, name: str, index: int, threshold: float, cost: float
) -> Float[Array, "*batch 1"]:
    """Cost of a reading that is too high, such as that of the nearest object.

    The cost is ``cost`` if ``observation[name][..., index]`` is at least ``threshold``, and 0 otherwise.
    """
    return jnp.where(observation[name][..., index : index + 1] >= threshold, cost, 0.0)


def near(
    observation: Observation, *, name: str, start: int, stop: int, radius: float, cost: float
) -> Float[Array, "*batch 1"]:
    """Cost of being near an object (SafeDreamer's low-dimensional planner).

    ``observation[name][..., start:stop]`` holds positions (x, y) of objects in the agent's frame. The cost is ``cost``
    if at least one of them is within ``radius`` of the agent, and 0 otherwise.
    """
    positions = observation[name][..., start:stop]
    distance = jnp.hypot(positions[..., 0::2], positions[..., 1::2])
    return jnp.where((distance <= radius).any(-1, keepdims=True), cost, 0.0)
