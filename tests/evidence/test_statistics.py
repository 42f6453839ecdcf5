"""Intervals and bounds: worked by hand, at their edges, and how often they hold."""

import math

import numpy as np
import pytest

from prudence.evidence.statistics import (
    CostBound,
    bootstrap_interval,
    cost_bound,
    empirical_bernstein_bound,
    hierarchical_interval,
    interquartile_mean,
)


def array(*values):
    return np.array(values, dtype=float)


def test_interquartile_mean_drops_a_quarter_at_either_end():
    # Of 8 values, 2 go at either end: (3 + 4 + 5 + 6) / 4.
    assert interquartile_mean(array(100, 1, 2, 3, 4, 5, 6, 90)) == 4.5
    # Of 5, floor(5 / 4) = 1 goes.
    assert interquartile_mean(array(-50, 1, 2, 3, 70)) == 2
    np.testing.assert_array_equal(interquartile_mean(np.array([[1.0, 2, 3, 10], [4, 4, 4, 4]])), [2.5, 4])


def test_bootstrap_interval_matches_the_normal_one_for_normal_values():
    values = np.random.default_rng(1).normal(10, 3, 400)
    interval = bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.05)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.05)
    assert interval == bootstrap_interval(values), "the same seed gives the same interval"


def test_bootstrap_interval_at_its_edges():
    same = bootstrap_interval(array(3, 3, 3))
    assert (same.low, same.estimate, same.high) == (3, 3, 3)
    single = bootstrap_interval(array(3))
    assert single.estimate == 3
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    assert (str(single), str(same)) == ("3", "3 [3, 3]")
    # Interquartile mean of nearly equal values: BCa is undefined, the percentile interval is not.
    nearly = bootstrap_interval(array(*[0.0] * 19, 8), interquartile_mean)
    assert (nearly.low, nearly.estimate) == (0, 0)
    assert math.isfinite(nearly.high)


@pytest.mark.parametrize(("values", "message"), [([], "no episodes"), ([1.0, math.nan], "NaN")])
def test_values_that_mean_nothing_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(array(*values))
    with pytest.raises(ValueError, match=message):
        cost_bound(array(*values), 2.0)


def test_bootstrap_t_matches_student_for_normal_values():
    values = np.random.default_rng(2).normal(50, 5, 200)
    bound = cost_bound(values, 60.0)
    half = 1.6525 * values.std(ddof=1) / math.sqrt(200)  # t quantile .95 with 199 degrees of freedom
    assert bound.upper == pytest.approx(values.mean() + half, abs=0.1)
    assert bound.lower == pytest.approx(values.mean() - half, abs=0.1)


def test_bootstrap_t_of_two_values_by_hand():
    # Of the four equally likely resamples of (0, 2), (0, 0) gives t* = -inf, (2, 2) +inf, the mixed ones 0.
    quarter_is_infinite = cost_bound(array(0, 2), 5.0, confidence=0.9)
    assert (quarter_is_infinite.lower, quarter_is_infinite.upper) == (None, None)
    # Below the median lies a quarter of -inf only: both quantiles at confidence .6 are 0, the bounds are the mean.
    mild = cost_bound(array(0, 2), 5.0, confidence=0.6)
    assert (mild.lower, mild.upper) == (1.0, 1.0)


def test_skew_widens_the_upper_bound():
    costs = array(*[0.0] * 14, 1, 2, 4, 8, 16, 40)
    bound = cost_bound(costs, 25.0)
    student = costs.mean() + 1.729 * costs.std(ddof=1) / math.sqrt(20)
    assert bound.upper is not None
    assert bound.upper > 1.3 * student


def test_empirical_bernstein_by_hand():
    # n = 101, half 0 and 50 ones with a zero more: mean 50/101, s² = 101/100 · p(1 - p), ln(2/δ) = ln 40.
    costs = array(*[0.0] * 51, *[1.0] * 50)
    p, log = 50 / 101, math.log(40)
    variance = p * (1 - p) * 1.01
    expected = p + math.sqrt(2 * variance * log / 101) + 7 * log / 300
    assert empirical_bernstein_bound(costs, 1.0) == pytest.approx(expected)
    # In other units the bound is the same length.
    assert empirical_bernstein_bound(7 * costs, 7.0) == pytest.approx(7 * expected)
    assert empirical_bernstein_bound(array(0, 0, 0), 10.0) == 10.0, "never above the maximum"
    assert empirical_bernstein_bound(array(0), 10.0) == 10.0
    with pytest.raises(ValueError, match="raise `maximum`"):
        empirical_bernstein_bound(array(0, 11), 10.0)


def test_maximum_caps_the_bound_and_adds_the_distribution_free_one():
    costs = array(*[0.0] * 10, *[10.0] * 10)
    bound = cost_bound(costs, 2.0, maximum=10.0)
    assert bound.distribution_free == empirical_bernstein_bound(costs, 10.0)
    assert bound.upper is not None
    assert bound.mean < bound.upper <= 10
    assert cost_bound(costs, 2.0).distribution_free is None


def bound(**changes):
    fields = {
        "budget": 2.0,
        "mean": 0.6,
        "lower": 0.1,
        "upper": 1.4,
        "distribution_free": None,
        "confidence": 0.95,
        "episodes": 20,
        "costly": 6,
    }
    return CostBound(**(fields | changes))


