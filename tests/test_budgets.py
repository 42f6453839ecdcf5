"""What episodes may cost, and how far they exceed it: worked by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.budgets import Budget, Imagined, Lived, LivedCosts
from prudence.constraints import AugmentedLagrangian


def after(budget: Budget, *costs) -> LivedCosts:
    """What is known after episodes that cost so much."""
    lived = budget.init(np.size(costs[0]) if costs else 1)
    update = jax.jit(LivedCosts.update)
    for cost in costs:
        lived = update(lived, jnp.asarray(np.atleast_1d(cost), jnp.float32))
    return lived


def test_episode_costs_are_averaged_without_bias_of_the_start():
    budget = Budget(violation=Lived(memory=0.05))
    np.testing.assert_array_equal(budget.init(2).recent.mean, [0.0, 0.0])
    # Weights .95·.05 and .05 of .0975 in all.
    mean = after(budget, [10.0, 0.0], [0.0, 4.0]).recent.mean
    np.testing.assert_allclose(mean, [0.475 / 0.0975, 0.2 / 0.0975], rtol=1e-5)


def test_imagined_violations_are_costs_less_their_budgets():
    """Whatever episodes cost; with a margin of a fifth, less four fifths of them."""
    imagined = jnp.array([5.0, 1.0])
    for margin, expected in ((0.0, [3.0, -24.0]), (0.2, [3.4, -19.0])):
        budget = Budget((2.0, 25.0), margin=margin, violation=Imagined())
        lived = after(budget, [100.0, 100.0])
        np.testing.assert_allclose(budget.measure(lived, imagined), expected, rtol=1e-6)
        slope = jax.jacobian(lambda e, budget=budget, lived=lived: budget.measure(lived, e))(imagined)
        np.testing.assert_allclose(slope, np.eye(2))
        np.testing.assert_array_equal(budget.unit_of_costs(lived), [1.0, 1.0])


def test_lived_violations_have_the_gradient_of_imagination():
    budget = Budget(2.0, violation=Lived())
    lived = after(budget, 5.0)
    value, slope = jax.value_and_grad(lambda e: budget.measure(lived, e)[0])(jnp.array([123.0]))
    # A cost of 5 exceeds 2 by 1.5 budgets. The usual cost, 5 with weight .02, is below the budget, which is then the
    # unit of imagined costs.
    assert value == pytest.approx(1.5, rel=1e-5)
    assert slope == pytest.approx(0.5)


def test_violations_in_costs_are_those_of_the_mean():
    """The model-free baselines' (OmniSafe): the mean of recent episodes less the budget, in the unit of costs."""
    budget = Budget(2.0, violation=Lived(relative=False))
    lived = after(budget, *[50.0] * 200, *[5.0] * 200)
    value, slope = jax.value_and_grad(lambda e: budget.measure(lived, e)[0])(jnp.array([123.0]))
    assert value == pytest.approx(3.0, rel=1e-3)
    assert slope == 1.0
    np.testing.assert_allclose(budget.exceeded(lived, jnp.array([7.0])), [5.0])


def test_costs_are_counted_in_their_peak_and_violations_in_budgets():
    costs = [(50.0, 10.0)] * 300 + [(3.0, 5.0)] * 300
    budget = Budget((2.0, 25.0), violation=Lived())
    lived = after(budget, *costs)
    slope = jax.jacobian(lambda e: budget.measure(lived, e))(jnp.ones(2))
    np.testing.assert_allclose(slope, np.diag([1 / 50, 1 / 25]), rtol=5e-3)
    np.testing.assert_allclose(budget.measure(lived, jnp.ones(2)), [0.5, -0.8], rtol=1e-3)
    # A budget of nearly nothing counts as a fiftieth of the peak: a cost of 3 exceeds .1 by 2.9 / 1.
    np.testing.assert_allclose(Budget(0.1, violation=Lived()).measure(lived, jnp.ones(2))[0], 2.9, rtol=1e-2)


