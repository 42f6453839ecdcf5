"""Natural gradients against dense matrices; CPO's dual by hand, and against a general solver in every case."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from prudence.ops.trust_region import backtrack, cpo_step, fisher_product, natural

DELTA = 0.01


def positive_definite(size: int, seed: int) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(size=(size, size))
    return factor @ factor.T + np.eye(size)


def categorical_kl(inputs: jax.Array, at: jax.Array, new: jax.Array) -> jax.Array:
    """Mean KL(old ‖ new) of softmax policies with weights ``[F, A]``, flattened."""
    old_log, new_log = (jax.nn.log_softmax(inputs @ w.reshape(inputs.shape[1], -1)) for w in (at, new))
    return (jnp.exp(old_log) * (old_log - new_log)).sum(-1).mean()


def test_fisher_product_is_the_hessian_of_the_divergence():
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(6, 2)), jnp.float32)
    at, vector = (jnp.asarray(rng.normal(size=6), jnp.float32) for _ in range(2))
    kl = lambda new: categorical_kl(inputs, at, new)
    dense = jax.hessian(kl)(at)
    np.testing.assert_allclose(fisher_product(kl, at, 0.1)(vector), dense @ vector + 0.1 * vector, rtol=1e-4, atol=1e-6)
    # A matrix that is the covariance of the score, and singular without damping: a shift of all logits changes nothing.
    assert np.linalg.matrix_rank(np.asarray(dense), tol=1e-4) == 4


def test_natural_is_the_solution_of_the_dense_system():
    matrix = positive_definite(5, 1)
    vector = np.random.default_rng(2).normal(size=5)
    product = lambda v: jnp.asarray(matrix, jnp.float32) @ v
    found = natural(product, jnp.asarray(vector, jnp.float32), 10)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, vector), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("bound", "answer"), [(2.0, 1.0), (0.5, 0.8**4), (0.8, 0.8), (1e-3, 0.0)])
def test_backtrack_takes_the_first_that_is_accepted(bound, answer):
    assert float(backtrack(lambda fraction: fraction <= bound, 0.8, 10)) == pytest.approx(answer)


def test_backtrack_stops_after_its_attempts():
    """The fifth would be accepted: .8⁴ = .41."""
    assert float(backtrack(lambda fraction: fraction <= 0.5, 0.8, 4)) == 0.0


def step(g: np.ndarray, b: np.ndarray, c: float, hessian: np.ndarray, delta: float) -> tuple[int, np.ndarray]:
    """Case and θ."""
    inverse = np.linalg.inv(hessian)
    numbers = (jnp.asarray(value, jnp.float32) for value in (g @ inverse @ g, g @ inverse @ b, b @ inverse @ b, c))
    found = cpo_step(*numbers, delta)
    theta = float(found.along_reward) * inverse @ g - float(found.against_cost) * inverse @ b
    return int(found.case), theta


@pytest.mark.parametrize(
    ("c", "case", "theta"),
    [
        # b·θ ≤ -c on the unit disk. (1, 0) is best, and b·(1, 0) = .6.
        (-2.0, 3, [1.0, 0.0]),
        (-0.7, 2, [1.0, 0.0]),  # The border is near, but the best point is within it.
        # On it: .5 b + √(1 - .25) (.8, -.6), (.8, -.6) being orthogonal to b.
        (-0.5, 2, [0.5 * 0.6 + 0.75**0.5 * 0.8, 0.5 * 0.8 - 0.75**0.5 * 0.6]),
        (0.0, 1, [0.8, -0.6]),
        (0.5, 1, [-0.5 * 0.6 + 0.75**0.5 * 0.8, -0.5 * 0.8 - 0.75**0.5 * 0.6]),
        (2.0, 0, [-0.6, -0.8]),  # Out of reach: straight against b.
    ],
)
def test_a_disk_by_hand(c, case, theta):
    found_case, found = step(np.array([1.0, 0.0]), np.array([0.6, 0.8]), c, np.eye(2), 0.5)
    assert found_case == case
    np.testing.assert_allclose(found, theta, atol=2e-4)


@pytest.mark.parametrize("conflict", [True, False])
@pytest.mark.parametrize(("share", "case"), [(-1.5, 3), (-0.6, 2), (-0.1, 2), (0.1, 1), (0.8, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_solves_what_a_general_solver_solves(seed, share, case, conflict):
    """c is a share of √(2δs), the most by which the trust region lets the cost change."""
    rng, hessian = np.random.default_rng(seed), positive_definite(4, seed)
    g, b = rng.normal(size=4), rng.normal(size=4)
    if (g @ np.linalg.solve(hessian, b) > 0) != conflict:
        b = -b
    c = share * np.sqrt(2 * DELTA * b @ np.linalg.solve(hessian, b))
    found_case, theta = step(g, b, float(c), hessian, DELTA)
    assert found_case == case
    limits = [
        {"type": "ineq", "fun": lambda x: DELTA - 0.5 * x @ hessian @ x},
        {"type": "ineq", "fun": lambda x: -c - b @ x},
    ]
    start = -max(c, 0.0) * np.linalg.solve(hessian, b) / (b @ np.linalg.solve(hessian, b))
    best = minimize(lambda x: -g @ x, start, constraints=limits, method="SLSQP", options={"ftol": 1e-12})
    assert best.success
    assert 0.5 * theta @ hessian @ theta <= DELTA * 1.001
    assert c + b @ theta <= 1e-3 * abs(c)
    np.testing.assert_allclose(g @ theta, -best.fun, rtol=1e-3)


def test_recovery_goes_as_far_against_the_cost_as_it_may():
    hessian = positive_definite(4, 7)
    g, b = np.random.default_rng(7).normal(size=(2, 4))
    case, theta = step(g, b, 10.0, hessian, DELTA)
    assert case == 0
    assert 0.5 * theta @ hessian @ theta == pytest.approx(DELTA, rel=1e-3)
    direction = -np.linalg.solve(hessian, b)
    np.testing.assert_allclose(theta / np.linalg.norm(theta), direction / np.linalg.norm(direction), atol=1e-4)


@pytest.mark.parametrize(("c", "case", "theta"), [(-1.0, 4, [1.0, 0.0]), (0.0, 4, [1.0, 0.0]), (1.0, 0, [0.0, 0.0])])
def test_costs_that_do_not_depend_on_the_policy(c, case, theta):
    """Reward alone counts, unless the budget is exceeded, which nothing can mend."""
    found_case, found = step(np.array([1.0, 0.0]), np.zeros(2), c, np.eye(2), 0.5)
    assert found_case == case
    np.testing.assert_allclose(found, theta, atol=1e-6)


@pytest.mark.parametrize(("c", "theta"), [(-0.5, 0.5), (0.5, -0.5)])
def test_reward_and_cost_in_one_direction(c, theta):
    """g = b: A = 0, and the step ends where the cost is at its budget."""
    _, found = step(np.array([1.0, 0.0]), np.array([1.0, 0.0]), c, np.eye(2), 0.5)
    assert found[0] == pytest.approx(theta, abs=2e-3)


def test_the_natural_gradient_of_next_to_nothing_is_finite():
    """The gradient of a policy without chance left, whose square is 0 in float32."""
    product = lambda v: jnp.array([2.0, 4.0]) * v
    found = natural(product, jnp.array([1e-22, 2e-22]), 5)
    np.testing.assert_allclose(found, [0.5e-22, 0.5e-22], rtol=1e-4)
    np.testing.assert_array_equal(natural(product, jnp.zeros(2), 5), [0.0, 0.0])
