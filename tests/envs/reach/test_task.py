"""Layouts, distances, reward and cost rule, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from prudence.envs.reach import task

CYLINDER, BOX = "cylinder", "box"


@pytest.mark.parametrize(
    ("away", "kind", "distance"),
    [
        # The target's radius (or half side) is .02, and half its height .03.
        ((0.05, 0.0, 0.0), CYLINDER, 0.03),
        ((0.0, 0.0, -0.04), CYLINDER, 0.01),
        ((0.03, 0.04, 0.0), CYLINDER, 0.03),  # A 3-4-5 triangle: .05 from the axis.
        ((0.03, 0.04, 0.0), BOX, np.hypot(0.01, 0.02)),
        ((0.05, 0.0, 0.07), CYLINDER, 0.05),  # .03 aside and .04 above: 3-4-5 again.
        ((0.01, 0.0, 0.01), CYLINDER, 0.0),  # Inside.
        ((-0.02, 0.02, 0.0), BOX, 0.0),  # On an edge.
    ],
)
def test_distances_from_the_target(away, kind, distance):
    assert task.target_distance(np.array(away), kind) == pytest.approx(distance, abs=1e-12)


def test_rewards():
    assert task.reward(0.2, 0.19, dense=False) == 0.0
    assert task.reward(0.2, 0.01, dense=False) == 1.0  # Touched up to 1 cm.
    assert task.reward(0.2, 0.19, dense=True) == pytest.approx(0.1)
    assert task.reward(0.01, 0.03, dense=True) == pytest.approx(-0.2)
    assert task.reward(0.02, 0.01, dense=True) == pytest.approx(1.1)


def test_an_obstacle_moves_if_it_slides_or_turns():
    still = np.array([[9e-4, 0, 0, 0, 0, 0.019]])
    slides, turns = np.array([[0, 8e-4, 8e-4, 0, 0, 0]]), np.array([[0, 0, 0, 0.015, 0.015, 0]])
    assert not task.moving(still)
    assert not task.moving(np.zeros((0, 6)))
    assert task.moving(slides)  # 1.13 mm/s.
    assert task.moving(turns)  # .021 rad/s.
    assert task.moving(np.concatenate([still, slides]))


@pytest.mark.parametrize("name", task.VARIANTS)
def test_layouts_are_drawn_evenly_and_without_repetition(name):
    rng, variant = np.random.default_rng(0), task.VARIANTS[name]
    drawn = [task.draw_layout(variant, rng) for _ in range(300)]
    assert {layout.target for layout in drawn} == {0, 1, 2}
    for layout in drawn:
        assert len(set(layout.obstacles)) == len(layout.obstacles) == len(variant.obstacles)
        assert np.abs(layout.offset).max() <= 0.01
    if variant.obstacles:
        counts = np.bincount([place for layout in drawn for place in layout.obstacles], minlength=6)
        expected = 300 * len(variant.obstacles) / 6
        assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_the_task_is_the_papers():
    """25 cm × 25 cm, three places for the target, six for the obstacles, which are higher than the start."""
    np.testing.assert_allclose((task.HIGH - task.LOW)[:2], 0.25)
    assert (len(task.TARGETS), len(task.PLACES)) == (3, 6)
    assert task.VARIANTS["SafeReach-v0"] == task.Variant(("box", "box"), "cylinder")
    assert task.TABLE + task.OBSTACLE.size[2] > task.START[2]
    assert len(task.VARIANTS["SafeReachMore-v0"].obstacles) == task.MOST_OBSTACLES
