"""Layouts, reward and cost, by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mujoco")

from prudence.envs.quadrotor.task import KEEPOUT, LEVELS, draw_arena, draw_goal, in_hazard, reward

STILL = np.zeros(3)


def test_the_reward_adds_up():
    # .5 * .02 for progress, .025 exp(-.5^4) for looking, .01 for being alive.
    # Effort: |(.6, .8, 0, 0)| = 1. Change: |(.6, .8, 0, -1)|^2 = 2. Spin: |(3, 0, 4)| = 5.
    action, before, rates = np.array([0.6, 0.8, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]), np.array([3.0, 0.0, 4.0])
    expected = 0.01 + 0.025 * np.exp(-0.0625) + 0.01 - 5e-4 - 2e-4 * 2 - 5e-4 * 5
    assert reward(0.02, 0.5, action, before, rates, alive=True, reached=False) == pytest.approx(expected)
    assert reward(0.02, 0.5, action, before, rates, alive=True, reached=True) == pytest.approx(expected + 4)
    assert reward(0.02, 0.5, action, before, rates, alive=False, reached=False) == pytest.approx(expected - 0.01)
    none = np.zeros(4)
    assert reward(0.0, 0.0, none, none, STILL, alive=True, reached=False) == pytest.approx(0.035)
    assert reward(-0.1, np.pi, none, none, STILL, alive=False, reached=False) == pytest.approx(-0.05)


@pytest.mark.parametrize(
    ("position", "inside"),
    [
        ((0.27, 0.0, 0.5), True),  # The hazard's radius is .1, the quadrotor's .18.
        ((0.29, 0.0, 0.5), False),
        ((0.0, 0.0, 1.0), True),
        ((0.0, 0.0, 1.01), False),  # Above it.
        ((0.9, 1.0, 0.2), True),  # In the other one.
    ],
)
def test_a_hazard_is_a_cylinder_as_wide_as_both(position, inside):
    assert in_hazard(np.array(position), np.array([[0.0, 0.0], [1.0, 1.0]])) == inside


def test_nothing_is_a_hazard_where_there_are_none():
    assert not in_hazard(np.zeros(3), np.zeros((0, 2)))


@pytest.mark.parametrize("number", range(3))
def test_objects_keep_apart_and_within_the_arena(number):
    level, rng = LEVELS[number], np.random.default_rng(number)
    for _ in range(20):
        arena = draw_arena(level, rng)
        goal = draw_goal(level, arena, arena.start, rng)
        assert len(arena.places) == level.hazards
        assert (arena.reaches > 0).sum() == level.moving
        assert 0.3 <= goal[2] <= 1.7
        assert 0.5 <= arena.start[2] <= 1.0
        for seconds in np.linspace(0, 2 * np.pi, 9):
            objects = np.concatenate([arena.hazards(seconds), goal[None, :2]])
            apart = np.linalg.norm(objects[:, None] - objects, axis=-1) + np.eye(len(objects)) * KEEPOUT * 2
            assert apart.min() > KEEPOUT
        begun = np.concatenate([arena.hazards(0.0), goal[None, :2]]) - arena.start[:2]
        assert np.linalg.norm(begun, axis=1).min() > KEEPOUT
        assert np.abs(np.r_[arena.places.ravel(), goal[:2], arena.start[:2]]).max() <= level.extent


def test_moving_hazards_circle_and_the_others_stand():
    arena = draw_arena(LEVELS[2], np.random.default_rng(0))
    now, later = arena.hazards(0.0), arena.hazards(1.0)
    np.testing.assert_array_equal(now[:10], later[:10])
    # A chord of one radian on a circle of .35 m.
    np.testing.assert_allclose(np.linalg.norm(later[10:] - now[10:], axis=1), 2 * 0.35 * np.sin(0.5))


def test_layouts_follow_from_the_stream():
    first, again, other = (draw_arena(LEVELS[1], np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.places, again.places)
    assert (first.places != other.places).all()
