"""The command as a user types it: what it prints, and its exit status."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from prudence.cli.api import configure, default_directory
from prudence.cli.main import main
from prudence.envs.registry import SUITES, task_ids
from prudence.run_config import RunConfig
from prudence.runs.config import read_config
from prudence.systems import SYSTEMS

TRAIN = ["train", "safedreamer-bsrp-lag", "--task", "probe/cost", "--preset", "debug", "--steps", "48"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status(*arguments: str) -> int:
    """The exit status, however the command ends."""
    try:
        return main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


def test_train_evaluate_plot(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*TRAIN, "--cost-limit", "3", "--agent.horizon", "4") == 0
    run = Path("runs/safedreamer-bsrp-lag-probe-cost-0")
    config = read_config(run / "config.json", RunConfig)
    assert (config.agent.budget.limit, config.agent.horizon, config.loop.steps) == (3.0, 4, 48)
    assert f"next: prudence evaluate {run}" in capsys.readouterr().err
    assert status("evaluate", str(run), "--episodes", "2", "--task", "probe/cost") == 0
    said = capsys.readouterr().out
    assert "2 episodes on seeds apart from training's" in said
    assert "budget 3: " in said
    assert status("evaluate", str(run), "--episodes", "2", "--explore") == 0
    assert "acting as in training" in capsys.readouterr().out
    assert status("evaluate", str(run), "--until-decided", "--max-episodes", "20", "--out", "decided") == 0
    said = capsys.readouterr()
    assert "budget 3: mean " in said.err, "after every look"
    assert re.search(r"budget 3: mean \S+ after 20 episodes, (shown to be|not decided)", said.out)
    assert "a verdict is wrong in at most 5 % of such evaluations" in said.out
    assert "Evaluated until decided, looking after 20 episodes" in (here / "decided/report.html").read_text()
    for options, code, message in (
        (["--max-episodes", "19"], 1, "at most 19 episodes are too few to decide anything: allow at least 20"),
        (["--episodes", "30"], 2, "--until-decided chooses the number of episodes: give --max-episodes"),
        (["--deadline", "50"], 1, "leave --until-decided out and give --episodes"),
    ):
        assert status("evaluate", str(run), "--until-decided", *options) == code
        assert message in capsys.readouterr().err
    assert status("evaluate", str(run), "--max-episodes", "30") == 2
    assert "--max-episodes goes with --until-decided" in capsys.readouterr().err
    assert status("inspect", str(run), "--context", "4", "--ahead", "4", "--sequences", "2", "--episodes", "2") == 0
    said = capsys.readouterr().out
    for words in ("cost, correlation", "of the decision 2 ahead", "costly events in 100 episodes", "state"):
        assert words in said
    for name in ("foresight", "entries", "calibration", "episodes"):
        assert str(run / f"{name}.png") in said.replace("\n", "")
        assert (run / f"{name}.png").stat().st_size > 0
    assert "Costly events" in (run / "report.html").read_text()
    assert json.loads((run / "inspection.json").read_text())["episodes"]["episodes"] == 2
    assert status("inspect", str(run), "--context", "0") == 1
    assert "context=0 and ahead=45 must be at least 1, and episodes=20 at least 0" in capsys.readouterr().err
    assert status("inspect", str(run), "--context", "40", "--ahead", "40") == 1
    assert "holds no 80 consecutive steps" in capsys.readouterr().err
    assert status("record", str(run), "--out", "kept", "--note", "tiny") == 0
    kept = json.loads((here / "kept" / "result.json").read_text())
    assert kept["note"] == "tiny"
    [entry] = kept["runs"]
    assert (entry["raw_steps"], len(entry["evaluation"]["returns"])) == (48, 2)
    assert len(entry["provenance"]) == 1
    assert (here / "kept" / "curve.png").stat().st_size > 0
    assert (here / "kept/policies/seed-0/policy").is_dir()
    for source in (str(run), "kept"):
        assert status("compare", source, "--out", f"of-{Path(source).name}", "--budget", "5") == 0
        said = capsys.readouterr().out
        assert "cost (budget 5)" in said
        assert said.endswith("comparison.png\n")
    tables = [Path(f"of-{name}/comparison.md").read_text().splitlines()[2:5] for name in (run.name, "kept")]
    assert tables[0] == tables[1]
    assert "| safedreamer-bsrp-lag | 1 | 48 |" in tables[0][2]
    assert status("compare", str(run), "kept", "--out", "both") == 1
    assert "hold the same run, of seed 0: name it once" in capsys.readouterr().err
    (run / "evaluation.json").unlink()
    capsys.readouterr()
    assert status("record", str(run), "--out", "kept") == 1
    assert f"run `prudence evaluate {run.absolute()}` first" in capsys.readouterr().err
    assert status("plot", str(run)) == 0
    assert capsys.readouterr().out.strip() == str(run / "curve.png")
    assert status("plot", str(run), str(run), "--out", "both.png") == 0
    assert Path("both.png").stat().st_size > 0

    assert status(*TRAIN, "--cost-limit", "4", "--agent.horizon", "4") == 1
    assert "agent.budget.limit: 3.0 there, 4.0 now" in capsys.readouterr().err
    assert status(*TRAIN, "--cost-limit", "3", "--agent.horizon", "4") == 0
    assert "has its 48 steps already" in capsys.readouterr().err


def test_a_run_too_short_for_a_curve_succeeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*TRAIN[:-1], "8", "--loop.prefill", "2") == 0
    assert "no learning curve: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["frobnicate"], 2, "there is no command 'frobnicate'"),
        (["train"], 2, "Missing from prudence train"),
        (["train", "dreamer"], 2, "safedreamer-bsrp-lag"),
        (["train", "dreamerv3", "--preset", "huge"], 2, "debug"),
        (["train", "dreamerv3", "--frob", "3"], 2, "--frob"),
        (["train", "dreamerv3", "--task", "probe/costs"], 1, "Did you mean probe/cost"),
        (["train", "dreamerv3", "--task", "CartPole-v1", "--preset", "debug"], 1, "reports no cost"),
        (["train", "dreamerv3", "--obs", "sonar"], 1, "choose from lidar, coordinates, vision"),
        (["train", "dreamerv3", "--task", "probe/cost", "--obs", "vision"], 1, "observations of its own"),
        (["train", "dreamerv3", "--task", "probe/cost", "--env.nearest-first"], 1, "no setting 'nearest_first', which"),
        (["train", "dreamerv3", "--env.image-size", "3"], 1, "image_size=3 must be at least 8"),
        (
            ["train", "dreamerv3", "--env.kwargs", "payload=2"],
            1,
            "kwargs give its constructor payload, and it takes none",
        ),
        (["train", "dreamerv3", "--task", "my:Arm", "--env.kwargs", "[1]"], 2, "[1] is a JSON list, not an object"),
        ([*TRAIN, "--cost-limit", "1", "2"], 1, "names 2 budgets, but the environment reports 1"),
        (["evaluate", "nowhere"], 1, "nowhere holds no run"),
        (["evaluate", "nowhere", "--frob"], 2, "unknown arguments: --frob"),
        (["plot"], 2, "at least one run"),
        (["compare", "--out", "x"], 2, "at least one run or record"),
        (["compare", "nowhere", "--out", "x"], 1, "nowhere holds neither a run (config.json) nor a record"),
        (["plot", "nowhere"], 1, "does not exist"),
    ],
)
def test_mistakes_are_named(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*arguments) == code
    said = capsys.readouterr()
    assert message in said.err + said.out
    assert "Traceback" not in said.err
    if code == 1:
        assert said.err.startswith(f"prudence {arguments[0]}: ") or "\nprudence train: " in said.err


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("list") == 0
    said = capsys.readouterr().out
    assert [name for name in SYSTEMS if name not in said] == []
    for suite in SUITES:
        assert f"{suite.name}: {len(suite.tasks)} tasks, such as {suite.example}" in said
        assert [name for name in (*suite.robots, *suite.observations) if name not in said] == []
    assert status("list", "--tasks") == 0
    assert capsys.readouterr().out.split() == task_ids()


def test_help_shows_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert status() == 0
    assert "prudence train safedreamer-bsrp-lag --task SafetyPointGoal1-v0" in capsys.readouterr().out
    assert status(*TRAIN, "--settings") == 0
    said = capsys.readouterr().out
    for setting in (
        "--agent.horizon",
        "--agent.constraint.multiplier-init",
        "--loop.updates-per-decision",
        "--env.costs",
    ):
        assert setting in said
    assert "lidar" not in said, "its suite has no such options"
    assert not Path("runs").exists()


def test_explicit_choices_win_over_the_preset() -> None:
    config = configure("dreamerv3", "SafetyPointGoal1-v0", obs=("lidar",), preset_name="cpu", steps=7, seed=3)
    assert (config.loop.steps, config.seed, config.env.action_repeat) == (7, 3, 5)
    assert configure("dreamerv3", "SafetyPointGoal1-v0", action_repeat=2).env.action_repeat == 2
    # A Bernoulli head's cost of a decision is at most one a raw step.
    other = configure("lambda", "SafetyPointGoal1-v0", action_repeat=2)
    assert other.agent.world_model.cost.bernoulli_scale == other.env.action_repeat == 2
    assert default_directory(config) == Path("runs/dreamerv3-SafetyPointGoal1-v0-lidar-3")
    flying = configure("dreamerv3", "SafetyQuadrotorGoal1-v0", obs=("vision", "lidar"))
    assert default_directory(flying) == Path("runs/dreamerv3-SafetyQuadrotorGoal1-v0-vision-lidar-0")
    assert default_directory(configure("dreamerv3", "my.module:Class")) == Path("runs/dreamerv3-my.module-Class-0")


def test_a_list_of_budgets_is_as_good_as_a_tuple():
    config = configure("ppo-lag", "probe/cost", preset_name="debug", cost_limit=[1.0, 2.0])
    assert config.agent.budget.limit == (1.0, 2.0)
