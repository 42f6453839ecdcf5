"""What an evaluation says of its episodes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from prudence.evidence.evaluate import Evaluation


def evaluation(goals: list[float] | None) -> Evaluation:
    costs = np.array([[0.0, 0.0], [0.0, 3.0], [1.0, 0.0], [0.0, 0.0]])
    reached = None if goals is None else np.array(goals)
    returns, lengths = np.array([1.0, 2.0, 3.0, 4.0]), np.array([5, 5, 5, 5])
    return Evaluation("a-task", 0, returns, costs, lengths, ("left", "right"), None, goals=reached)


def test_violations_are_the_share_of_episodes_with_any_cost(tmp_path):
    found = evaluation(None)
    assert found.violations == 0.5  # The second and the third.
    assert found.success is None
    assert found.metrics()["evaluation/violations"] == 0.5
    assert "evaluation/success" not in found.metrics()
    assert "50% of episodes cost anything" in found.summary()
    found.write(tmp_path / "evaluation.json")
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert (written["violations"], written["success"]) == (0.5, None)


def test_success_is_the_share_of_episodes_that_reach_a_goal(tmp_path):
    found = evaluation([0.0, 2.0, 1.0, 1.0])
    assert found.success == 0.75
    assert found.metrics()["evaluation/success"] == 0.75
    assert found.metrics()["evaluation/goals_mean"] == pytest.approx(1.0)
    assert "75% of episodes reach one" in found.summary()
    found.write(tmp_path / "evaluation.json")
    assert json.loads((tmp_path / "evaluation.json").read_text())["success"] == 0.75
