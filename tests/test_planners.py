"""The cross-entropy search: its elites or weights, independence of neighbours, warm start, and a detour to take."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prudence.planners import CrossEntropy, Forecast, Search, best, constrained, correlated, is_safe, weighted

K = 4
NUMBERS = st.floats(-10, 10, width=32)


def around(mean, std) -> Search:
    """A search before its first iteration."""
    mean = jnp.array(mean)
    return Search(mean, jnp.array(std), mean, mean[None], jnp.zeros((), jnp.int32))


def forecasts():
    """Forecasts of 4 to 20 plans, whose costs often tie and often equal a budget of 1. Of four shapes: each compiles
    every operation of its own."""

    def build(shape):
        costs = hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 0.5, 1.0, 1.5, 3.0]))
        return st.tuples(hnp.arrays(np.float32, shape[:1], elements=NUMBERS), costs)

    shapes = st.sampled_from([(K, 1), (5, 3), (9, 2), (20, 1)])
    return shapes.flatmap(build).map(lambda pair: Forecast(*map(jnp.asarray, pair)))


def elites(rule, forecast):
    limits = jnp.ones(forecast.cost.shape[1])
    return set(np.asarray(jax.lax.top_k(rule(forecast, limits, K), K)[1]).tolist())


@given(forecasts())
@settings(max_examples=200, deadline=None)
def test_with_enough_safe_plans_every_elite_is_safe_and_none_better_is_left_out(forecast):
    safe = np.asarray(is_safe(forecast, jnp.ones(forecast.cost.shape[1])))
    assert safe.tolist() == [all(c <= 1 for c in row) for row in np.asarray(forecast.cost)]
    if safe.sum() < K:
        return
    chosen = elites(constrained, forecast)
    assert all(safe[i] for i in chosen)
    left = [float(forecast.score[i]) for i in np.flatnonzero(safe) if i not in chosen]
    assert min(float(forecast.score[i]) for i in chosen) >= max(left, default=-np.inf)


@given(forecasts())
@settings(max_examples=200, deadline=None)
def test_with_too_few_safe_plans_the_least_costly_are_taken(forecast):
    if np.asarray(is_safe(forecast, jnp.ones(forecast.cost.shape[1]))).sum() >= K:
        return
    costs = np.asarray(forecast.cost).sum(1)
    chosen = elites(constrained, forecast)
    assert sorted(costs[list(chosen)]) == pytest.approx(sorted(costs)[:K])


def test_the_best_score_wins_when_costs_are_ignored():
    forecast = Forecast(jnp.array([1.0, 5.0, 2.0, 4.0, 3.0]), jnp.array([[0.0], [9.0], [0.0], [9.0], [0.0]]))
    assert elites(best, forecast) == {1, 2, 3, 4}


def test_a_forecast_that_is_no_number_is_never_elite():
    search = CrossEntropy(horizon=1, plans=3, elites=1, momentum=0.0, rule="best")
    plans = jnp.array([0.1, 0.2, 0.3]).reshape(3, 1, 1)
    forecast = Forecast(jnp.array([jnp.nan, 1.0, 0.0]), jnp.zeros((3, 1)))
    with jax.debug_nans(False):
        refined, _ = search.refine(around([[0.0]], [[1.0]]), plans, forecast, jnp.ones(1))
    np.testing.assert_allclose(refined.mean, [[0.2]])


def test_refitting_by_hand():
    search = CrossEntropy(horizon=1, plans=4, elites=2, momentum=0.1, min_std=0.05)
    plans = jnp.array([0.2, 0.6, -1.0, 1.0]).reshape(4, 1, 1)
    # Budget 1: plans 0, 1 and 3 are safe; of these, 0 and 1 have the highest score.
    forecast = Forecast(jnp.array([3.0, 2.0, 9.0, 1.0]), jnp.array([[0.5], [1.0], [1.5], [0.0]]))
    refined, metrics = search.refine(around([[-0.4]], [[1.0]]), plans, forecast, jnp.ones(1))
    np.testing.assert_allclose(refined.mean, [[0.1 * -0.4 + 0.9 * 0.4]], rtol=1e-6)
    np.testing.assert_allclose(refined.std, [[0.2]], rtol=1e-6)  # Of .2 and .6.
    assert {k: float(v) for k, v in metrics.items()} == pytest.approx(
        {"plan/safe_share": 0.75, "plan/elite_score": 2.5, "plan/elite_cost": 0.75, "plan/std": 0.2}
    )
    same = Forecast(jnp.array([1.0, 1.0, 0.0, 0.0]), jnp.zeros((4, 1)))
    floor, _ = search.refine(refined, jnp.zeros((4, 1, 1)), same, jnp.ones(1))
    np.testing.assert_allclose(floor.std, [[0.05]])


def test_a_warm_start_is_the_last_plan_one_decision_later():
    search = CrossEntropy(horizon=3, init_std=0.7)
    last = jnp.array([[1.0], [2.0], [3.0]])
    begin = search.begin(last, jnp.array(False))
    np.testing.assert_allclose(begin.mean, [[2.0], [3.0], [3.0]])
    np.testing.assert_allclose(begin.std, np.full((3, 1), 0.7))
    np.testing.assert_allclose(search.begin(last, jnp.array(True)).mean, np.zeros((3, 1)))


def test_plans_are_clipped_and_the_actors_are_among_them():
    search = CrossEntropy(horizon=2, plans=50, elites=5, proposals=0.1, init_std=3.0)
    assert search.num_proposals == 5
    proposals = jnp.full((5, 2, 1), 0.3)
    plans = search.propose(around([[0.0]] * 2, [[3.0]] * 2), proposals, key=jax.random.key(0))
    assert plans.shape == (50, 2, 1)
    np.testing.assert_allclose(plans[:5], proposals)
    assert float(jnp.abs(plans).max()) == 1.0


def test_correlated_noise_by_hand():
    """ρ = .6: ε₁ = 1, ε₂ = .6·1 + .8·2 = 2.2, ε₃ = .6·2.2 + .8·0 = 1.32."""
    noise = jnp.array([[[1.0], [2.0], [0.0]]])
    np.testing.assert_allclose(correlated(noise, 0.6), [[[1.0], [2.2], [1.32]]], rtol=1e-6)
    np.testing.assert_array_equal(correlated(noise, 0.0), noise)


def test_correlated_plans_keep_their_deviation_and_some_brake_all_the_way():
    """Independent actions that all exceed a deviation have a probability of .16⁵: hardly one plan of 2,000 has them."""
    braking = {}
    for rho in (0.0, 0.9):
        search = CrossEntropy(horizon=5, plans=2000, elites=2, correlation=rho)
        mean, std = [[0.0]] * 5, [[0.5]] * 5
        plans = np.asarray(search.propose(around(mean, std), jnp.zeros((0, 5, 1)), key=jax.random.key(1)))[..., 0]
        braking[rho] = (plans > 0.5).all(1).mean()
        unclipped = np.asarray(correlated(jax.random.normal(jax.random.key(2), (20_000, 5, 1)), rho))[..., 0]
        np.testing.assert_allclose(unclipped.std(0), np.ones(5), atol=0.02)
        np.testing.assert_allclose(np.corrcoef(unclipped.T)[0], rho ** np.arange(5), atol=0.03)
    assert braking[0.0] < 0.002
    assert braking[0.9] > 0.03


def detour(plans, key, *, start=(-1.0, 0.05)):
    """A point moves by .2 times the action, is rewarded for nearing (1, 0), pays 1 a step within .5 of the origin."""
    positions = jnp.array(start) + 0.2 * jnp.cumsum(plans, 1)
    distance = jnp.linalg.norm(positions - jnp.array([1.0, 0.0]), axis=-1)
    cost = (jnp.linalg.norm(positions, axis=-1) < 0.5).sum(1).astype(jnp.float32)
    return Forecast(-distance.sum(1), cost[:, None])


def test_the_best_plan_is_a_safe_one_if_there_is_any():
    """Two plans of four are safe, fewer than the three elites: the search is refitted to the least costly, and what is
    executed is the better of the safe ones; if none is, the least costly."""
    search = CrossEntropy(horizon=1, plans=4, elites=3, execute="best")
    plans, scores = jnp.array([0.1, 0.2, 0.3, 0.4]).reshape(4, 1, 1), jnp.array([9.0, 1.0, 2.0, 8.0])
    for costs, expected in (([5.0, 0.0, 1.0, 3.0], 0.3), ([5.0, 4.0, 7.0, 3.0], 0.4)):
        forecast = Forecast(scores, jnp.array(costs)[:, None])
        found, _ = search.refine(around([[0.0]], [[1.0]]), plans, forecast, jnp.ones(1))
        assert float(search.action(found, key=jax.random.key(0))[0]) == pytest.approx(expected)
        np.testing.assert_allclose(search.begin(search.executed(found), jnp.array(False)).mean, [[expected]])


def test_the_mean_is_among_the_plans_if_asked():
    search = CrossEntropy(horizon=2, plans=5, elites=1, proposals=0.4, keep_mean=True)
    mean = [[0.25], [-0.5]]
    plans = search.propose(around(mean, [[1.0]] * 2), jnp.zeros((2, 2, 1)), key=jax.random.key(0))
    np.testing.assert_array_equal(plans[2], mean)
    assert not (np.asarray(plans[3:]) == mean).any()


def fork(plans, key):
    """Straight ahead stands an obstacle; passing it on either side is free and earns as much."""
    sideways = plans[:, 0, 0]
    return Forecast(1 - 0.1 * jnp.abs(jnp.abs(sideways) - 0.6), 10.0 * (jnp.abs(sideways) < 0.3)[:, None])


@pytest.mark.parametrize(("execute", "crashes"), [("mean", True), ("best", False), ("checked", False)])
def test_a_mean_of_left_and_right_goes_through_the_middle(execute, crashes):
    search = CrossEntropy(horizon=1, plans=200, elites=20, iterations=1, execute=execute)
    begin = search.begin(jnp.zeros((1, 1)), jnp.array(True))
    hits = []
    for seed in range(5):
        action = search.plan(fork, begin, jnp.zeros((0, 1, 1)), jnp.zeros(1), key=jax.random.key(seed))[0]
        hits.append(float(fork(action[None, None], None).cost[0, 0]) > 0)
    assert all(hits) if crashes else not any(hits)


def test_a_check_decides_among_the_mean_the_best_plan_and_the_elites():
    """By their costs of another look: the safe one that earns most, and if none is safe, the least costly."""
    search = CrossEntropy(horizon=1, plans=4, elites=2, execute="checked")
    found = around([[0.5]], [[1.0]])._replace(best=jnp.array([[0.9]]), elites=jnp.array([[[0.9]], [[0.1]]]))
    np.testing.assert_allclose(search.finalists(found)[:, 0, 0], [0.5, 0.9, 0.9, 0.1])
    for costs, expected in (([2, 3, 3, 0], 0.1), ([0, 3, 3, 0], 0.5), ([2, 0, 0, 0], 0.9), ([4, 3, 3, 2], 0.1)):
        look = lambda plans, key, costs=costs: Forecast(plans[:, 0, 0], jnp.array(costs, jnp.float32)[:, None])
        after = search.checked(look, found, jnp.ones(1), key=jax.random.key(0))
        assert float(search.executed(after)[0, 0]) == pytest.approx(expected)
        assert float(search.action(after, key=jax.random.key(0))[0]) == pytest.approx(expected)


@pytest.mark.parametrize("rule", ["constrained", "best"])
def test_the_detour_is_taken_if_and_only_if_costs_count(rule):
    search = CrossEntropy(horizon=18, plans=300, elites=30, iterations=12, rule=rule)
    begin = search.begin(jnp.zeros((18, 2)), jnp.array(True))
    plan = jax.jit(lambda key: search.plan(detour, begin, jnp.zeros((0, 18, 2)), jnp.zeros(1), key=key)[1].mean)
    mean = plan(jax.random.key(0))
    outcome = detour(mean[None], None)
    end = jnp.array([-1.0, 0.05]) + 0.2 * mean.sum(0)
    assert float(jnp.linalg.norm(end - jnp.array([1.0, 0.0]))) < 0.4
    if rule == "constrained":
        assert float(outcome.cost[0, 0]) == 0
    else:
        assert float(outcome.cost[0, 0]) >= 3  # Straight through: one metre at .2 a step, give or take.


def test_a_neighbour_changes_nothing():
    search = CrossEntropy(horizon=4, plans=20, elites=4, iterations=3)

    def one(start, key):
        begin = search.begin(jnp.zeros((4, 2)), jnp.array(True))
        return search.plan(partial(detour, start=start), begin, jnp.zeros((0, 4, 2)), jnp.zeros(1), key=key)[0]

    def all_of(starts):
        return jax.vmap(one)(starts, jax.random.split(jax.random.key(0), 3))

    starts = jnp.array([[-1.0, 0.0], [0.4, 0.4], [0.0, -1.0]])
    before = all_of(starts)
    after = all_of(starts.at[1].set(jnp.array([0.9, -0.9])))
    np.testing.assert_array_equal(before[::2], after[::2])
    assert not np.array_equal(before[1], after[1])


def test_executing_a_sample_stays_within_bounds():
    search = CrossEntropy(horizon=2, execute="sample")
    found = around([[0.9], [0.0]], [[5.0], [1.0]])
    actions = [float(search.action(found, key=jax.random.key(i))[0]) for i in range(20)]
    assert len(set(actions)) > 2
    assert max(map(abs, actions)) <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": 0}, "horizon=0, plans=500 and iterations=6 must be at least 1"),
        ({"elites": 501}, "elites=501 between 1 and the number of plans"),
        ({"elites": 0}, "elites=0 between 1"),
        ({"proposals": 1.0}, r"proposals=1.0 is a share of the plans"),
        ({"plans": 2, "elites": 1, "proposals": 0.9, "keep_mean": True}, "keep_mean needs a plan that the actor does"),
    ],
)
def test_impossible_searches_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        CrossEntropy(**change)


# ---- actor regularized control -----------------------------------------------------------------

ARC = CrossEntropy(horizon=1, plans=4, elites=2, kappa=1.0, momentum=0.1, variance_momentum=0.1, init_std=0.5)


def of(*numbers: float):
    """Plans of one action."""
    return jnp.array(numbers).reshape(-1, 1, 1)


def test_weighted_plans_by_hand():
    plans, rank = of(0.2, 0.6, -1.0), jnp.array([0.0, np.log(3.0), -jnp.inf])
    mean, variance = weighted(plans, rank, 1.0)  # Weights 1/4, 3/4 and 0.
    np.testing.assert_allclose(mean, [[0.05 + 0.45]], rtol=1e-6)
    np.testing.assert_allclose(variance, [[0.25 * 0.09 + 0.75 * 0.01]], rtol=1e-5)
    np.testing.assert_allclose(weighted(plans, rank, 2.0)[0], [[0.02 + 0.54]], rtol=1e-6)  # 1/10 and 9/10.


def test_all_safe_plans_count_by_their_scores():
    # Budget 1: plans 0, 1 and 3 are safe, at least as many as k. Weights 1/4, 1/2, 0 and 1/4, for any k of so many.
    forecast = Forecast(jnp.array([0.0, np.log(2.0), 9.0, 0.0]), jnp.array([[0.5], [1.0], [1.5], [0.0]]))
    for elites in (1, 3):
        search = replace(ARC, elites=elites)
        refined, _ = search.refine(around([[-0.4]], [[1.0]]), of(0.2, 0.6, -1.0, 0.2), forecast, jnp.ones(1))
        np.testing.assert_allclose(refined.mean, [[0.1 * -0.4 + 0.9 * 0.4]], rtol=1e-6)
        np.testing.assert_allclose(refined.std, [[np.sqrt(0.1 * 1.0 + 0.9 * 0.04)]], rtol=1e-6)


def test_with_too_few_safe_plans_all_count_by_their_costs():
    """One of two elites is safe. Costs 0, ln 2, ln 2 and ln 4: weights 4/9, 2/9, 2/9 and 1/9."""
    costs = jnp.log(jnp.array([[1.0], [2.0], [2.0], [4.0]]))
    forecast = Forecast(jnp.array([0.0, 9.0, 9.0, 9.0]), costs)
    refined, _ = ARC.refine(around([[0.0]], [[1.0]]), of(0.9, 0.0, 0.0, -0.9), forecast, jnp.full(1, 0.5))
    np.testing.assert_allclose(refined.mean, [[0.9 * (0.9 * 4 / 9 - 0.9 / 9)]], rtol=1e-6)


def test_the_search_widens_after_rounds_without_a_safe_plan():
    """Each second time: to 1.5 and then 1.5² times the first variance of .25. One safe plan ends that."""
    search = replace(ARC, patience=2, variance_momentum=0.0)
    none, one = (Forecast(jnp.zeros(4), jnp.array(costs)[:, None]) for costs in ([2.0] * 4, [0.0, 2.0, 2.0, 2.0]))
    found, stds, unsafe = search.begin(jnp.zeros((1, 1)), jnp.array(True)), [], []
    for forecast in (none, none, none, none, one, none, none):
        found, _ = search.refine(found, of(-0.1, 0.1, -0.1, 0.1), forecast, jnp.ones(1))
        stds.append(float(found.std[0, 0]))
        unsafe.append(int(found.unsafe))
    assert unsafe == [1, 2, 3, 4, 0, 1, 2]
    np.testing.assert_allclose(np.square(stds)[[0, 1, 2, 3, 5, 6]], [0.01, 0.375, 0.01, 0.5625, 0.01, 0.375], rtol=1e-5)


def test_a_search_ends_once_enough_plans_are_safe_and_a_neighbour_changes_nothing():
    """Plans are safe near an edge, which rounds approach from 0."""
    search = CrossEntropy(horizon=1, plans=50, elites=10, iterations=12, min_iterations=2, init_std=0.3, min_std=0.2)

    def one(edge, key):
        def forecast(plans, key):
            return Forecast(plans[:, 0, 0], jnp.abs(plans[:, 0] - edge))

        begin = search.begin(jnp.zeros((1, 1)), jnp.array(True))
        action, _, metrics, _ = search.plan(forecast, begin, jnp.zeros((0, 1, 1)), jnp.full(1, 0.1), key=key)
        return action, metrics["plan/iterations"]

    keys, edges = jax.random.split(jax.random.key(0), 3), jnp.array([0.0, 0.9, 5.0])
    actions, iterations = jax.jit(jax.vmap(one))(edges, keys)
    assert iterations[0] == 2  # Enough are safe in the first round, but two are made.
    assert 2 < iterations[1] < 12
    assert iterations[2] == 12  # No plan is ever safe.
    alone = jax.jit(one)(edges[1], jax.random.split(jax.random.key(0), 3)[1])
    np.testing.assert_allclose(alone[0], actions[1], rtol=1e-5)
    assert alone[1] == iterations[1]


def test_truncated_noise_stays_within_its_bounds():
    search = CrossEntropy(horizon=1, plans=2000, elites=1, truncation=2.0)
    plans = search.propose(around([[0.1]], [[0.2]]), jnp.zeros((0, 1, 1)), key=jax.random.key(0))
    assert 0.35 < float(jnp.abs(plans - 0.1).max()) <= 0.4 + 1e-6
