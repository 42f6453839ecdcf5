"""The objective, and who is stopped early."""

from __future__ import annotations

import importlib.util
import itertools
import sys

import pytest

from prudence.sweeps.search import EarlyStopping, draw, objective

NEEDS_RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
QUIET = pytest.mark.filterwarnings("ignore")


def test_within_the_budget_it_is_the_return() -> None:
    assert objective(7.5, [25.0], [25.0]) == 7.5
    assert objective(-3.0, [0.0, 2.0], [1.0, 2.0]) == -3.0
    assert objective(7.5, [900.0], []) == 7.5, "an agent without a budget"


def test_outside_it_is_the_violation() -> None:
    """Budgets 1 and 2, costs 1.5 and 5: exceeded by 0.5 and by 3. What is left of a budget makes up nothing."""
    assert objective(100.0, [1.5, 5.0], [1.0, 2.0]) == -1e9 - 3.5
    assert objective(100.0, [0.0, 5.0], [1.0, 2.0]) == -1e9 - 3.0
    assert objective(100.0, [3.0, 3.0], [2.0]) == -1e9 - 2.0, "one budget for both"


def test_the_order_of_trials() -> None:
    """From worst to best: first by how much they exceed the budget of 25, then, within it, by return."""
    worst_to_best = [(90.0, 60.0), (20.0, 30.0), (50.0, 25.5), (-8.0, 25.0), (0.0, 3.0), (11.0, 24.0)]
    scores = [objective(reward, [cost], [25.0]) for reward, cost in worst_to_best]
    assert all(low < high for low, high in itertools.pairwise(scores))


@NEEDS_RAY
@QUIET
def test_the_best_third_goes_on() -> None:
    """The cutoff is the percentile 66.7 of those before. The first has nobody to compare with. 3 < 5 stops. 7 is above
    3 + 2·(2/3) = 4.33 of (3, 5). 5.5 is below the 5.67 of (3, 5, 7), which is 5 + 2·(1/3)."""
    asha = EarlyStopping()
    said = [
        asha.judge(name, "group", 0.1, lambda _, v=value: v) for name, value in zip("abcd", (5, 3, 7, 5.5), strict=True)
    ]
    assert [reason is not None for reason in said] == [False, True, False, True]
    assert said[1] == "ASHA: not among the best third at 10 % of the steps (objective 3)"


@NEEDS_RAY
@QUIET
def test_each_milestone_is_judged_once_and_by_what_was_known_there() -> None:
    asha, asked = EarlyStopping(), []

    def score(share: float) -> float:
        asked.append(share)
        return 1.0

    assert asha.judge("a", "group", 0.05, score) is None
    assert asked == []
    for share in (0.35, 0.35, 1.0):
        assert asha.judge("a", "group", share, score) is None
    assert asked == [0.1, 0.3, 0.9]


@NEEDS_RAY
@QUIET
def test_groups_do_not_compete_and_a_trial_without_episodes_waits() -> None:
    asha = EarlyStopping()
    assert asha.judge("a", "one", 0.1, lambda _: 9.0) is None
    assert asha.judge("b", "two", 0.1, lambda _: 1.0) is None
    assert asha.judge("c", "one", 0.1, lambda _: None) is None
    assert asha.judge("c", "one", 0.1, lambda _: 1.0) is not None


@NEEDS_RAY
@QUIET
def test_without_a_feasible_trial_the_smallest_violation_goes_on() -> None:
    asha = EarlyStopping()
    scores = {name: objective(50.0, [cost], [2.0]) for name, cost in (("a", 60.0), ("b", 9.0), ("c", 30.0))}
    said = {name: asha.judge(name, "g", 0.1, lambda _, v=value: v) for name, value in scores.items()}
    assert [name for name, reason in said.items() if reason is None] == ["a", "b"], "a had nobody to compare with"


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ray", "ray.tune", "ray.tune.schedulers"):
        monkeypatch.setitem(sys.modules, name, None)
    for use in (EarlyStopping, lambda: draw({"a": {"uniform": [0, 1]}}, 1, 0)):
        with pytest.raises(ImportError, match=r"sweeps need Ray .*: pip install 'prudence-rl\[sweep\]'"):
            use()
