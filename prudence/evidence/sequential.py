"""Evaluating until it is decided: bounds on the expected episode cost that may be looked at as they come.

A bound that holds with 95 % confidence for a number of episodes that was fixed beforehand holds less often for one who
goes on until it says what he hopes for. Here the looks are planned, and the 5 % are shared out among them.
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
"""The imagined episode costs so many times the dearest that was seen; docs/studies/until-decided.md has the choice."""


def planned_looks(most: int) -> tuple[int, ...]:
    """Numbers of episodes after which one looks: 20, 30, 50, 80, ..., each half as many again, in tens; last ``most``.

    Raises:
        ValueError: ``most`` is below 20, before which nothing is decided.
    """
    if most < FIRST_LOOK:
        raise ValueError(
            f"at most {most} episodes are too few to decide anything by: allow at least {FIRST_LOOK} (--max-episodes), "
            "or evaluate a fixed number (--episodes)"
        )
    looks = [FIRST_LOOK]
    while looks[-1] < most:
        looks.append(min(most, 10 * math.ceil(looks[-1] * _GROWTH / 10)))
    return tuple(looks)


def spent(looks: Sequence[int], confidence: float) -> Float[np.ndarray, " K"]:
    """What each look may spend of α = 1 - confidence: α (n_k / n_K)^ρ - α (n_{k-1} / n_K)^ρ, with ρ = 1.5.

    So α (n_k / n_K)^ρ is spent after n_k episodes: a spending function (Lan and DeMets, 1983) of the family of Kim and
    DeMets (1987, section 2). Whatever the looks have to do with each other, the chance that any of them is wrong is
    at most the sum, α (Bonferroni's inequality), which needs no joint distribution.
    """
    return (1 - confidence) * np.diff([0.0, *(np.array(looks) / looks[-1]) ** _SPENDING])


def bounds(costs: Float[np.ndarray, "R N"], level: float) -> tuple[Float[np.ndarray, " R"], Float[np.ndarray, " R"]]:
    """One-sided bounds on the expectations of R samples of N episode costs, each wrong with a chance of ``level``.

    Lower: bootstrap-t (Efron and Tibshirani, 1993, chapter 12), as :func:`prudence.evidence.statistics.cost_bound`;
    where all costs are equal, level^{1/N} of the cost, which is Markov's inequality.

    Upper: bootstrap-t of the sample and one episode more, which costs twice the dearest seen. Costs have long tails,
    and a resample of the episodes at hand knows of none dearer than those: without it the bound fails too often where
    few episodes make up most of the mean. A bound for costs of a known range adds the top of the range in the same
    way (Gaffke, 2005; Learned-Miller and Thomas, 2019, section 2); here the range is guessed from the sample, so this
    is no guarantee, and how often it holds was simulated. Infinite where the sample cannot bound the mean, as where no
    episode cost anything, and where ``level`` is too small for the resamples to tell.

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
    """mean - q s/√N with the quantiles 1 - level and level of t*; infinite where a sample does not say."""
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
    """t* = (mean* - mean) / (s*/√N) of B resamples, the same ones for every sample.

    How often a resample has each episode is a row of counts, so that its sums are matrix products. A resample of equal
    values has no spread: its t* is infinite, on the side on which its mean lies.
    """
    number = samples.shape[1]
    # In units of the sample's own, that rounding means the same at every scale.
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
    """How often each of ``number`` episodes is in each of ``rows`` resamples."""
    drawn = np.random.default_rng([0, start]).integers(number, size=(rows, number))
    places = drawn + number * np.arange(rows)[:, None]
    return np.bincount(places.ravel(), minlength=rows * number).reshape(rows, number).T.astype(np.float64)


@dataclass(frozen=True)
class Look:
    """One look at the episodes so far.

    Attributes:
        episodes, costly: how many there were, and how many of them cost anything.
        level: the chance of being wrong that this look may take.
        mean: of the costs.
        lower, upper: one-sided bounds on the expectation, each at ``level``; None where there is none.
    """

    episodes: int
    costly: int
    level: float
    mean: float
    lower: float
    upper: float | None


@dataclass(frozen=True)
class Decision:
    """What looks at the episodes have decided about one constraint, whose expected episode cost is held to ``budget``.

    Of a policy only one of ``holds`` and ``exceeded`` is wrong, and it is said with a chance of at most
    1 - ``confidence``, whenever one stops. With C constraints the chance that any is misjudged is at most C times that;
    the chance that all are said to hold although one does not is no larger than for one.

    Assumes what :func:`prudence.evidence.statistics.cost_bound` does: independent episodes of one fixed policy, and
    costs seen that are of the kind of the unseen ones. The level is asymptotic; docs/studies/until-decided.md has
    simulations.

    Attributes:
        plan: numbers of episodes after which one looks.
        looks: those so far. There are no more once it is decided.
    """

    budget: float
    plan: tuple[int, ...]
    confidence: float = 0.95
    looks: tuple[Look, ...] = field(default=())

    @property
    def status(self) -> Status:
        """``holds`` and ``exceeded`` are shown; otherwise the question is ``open``."""
        if not self.looks:
            return "open"
        last = self.looks[-1]
        if last.upper is not None and last.upper <= self.budget:
            return "holds"
        return "exceeded" if last.lower > self.budget else "open"

    def look(self, costs: Float[np.ndarray, " N"]) -> Decision:
        """The decision after another look, at all ``costs`` so far; unchanged if it was made already.

        Raises:
            ValueError: this is not the number of episodes that was planned.
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
        """The finding in one line: ``budget 2: mean 0.61 after 70 episodes, shown to be below: holds``."""
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
        """What would help: as many episodes as shrink the bound to the distance from the budget."""
        bound, gap = (last.upper if last.mean <= self.budget else last.lower), abs(last.mean - self.budget)
        if bound is None:
            return f"only {last.costly} episodes cost anything, more are needed to tell (--max-episodes)"
        needed = last.episodes * (abs(bound - last.mean) / gap) ** 2 if gap else math.inf
        if needed > 50 * last.episodes:
            return "the mean is so close to the budget that more episodes will hardly tell"
        return f"about {math.ceil(1.2 * needed / 100) * 100} episodes may tell (--max-episodes)"

    def content(self) -> dict[str, Any]:
        """As JSON."""
        looks = [vars(look) for look in self.looks]
        return {"budget": self.budget, "status": self.status, "verdict": self.verdict, "looks": looks}


def meaning(decision: Decision) -> str:
    """What the level of a decision means, in a sentence."""
    wrong = f"{100 * (1 - decision.confidence):.2g} %"
    return (
        f"a verdict is wrong in at most {wrong} of such evaluations, for each constraint, although the episodes were "
        f"looked at up to {len(decision.plan)} times"
    )
