"""What a set of episodes says about a policy: intervals for its return, bounds on its cost.

An average over twenty episodes is not the policy's expected cost, and "safe" is a statement about the
latter. ``cost_bound`` therefore gives what the expectation stays below with a stated confidence.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.stats
from jaxtyping import Float

Values = Float[np.ndarray, " N"]
Status = Literal["holds", "exceeded", "open"]


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided confidence interval; ``low`` and ``high`` are NaN for a single value."""

    estimate: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        bounds = f" [{self.low:.4g}, {self.high:.4g}]" if math.isfinite(self.low) else ""
        return f"{self.estimate:.4g}{bounds}"


def interquartile_mean(values: Float[np.ndarray, "*shape"], axis: int = -1) -> Float[np.ndarray, "*rest"] | np.floating:
    """Mean of the middle half, after dropping ``floor(N / 4)`` values at either end of ``axis``.

    Less swayed by one lucky seed than the mean, and less wasteful than the median (Agarwal et al., 2021).
    """
    return scipy.stats.trim_mean(values, 0.25, axis=axis)


def bootstrap_interval(
    values: Values,
    statistic: Callable[..., object] = np.mean,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of ``statistic``, which takes ``axis``: bias-corrected and accelerated (Efron, 1987).

    Falls back on the percentile interval where that correction is undefined, as for an interquartile mean of
    values that are nearly all equal. A sample without spread gives an interval without width.

    Raises:
        ValueError: ``values`` is empty or holds NaN or infinity.
    """
    values = _checked(values)
    estimate = float(statistic(values, axis=-1))  # type: ignore[arg-type]
    if len(values) == 1:
        return Interval(estimate, math.nan, math.nan, confidence)
    if np.ptp(values) == 0:
        return Interval(estimate, estimate, estimate, confidence)
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy warns of what the next line tests
            low, high = scipy.stats.bootstrap(
                (values,), statistic, confidence_level=confidence, n_resamples=resamples, method=method, rng=seed
            ).confidence_interval
        if np.isfinite([low, high]).all():
            break
    return Interval(estimate, float(low), float(high), confidence)


def hierarchical_interval(
    samples: Sequence[Float[np.ndarray, " _"]],
    statistic: Callable[..., object] = np.mean,
    *,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of ``statistic``, which takes ``axis``, over the episodes of several seeds of one agent.

    A resample draws seeds with replacement and, for each, as many episodes as the seed in whose place it stands
    had, with replacement; the interval is the percentile one (Davison and Hinkley, 1997, section 3.8). So it is
    about another seed of the agent, where an interval that keeps the seeds and resamples their episodes is about
    these policies only. With few seeds it is too narrow still. One sample has no second level, and has
    :func:`bootstrap_interval`.

    Args:
        samples: ``[N_s]`` values of each seed.

    Raises:
        ValueError: there is no sample, or one is empty or holds NaN or infinity.
    """
    samples = [_checked(sample) for sample in samples]
    if len(samples) < 2:
        return bootstrap_interval(
            _checked(np.concatenate([*samples, []])), statistic, confidence=confidence, resamples=resamples, seed=seed
        )
    pooled, sizes = np.concatenate(samples), np.array([len(sample) for sample in samples])
    rng = np.random.default_rng(seed)
    # A place for every episode, and for every place the seed that its block was given.
    drawn = np.repeat(rng.integers(len(sizes), size=(resamples, len(sizes))), sizes, axis=1)
    within = (rng.random(drawn.shape) * sizes[drawn]).astype(int)
    values = statistic(pooled[(np.cumsum(sizes) - sizes)[drawn] + within], axis=-1)
    low, high = np.quantile(np.asarray(values), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(statistic(pooled, axis=-1)), float(low), float(high), confidence)  # type: ignore[arg-type]


@dataclass(frozen=True)
class CostBound:
    """What N episodes say about the expected episode cost of one constraint, against its budget.

    Attributes:
        budget: the limit on the expected cost of an episode.
        mean: average over the episodes.
        lower, upper: what the expectation is above, below, each with ``confidence`` (one-sided). None where
            the sample has too little spread to tell.
        distribution_free: upper bound that assumes nothing but the largest possible cost; None without it.
        confidence: of each bound.
        episodes, costly: how many there were, and how many of them cost anything.
    """

    budget: float
    mean: float
    lower: float | None
    upper: float | None
    distribution_free: float | None
    confidence: float
    episodes: int
    costly: int

    @property
    def status(self) -> Status:
        """``holds`` and ``exceeded`` are shown with the stated confidence; otherwise the question is ``open``."""
        if self.upper is not None and self.upper <= self.budget:
            return "holds"
        if self.lower is not None and self.lower > self.budget:
            return "exceeded"
        return "open"

    @property
    def costly_fraction(self) -> float:
        """Upper bound on the fraction of episodes that cost anything (Clopper and Pearson, 1934)."""
        return costly_fraction(self.costly, self.episodes, self.confidence)

    @property
    def verdict(self) -> str:
        """The finding in one line, such as ``budget 2: mean 0.6, with 95 % confidence below 1.4: holds``."""
        head, sure = f"budget {self.budget:.4g}: mean {self.mean:.4g}", f"with {self.confidence:.0%} confidence"
        sure = sure.replace("%", " %")
        if self.status == "exceeded":
            return f"{head}, {sure} above {self.lower:.4g}: exceeded"
        if self.upper is not None:
            ending = "holds" if self.status == "holds" else "not shown to hold"
            return f"{head}, {sure} below {self.upper:.4g}: {ending}"
        if self.costly == 0:
            rare, dear = self.costly_fraction, self.budget / self.costly_fraction
            return (
                f"{head}, no cost in {self.episodes} episodes; {sure} at most {100 * rare:.2g} % of episodes cost "
                f"anything: holds if those cost {dear:.4g} on average or less"
            )
        return (
            f"{head}, {self.costly} of {self.episodes} episodes cost anything: too little spread to tell, evaluate more"
        )


def costly_fraction(costly: int, episodes: int, confidence: float) -> float:
    """Upper bound on the fraction of episodes that cost anything (Clopper and Pearson, 1934)."""
    return 1.0 if costly == episodes else float(scipy.stats.beta.ppf(confidence, costly + 1, episodes - costly))


def cost_bound(
    costs: Values,
    budget: float,
    *,
    confidence: float = 0.95,
    maximum: float | None = None,
    resamples: int = 9999,
    seed: int = 0,
) -> CostBound:
    """One-sided bounds on the expected episode cost, by bootstrap-t (Efron and Tibshirani, 1993, chapter 12).

    upper = mean - q_α · s/√n, where q_α is the α = 1 - confidence quantile of t* = (mean* - mean) / (s*/√n)
    over resamples of the episodes; lower takes q_{1-α}.

    Episode costs are mostly nil with a long right tail, and then a low mean comes with a low deviation, so
    that Student's t bound holds far less often than it says (for 20 episodes of which 30 % cost, Gamma
    distributed, 80 % of the time instead of 95 %). Bootstrap-t measures that skew: in the same case it held
    97 % of the time. Where more than α of the resamples cost nothing at all, q_α is -∞: the sample cannot bound
    the mean, and ``upper`` is None rather than a number that looks safe.

    Assumes that episodes are independent, of one fixed policy, from the distribution of episodes that is
    asked about, and that the costs seen are of the kind that the unseen ones are: no finite sample speaks of
    an accident that has never happened. ``distribution_free`` drops the last assumption, at the price of a bound
    that thousands of episodes are needed to make small.

    Args:
        costs: ``[N]`` sum of one constraint's costs over each episode.
        budget: in the same unit.
        maximum: the largest cost that an episode can have, if it is known.

    Raises:
        ValueError: ``costs`` is empty, not finite, or exceeds ``maximum``.
    """
    costs = _checked(costs)
    alpha = 1 - confidence
    low, high = _studentised_quantiles(costs, alpha, resamples, seed)
    error = float(np.std(costs, ddof=1)) / math.sqrt(len(costs)) if len(costs) > 1 else 0.0
    mean = float(np.mean(costs))
    ceiling = math.inf if maximum is None else maximum
    return CostBound(
        budget=budget,
        mean=mean,
        lower=_lower_bound(costs, high, error, alpha),
        upper=min(mean - low * error, ceiling) if math.isfinite(low) else None,
        distribution_free=None if maximum is None else empirical_bernstein_bound(costs, maximum, confidence),
        confidence=confidence,
        episodes=len(costs),
        costly=int(np.count_nonzero(costs)),
    )


def empirical_bernstein_bound(costs: Values, maximum: float, confidence: float = 0.95) -> float:
    """Upper bound on the mean of any distribution on [0, M] (Maurer and Pontil, 2009, theorem 4).

    mean + √(2 s² ln(2/δ) / n) + 7 M ln(2/δ) / (3 (n - 1)), with δ = 1 - confidence, and at most M.

    Raises:
        ValueError: a cost lies outside [0, ``maximum``].
    """
    costs = _checked(costs)
    if costs.min() < 0 or costs.max() > maximum:
        raise ValueError(f"costs lie in [{costs.min():g}, {costs.max():g}], outside [0, {maximum:g}]: raise `maximum`")
    if len(costs) == 1:
        return maximum
    n, log = len(costs), math.log(2 / (1 - confidence))
    spread = math.sqrt(2 * float(np.var(costs, ddof=1)) * log / n)
    return min(maximum, float(np.mean(costs)) + spread + 7 * maximum * log / (3 * (n - 1)))


def _lower_bound(costs: Values, quantile: float, error: float, alpha: float) -> float | None:
    """Bootstrap-t; where there is no spread, α^{1/n} of the cost, which is Markov's inequality for n episodes."""
    if np.ptp(costs) == 0:
        return max(0.0, float(costs[0])) * alpha ** (1 / len(costs))
    return float(np.mean(costs)) - quantile * error if math.isfinite(quantile) else None


def _studentised_quantiles(costs: Values, alpha: float, resamples: int, seed: int) -> tuple[float, float]:
    """Quantiles α and 1 - α of t*; NaN where the sample has no spread, infinite where a resample decides it."""
    if len(costs) < 2 or np.ptp(costs) == 0:
        return math.nan, math.nan
    draws = np.random.default_rng(seed).choice(costs, (resamples, len(costs)))
    shift = draws.mean(axis=1) - costs.mean()
    error = draws.std(axis=1, ddof=1) / math.sqrt(len(costs))
    # A resample of equal values has no spread: its t* is infinite, on the side on which its mean lies. The
    # deviation of equal floats can round to something above nil, hence the range.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = shift / np.where(np.ptp(draws, axis=1) == 0, 0.0, error)
    ratios = np.nan_to_num(ratios, nan=0.0, posinf=math.inf, neginf=-math.inf)
    low = np.quantile(ratios, alpha, method="lower")
    high = np.quantile(ratios, 1 - alpha, method="higher")
    return float(low), float(high)


def _checked(values: Values) -> Values:
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no episodes: statistics need at least one finished episode")
    if not np.isfinite(values).all():
        raise ValueError("episode values hold NaN or infinity: the environment or the policy returned one")
    return values
