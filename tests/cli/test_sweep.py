"""`prudence sweep` before anything is trained: what it plans, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from prudence.cli.main import main
from prudence.sweeps.definition import read_definition, write_definition

SWEEP = ["sweep", "--agents", "ppo-lag", "--tasks", "probe/cost", "--preset", "debug"]
FILE = """
agents = ["ppo", { name = "ppo-lag", budgets = [2, 25] }]
tasks = "probe/cost"
preset = "debug"
"""
NAME = "ppo-lag-probe-cost-agent.discount-0.9-seed-0"


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


def test_a_dry_run_prints_what_would_be_done(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(FILE)
    assert status("sweep", "mine.toml", "--dry-run", "--jobs", "3", "--cores-per-trial", "2", "--steps", "80") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "ppo-probe-cost-seed-0  (80 steps)"
    assert said[3:6] == [
        "ppo-lag-probe-cost-budget-2-seed-0  (80 steps)",
        "  prudence train ppo-lag --task probe/cost --preset debug --cost-limit 2 --steps 80 --seed 0 --out "
        "runs/mine/trials/ppo-lag-probe-cost-budget-2-seed-0",
        "  prudence evaluate runs/mine/trials/ppo-lag-probe-cost-budget-2-seed-0 --episodes 20 --task probe/cost",
    ]
    assert said[-1] == ("3 trials, 240 steps; 2 cores and 0 GPUs each; 3 at a time on this machine, 6 of its cores")
    assert sorted(path.name for path in here.iterdir()) == ["mine.toml"], "nothing is written"


def test_settings_have_one_value_or_several(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*SWEEP, "--settings", "agent.discount=[0.9, 0.95]", "agent.cnn-depth=4", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "2 trials, 800 steps" in said
    assert "--agent.discount 0.95 --agent.cnn-depth 4" in said


def test_flags_win_over_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(f"{FILE}\nseeds = [0, 1]\n[settings]\nagent.discount = 0.9")
    assert (
        status("sweep", "mine.toml", "--agents", "ppo", "--settings", "agent.discount=0.5", "--seeds", "7", "--dry-run")
        == 0
    )
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "ppo-probe-cost-agent.discount-0.5-seed-7  (400 steps)"
    assert said[-1].startswith("1 trials, ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep"], "agents are missing"),
        (["sweep", "none.toml"], "none.toml"),
        ([*SWEEP, "--agents", "dreamer"], "agents: 'dreamer' is none that there is"),
        ([*SWEEP, "--tasks", "nothing:There"], "ppo-lag-nothing-There-seed-0: "),
        ([*SWEEP, "--obs", "lidar"], "ppo-lag-probe-cost-lidar-seed-0: "),
        (
            [*SWEEP, "--settings", "agent.discount=7"],
            "the settings of ppo-lag-probe-cost-agent.discount-7-seed-0 are refused",
        ),
        (
            [*SWEEP, "--settings", "agent.horizon=7"],
            "the settings of ppo-lag-probe-cost-agent.horizon-7-seed-0 are refused",
        ),
        ([*SWEEP, "--settings", "agent.discount"], "'agent.discount' is not NAME=VALUE"),
        ([*SWEEP, "--frob"], "unknown arguments: --frob"),
        ([*SWEEP, "--settings", "loop.decisions-per-iteration=41"], "must be a multiple of num_envs=2"),
        ([*SWEEP, "--settings", "loop.steps=8"], "settings: loop.steps is set by the key steps"),
        ([*SWEEP, "--cores-per-trial", "0"], "--cores-per-trial must be at least 1"),
        ([*SWEEP, "--gpus-per-trial", "-1"], "--gpus-per-trial must be at least 0"),
        ([*SWEEP, "--jobs", "0"], "--jobs must be at least 1"),
    ],
)
def test_what_is_wrong_is_said_before_anything_begins(
    here: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*arguments) in (1, 2)
    assert message in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_another_sweep_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text(FILE)
    Path("runs/mine").mkdir(parents=True)
    there = {**read_definition(Path("mine.toml")), "seeds": [1]}
    Path("runs/mine/sweep.toml").write_text(write_definition(there))
    assert status("sweep", "mine.toml") == 2
    said = capsys.readouterr().err
    assert "runs/mine has another sweep:\n  seeds: [1] there, nothing now\n" in said
    assert "give --change" in said
    assert status("sweep", "--out", "runs/mine", "--dry-run") == 0
    assert "seed-1" in capsys.readouterr().out, "the sweep that is there"


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert status(*SWEEP) == 1
    assert "pip install 'prudence-rl[sweep]'" in capsys.readouterr().err
    assert status(*SWEEP, "--dry-run") == 0
