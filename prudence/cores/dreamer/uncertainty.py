"""Optimism and pessimism over a posterior of world models (LAMBDA section 4.2).

Every start state is imagined under N models. Which of these N trajectories count is decided by a *statistic* of what
they promise: once for the return, and once for each constraint's cost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from prudence.models.ensemble import Ensemble
from prudence.models.swag import SWAG
from prudence.ranges import Share

Statistic = Literal["optimistic", "pessimistic", "mean"] | Share
"""The best of N trajectories, the worst, all of them, or the one at a quantile in [0, 1] of what is imagined (of the
cost: 1 is the costliest, and pessimistic)."""


@dataclass(frozen=True)
class UncertaintyConfig:
    """What is believed about the world model, and how trajectories under its samples count.

    Attributes:
        posterior: over models.
        task: statistic of returns. safety: statistic of each constraint's costs.
        of: what it is a statistic of: the sum of the λ-returns along a trajectory (LAMBDA Algorithm 1), or of the
            critics' ``values`` (its released code).
        common_noise: imagines all N trajectories of a state with the same noise, so that only the models differ between
            them. With noise of their own (LAMBDA) the best of N is partly the luckiest.
    """

    posterior: SWAG | Ensemble = field(default_factory=SWAG)
    task: Statistic = "optimistic"
    safety: Statistic = "pessimistic"
    of: Literal["returns", "values"] = "returns"
    common_noise: bool = False

    def __post_init__(self) -> None:
        for name, statistic in (("task", self.task), ("safety", self.safety)):
            if isinstance(statistic, float) and not 0 <= statistic <= 1:
                raise ValueError(f"{name}={statistic} is a quantile: it must be between 0 and 1")


class Selection(NamedTuple):
    """Which of B imagined columns count; None: all of them."""

    columns: Int[Array, " M"] | None

    def __call__(self, x: Float[Array, "H B *rest"]) -> Float[Array, "H M *rest"]:
        return x if self.columns is None else x[:, self.columns]

    def share(self, number: int) -> Float[Array, " B"]:
        """Weights of ``number`` columns with which a mean over all of them is one over those that count."""
        if self.columns is None:
            return jnp.ones(number)
        return jnp.zeros(number).at[self.columns].set(number / len(self.columns))


def select(scores: Float[Array, "N S"], statistic: Statistic, *, larger_is_better: bool) -> Selection:
    """Which of the columns ``nS + s`` count: one for each start state, or all of them for ``mean``."""
    number, starts = scores.shape
    if statistic == "mean":
        return Selection(None)
    if statistic in ("optimistic", "pessimistic"):
        quantile = float((statistic == "optimistic") == larger_is_better)
    else:
        quantile = statistic
    order = jnp.argsort(scores, 0)
    return Selection(order[round(quantile * (number - 1))] * starts + jnp.arange(starts))
