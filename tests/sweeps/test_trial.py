"""Names and commands of trials."""

from __future__ import annotations

from pathlib import Path

from prudence.sweeps.trial import Trial

GOAL = Trial("ppo-lag", "SafetyPointGoal1-v0", obs=("lidar",), budget=(25.0,), seed=3)


def test_a_name_has_every_choice() -> None:
    assert GOAL.name == "ppo-lag-SafetyPointGoal1-v0-lidar-budget-25-seed-3"
    both = Trial("ppo", "probe/cost", budget=(2.0, 0.5), settings=(("agent.a", (8, 8)), ("agent.b", 1e-4)))
    assert both.name == "ppo-probe-cost-budget-2-0.5-agent.a-8-8-agent.b-0.0001-seed-0"


def test_long_names_stay_apart_and_short() -> None:
    """They differ only beyond the length that a name may have."""
    first, second = (Trial("ppo", "probe/cost", settings=((f"agent.{'x' * 120}", value),)) for value in (1, 2))
    assert first.name != second.name
    assert len(first.name) == 100
    assert first.name == Trial("ppo", "probe/cost", settings=((f"agent.{'x' * 120}", 1),)).name, "stable"


def test_a_name_never_leaves_its_directory() -> None:
    assert "/" not in Trial("ppo", "../../x:Y", settings=(("env.kwargs", "../z"),)).name


def test_the_command_is_what_a_person_would_type() -> None:
    assert GOAL.train(Path("out")) == [
        *("train", "ppo-lag", "--task", "SafetyPointGoal1-v0", "--preset", "cpu", "--obs", "lidar"),
        *("--cost-limit", "25", "--seed", "3", "--out", "out"),
    ]
    plain = Trial("ppo", "probe/cost", "debug", steps=48, settings=(("agent.some_name", 0.5), ("env.on", True)))
    assert plain.train(Path("out")) == [
        *("train", "ppo", "--task", "probe/cost", "--preset", "debug", "--steps", "48", "--seed", "0", "--out", "out"),
        *("--agent.some-name", "0.5", "--env.on"),
    ]
    assert plain.evaluate(Path("out"), 7) == ["evaluate", "out", "--episodes", "7", "--task", "probe/cost"]
