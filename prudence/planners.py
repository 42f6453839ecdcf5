"""Planning: a search for the sequence of actions whose imagined outcome is best among the safe ones.

There is one cross-entropy method. What a plan is worth (a :class:`Forecast`) and which plans count as elite (an
:data:`EliteRule`) are arguments: SafeDreamer's constrained planner, its Lagrangian variant, LAMBDA's CEM-MPC and the
planner that knows the true simulator differ in these only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from prudence.types import Key, Metrics


class Forecast(NamedTuple):
    """What is expected of N plans.

    Attributes:
        score: ``[N]`` what is maximised, such as a return.
        cost: ``[N, C]`` in the budgets' unit: the cost of an episode.
    """

    score: Float[Array, " N"]
    cost: Float[Array, "N C"]


class Candidates(NamedTuple):
    """The plans of one iteration of a search, and what was expected of them."""

    plans: Float[Array, "N H A"]
    forecast: Forecast


class Search(NamedTuple):
    """The distribution that plans are drawn from, independent normals, and the best plan of those scored last."""

    mean: Float[Array, "H A"]
    std: Float[Array, "H A"]
    best: Float[Array, "H A"]


EliteRule = Callable[[Forecast, Float[Array, " C"], int], Float[Array, " N"]]
"""Ranks plans, given the budgets and the number k of elites: the k largest numbers are the elites."""


def is_safe(forecast: Forecast, limits: Float[Array, " C"]) -> Bool[Array, " N"]:
    """Which plans keep within every budget (a plan at its budget does)."""
    return (forecast.cost <= limits).all(-1)


def best(forecast: Forecast, limits: Float[Array, " C"], elites: int) -> Float[Array, " N"]:
    """The elites are the plans of highest score, whatever they cost."""
    return forecast.score


def constrained(forecast: Forecast, limits: Float[Array, " C"], elites: int) -> Float[Array, " N"]:
    """With at least k safe plans the elites are the best of these; else the least costly of all, by the sum over
    constraints (SafeDreamer section 4.1, Algorithm 1)."""
    safe = is_safe(forecast, limits)
    return jnp.where(safe.sum() >= elites, jnp.where(safe, forecast.score, -jnp.inf), -forecast.cost.sum(-1))


_NO_ITERATION = 2**31 - 1
"""Larger than the number of any iteration: keys of iterations are the search's, folded by it."""

