"""The state of a trial, read from its run directory."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from prudence.sweeps.place import Place, Planned, Status, Watch, read_outcome, write_outcome
from prudence.sweeps.trial import Trial

PLANNED = Planned(Trial("ppo-lag", "probe/cost"), length=100, budgets=(2.0,))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def add_metrics(place: Place, *rows: dict[str, Any]) -> None:
    path = place.run(PLANNED.trial).metrics
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def episode(step: int, reward: float, cost: float) -> dict[str, float]:
    return {"step": step, "episode/return": reward, "episode/cost": cost}


def finish(place: Place) -> None:
    """As training and evaluation leave it: a checkpoint of all steps, then an evaluation."""
    run = place.run(PLANNED.trial)
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "000000000100.ckpt").touch()
    found = {"returns": [4.0, 6.0], "costs": [[1.0], [2.0]], "cost_names": ["cost"], "budgets": [2.0]}
    run.evaluation.write_text(json.dumps(found))


def test_a_trial_waits_runs_and_is_done(place: Place) -> None:
    watch = Watch(place)
    assert watch.status(PLANNED) == Status(PLANNED, "waiting")
    add_metrics(place, episode(20, 1.0, 4.0), episode(40, 3.0, 2.0))
    assert watch.status(PLANNED, running=True) == Status(PLANNED, "running", 40, 2.0, (3.0,))
    assert watch.status(PLANNED).share == 0.4
    finish(place)
    assert watch.status(PLANNED, running=True).state == "running"
    done = watch.status(PLANNED)
    assert (done.state, done.step, done.episode_return, done.costs) == ("done", 100, 5.0, (1.5,))
    assert done.reason.startswith("budget 2: mean 1.5")


def test_an_evaluation_of_an_earlier_policy_does_not_count(place: Place) -> None:
    """The run was extended since, or restarted."""
    finish(place)
    os.utime(place.run(PLANNED.trial).evaluation, (0, 0))
    assert Watch(place).status(PLANNED).state == "waiting"
    longer = Planned(PLANNED.trial, length=200)
    os.utime(place.run(PLANNED.trial).evaluation)
    assert Watch(place).status(longer).state == "waiting"


def test_an_outcome_ends_a_trial(place: Place) -> None:
    add_metrics(place, episode(20, 1.0, 4.0))
    write_outcome(place.outcome(PLANNED.trial), "failed", "the loss is not finite")
    assert Watch(place).status(PLANNED) == Status(PLANNED, "failed", 20, 1.0, (4.0,), "the loss is not finite")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"state": "failed"}', "\x00"])
def test_an_outcome_that_cannot_be_read_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    assert read_outcome(tmp_path / "x.json") is None


def test_the_score_at_a_share_is_of_the_last_episodes_by_then(place: Place) -> None:
    """25 episodes of return 0 to 24, one every 2 steps from step 2 on. By step 50 those of 5 to 24 are the last 20, of
    mean 14.5; by step 10 there are 5, with mean 2. The cost of 1 is within the budget of 2."""
    assert Watch(place).score(PLANNED, 0.1) is None
    add_metrics(place, *(episode(2 * (number + 1), float(number), 1.0) for number in range(25)))
    watch = Watch(place)
    assert watch.score(PLANNED, 0.01) is None
    assert watch.score(PLANNED, 0.1) == 2.0
    assert watch.score(PLANNED, 0.5) == 14.5
    add_metrics(place, *(episode(100, 0.0, 9.0) for _ in range(20)))
    assert watch.score(PLANNED, 1.0) == -1e9 - 7.0, "a file that has changed is read again"


def test_several_costs_are_in_the_order_of_the_budgets(place: Place) -> None:
    """Which is the order of the environment's constraints, and of the metrics of an episode."""
    costs = {"episode/cost": 3.0, "episode/cost_speed": 1.0, "episode/cost_crash": 2.0}
    add_metrics(place, {"step": 10, "episode/return": 1.0, **costs})
    assert Watch(place).status(PLANNED).costs == (1.0, 2.0)