@pytest.mark.parametrize("unit", [0.01, 1000.0])
def test_nothing_depends_on_the_unit_in_which_costs_are_counted(unit):
    """Costs and budgets, imagined and lived, times any number: the objective and its gradient are the same."""
    constraint = AugmentedLagrangian(0.3, 0.05)
    costs = [(50.0, 10.0)] * 40 + [(3.0, 0.2)] * 40

    def loss(unit: float):
        budget = Budget((2.0 * unit, 0.5 * unit), violation=Lived(bound=2.0))
        lived = after(budget, *(unit * np.array(cost) for cost in costs))
        penalty = lambda e: constraint.penalty(constraint.init(2), budget.measure(lived, unit * e))
        return jax.value_and_grad(penalty)(jnp.array([7.0, 0.1]))

    for ours, theirs in zip(loss(unit), loss(1.0), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_a_bound_clips_the_mean_and_keeps_the_gradient():
    budget = Budget((2.0, 2.0), violation=Lived(bound=1.5))
    lived = after(budget, *[(100.0, 2.0)] * 300)
    np.testing.assert_allclose(budget.measure(lived, jnp.ones(2)), [1.5, 0.0], atol=1e-3)
    slope = jax.jacobian(lambda e: budget.measure(lived, e))(jnp.ones(2))
    np.testing.assert_allclose(slope, np.diag([1 / 100, 1 / 2]), rtol=5e-3)
    # A single episode's violation is never clipped: means of clipped ones would be others.
    np.testing.assert_allclose(budget.exceeded(lived, jnp.array([42.0, 2.0])), [20.0, 0.0])


def test_on_the_way_to_the_budget_costs_are_held_against_a_share_of_the_usual_ones():
    budget = Budget(2.0, violation=Lived(approach=0.5))
    of = lambda *costs: float(budget.measure(after(budget, *costs), jnp.zeros(1))[0])
    assert of(*[30.0] * 40) == pytest.approx(1.0, rel=1e-3)  # Half of 30 is exceeded by once that.
    # Recent episodes weigh .95^k, the usual cost .98^k: 12.3 against half of 16.
    recent, usual = (10 + 20 * (keep**40 - keep**80) / (1 - keep**80) for keep in (0.95, 0.98))
    assert of(*[30.0] * 40, *[10.0] * 40) == pytest.approx((recent - usual / 2) / (usual / 2), rel=1e-3)
    # 1.5 would be asked for, but 2 is allowed.
    assert of(*[30.0] * 40, *[10.0] * 40, *[3.0] * 400) == pytest.approx(0.5, rel=1e-2)


def test_a_margin_is_aimed_below_the_budget():
    """A cost of 20 is what a budget of 25 with a margin of a fifth asks for, and 25 exceeds it by a quarter."""
    budget = Budget(25.0, margin=0.2, violation=Lived())
    of = lambda cost: float(budget.exceeded(budget.init(1), jnp.array([cost]))[0])
    assert (of(20.0), of(25.0)) == pytest.approx((0.0, 0.25))
    np.testing.assert_array_equal(budget.limits(2), [25.0, 25.0])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Budget(-1.0), r"agent\.budget\.limit=-1\.0 must be a number from 0 to 1,000,000,000"),
        (lambda: Budget((1.0, float("nan"))), r"agent\.budget\.limit=\(1\.0, nan\) must be a number from 0 to"),
        (lambda: Budget(discount=1.5), r"agent\.budget\.discount=1\.5 must be a number from 0 to 1"),
        (lambda: Budget(margin=1.0), r"agent\.budget\.margin=1\.0 must be a number from 0 to below 1"),
        (lambda: Budget(start=-1), r"agent\.budget\.start=-1 must be a whole number from 0"),
        (lambda: Lived(memory=0.0), r"agent\.budget\.violation\.memory=0\.0 must be a number from above 0 to 1"),
        (lambda: Lived(bound=0.0), r"agent\.budget\.violation\.bound=0\.0 must be a number from above 0"),
        (lambda: Lived(bound=2.0, relative=False), "leave one of them out"),
        (lambda: Lived(approach=1.0), r"agent\.budget\.violation\.approach=1\.0 must be a number from 0 to below 1"),
        (lambda: Budget((1.0, 2.0)).check(toys.spaces(), constrained=True), "names 2 budgets, but the environment"),
        (
            lambda: Budget(violation=Lived()).check(toys.spaces(steps=None), constrained=True),
            "needs its length",
        ),
    ],
)
def test_budgets_that_mean_nothing_are_refused(made, message):
    with pytest.raises(ValueError, match=message):
        made()