RULES: dict[str, EliteRule] = {"best": best, "constrained": constrained}


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy method over plans of H actions in [-1, 1]^A (SafeDreamer Algorithm 1 and Table 5).

    Attributes:
        horizon: H. plans: N, drawn in each iteration. elites: k. iterations: rounds of drawing and refitting.
        proposals: share of the N plans that the actor proposes; the same ones in every iteration.
        momentum: share of the old mean that stays.
        init_std, min_std: standard deviation of the first iteration, and the least that it may shrink to.
        rule: which plans are elite; see :func:`best` and :func:`constrained`.
        keep_mean: one of the plans drawn is the mean itself, so that the warm start and what the search was refitted to
            are scored as well.
        execute: the first action of the last ``mean``; a ``sample`` around it; or that of the ``best`` plan that was
            scored in the last iteration: a mean of "left" and "right", each of them safe, goes through the middle.
    """

    horizon: int = 15
    plans: int = 500
    elites: int = 50
    iterations: int = 6
    proposals: float = 0.0
    momentum: float = 0.1
    init_std: float = 1.0
    min_std: float = 0.0
    rule: Literal["best", "constrained"] = "constrained"
    keep_mean: bool = False
    execute: Literal["mean", "sample", "best"] = "mean"

    def __post_init__(self) -> None:
        if min(self.horizon, self.plans, self.iterations) < 1 or not 1 <= self.elites <= self.plans:
            raise ValueError(
                f"horizon={self.horizon}, plans={self.plans} and iterations={self.iterations} must be at least 1, and "
                f"elites={self.elites} between 1 and the number of plans"
            )
        if self.keep_mean and self.num_proposals == self.plans:
            raise ValueError(
                f"keep_mean needs a plan that the actor does not propose, and proposals={self.proposals} of "
                f"plans={self.plans} are all of them: choose fewer proposals or more plans"
            )
        if not 0 <= self.proposals < 1:
            raise ValueError(f"proposals={self.proposals} is a share of the plans: at least 0 and below 1")

    @property
    def num_proposals(self) -> int:
        """Plans that the actor proposes."""
        return round(self.proposals * self.plans)

    def begin(self, last: Float[Array, "H A"], is_first: Bool[Array, ""]) -> Search:
        """Starts from the last plan, one decision later, its end repeated; from zero when an episode begins."""
        mean = jnp.where(is_first, 0.0, jnp.concatenate([last[1:], last[-1:]]))
        return Search(mean, jnp.full_like(mean, self.init_std), mean)

    def propose(self, search: Search, proposals: Float[Array, "M H A"], *, key: Key) -> Float[Array, "N H A"]:
        """The actor's plans and, up to N, ones drawn around the mean (with ``keep_mean`` the first of them is it);
        clipped to [-1, 1]."""
        noise = jax.random.normal(key, (self.plans - len(proposals), *search.mean.shape))
        if self.keep_mean:
            noise = noise.at[0].set(0.0)
        return jnp.clip(jnp.concatenate([proposals, search.mean + search.std * noise]), -1, 1)

    def elite(self, forecast: Forecast, limits: Float[Array, " C"], number: int | None = None) -> Int[Array, " k"]:
        """Which plans are elite, best first: ``number`` of them, k if None. One whose forecast is not finite is never
        preferred."""
        number = self.elites if number is None else number
        rank = RULES[self.rule](forecast, limits, number)
        return jax.lax.top_k(jnp.where(jnp.isnan(rank), -jnp.inf, rank), number)[1]

    def refine(
        self, search: Search, plans: Float[Array, "N H A"], forecast: Forecast, limits: Float[Array, " C"]
    ) -> tuple[Search, Metrics]:
        """Refits the distribution to the elites, and notes the best plan: of the safe ones if there is one."""
        chosen = self.elite(forecast, limits)
        elite = plans[chosen]
        mean = self.momentum * search.mean + (1 - self.momentum) * elite.mean(0)
        std = jnp.maximum(elite.std(0), self.min_std)
        metrics = {
            "plan/safe_share": is_safe(forecast, limits).mean(),
            "plan/elite_score": forecast.score[chosen].mean(),
            "plan/elite_cost": forecast.cost[chosen].sum(-1).mean(),
            "plan/std": std.mean(),
        }
        return Search(mean, std, plans[self.elite(forecast, limits, 1)[0]]), metrics

    def plan(
        self,
        forecast: Callable[[Float[Array, "N H A"], Key], Forecast],
        begin: Search,
        proposals: Float[Array, "M H A"],
        limits: Float[Array, " C"],
        *,
        key: Key,
    ) -> tuple[Float[Array, " A"], Search, Metrics, Candidates]:
        """All iterations: the action to execute, the final distribution, and diagnostics and candidates of the last
        iteration."""

        def iterate(search: Search, index: Array) -> tuple[Search, tuple[Metrics, Candidates]]:
            search, metrics, candidates = self.iterate(forecast, search, proposals, limits, index, key=key)
            return search, (metrics, candidates)

        search, history = jax.lax.scan(iterate, begin, jnp.arange(self.iterations))
        return self.action(search, key=key), search, *jax.tree.map(lambda x: x[-1], history)

    def iterate(
        self,
        forecast: Callable[[Float[Array, "N H A"], Key], Forecast],
        search: Search,
        proposals: Float[Array, "M H A"],
        limits: Float[Array, " C"],
        index: int | Int[Array, ""],
        *,
        key: Key,
    ) -> tuple[Search, Metrics, Candidates]:
        """Iteration ``index``: draws plans, and refits to the elites; ``key`` is that of the whole search."""
        draw_key, forecast_key = jax.random.split(jax.random.fold_in(key, index))
        plans = self.propose(search, proposals, key=draw_key)
        candidates = Candidates(plans, forecast(plans, forecast_key))
        search, metrics = self.refine(search, *candidates, limits)
        return search, metrics, candidates

    def executed(self, search: Search) -> Float[Array, "H A"]:
        """The plan that is carried out, from which the next search starts."""
        return search.best if self.execute == "best" else search.mean

    def action(self, search: Search, *, key: Key) -> Float[Array, " A"]:
        """The action to execute; ``key`` is that of the whole search."""
        if self.execute != "sample":
            return self.executed(search)[0]
        noise = jax.random.normal(jax.random.fold_in(key, _NO_ITERATION), search.mean[0].shape)
        return jnp.clip(search.mean[0] + search.std[0] * noise, -1, 1)
