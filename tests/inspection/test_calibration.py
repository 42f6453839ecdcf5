"""Foreseen costs against those that came, by hand."""

from __future__ import annotations

import numpy as np

from prudence.inspection.calibration import calibrate, reliability


def test_what_is_foreseen_right_has_slope_one() -> None:
    costs = np.array([0.0, 0, 1, 5])
    found = reliability(costs, costs)
    assert found.slope == 1
    np.testing.assert_allclose(found.predicted, found.real)
    # Of the largest, 5: 0 lies below .02, 1 is .2, and 5 is above .8.
    np.testing.assert_allclose(found.predicted, [0, 1, 5])
    assert found.moments.tolist() == [2, 1, 1]


def test_half_of_what_comes_has_slope_two() -> None:
    real = np.array([0.0, 2, 4])
    found = reliability(real / 2, real)
    assert found.slope == 2
    assert (found.mean_predicted, found.mean_real) == (1, 2)


def test_bins_average_what_came_at_the_moments_that_they_hold() -> None:
    # Both .5 and .9 lie between .1 and .2 of the largest cost, 5.
    found = reliability(np.array([0.5, 0.9, 5.0]), np.array([0.0, 2.0, 5.0]))
    np.testing.assert_allclose(found.predicted, [0.7, 5])
    np.testing.assert_allclose(found.real, [1, 5])


def test_costs_that_never_came_or_were_never_foreseen() -> None:
    never = reliability(np.array([-0.1, 0.1]), np.zeros(2))
    assert (never.mean_real, never.slope) == (0, 0)
    assert never.moments.sum() == 2
    blind = reliability(np.zeros(3), np.array([0.0, 5, 1]))
    assert np.isnan(blind.slope)
    np.testing.assert_allclose(blind.real, [2])


def test_sums_begin_at_the_last_observation_and_constraints_stay_apart() -> None:
    real = np.zeros((2, 6, 2))
    real[0, :, 0] = [1, 2, 0, 0, 4, 9]
    real[1, 4, 1] = 3
    found = calibrate(real / 2, real, ("a", "b"))
    assert list(found) == ["a", "b"]
    assert list(found["a"].leads) == [1, 2, 5]
    assert list(found["a"].sums) == [2, 5], "ten decisions ahead were not imagined"
    assert (found["a"].sums[2].mean_real, found["a"].sums[5].mean_real) == (1.5, 3.5)
    assert (found["b"].sums[2].mean_real, found["b"].leads[5].mean_real) == (0, 1.5)
    assert found["a"].leads[5].mean_predicted == 1
