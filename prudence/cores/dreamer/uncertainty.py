"""Optimism and pessimism over a posterior of world models (LAMBDA section 4.2).

N models imagine a trajectory from every start state. A *statistic* of their imagined returns or costs decides which of
the N trajectories count: once for the return, and once for each constraint's cost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from prudence.models.ensemble import Ensemble
from prudence.models.swag import SWAG
from prudence.ranges import NonNegative, Share

Statistic = Literal["optimistic", "pessimistic", "mean"] | Share
"""The best of N trajectories, the worst, all of them, or the one at a quantile in [0, 1] of the imagined returns or
costs. For costs, the quantile 1 is the highest cost, as in ``pessimistic``."""


@dataclass(frozen=True)
class UncertaintyConfig:
    """The posterior over world models, and which trajectories under its samples count.

    Attributes:
        posterior: the posterior over models.
        task: statistic of returns.
        safety: statistic of each constraint's costs.
        of: what the statistic is computed from: the sum of the λ-returns along a trajectory (LAMBDA Algorithm 1), or
            the sum of the critics' ``values`` (LAMBDA's released code).
        common_noise: whether all N trajectories of a state have the same noise, so that they differ only by their
            models. With separate noise (LAMBDA), the best of N trajectories is partly the luckiest.

    Raises:
        ValueError: a quantile is not between 0 and 1.
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


@dataclass(frozen=True)
class DisagreementConfig:
    """A penalty on imagined rewards where the members of an ensemble disagree about what follows.

    Learning from a fixed data set, a policy otherwise finds imagined states that no data contradicts.

    Attributes:
        weight: α in r̂ − α · std_i log p_i(ẑ | ĥ) (LOMPO: Rafailov et al. 2021, equation 6; DreamerV3 in FOSP's
            Appendix F, which does not give α).
        ensemble: the members. They do not imagine.
    """

    weight: NonNegative = 0.5
    ensemble: Ensemble = field(default_factory=Ensemble)


class Selection(NamedTuple):
    """The M of B imagined trajectories (columns) that count. None selects all of them."""

    columns: Int[Array, " M"] | None

    def __call__(self, x: Float[Array, "H B *rest"]) -> Float[Array, "H M *rest"]:
        return x if self.columns is None else x[:, self.columns]

    def share(self, number: int) -> Float[Array, " B"]:
        """Weights of all ``number`` columns. The weighted mean over all columns is the mean over the selected ones."""
        if self.columns is None:
            return jnp.ones(number)
        return jnp.zeros(number).at[self.columns].set(number / len(self.columns))


def select(scores: Float[Array, "N S"], statistic: Statistic, *, larger_is_better: bool) -> Selection:
    """Selects one trajectory (column ``nS + s``) for each start state s, or all of them for ``mean``.

    Args:
        scores: the score of each of N models at each of S start states.
        statistic: which trajectory to select.
        larger_is_better: whether a larger score is better. True for returns, False for costs.
    """
    number, starts = scores.shape
    if statistic == "mean":
        return Selection(None)
    if statistic in ("optimistic", "pessimistic"):
        quantile = float((statistic == "optimistic") == larger_is_better)
    else:
        quantile = statistic
    order = jnp.argsort(scores, 0)
    return Selection(order[round(quantile * (number - 1))] * starts + jnp.arange(starts))
