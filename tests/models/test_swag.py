"""SWAG: moments by hand, samples against closed form, and what happens before there are any."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.models.swag import SWAG, Iterates


def tree(number: float) -> dict:
    return {"a": jnp.full(2, number), "b": {"c": jnp.full((1, 3), -number), "name": "static"}}


def after(swag: SWAG, *numbers: float) -> Iterates:
    state = swag.begin(tree(0.0))
    for step, number in enumerate(numbers):
        state = swag.observe(state, tree(number), swag.burn_in + step * swag.period)
    return state


def test_moments_start_at_the_first_snapshot():
    state = after(SWAG(deviations=2, decay=0.75), 4.0)
    np.testing.assert_allclose(state.mean["a"], 4.0)
    np.testing.assert_allclose(state.mean["b"]["c"], -4.0)
    assert not state.variance["a"].any()
    assert not state.deviations["b"]["c"].any()
    assert state.snapshots == 1


def test_moments_by_hand():
    state = after(SWAG(deviations=2, decay=0.75), 4.0, 8.0, 1.0)
    # m: 4, then 4 + (8 - 4)/4 = 5, then 5 + (1 - 5)/4 = 4. v: .75 · (0 + 16/4) = 3, then .75 · (3 + 16/4) = 5.25.
    np.testing.assert_allclose(state.mean["a"], 4.0)
    np.testing.assert_allclose(state.variance["a"], 5.25)
    # Less the mean of their time: 8 - 5 and 1 - 4.
    np.testing.assert_allclose(state.deviations["a"], [[3, 3], [-3, -3]])
    np.testing.assert_allclose(state.deviations["b"]["c"], [[[-3] * 3], [[3] * 3]])


def test_snapshots_are_taken_on_schedule():
    swag, state, taken = SWAG(burn_in=5, period=3, deviations=1), None, []
    state = swag.begin(tree(0.0))
    for step in range(1, 13):
        before, state = state.snapshots, swag.observe(state, tree(float(step)), step)
        taken += [step] * int(state.snapshots - before)
    assert taken == [5, 8, 11]


def test_samples_are_copies_of_the_present_weights_before_there_are_enough_snapshots():
    """The first snapshot has no deviation: three deviations are there after four."""
    swag = SWAG(deviations=3, warm=3)
    drawn = swag.draw(after(swag, 1.0, 2.0, 4.0), tree(7.0), 4, key=jax.random.key(0))
    np.testing.assert_array_equal(drawn["a"], np.full((4, 2), 7.0))
    assert drawn["b"]["name"] == "static"
    assert np.ptp(swag.draw(after(swag, 1.0, 2.0, 4.0, 8.0), tree(7.0), 4, key=jax.random.key(0))["a"]) > 0


def test_samples_have_the_stated_covariance():
    # Σ = (diag(v) + DᵀD / (K - 1)) / 2 over all parameters together, since ξ₂ is shared between the tensors.
    swag = SWAG(deviations=3, warm=1, decay=0.5)
    state = after(swag, 1.0, 3.0, 0.0, 2.0, 5.0)
    drawn = swag.draw(state, tree(9.0), 100_000, key=jax.random.key(0))
    flat = jnp.concatenate([drawn["a"], drawn["b"]["c"][:, 0]], -1)
    mean, variance = (jnp.concatenate([x["a"], x["b"]["c"][0]]) for x in (state.mean, state.variance))
    rows = jnp.concatenate([state.deviations["a"], state.deviations["b"]["c"][:, 0]], -1)
    expected = (jnp.diag(variance) + rows.T @ rows / 2) / 2
    np.testing.assert_allclose(flat.mean(0), mean, atol=0.03)
    np.testing.assert_allclose(jnp.cov(flat.T), expected, atol=0.03 * float(expected.max()))
    assert expected[0, 2] < -1  # The two tensors are correlated, and so are their samples.


def test_fewer_snapshots_than_rows_make_a_covariance_of_those_there_are():
    swag = SWAG(deviations=50, warm=1, decay=0.5)
    state = after(swag, 1.0, 3.0, 0.0)  # The first one's deviation is 0 by definition: two rows.
    drawn = swag.draw(state, tree(9.0), 100_000, key=jax.random.key(0))["a"][:, 0]
    rows = state.deviations["a"][-2:, 0]
    np.testing.assert_allclose(drawn.var(), (state.variance["a"][0] + (rows**2).sum()) / 2, rtol=0.03)


def test_without_deviations_it_is_diagonal():
    swag = SWAG(deviations=0, warm=1, decay=0.75)
    drawn = swag.draw(after(swag, 4.0, 8.0, 1.0), tree(9.0), 100_000, key=jax.random.key(0))
    np.testing.assert_allclose(drawn["a"].var(0), 5.25, rtol=0.03)
    assert abs(np.corrcoef(drawn["a"][:, 0], drawn["b"]["c"][:, 0, 0])[0, 1]) < 0.02


@pytest.mark.parametrize("deviations", [0, 200])
def test_samples_match_the_iterates_of_a_linear_gaussian_regression(deviations):
    # SGD with batches of one on y = xᵀw + ε: its iterates wander around the solution, with a covariance that is
    # measured here from the same iterates. A decay of .995 averages over 200 snapshots.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40_000, 3)) * [1.0, 1.0, 0.3]
    x[:, 1] += 0.8 * x[:, 0]
    y = x @ [1.0, -2.0, 0.5] + 0.5 * rng.normal(size=len(x))

    def step(w, pair):
        w = w - 0.05 * (pair[0] @ w - pair[1]) * pair[0]
        return w, w

    pairs = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    iterates = np.asarray(jax.lax.scan(step, jnp.zeros(3), pairs)[1])
    swag = SWAG(burn_in=0, period=20, deviations=deviations, decay=0.995, warm=1)
    follow = lambda state, pair: (swag.observe(state, pair[1], pair[0]), None)
    state = jax.lax.scan(follow, swag.begin(jnp.zeros(3)), (jnp.arange(len(iterates)), jnp.asarray(iterates)))[0]
    assert state.snapshots == 2000
    drawn = swag.draw(state, jnp.zeros(3), 50_000, key=jax.random.key(0))
    recent = iterates[-8000::20]
    np.testing.assert_allclose(drawn.mean(0), recent.mean(0), atol=0.03)
    np.testing.assert_allclose(drawn.var(0), recent.var(0), rtol=0.25)
    if deviations:
        # Half of the covariance is the low-rank part, which knows how the weights move together.
        assert np.corrcoef(drawn.T)[0, 1] == pytest.approx(np.corrcoef(recent.T)[0, 1] / 2, abs=0.12)


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"decay": 1.0}, {"period": 0}, {"deviations": -1}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SWAG(**wrong)
