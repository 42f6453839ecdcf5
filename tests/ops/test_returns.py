"""λ-returns and discounts, worked by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.ops.returns import cumulative_discount, lambda_returns, one_step_returns

REWARDS = jnp.array([100.0, 1.0, 2.0, 3.0])  # The first belongs to no return.
VALUES = jnp.array([100.0, 10.0, 20.0, 30.0])
DISCOUNTS = jnp.array([100.0, 0.5, 0.5, 0.5])


@pytest.fixture(params=[lambda f: f, lambda f: jax.jit(f, static_argnums=3)], ids=["eager", "jitted"])
def returns(request):
    return request.param(lambda_returns)


def test_half_lambda_by_hand(returns):
    # R_2 = 3 + .5 (.5·30 + .5·30) = 18; R_1 = 2 + .5 (.5·20 + .5·18) = 11.5; R_0 = 1 + .5 (.5·10 + .5·11.5) = 6.375.
    np.testing.assert_allclose(returns(REWARDS, VALUES, DISCOUNTS, 0.5), [6.375, 11.5, 18.0])


def test_lambda_zero_is_one_step(returns):
    np.testing.assert_allclose(returns(REWARDS, VALUES, DISCOUNTS, 0.0), [1 + 5, 2 + 10, 3 + 15])


def test_lambda_one_is_monte_carlo(returns):
    # 3 + .5·30 = 18; 2 + .5·18 = 11; 1 + .5·11 = 6.5: only the last value enters.
    np.testing.assert_allclose(returns(REWARDS, VALUES, DISCOUNTS, 1.0), [6.5, 11.0, 18.0])


def test_one_step_by_hand():
    # 1 + .9 · 10 = 10, 2 where the next state is terminal; of two costs, each with its own value.
    continues = jnp.array([1.0, 0.0])
    np.testing.assert_allclose(
        one_step_returns(jnp.array([1.0, 2.0]), continues, jnp.array([10.0, 20.0]), 0.9), [10, 2]
    )
    costs, values = jnp.array([[1.0, 0.0], [2.0, 3.0]]), jnp.array([[10.0, 20.0], [30.0, 40.0]])
    np.testing.assert_allclose(one_step_returns(costs, continues, values, 0.5), [[6.0, 10.0], [2.0, 3.0]])


def test_termination_cuts_the_future(returns):
    # The episode ends at state 2: its reward counts, no value of it or after it does.
    cut = DISCOUNTS.at[2].set(0.0)
    np.testing.assert_allclose(returns(REWARDS, VALUES, cut, 1.0), [1 + 0.5 * 2, 2.0, 18.0])


def test_lambda_by_state_bootstraps_where_it_is_zero():
    # λ = 0 at state 2 (the last of a truncated episode): R_1 = 2 + .5·20, whatever follows; R_0 = 1 + .5·12.
    shares = jnp.array([1.0, 1.0, 0.0, 1.0])
    np.testing.assert_allclose(lambda_returns(REWARDS, VALUES, DISCOUNTS, shares), [7.0, 12.0, 18.0])


def test_entries_are_in_forward_order(returns):
    # One reward, with state 1: only the return of state 0 has it.
    rewards, zeros = jnp.array([0.0, 1.0, 0.0, 0.0]), jnp.zeros(4)
    np.testing.assert_allclose(returns(rewards, zeros, DISCOUNTS, 0.95), [1.0, 0.0, 0.0])


def test_c_costs_are_c_separate_returns(returns):
    rewards, values = (jnp.stack([x, 2 * x], -1)[:, None] for x in (REWARDS, VALUES))
    discounts = jnp.broadcast_to(DISCOUNTS[:, None, None], (4, 1, 2))
    result = returns(rewards, values, discounts, 0.5)
    assert result.shape == (3, 1, 2)
    np.testing.assert_allclose(result[:, 0, 0], [6.375, 11.5, 18.0])
    np.testing.assert_allclose(result[:, 0, 1], [12.75, 23.0, 36.0])


def test_cumulative_discount_starts_at_one_and_ignores_the_first():
    np.testing.assert_allclose(cumulative_discount(jnp.array([0.3, 0.5, 0.0, 0.9])), [1.0, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(cumulative_discount(jnp.array([7.0, 0.5, 0.5, 0.8])), [1.0, 0.5, 0.25, 0.2])