@pytest.mark.parametrize(
    ("case", "status", "verdict"),
    [
        (bound(), "holds", "budget 2: mean 0.6, with 95 % confidence below 1.4: holds"),
        (bound(upper=2.0), "holds", "budget 2: mean 0.6, with 95 % confidence below 2: holds"),
        (bound(upper=2.1), "open", "budget 2: mean 0.6, with 95 % confidence below 2.1: not shown to hold"),
        (
            bound(mean=9.0, lower=6.1, upper=12.0),
            "exceeded",
            "budget 2: mean 9, with 95 % confidence above 6.1: exceeded",
        ),
        (
            bound(mean=0.2, upper=None, costly=1),
            "open",
            "budget 2: mean 0.2, 1 of 20 episodes cost anything: too little spread to tell, evaluate more",
        ),
    ],
)
def test_verdicts(case, status, verdict):
    assert (case.status, case.verdict) == (status, verdict)


def test_no_cost_at_all_is_not_called_safe_without_its_condition():
    # Clopper-Pearson with none of 20: 1 - .05^(1/20) = .1391; 2 / .1391 = 14.38.
    clean = cost_bound(np.zeros(20), 2.0)
    assert (clean.upper, clean.lower, clean.status) == (None, 0.0, "open")
    assert clean.costly_fraction == pytest.approx(0.1391, abs=1e-4)
    assert clean.verdict.endswith(
        "no cost in 20 episodes; with 95 % confidence at most 14 % of episodes cost anything: "
        "holds if those cost 14.38 on average or less"
    )


def test_without_spread_the_lower_bound_is_markovs():
    # P(all n cost c) <= (mean / c)^n, which is .05 at mean = .05^(1/n) c: 30 · .05^(1/20) = 25.83.
    same = cost_bound(np.full(20, 30.0), 5.0)
    assert same.lower == pytest.approx(25.83, abs=0.01)
    assert (same.upper, same.status) == (None, "exceeded")
    # A single episode: .05 · 30 = 1.5 decides nothing against 2.
    single = cost_bound(array(30), 2.0)
    assert single.lower == pytest.approx(1.5)
    assert single.status == "open"


def sample(kind, n, rng):
    if kind == "mostly nil":
        return (rng.random(n) < 0.3) * rng.gamma(0.7, 30 / 0.7, n), 9.0
    return rng.gamma(1.0, 5.0, n), 5.0


@pytest.mark.parametrize("kind", ["mostly nil", "exponential"])
def test_the_bound_holds_as_often_as_it_says(kind):
    rng = np.random.default_rng(3)
    held = student_held = 0
    for _ in range(400):
        costs, expectation = sample(kind, 20, rng)
        upper = cost_bound(costs, 25.0, resamples=599).upper
        held += upper is None or upper >= expectation
        student_held += costs.mean() + 1.729 * costs.std(ddof=1) / math.sqrt(20) >= expectation
    # Binomial deviation over 400 repetitions is 1.1 points; second-order error costs about two more.
    assert held >= 0.915 * 400
    assert held > student_held + 8, "Student's bound is the one that skew breaks"


def test_hierarchical_interval_of_one_sample_is_its_bootstrap_interval():
    values = np.random.default_rng(0).normal(3, 1, 30)
    assert hierarchical_interval([values], interquartile_mean) == bootstrap_interval(values, interquartile_mean)


def test_hierarchical_interval_by_enumeration():
    # Without spread within seeds only the draw of seeds matters: the mean of two of (0, 1) is 0, 1/2, 1 with
    # probability 1/4, 1/2, 1/4, so that the middle 40 % are 1/2, and the middle 60 % all.
    samples = [array(0, 0, 0), array(1, 1, 1)]
    inner = hierarchical_interval(samples, confidence=0.4)
    assert (inner.low, inner.estimate, inner.high) == (0.5, 0.5, 0.5)
    outer = hierarchical_interval(samples, confidence=0.6)
    assert (outer.low, outer.high) == (0, 1)
    # Of three values and one, the places are three and one: means of a resample are 0, 1/4, 3/4, 1.
    uneven = hierarchical_interval([array(0, 0, 0), array(1)], confidence=0.4)
    assert (uneven.low, uneven.estimate, uneven.high) == (0.25, 0.25, 0.75)


def test_hierarchical_interval_knows_that_seeds_differ():
    rng = np.random.default_rng(0)
    alike = hierarchical_interval([rng.normal(0, 1, 100) for _ in range(4)])
    apart = hierarchical_interval([rng.normal(offset, 1, 100) for offset in (-3, -1, 1, 3)])
    assert apart.high - apart.low > 5 * (alike.high - alike.low)
    # Two levels of equal seeds: the variance of the mean is about 2/3 to 1 of the pooled 1/300, twice at most.
    assert alike.high - alike.low == pytest.approx(2 * 1.96 / 20, rel=0.6)


@pytest.mark.parametrize(("samples", "message"), [([], "no episodes"), ([array(1), array()], "no episodes")])
def test_hierarchical_interval_needs_episodes(samples, message):
    with pytest.raises(ValueError, match=message):
        hierarchical_interval(samples)
