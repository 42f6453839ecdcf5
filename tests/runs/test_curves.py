"""Means in windows of steps, by hand."""

import numpy as np
import pytest

from prudence.runs.curves import Series, centres, in_steps, nice, seeds_windows, short, window_width, windows


def series(*pairs):
    return Series(*np.array(pairs, float).T)


ROUNDS = series((100, 0), (100, 4), (200, 10), (200, 20), (300, 1))


def test_episodes_that_end_together_have_one_mean():
    found = windows(ROUNDS, 100, np.array([100.0, 200.0, 300.0]))
    np.testing.assert_allclose(found.mean, [2, 15, 1])
    # Percentiles of two values lie on the line between them: 10 % of the way from 0 to 4 is .4.
    np.testing.assert_allclose(found.low, [0.4, 11, 1])
    np.testing.assert_allclose(found.high, [3.6, 19, 1])
    assert found.width == 100


def test_a_wider_window_weighs_episodes_and_not_rounds():
    found = windows(ROUNDS, 200, np.array([200.0]))
    np.testing.assert_allclose(found.mean, [(0 + 4 + 10 + 20 + 1) / 5])


def test_an_empty_window_is_a_gap():
    found = windows(series((100, 1), (900, 3)), 100, np.array([100.0, 500.0, 900.0]))
    np.testing.assert_array_equal(found.mean, [1, np.nan, 3])
    np.testing.assert_array_equal(found.low, found.high)


def test_one_episode_is_a_point():
    found = windows(series((4000, 7)))
    assert (found.steps.tolist(), found.mean.tolist(), found.low.tolist()) == ([4000], [7], [7])


def test_windows_overlap_by_half_and_reach_both_ends():
    np.testing.assert_allclose(centres(0, 100, 50), [0, 25, 50, 75, 100])
    np.testing.assert_allclose(centres(10, 10, 50), [10])
    assert np.diff(centres(0, 101, 50)).max() <= 25


def test_width_is_round_near_a_twentieth_and_holds_two_rounds():
    many = Series(np.arange(4000.0, 400_001, 4000), np.zeros(100))
    assert window_width([many]) == 20_000
    assert window_width([many, Series(np.array([480_000.0]), np.zeros(1))]) == 20_000, "24k, rounded to the nearest"
    few = Series(np.arange(4000.0, 60_001, 4000), np.zeros(15))
    assert window_width([few]) == 10_000, "a twentieth is 3k, two rounds are 8k"
    assert window_width([Series(np.array([1.0]), np.zeros(1))]) == 1


def test_seeds_are_averaged_where_all_have_values():
    a, b = series((100, 1), (200, 1), (300, 1)), series((200, 5), (300, 5), (900, 9))
    found = seeds_windows([a, b], 100)
    assert (found.steps[0], found.steps[-1]) == (200, 300)
    np.testing.assert_allclose(found.mean, 3)
    np.testing.assert_allclose([found.low[0], found.high[0]], [1, 5])
    alone = seeds_windows([a], 100)
    np.testing.assert_allclose(alone.low, alone.high, err_msg="the least and the largest of one seed are the same")


def test_seeds_that_never_met_have_one_window():
    found = seeds_windows([series((100, 1)), series((900, 5))], 100)
    assert found.steps.tolist() == [100]
    assert np.isnan(found.mean).all()


@pytest.mark.parametrize(("number", "near", "above"), [(1, 1, 1), (24, 20, 50), (0.3, 0.2, 0.5), (7.5, 10, 10)])
def test_nice_numbers(number, near, above):
    assert nice(number) == near
    assert nice(number, least=True) == above


def test_steps_in_words():
    assert [short(x) for x in (500, 2000, 1.5e6)] == ["500", "2k", "1.5M"]
    assert in_steps([20_000.0, 5_000.0]) == "5k to 20k steps"
