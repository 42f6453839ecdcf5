"""Verdicts of stored evaluations, and the faults of files that hold none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from prudence.evidence.content import evaluation_fault, read_evaluation, verdicts
from prudence.evidence.sequential import Decision
from prudence.evidence.statistics import cost_bound

COSTS = np.array([0.0, 3.0, 0.0, 1.0] * 5)


def evaluation(**more) -> dict:
    found = {"cost_names": ["cost"], "returns": [1.0] * 20, "costs": [[cost] for cost in COSTS], "budgets": [9.0]}
    return found | more


def test_verdicts_of_a_fixed_number_of_episodes_are_its_bounds():
    (found,), bound = verdicts(evaluation()), cost_bound(COSTS, 9.0)
    assert (found.status, found.upper, found.text) == ("holds", bound.upper, bound.verdict)
    assert verdicts(evaluation(budgets=None)) == ()


def test_verdicts_of_an_evaluation_until_decided_are_its_own():
    decision = Decision(9.0, (20, 40)).look(COSTS)
    (found,) = verdicts(evaluation(until_decided={"decisions": [decision.content()], "confidence": 0.95}))
    bound = cost_bound(COSTS, 9.0).upper
    assert found.upper == decision.looks[-1].upper
    assert bound is not None
    assert found.upper is None or found.upper > bound
    assert (found.status, found.text) == (decision.status, decision.verdict)


@pytest.mark.parametrize(
    "found",
    [
        3,
        {},
        {"decisions": []},
        {"decisions": [{"verdict": "holds", "status": "holds", "looks": []}]},
        {"decisions": [{"verdict": "holds", "status": "perhaps", "looks": [{"episodes": 20, "upper": 1.0}]}]},
        {"decisions": [{"verdict": "holds", "status": "holds", "looks": [{"episodes": 20}]}]},
    ],
)
def test_damaged_decisions_are_named(found, tmp_path):
    assert evaluation_fault(evaluation()) is None
    assert "until_decided" in (evaluation_fault(evaluation(until_decided=found)) or "")
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(evaluation(until_decided=found)))
    with pytest.raises(ValueError, match="until_decided"):
        read_evaluation(path)
