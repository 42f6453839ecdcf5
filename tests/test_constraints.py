"""The augmented Lagrangian, worked by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.constraints import (
    AugmentedLagrangian,
    AugmentedLagrangianState,
    CostPenalty,
    DualAscent,
    PIDLagrangian,
    Saute,
    SoftplusAscent,
    Switch,
    Unconstrained,
)
from prudence.types import Batch

METHOD = AugmentedLagrangian(growth=0.5)


def state(multiplier, penalty_factor):
    return AugmentedLagrangianState(jnp.array(multiplier, jnp.float32), jnp.array(penalty_factor, jnp.float32))


def test_active_branch():
    # λ = 2, μ = .5, g = 3: 2·3 + .25·9
    assert METHOD.penalty(state([2.0], [0.5]), jnp.array([3.0])) == pytest.approx(8.25)


def test_inactive_branch():
    # λ + μg = 2 - .5·10 < 0: -4 / (2·.5), whatever g is.
    for violation in (-10.0, -100.0):
        assert METHOD.penalty(state([2.0], [0.5]), jnp.array([violation])) == pytest.approx(-4.0)


def test_continuous_at_the_border():
    s = state([2.0], [0.5])
    left, right = (float(METHOD.penalty(s, jnp.array([-4.0 + e]))) for e in (-1e-3, 1e-3))
    assert left == pytest.approx(-4.0)
    assert right == pytest.approx(-4.0, abs=1e-5)


def test_gradient_by_hand_on_both_branches():
    s = state([2.0, 2.0], [0.5, 0.5])
    slope = jax.grad(lambda g: METHOD.penalty(s, g))(jnp.array([3.0, -10.0]))
    np.testing.assert_allclose(slope, [3.5, 0.0])
    np.testing.assert_allclose(METHOD.weights(s, jnp.array([3.0, -10.0]))[1], [3.5, 0.0])


@pytest.mark.parametrize("violation", [-20.0, -4.0, -1.0, 0.0, 2.5])
def test_is_the_maximum_over_the_multiplier(violation):
    prices = np.linspace(0, 50, 500_001)
    expected = (prices * violation - (prices - 2.0) ** 2 / (2 * 0.5)).max()
    assert METHOD.penalty(state([2.0], [0.5]), jnp.array([violation])) == pytest.approx(expected, abs=1e-4)


def test_the_papers_constants_do_not_underflow():
    method = AugmentedLagrangian()
    s = method.init(1)
    # λ + μg = 1e-6 + 5e-9·100 = 1.5e-6; and below: -λ²/2μ = -1e-12/1e-8 = -1e-4.
    np.testing.assert_allclose(method.weights(s, jnp.array([100.0]))[1], [1.5e-6], rtol=1e-5)
    assert method.penalty(s, jnp.array([-1000.0])) == pytest.approx(-1e-4, rel=1e-4)
    np.testing.assert_allclose(method.update(s, jnp.array([100.0])).multiplier, [1.5e-6], rtol=1e-5)


def test_penalty_sums_over_constraints():
    both = METHOD.penalty(state([2.0, 1.0], [0.5, 0.1]), jnp.array([3.0, 2.0]))
    assert both == pytest.approx(8.25 + 2.2)


def test_update_by_hand():
    after = METHOD.update(state([2.0, 2.0, 0.0], [0.5, 0.5, 0.9]), jnp.array([3.0, -10.0, 1.0]))
    np.testing.assert_allclose(after.multiplier, [3.5, 0.0, 0.9])
    np.testing.assert_allclose(after.penalty_factor, [0.75, 0.75, 1.0])  # Grows by half, up to 1.
    np.testing.assert_allclose(METHOD.multiplier(after), after.multiplier)


def test_the_next_multiplier_is_the_gradient_of_the_penalty():
    s, violation = state([0.3, 0.1], [0.2, 0.4]), jnp.array([1.5, -0.1])
    np.testing.assert_allclose(METHOD.update(s, violation).multiplier, METHOD.weights(s, violation)[1], rtol=1e-6)


def test_dual_rate_moves_the_multiplier_apart_from_the_penalty_factor():
    method = AugmentedLagrangian(growth=0.0, dual_rate=0.01)
    after = method.update(state([2.0], [0.5]), jnp.array([3.0]))
    np.testing.assert_allclose(after.multiplier, [2.03])
    np.testing.assert_allclose(after.penalty_factor, [0.5])


def test_initial_state():
    s = AugmentedLagrangian(multiplier_init=0.1, penalty_factor_init=0.2).init(3)
    np.testing.assert_allclose(s.multiplier, [0.1] * 3)
    np.testing.assert_allclose(s.penalty_factor, [0.2] * 3)


def test_unconstrained_ignores_costs():
    method, violation = Unconstrained(), jnp.array([100.0, -3.0])
    s = method.update(method.init(2), violation)
    np.testing.assert_array_equal(method.multiplier(s), [0.0, 0.0])
    weights = method.weights(s, violation)
    np.testing.assert_array_equal([weights[0], *weights[1]], [1.0, 0.0, 0.0])
    assert method.loss(s, jnp.array(-3.0), violation) == -3.0


def test_pid_by_hand():
    pid = PIDLagrangian(0.2, 0.1, 0.5, 10.0, integral_init=0.0, smoothing=0.5, cost_smoothing=0.5, delay=1, warmup=0)
    first = pid.on_episode(pid.init(1), jnp.array([4.0]))
    # Running mean .5·0 + .5·4 = 2, without bias 2 / (1 - .5) = 4; P = 2, I = .4, smoothed 2, D = 2 - 0.
    np.testing.assert_allclose(first.multiplier, [0.2 * 2 + 0.4 + 0.5 * 2])
    second = pid.on_episode(first, jnp.array([-2.0]))
    # Running mean .5·2 - .5·2 = 0; P = 1, I = .4, smoothed 1, D = max(0, 1 - 2) = 0.
    np.testing.assert_allclose(second.multiplier, [0.2 * 1 + 0.4])
    np.testing.assert_allclose(second.past, [[1.0]])


def test_pid_waits_and_remembers_what_it_saw():
    pid = PIDLagrangian(cost_smoothing=0.9, warmup=2)
    s = pid.init(2)
    np.testing.assert_allclose(s.multiplier, [0.001, 0.001])
    for _ in range(2):
        s = pid.on_episode(s, jnp.array([50.0, 0.0]))
        np.testing.assert_allclose(s.multiplier, [0.001, 0.001])
    s = pid.on_episode(s, jnp.array([50.0, 0.0]))
    # The mean of three violations of 50 is 50, though the first two moved nothing else: P = 2.5, and I stops at λ_max.
    np.testing.assert_allclose(s.multiplier, [0.1, 0.001])
    assert int(s.episodes) == 3


def test_pid_leaves_its_maximum_as_soon_as_costs_fall():
    pid = PIDLagrangian(0.0, 0.01, 0.0, maximum=0.1, cost_smoothing=0.0, warmup=0)
    s = pid.init(1)
    for _ in range(100):
        s = pid.on_episode(s, jnp.array([20.0]))
    np.testing.assert_allclose(s.multiplier, [0.1])
    np.testing.assert_allclose(pid.on_episode(s, jnp.array([-1.0])).multiplier, [0.09], rtol=1e-5)


def test_pid_is_a_linear_penalty_that_gradient_steps_leave_alone():
    pid = PIDLagrangian()
    s = pid.init(2)._replace(multiplier=jnp.array([2.0, 0.5]))
    violation = jnp.array([3.0, -4.0])
    assert pid.penalty(s, violation) == pytest.approx(4.0)
    np.testing.assert_allclose(pid.weights(s, violation)[1], [2.0, 0.5])
    assert pid.update(s, violation) is s
    method = AugmentedLagrangian()
    assert method.on_episode(t := method.init(1), jnp.array([3.0])) is t


# ---- dual ascent ---------------------------------------------------------------------------------------------------


def test_dual_ascent_moves_by_its_rate_and_stays_within_its_bounds():
    # Adam's first step is the rate, whatever the violation's size; 3 constraints: exceeded, kept, exceeded by far.
    method = DualAscent(multiplier_init=0.02, learning_rate=0.05, maximum=0.06)
    after = method.update(method.init(3), jnp.array([0.1, -5.0, 1000.0]))
    np.testing.assert_allclose(method.multiplier(after), [0.06, 0.0, 0.06], atol=1e-6)
    assert method.penalty(after, jnp.array([1.0, 2.0, 3.0])) == pytest.approx(0.06 + 0.18)


def test_dual_ascent_comes_back_once_the_budget_holds():
    method = DualAscent(multiplier_init=0.0, learning_rate=0.05)
    state, seen = method.init(1), []
    for violation in [2.0] * 5 + [-2.0] * 30:
        state = method.update(state, jnp.array([violation]))
        seen.append(float(state.multiplier[0]))
    assert seen[4] == pytest.approx(0.25, rel=1e-3)
    assert max(seen) < 0.5
    assert seen[-1] == 0.0


# ---- what learning from real rewards asks --------------------------------------------------------------------------


def arrived(rewards, costs, **observation) -> Batch:
    """Rows of which nothing else is looked at."""
    blank = toys.batch(toys.spaces(), len(rewards))
    return blank._replace(observation=observation, reward=jnp.array(rewards), cost=jnp.array(costs))


def test_a_switch_turns_to_the_cost_that_exceeds_its_budget_the_most():
    switch = Switch(tolerance=0.5)
    state, task = switch.init(2), jnp.array(-3.0)
    for violation, loss, weights in (
        ([0.5, -1.0], -3.0, [1.0, 0.0, 0.0]),  # Within the tolerance: the task alone.
        ([0.6, -1.0], 0.6, [0.0, 1.0, 0.0]),
        ([0.6, 2.0], 2.0, [0.0, 0.0, 1.0]),
    ):
        found = switch.weights(state, jnp.array(violation))
        np.testing.assert_allclose([found[0], *found[1]], weights)
        np.testing.assert_allclose(switch.loss(state, task, jnp.array(violation)), loss)


def test_costs_are_subtracted_from_rewards():
    found = CostPenalty(0.5).shaped(arrived([1.0, 1.0], [[1.0, 2.0], [0.0, 0.0]]), jnp.zeros(2))
    np.testing.assert_allclose(found, [1 - 0.5 * 3, 1.0])


@pytest.mark.parametrize(
    ("limit", "spent", "left", "reward"),
    [
        (25.0, 10.0, 0.6, 3.0),
        (25.0, 25.0, 0.0, 3.0),  # Used up, and not exceeded.
        (25.0, 26.0, -0.04, -0.2),
        (25.0, 99.0, -1.0, -0.2),
        (0.0, 0.0, 0.0, 3.0),
        (0.0, 1.0, -1.0, -0.2),
    ],
)
def test_saute_shows_what_is_left_and_pays_no_more_beyond(limit, spent, left, reward):
    observation, limits = {"state": jnp.ones((1, 3)), "spent": jnp.array([[spent]])}, jnp.array([limit])
    np.testing.assert_allclose(Saute().observed(observation, limits)["spent"], [[left]], atol=1e-6)
    found = Saute().shaped(arrived([3.0], [[1.0]], **observation), limits)
    np.testing.assert_allclose(found, [reward], rtol=1e-6)


def test_saute_minds_every_budget():
    rows, limits = arrived([1.0], [[0.0, 0.0]], spent=jnp.array([[1.0, 3.0]])), jnp.array([2.0, 2.0])
    np.testing.assert_allclose(Saute().shaped(rows, limits), [-0.2])


def test_softplus_ascent_moves_the_logarithm_of_a_small_multiplier():
    method = SoftplusAscent(multiplier_init=np.log(2.0), learning_rate=0.1)
    state = method.init(2)  # p = 0: σ(0) = 1/2.
    np.testing.assert_allclose(method.multiplier(state), np.log([2.0, 2.0]), rtol=1e-6)
    moved = method.on_episode(state, jnp.array([10.0, -10.0]))
    step = 0.1 * 0.5 / np.log(2) * 10
    np.testing.assert_allclose(method.multiplier(moved), np.log1p(np.exp([step, -step])), rtol=1e-6)
    assert float(method.penalty(state, jnp.array([3.0, 0.0]))) == pytest.approx(3 * np.log(2), rel=1e-6)
    small = SoftplusAscent(1e-4)  # For a small λ, λ ← λ exp(ηg).
    rise = small.multiplier(small.on_episode(small.init(1), jnp.array([1000.0])))
    np.testing.assert_allclose(rise, 1e-4 * np.exp(0.2), rtol=1e-3)
