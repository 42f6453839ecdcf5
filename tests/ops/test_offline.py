"""Learning from recorded actions, by hand."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from prudence.ops.offline import (
    expectile_weights,
    feasibility,
    pair_mask,
    reach_targets,
    regression_weights,
    risk_targets,
    safety_targets,
    with_share,
)

CLIPS = {"temperature": 10.0, "cost_temperature": 10.0, "clip": 100.0, "cost_clip": 150.0}


def weights(advantage, cost_advantage, feasible, action_feasible=1.0, **changes):
    inputs = jnp.broadcast_arrays(*(jnp.float32(x) for x in (advantage, cost_advantage, feasible, action_feasible)))
    return regression_weights(*inputs, **{**CLIPS, **changes})


def test_no_pair_crosses_the_border_between_two_episodes():
    rows = toys.batch(toys.spaces(), 1, 5)
    last = jnp.array([[False, False, True, False, False]])
    np.testing.assert_array_equal(pair_mask(rows._replace(is_last=last)), [[1, 1, 0, 1]])


@pytest.mark.parametrize("expectile", [0.2, 0.5, 0.8])
def test_the_weighted_mean_of_two_targets_is_their_expectile(expectile):
    # Of {0, 1}, equally likely, v = κ solves κ(1 - v) = (1 - κ)v.
    targets = jnp.array([0.0, 1.0])
    found = expectile_weights(targets, jnp.full(2, expectile), expectile)
    np.testing.assert_allclose(found, [1 - expectile, expectile], rtol=1e-6)
    np.testing.assert_allclose((found * targets).sum() / found.sum(), expectile, rtol=1e-6)


def test_a_feasible_state_imitates_by_reward_and_an_infeasible_one_by_cost():
    for cost_advantage in (-3.0, 3.0):  # u = 1: e^(10 · .2) = 7.389 for any cost.
        np.testing.assert_allclose(weights(0.2, cost_advantage, 1.0), np.exp(2.0), rtol=1e-5)
    for advantage, action_feasible in itertools.product((-3.0, 3.0), (0.0, 1.0)):  # u = 0: e^(-10 · -.2).
        np.testing.assert_allclose(weights(advantage, -0.2, 0.0, action_feasible), np.exp(2.0), rtol=1e-5)
    np.testing.assert_allclose(weights(0.0, 0.0, 0.5), 1.0, rtol=1e-6)


def test_weights_are_clipped_without_overflow():
    np.testing.assert_allclose(weights(0.5, 0.0, 1.0), 100.0, rtol=1e-5)  # e^5 = 148.4 is above it.
    np.testing.assert_allclose(weights(0.0, -0.6, 0.0), 150.0, rtol=1e-5)  # e^6 = 403.
    np.testing.assert_allclose(weights(1e6, -1e6, 0.5), 125.0, rtol=1e-5)


def test_the_feasibility_of_the_next_state_tells_a_rewarding_step_into_a_hazard():
    # u = .9. One action earns .3 and costs .5, the other loses .3 and saves .5.
    advantage, cost_advantage = jnp.array([0.3, -0.3]), jnp.array([0.5, -0.5])
    paper = weights(advantage, cost_advantage, 0.9)
    # .9 e^3 + .1 e^-5 = 18.077, and .9 e^-3 + .1 e^5 = 14.886: the paper prefers the hazard.
    np.testing.assert_allclose(paper, [18.077, 14.886], rtol=1e-3)
    by_next_state = weights(advantage, cost_advantage, 0.9, jnp.array([0.05, 0.95]))
    # .05 · 18.077 and .95 · .9 e^-3 + .1 e^5.
    np.testing.assert_allclose(by_next_state, [0.9045, 14.884], rtol=1e-3)


def test_weights_carry_no_gradient():
    gradients = jax.grad(lambda x: weights(x[0], x[1], x[2], x[3]))(jnp.full(4, 0.3))
    np.testing.assert_array_equal(gradients, 0)


def test_a_violation_is_reached_from_all_states_before_it():
    # s0 -> s1 -> s2 -> s3, which is unsafe: γ³, γ², γ, 1.
    violations = jnp.array([0.0, 0.0, 0.0, 1.0])
    targets = reach_targets(violations, jnp.full(4, 0.99), jnp.zeros(()))
    np.testing.assert_allclose(targets, [0.970299, 0.9801, 0.99, 1.0], rtol=1e-6)
    # An episode that ends at s2 never reaches s3.
    targets = reach_targets(violations, jnp.array([0.99, 0.99, 0.99, 0.0]), jnp.zeros(()))
    np.testing.assert_allclose(targets, [0.0, 0.0, 0.0, 1.0])
    # With probability .3, the branch leads to the unsafe state.
    np.testing.assert_allclose(reach_targets(jnp.zeros(2), jnp.full(2, 0.99), jnp.array(0.3))[0], 0.297, rtol=1e-6)


def test_where_nothing_is_unsafe_the_estimate_decays():
    # Two backups over H = 5 steps, from .5: .5 γ^10.
    estimate = jnp.array(0.5)
    for _ in range(2):
        estimate = reach_targets(jnp.zeros(6), jnp.full(6, 0.9), estimate)[0]
    np.testing.assert_allclose(estimate, 0.5 * 0.9**10, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), st.floats(0, 1, width=32), st.floats(0, 1, width=32)
)
def test_the_backup_is_a_contraction(violations, left, right):
    discounts = jnp.full(3, 0.9)
    ends = [reach_targets(jnp.array(violations, jnp.float32), discounts, jnp.float32(x))[0] for x in (left, right)]
    assert abs(ends[0] - ends[1]) <= 0.81 * abs(left - right) + 1e-6


def test_the_sign_of_the_safety_value_says_whether_a_violation_follows():
    # h = (-1, -1, 25), γ = .9, v = -1: y2 = 25; y1 = .1 · -1 + .9 · 25 = 22.4; y0 = .1 · -1 + .9 · 22.4 = 20.06.
    found = safety_targets(jnp.array([-1.0, -1.0, 25.0]), jnp.full(3, 0.9), jnp.float32(-1.0))
    np.testing.assert_allclose(found, [20.06, 22.4, 25.0], rtol=1e-6)
    safe = safety_targets(jnp.full(3, -1.0), jnp.full(3, 0.9), jnp.float32(-1.0))
    np.testing.assert_allclose(safe, -1.0)


def test_the_worst_constraint_decides_about_feasibility():
    np.testing.assert_allclose(feasibility(jnp.array([[0.1, 0.7], [0.2, 0.0]])), [0.3, 0.8], rtol=1e-6)


def test_risks_of_five_actions_by_hand():
    """γ = .8. A violation is a risk of 1, whatever follows it; .8 · .5; nothing follows a terminal state, ..."""
    violations = jnp.array([1.0, 0.0, 0.0, 0.0, 1.0])
    continues = jnp.array([1.0, 1.0, 0.0, 1.0, 0.0])
    following = jnp.array([0.9, 0.5, 0.9, 0.0, 0.0])
    np.testing.assert_allclose(risk_targets(violations, continues, following, 0.8), [1.0, 0.4, 0.0, 0.0, 1.0])


def test_a_risk_fades_by_the_discount_with_every_decision_before_the_violation():
    """Actions 0, 1 and 2 of an episode; the last violates. Backed up three times: .64, .8, 1."""
    violations, risks = jnp.array([0.0, 0.0, 1.0]), jnp.zeros(3)
    for _ in range(3):
        risks = risk_targets(violations, jnp.ones(3), jnp.append(risks[1:], 0.7), 0.8)
    np.testing.assert_allclose(risks, [0.64, 0.8, 1.0], rtol=1e-6)


def test_a_rare_violation_weighs_its_share():
    """One of four that count: it weighs .4 · 4 = 1.6, and each of the others .6 · 4 / 3 = .8."""
    rare, counted = jnp.array([1.0, 0.0, 0.0, 0.0, 1.0]), jnp.array([1.0, 1.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(with_share(rare, counted, 0.4), [1.6, 0.8, 0.8, 0.8, 0.0], rtol=1e-6)


@pytest.mark.parametrize("chosen", [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]])
def test_weights_stay_where_enough_are_chosen_or_none_or_all(chosen):
    counted = jnp.array([1.0, 1.0, 1.0, 1.0, 0.0])
    np.testing.assert_array_equal(with_share(jnp.array(chosen, jnp.float32), counted, 0.2), counted)
