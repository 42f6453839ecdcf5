"""Evaluating until decided: bounds on the expected episode cost that may be tested repeatedly.

A 95 % confidence bound is valid for a number of episodes that is fixed in advance. It holds less often if somebody
continues until the bound has the desired value. Here the tests, called looks, are planned, and share the 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from prudence.evidence.statistics import Status, costly_fraction

FIRST_LOOK = 20
METHOD = "bootstrap-t with one imagined episode more, alpha spent over planned looks"
_GROWTH = 1.5
_SPENDING = 1.5
_RESAMPLES = 9999
_DEARER = 2.0
"""Cost of the imagined episode, as a multiple of the largest observed cost; see docs/studies/until-decided.md."""


def planned_looks(most: int) -> tuple[int, ...]:
    """Numbers of episodes at the looks: 20, 30, 50, 80, ..., ``most``. They grow by half, rounded up to tens.

    Raises:
        ValueError: ``most`` is below 20, the first look.
    """
    if most < FIRST_LOOK:
        raise ValueError(
            f"at most {most} episodes are too few to decide anything: allow at least {FIRST_LOOK} (--max-episodes), "
            "or evaluate a fixed number (--episodes)"
        )
    looks = [FIRST_LOOK]
    while looks[-1] < most:
        looks.append(min(most, 10 * math.ceil(looks[-1] * _GROWTH / 10)))
    return tuple(looks)


def spent(looks: Sequence[int], confidence: float) -> Float[np.ndarray, " K"]:
    """Error probability of each look k of K: α (n_k / n_K)^ρ - α (n_{k-1} / n_K)^ρ, with α = 1 - confidence, ρ = 1.5.

    The sum up to n_k episodes is α (n_k / n_K)^ρ. This is a spending function (Lan and DeMets, 1983) of the family of
    Kim and DeMets (1987, section 2). The probability that any look is wrong is at most the sum of all, α (Bonferroni's
    inequality). This holds for every dependence between the looks.
    """
    return (1 - confidence) * np.diff([0.0, *(np.array(looks) / looks[-1]) ** _SPENDING])


def bounds(costs: Float[np.ndarray, "R N"], level: float) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """Lower and upper bounds on the expected cost, for R samples of N episode costs.

    Each bound is one-sided and wrong with probability ``level``.

    The lower bound is bootstrap-t (Efron and Tibshirani, 1993, chapter 12), as in
    :func:`prudence.evidence.statistics.cost_bound`. If all costs are equal, it is level^{1/N} of the cost (Markov's
    inequality).

    The upper bound is bootstrap-t of the sample and one imagined episode, which costs twice the largest observed cost.
    Costs have long tails, and a resample has no cost above the largest observed one. Without the imagined episode the
    bound would fail too often when few episodes make up most of the mean. For costs of a known range, a bound can add
    the largest possible cost in the same way (Gaffke, 2005; Learned-Miller and Thomas, 2019, section 2). Here the range
    is estimated from the sample, so there is no guarantee; simulations measured how often the bound holds. It is
    infinite if the sample cannot bound the mean, for example because no episode has a cost, and if ``level`` is too
    small for the number of resamples.

    Raises:
        ValueError: a cost is negative or not finite.
    """
    costs = np.asarray(costs, dtype=np.float64)
    if not np.isfinite(costs).all() or (costs < 0).any():
        raise ValueError("episode costs must be finite and not negative to be bounded until decided")
    dearest = costs.max(1, keepdims=True)
    lower, _ = bootstrap_t(costs, level)
    _, upper = bootstrap_t(np.concatenate([costs, _DEARER * dearest], 1), level)
    markov = dearest[:, 0] * level ** (1 / costs.shape[1])
    return np.where(np.ptp(costs, axis=1) == 0, markov, lower), upper


def bootstrap_t(samples: Float[np.ndarray, "R N"], level: float) -> tuple[np.ndarray, np.ndarray]:
    """mean - q s/√N with the quantiles 1 - level and level of t*. A bound is infinite if a sample gives none."""
    number = samples.shape[1]
    if level * _RESAMPLES < 2:
        return np.full(len(samples), -math.inf), np.full(len(samples), math.inf)
    mean, error = samples.mean(1), samples.std(1, ddof=1) / math.sqrt(number)
    ratios = _studentised(samples)
    places = math.floor(level * (_RESAMPLES - 1)), math.ceil((1 - level) * (_RESAMPLES - 1))
    ratios.partition(places, axis=1)
    with np.errstate(invalid="ignore"):
        lower, upper = mean - ratios[:, places[1]] * error, mean - ratios[:, places[0]] * error
    spread = np.ptp(samples, axis=1) > 0
    return np.where(spread, lower, -math.inf), np.where(spread, upper, math.inf)


def _studentised(samples: Float[np.ndarray, "R N"]) -> Float[np.ndarray, "R B"]:
    """t* = (mean* - mean) / (s*/√N) of B resamples. The resamples are the same for every sample.

    A resample is a column of counts, one for each episode, so its sums are matrix products. A resample of equal values
    has no spread. Its t* is infinite, with the sign of the shift of its mean.
    """
    number = samples.shape[1]
    # Each sample is scaled by its maximum, so that the rounding threshold works at every scale.
    scaled = samples / np.maximum(samples.max(1, keepdims=True), 1e-300)
    rows = max(1, 4_000_000 // number)
    ratios = []
    for start in range(0, _RESAMPLES, rows):
        counts = _counts(number, start, min(rows, _RESAMPLES - start))
        mean, square = scaled @ counts / number, scaled**2 @ counts / number
        variance = (square - mean**2) * number / (number - 1)
        shift = mean - scaled.mean(1, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append(shift / np.sqrt(np.where(variance > 1e-9 * square, variance, 0.0) / number))
    return np.nan_to_num(np.concatenate(ratios, axis=1), nan=0.0, posinf=math.inf, neginf=-math.inf)


@lru_cache(2)
def _counts(number: int, start: int, rows: int) -> Float[np.ndarray, "N rows"]:
    """Counts of each of ``number`` episodes in each of ``rows`` resamples."""
    drawn = np.random.default_rng([0, start]).integers(number, size=(rows, number))
    places = drawn + number * np.arange(rows)[:, None]
    return np.bincount(places.ravel(), minlength=rows * number).reshape(rows, number).T.astype(np.float64)


@dataclass(frozen=True)
class Look:
    """One look: a test of the episodes so far.

    Attributes:
        episodes: number of episodes.
        costly: number of episodes with a cost other than 0.
        level: error probability of this look.
        mean: mean cost of the episodes.
        lower, upper: one-sided bounds on the expected cost, each at ``level``; ``upper`` is None if there is none.
    """

    episodes: int
    costly: int
    level: float
    mean: float
    lower: float
    upper: float | None


@dataclass(frozen=True)
class Decision:
    """A sequential test of whether the expected episode cost of one constraint is within ``budget``.

    For a given policy, one of ``holds`` and ``exceeded`` is the wrong answer. The probability of giving it is at most
    1 - ``confidence``, at whatever look the test stops. With C constraints the probability of any wrong answer is at
    most C times that. The probability that all are said to hold although one does not is no larger than for one.

    The assumptions are those of :func:`prudence.evidence.statistics.cost_bound`: independent episodes of one fixed
    policy, and observed costs that are representative of the others. The level is asymptotic;
    docs/studies/until-decided.md has simulations.

    Attributes:
        budget: the limit on the expected cost of an episode.
        plan: numbers of episodes at the planned looks.
        confidence: 1 minus the error probability.
        looks: the looks so far. There are no more after a decision.
    """

    budget: float
    plan: tuple[int, ...]
    confidence: float = 0.95
    looks: tuple[Look, ...] = field(default=())

    @property
    def status(self) -> Status:
        """``holds`` or ``exceeded`` if the last look shows it, else ``open``."""
        if not self.looks:
            return "open"
        last = self.looks[-1]
        if last.upper is not None and last.upper <= self.budget:
            return "holds"
        return "exceeded" if last.lower > self.budget else "open"

    def look(self, costs: Float[np.ndarray, " N"]) -> Decision:
        """The decision after another look at all ``costs`` so far. It is unchanged if it is not open.

        Raises:
            ValueError: the number of episodes differs from the plan.
        """
        if self.status != "open":
            return self
        index = len(self.looks)
        if len(costs) != self.plan[index]:
            raise ValueError(f"look {index + 1} was planned after {self.plan[index]} episodes, not after {len(costs)}")
        level = float(spent(self.plan, self.confidence)[index])
        lower, upper = (float(bound[0]) for bound in bounds(costs[None], level))
        found = Look(
            episodes=len(costs),
            costly=int(np.count_nonzero(costs)),
            level=level,
            mean=float(np.mean(costs)),
            lower=max(0.0, lower),
            upper=upper if math.isfinite(upper) else None,
        )
        return replace(self, looks=(*self.looks, found))

    @property
    def verdict(self) -> str:
        """The result in one line: ``budget 2: mean 0.61 after 70 episodes, shown to be below: holds``."""
        last = self.looks[-1]
        head = f"budget {self.budget:.4g}: mean {last.mean:.4g} after {last.episodes} episodes"
        if self.status != "open":
            return f"{head}, shown to be {'below: holds' if self.status == 'holds' else 'above: exceeded'}"
        if not last.costly:
            rare = costly_fraction(0, last.episodes, 1 - last.level)
            return (
                f"{head}, not decided: none cost anything, and at most {100 * rare:.2g} % of all do; holds if those "
                f"cost {self.budget / rare:.4g} on average or less"
            )
        below = "" if last.upper is None else f" and {last.upper:.4g}"
        between = f"between {last.lower:.4g}{below}" if below else f"above {last.lower:.4g}"
        return f"{head}, not decided: the expectation lies {between}; {self._remedy(last)}"

    def _remedy(self, last: Look) -> str:
        """A remedy: the number of episodes that would shrink the bound to the distance from the budget."""
        bound, gap = (last.upper if last.mean <= self.budget else last.lower), abs(last.mean - self.budget)
        if bound is None:
            return f"only {last.costly} episodes cost anything, more are needed to tell (--max-episodes)"
        needed = last.episodes * (abs(bound - last.mean) / gap) ** 2 if gap else math.inf
        if needed > 50 * last.episodes:
            return "the mean is so close to the budget that more episodes will hardly tell"
        return f"about {math.ceil(1.2 * needed / 100) * 100} episodes may tell (--max-episodes)"

    def content(self) -> dict[str, Any]:
        """The decision as JSON-able values."""
        looks = [vars(look) for look in self.looks]
        return {"budget": self.budget, "status": self.status, "verdict": self.verdict, "looks": looks}


def meaning(decision: Decision) -> str:
    """Explains the confidence of a decision in one sentence."""
    wrong = f"{100 * (1 - decision.confidence):.2g} %"
    return (
        f"a verdict is wrong in at most {wrong} of such evaluations, for each constraint, although the episodes were "
        f"looked at up to {len(decision.plan)} times"
    )
