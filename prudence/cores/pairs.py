"""Pairs of consecutive rows of recorded sequences, from which critics of actions learn."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.ops.offline import pair_mask
from prudence.types import Batch


class Pairs(NamedTuple):
    """n pairs of consecutive rows of recorded sequences: a state, an action, and what followed.

    ``weights`` is 1, or 0 where two episodes meet.
    """

    features: Float[Array, "n F"]
    actions: Float[Array, "n A"]
    rewards: Float[Array, " n"]
    costs: Float[Array, "n C"]
    continues: Float[Array, " n"]
    next_features: Float[Array, "n F"]
    weights: Float[Array, " n"]

    @classmethod
    def of(cls, features: Float[Array, "B T F"], batch: Batch) -> Pairs:
        """The pairs of ``[B, T]`` sequences, whose filtered states have these features.

        Raises:
            ValueError: T is 1, so that there are no pairs.
        """
        if features.shape[1] < 2:
            raise ValueError("this agent learns from pairs of rows: give --loop.batch-length 2, or more")

        def number(x: object) -> Array:
            """The values that follow an action."""
            return jnp.asarray(x, jnp.float32)[:, 1:]

        parts = (
            features[:, :-1],
            number(batch.prev_action),
            number(batch.reward),
            number(batch.cost),
            1 - number(batch.is_terminal),
            features[:, 1:],
            pair_mask(batch),
        )
        return cls(*(x.reshape(-1, *x.shape[2:]) for x in parts))
