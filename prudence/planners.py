"""Planning: a search for the safe sequence of actions with the best imagined outcome.

There is one implementation of the cross-entropy method. Two things are arguments: the scores and costs of plans (a
:class:`Forecast`), and the rule that ranks them (an :data:`EliteRule`). SafeDreamer's constrained planner, its
Lagrangian variant, LAMBDA's CEM-MPC and the planner on the true simulator differ only in these. SafeLOOP's planner
(ARC) weighs plans by their ranks instead of selecting the best ones, and goes on for as long as too few are safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from prudence.ranges import Deviation, Few, Natural, NonNegative, Positive, Share, ShareBelowOne, Size
from prudence.types import Key, Metrics


class Forecast(NamedTuple):
    """Expected score and costs of N plans.

    Attributes:
        score: ``[N]`` the objective to maximise, such as a return.
        cost: ``[N, C]`` in the unit of the limits that the search gets, such as the cost of an episode.
    """

    score: Float[Array, " N"]
    cost: Float[Array, "N C"]


class Candidates(NamedTuple):
    """The plans of one iteration of a search, and their forecast."""

    plans: Float[Array, "N H A"]
    forecast: Forecast


class Search(NamedTuple):
    """State of a search.

    Attributes:
        mean, std: the distribution of plans (independent normals).
        best: the best plan of the last iteration, or what was decided for afterwards (:meth:`CrossEntropy.decide`).
        elites: the k elites of the last iteration, best first.
        unsafe: number of iterations in a row, the last one included, in which no plan was safe.
    """

    mean: Float[Array, "H A"]
    std: Float[Array, "H A"]
    best: Float[Array, "H A"]
    elites: Float[Array, "k H A"]
    unsafe: Int[Array, ""]


EliteRule = Callable[[Forecast, Float[Array, " C"], int], Float[Array, " N"]]
"""Ranks plans, given the budgets and the number k of elites. The k plans of the highest ranks are the elites."""


def is_safe(forecast: Forecast, limits: Float[Array, " C"]) -> Bool[Array, " N"]:
    """True for each plan that exceeds no budget. A plan whose cost equals the budget is safe."""
    return (forecast.cost <= limits).all(-1)


def best(forecast: Forecast, limits: Float[Array, " C"], elites: int) -> Float[Array, " N"]:
    """Elite rule that ignores costs: the elites are the plans with the highest scores."""
    return forecast.score


def constrained(forecast: Forecast, limits: Float[Array, " C"], elites: int) -> Float[Array, " N"]:
    """Elite rule that prefers safe plans (SafeDreamer section 4.1, Algorithm 1).

    If at least k plans are safe, the elites are the safe plans with the highest scores. Otherwise the elites are the
    plans with the lowest costs, summed over constraints.
    """
    safe = is_safe(forecast, limits)
    return jnp.where(safe.sum() >= elites, jnp.where(safe, forecast.score, -jnp.inf), -forecast.cost.sum(-1))


def correlated(noise: Float[Array, "N H A"], correlation: float) -> Float[Array, "N H A"]:
    r"""Noise that changes slowly along a plan, from independent standard normal numbers.

    .. math::
        ε_1 = η_1, \qquad ε_t = ρ ε_{t-1} + \sqrt{1 - ρ^2}\, η_t

    It is standard normal at every step, and steps that are k apart have correlation :math:`ρ^k`. Pinneri et al. 2020
    (iCEM, section 3.1) do so with coloured noise: independent actions cancel out, so that hardly any plan brakes, or
    turns, for half a second.

    Args:
        noise: η, with the steps of a plan on its second axis.
        correlation: ρ of neighbouring steps.
    """

    def step(last: Float[Array, "N A"], new: Float[Array, "N A"]) -> tuple[Float[Array, "N A"], Float[Array, "N A"]]:
        now = correlation * last + (1 - correlation**2) ** 0.5 * new
        return now, now

    by_step = jnp.swapaxes(noise, 0, 1)
    _, later = jax.lax.scan(step, by_step[0], by_step[1:])
    return jnp.swapaxes(jnp.concatenate([by_step[:1], later]), 0, 1)


def weighted(
    plans: Float[Array, "N H A"], rank: Float[Array, " N"], kappa: float
) -> tuple[Float[Array, "H A"], Float[Array, "H A"]]:
    r"""Mean and variance of plans that count by their ranks (ARC: Sikchi et al. 2020).

    .. math::
        w_n ∝ e^{κ s_n}, \qquad μ = \sum_n w_n a_n, \qquad σ^2 = \sum_n w_n (a_n - μ)^2

    Args:
        plans: the plans a.
        rank: their ranks s. A plan with rank −∞ does not count.
        kappa: κ, in the inverse unit of ranks.
    """
    weights = jax.nn.softmax(kappa * rank)[:, None, None]
    mean = (weights * plans).sum(0)
    return mean, (weights * jnp.square(plans - mean)).sum(0)


_WIDENING = 1.5
"""Factor by which the variance grows when no plan has been safe for too long (SafeLOOP's released code)."""
_NO_ITERATION, _CHECK = 2**31 - 1, 2**31 - 2
"""Numbers for the keys of the executed action and of the last comparison, larger than any iteration's number."""

RULES: dict[str, EliteRule] = {"best": best, "constrained": constrained}


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy method over plans of H actions in [-1, 1]^A (SafeDreamer Algorithm 1 and Table 5).

    With a ``kappa`` it is ARC (actor regularized control: Sikchi et al. 2020), the cross-entropy method's soft variant.

    Attributes:
        horizon: H, length of a plan.
        plans: N, number of plans in each iteration.
        elites: k, number of elites to which the distribution is refitted.
        kappa: κ, the inverse temperature of :func:`weighted`. The distribution is refitted to all plans, weighted by
            their ranks. With ``constrained`` these are the safe ones by exp(κ score), or, if fewer than k plans are
            safe, all plans by exp(−κ cost). None refits it to the k elites alike.
        iterations: largest number of rounds. Each draws plans and refits the distribution.
        min_iterations: number of rounds after which the search ends as soon as k plans are safe. None always makes
            ``iterations`` rounds.
        patience: number of rounds in a row without a safe plan after which the variance is reset to 1.5 times that of
            the first round; after as many again, to 1.5² times, and so on. 0 never resets it.
        proposals: share of the N plans that the actor proposes. They are the same in every iteration.
        momentum: weight of the old mean in the new mean.
        variance_momentum: weight of the old variance in the new variance.
        init_std: standard deviation in the first iteration.
        truncation: number of standard deviations beyond which no noise is drawn. None does not truncate.
        correlation: correlation of neighbouring steps' noise in a plan; see :func:`correlated`.
        min_std: lower bound of the standard deviation.
        rule: selects the elites; see :func:`best` and :func:`constrained`.
        keep_mean: includes the mean itself among the plans, so that the search scores the warm start and every
            refitted mean.
        execute: which action is executed. ``mean`` is the first action of the last mean. ``sample`` is a sample around
            it. ``best`` is the first action of the best plan of the last iteration. ``checked`` compares them again, in
            fresh futures: the last mean, the best plan and the elites. For if "left" and "right" are both safe, their
            mean leads through the middle, which may not be safe; and a plan that is the best of many owes that in part
            to the futures in which it was seen.

    Raises:
        ValueError: a number is outside its range.
    """

    horizon: Few = 15
    plans: Size = 500
    elites: Size = 50
    kappa: Positive | None = None
    iterations: Few = 6
    min_iterations: Few | None = None
    patience: Natural = 0
    proposals: ShareBelowOne = 0.0
    momentum: Share = 0.1
    variance_momentum: Share = 0.0
    init_std: Deviation = 1.0
    truncation: Positive | None = None
    correlation: ShareBelowOne = 0.0
    min_std: NonNegative = 0.0
    rule: Literal["best", "constrained"] = "constrained"
    keep_mean: bool = False
    execute: Literal["mean", "sample", "best", "checked"] = "mean"

    def __post_init__(self) -> None:
        if min(self.horizon, self.plans, self.iterations) < 1 or not 1 <= self.elites <= self.plans:
            raise ValueError(
                f"horizon={self.horizon}, plans={self.plans} and iterations={self.iterations} must be at least 1, and "
                f"elites={self.elites} between 1 and the number of plans"
            )
        if self.keep_mean and self.num_proposals == self.plans:
            raise ValueError(
                f"keep_mean needs a plan that the actor does not propose, but with proposals={self.proposals} it "
                f"proposes all plans={self.plans}: choose fewer proposals or more plans"
            )
        if not 0 <= self.proposals < 1:
            raise ValueError(f"proposals={self.proposals} is a share of the plans: it must be at least 0 and below 1")

    @property
    def num_proposals(self) -> int:
        """Number of plans that the actor proposes."""
        return round(self.proposals * self.plans)

    def begin(self, last: Float[Array, "H A"], is_first: Bool[Array, ""]) -> Search:
        """The search before its first iteration.

        The mean is the last plan, shifted by one decision, with its last action repeated. It is 0 when an episode
        begins.
        """
        mean = jnp.where(is_first, 0.0, jnp.concatenate([last[1:], last[-1:]]))
        elites = jnp.broadcast_to(mean, (self.elites, *mean.shape))
        return Search(mean, jnp.full_like(mean, self.init_std), mean, elites, jnp.zeros((), jnp.int32))

    def propose(self, search: Search, proposals: Float[Array, "M H A"], *, key: Key) -> Float[Array, "N H A"]:
        """N plans, clipped to [-1, 1]: the M plans that the actor proposes, and plans drawn around the mean.

        With ``keep_mean`` the first of the drawn plans is the mean itself.
        """
        shape = (self.plans - len(proposals), *search.mean.shape)
        if self.truncation is None:
            noise = jax.random.normal(key, shape)
        else:
            noise = jax.random.truncated_normal(key, -self.truncation, self.truncation, shape)
        if self.correlation:
            noise = correlated(noise, self.correlation)
        if self.keep_mean:
            noise = noise.at[0].set(0.0)
        return jnp.clip(jnp.concatenate([proposals, search.mean + search.std * noise]), -1, 1)

    def elite(self, forecast: Forecast, limits: Float[Array, " C"], number: int | None = None) -> Int[Array, " k"]:
        """Indices of the elites, best first.

        A plan whose rank is NaN comes last.

        Args:
            number: number of elites; None is k.
        """
        number = self.elites if number is None else number
        return jax.lax.top_k(self._rank(forecast, limits, number), number)[1]

    def _rank(self, forecast: Forecast, limits: Float[Array, " C"], number: int) -> Float[Array, " N"]:
        """The ranks of the elite rule, and −∞ instead of NaN."""
        rank = RULES[self.rule](forecast, limits, number)
        return jnp.where(jnp.isnan(rank), -jnp.inf, rank)

    def refine(
        self, search: Search, plans: Float[Array, "N H A"], forecast: Forecast, limits: Float[Array, " C"]
    ) -> tuple[Search, Metrics]:
        """Refits the distribution to the elites, and stores the best plan by the elite rule with k = 1."""
        chosen, safe = self.elite(forecast, limits), is_safe(forecast, limits)
        if self.kappa is None:
            mean, variance = plans[chosen].mean(0), plans[chosen].var(0)
        else:
            mean, variance = weighted(plans, self._rank(forecast, limits, self.elites), self.kappa)
        mean = self.momentum * search.mean + (1 - self.momentum) * mean
        variance = self.variance_momentum * jnp.square(search.std) + (1 - self.variance_momentum) * variance
        unsafe = jnp.where(safe.any(), 0, search.unsafe + 1)
        std = self._widened(jnp.maximum(jnp.sqrt(variance), self.min_std), unsafe)
        metrics = {
            "plan/safe_share": safe.mean(),
            "plan/elite_score": forecast.score[chosen].mean(),
            "plan/elite_cost": forecast.cost[chosen].sum(-1).mean(),
            "plan/std": std.mean(),
        }
        return Search(mean, std, plans[self.elite(forecast, limits, 1)[0]], plans[chosen], unsafe), metrics

    def _widened(self, std: Float[Array, "H A"], unsafe: Int[Array, ""]) -> Float[Array, "H A"]:
        """The standard deviation, or a wider one if no plan has been safe in as many rounds as ``patience`` allows."""
        if not self.patience:
            return std
        times = unsafe // self.patience
        wide = self.init_std * _WIDENING ** (times / 2)
        return jnp.where((times > 0) & (unsafe % self.patience == 0), wide, std)

    def plan(
        self,
        forecast: Callable[[Float[Array, "N H A"], Key], Forecast],
        begin: Search,
        proposals: Float[Array, "M H A"],
        limits: Float[Array, " C"],
        *,
        key: Key,
    ) -> tuple[Float[Array, " A"], Search, Metrics, Candidates]:
        """Runs all iterations, and :meth:`checked`.

        Returns:
            The action to execute, the final search, and the metrics and candidates of the last iteration. With
            ``min_iterations`` the metrics have the number of iterations, ``plan/iterations``.
        """

        def goes_on(carry: tuple) -> Bool[Array, ""]:
            index, _, _, candidates = carry
            if self.min_iterations is None:
                return index < self.iterations
            return (index < self.iterations) & ~self.is_done(candidates.forecast, limits, index)

        def iterate(carry: tuple) -> tuple:
            index, search, _, _ = carry
            return index + 1, *self.iterate(forecast, search, proposals, limits, index, key=key)

        first = jnp.zeros((), jnp.int32)
        nothing = jax.eval_shape(iterate, (first, begin, None, None))[2:]
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), nothing)
        number, search, metrics, candidates = jax.lax.while_loop(goes_on, iterate, (first, begin, *nothing))
        if self.min_iterations is not None:
            metrics["plan/iterations"] = number
        search = self.checked(forecast, search, limits, key=key)
        return self.action(search, key=key), search, metrics, candidates

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
        """Runs iteration ``index``: draws plans and refits to the elites. ``key`` is the key of the whole search."""
        draw_key, forecast_key = jax.random.split(jax.random.fold_in(key, index))
        plans = self.propose(search, proposals, key=draw_key)
        candidates = Candidates(plans, forecast(plans, forecast_key))
        search, metrics = self.refine(search, *candidates, limits)
        return search, metrics, candidates

    def is_done(
        self, forecast: Forecast, limits: Float[Array, " C"], iterations: int | Int[Array, ""]
    ) -> Bool[Array, ""]:
        """Whether the search may end after so many iterations, the last of which has this forecast."""
        least = self.iterations if self.min_iterations is None else self.min_iterations
        return (iterations >= least) & (is_safe(forecast, limits).sum() >= self.elites)

    def checked(
        self,
        forecast: Callable[[Float[Array, "N H A"], Key], Forecast],
        search: Search,
        limits: Float[Array, " C"],
        *,
        key: Key,
    ) -> Search:
        """The search at its end, after the comparison that ``execute="checked"`` asks for.

        ``key`` is the key of the whole search.
        """
        if self.execute != "checked":
            return search
        plans = self.finalists(search)
        return self.decide(search, plans, forecast(plans, jax.random.fold_in(key, _CHECK)), limits)

    def finalists(self, search: Search) -> Float[Array, "M H A"]:
        """The plans that are compared again at the end: the mean, the best plan, and the elites."""
        return jnp.concatenate([search.mean[None], search.best[None], search.elites])

    def decide(
        self, search: Search, plans: Float[Array, "N H A"], forecast: Forecast, limits: Float[Array, " C"]
    ) -> Search:
        """Makes the best of ``plans``, by the elite rule with k = 1, the best plan of the search."""
        return search._replace(best=plans[self.elite(forecast, limits, 1)[0]])

    def executed(self, search: Search) -> Float[Array, "H A"]:
        """The executed plan. The next search starts from it."""
        return search.best if self.execute in ("best", "checked") else search.mean

    def action(self, search: Search, *, key: Key) -> Float[Array, " A"]:
        """The action to execute. ``key`` is the key of the whole search."""
        if self.execute != "sample":
            return self.executed(search)[0]
        noise = jax.random.normal(jax.random.fold_in(key, _NO_ITERATION), search.mean[0].shape)
        return jnp.clip(search.mean[0] + search.std[0] * noise, -1, 1)
