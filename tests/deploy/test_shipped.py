"""A policy kept with a record acts as its run does, and is nothing more than a policy."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import toys
from helpers import run_config

import prudence
from prudence.cli.main import main
from prudence.cli.present import evaluate_run
from prudence.data.spaces import spaces_to_json
from prudence.deploy.policy import load_run
from prudence.deploy.shipped import acting_parts, find_policy, load_acting
from prudence.envs.vector import make_vector
from prudence.evidence.record import record
from prudence.inspection.inspect import inspect_run
from prudence.runs import checkpoint
from prudence.runs.checkpoint import CheckpointMismatch
from prudence.runs.config import write_config
from prudence.runs.directory import RunDirectory, RunDirectoryError
from prudence.systems import find_system
from prudence.training.learning.online import spaces_of

RESULTS = Path(__file__).parent.parent.parent / "results"
# The first policy of each record: its others have the same form.
SHIPPED = [min(path.iterdir()) for path in sorted(RESULTS.glob("*/policies"))]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def untrained(path: Path, agent: str = "safedreamer-bsrp-lag", seed: int = 0, episodes: int = 12) -> Path:
    """An evaluated run, whose weights are not those that ``load_acting`` fills up with."""
    config = run_config("probe/cost", agent=agent, seed=seed)
    envs = make_vector(config.env, 1, seed=0)
    spaces = spaces_of(envs)
    envs.close()
    made = find_system(agent).agent(spaces, config.agent)
    state = (made.init(key=jax.random.key(seed + 1)), made.init_carry(config.loop.num_envs))
    path.mkdir()
    write_config(path / "config.json", config)
    (path / "provenance.json").write_text("[]")
    meta = {"task": "probe/cost", "agent": agent, "spaces": spaces_to_json(spaces)}
    checkpoint.save(path / "checkpoints", 40, state, meta)
    evaluate_run(path, episodes=episodes)
    return path


def paths(state: object) -> set[str]:
    """Of the arrays that are not scalars."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path) for path, leaf in leaves if np.ndim(leaf)}


@pytest.mark.parametrize(
    "agent",
    [
        "ppo-lag",
        "safedreamer-bsrp-lag",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("safedreamer-osrp-lag", "lambda")),
    ],
)
def test_evaluating_a_record_repeats_its_run(here: Path, agent: str) -> None:
    run = untrained(here / "run", agent)
    recorded = (run / "evaluation.json").read_bytes()
    policy = here / "kept/policies/seed-0"
    assert record([run], here / "kept") == (here / "kept/result.json", policy)
    evaluate_run(here / "kept", episodes=12)
    assert Path("runs/kept-seed-0-evaluation/evaluation.json").read_bytes() == recorded
    assert (policy / "evaluation.json").read_bytes() == recorded
    assert sorted(path.name for path in policy.iterdir()) == [
        "config.json",
        "evaluation.json",
        "policy",
        "provenance.json",
    ]
    with pytest.raises(ValueError, match="keeps what is evaluated, not the networks that training explored with"):
        evaluate_run(policy, episodes=1, mode="train")
    assert load_run(policy)[3] == 40


def test_it_holds_what_acting_reads_and_no_more() -> None:
    def kept(name: str) -> set[str]:
        config = run_config("probe/cost", agent=name).agent
        if config.planning is not None:  # A fresh state, into which a checkpoint is read, does not plan yet.
            config = replace(config, planning=replace(config.planning, start=5))
        agent = find_system(name).agent(toys.spaces(), config)
        return paths(acting_parts(agent, agent.init(key=jax.random.key(0))))

    policy = kept("safedreamer-bsrp-lag")
    # The average of the actor acts, not the actor.
    assert {re.split(r"[.\[]", path)[1] for path in policy} == {"world_model", "average"}
    assert any("encoder" in path for path in policy)
    assert not any(part in path for path in policy for part in ("decoder", "head", "prior", "optim"))
    # One that plans judges plans with heads and critics, and its film needs the decoder.
    planner = kept("safedreamer-osrp-lag")
    assert {re.split(r"[.\[]", path)[1] for path in planner} >= {"average", "price"}
    assert all(any(part in path for path in planner) for part in ("decoder", "cost_head", "prior"))
    assert not any("optim" in path for path in planner)


@pytest.mark.slow
def test_the_plans_of_a_record_can_be_filmed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record([untrained(here / "run", "safedreamer-osrp-lag", episodes=10)], "kept")
    assert main(["evaluate", "kept", "--episodes", "10", "--show-plan", "--video", "--out", "seen"]) == 0
    said = capsys.readouterr()
    assert "repeats the recorded evaluation: 10 of 10 common episodes are the same" in said.out
    assert f"report: {Path('seen').absolute()}/report.html" in said.out
    for name in ("plan.png", "videos/plan.mp4", "videos/evaluation.mp4", "report.html"):
        assert Path("seen", name).stat().st_size > 0
    # Other episodes: of another seed, none; of another number, those that are common.
    assert main(["evaluate", "kept", "--episodes", "1", "--out", "seen"]) == 0
    assert "recorded" not in capsys.readouterr().out
    recorded = json.loads((path := Path("kept/policies/seed-0/evaluation.json")).read_text())
    recorded["returns"][3] += 1
    path.write_text(json.dumps(recorded))
    assert main(["evaluate", "kept", "--episodes", "11", "--out", "seen"]) == 0
    assert "differs from the recorded evaluation in 1 of 10 common episodes" in capsys.readouterr().out


def test_one_of_several_policies_is_chosen(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [untrained(here / f"run{seed}", "ppo-lag", seed) for seed in (3, 1)]
    record(runs, "kept")
    assert find_policy(Path("kept"))[1] == ("seed-1", "seed-3")
    assert main(["evaluate", "kept", "--episodes", "12"]) == 0
    said = capsys.readouterr()
    assert "policy seed-1 of kept; others: seed-3 (--policy)" in said.err
    assert "repeats the recorded evaluation" in said.out
    assert f"report: {Path('runs/kept-seed-1-evaluation/report.html').absolute()}" in said.out
    assert main(["evaluate", "kept", "--episodes", "12", "--policy", "3"]) == 0
    assert f"report: {Path('runs/kept-seed-3-evaluation').absolute()}" in capsys.readouterr().out
    seen = np.full(load_run("kept")[1].spaces.observations["state"].shape, 0.5, np.float32)
    np.testing.assert_array_equal(prudence.load_policy("kept")(seen), prudence.load_policy(runs[1])(seen))
    named = prudence.load_policy("kept/policies/seed-3")
    np.testing.assert_array_equal(named(seen), prudence.load_policy(runs[0])(seen))
    for arguments, message in (
        (["kept", "--policy", "2"], "kept has no policy '2': choose from seed-1, seed-3"),
        (["run1", "--policy", "1"], "run1 is not a record, so it has no policy '1': omit --policy"),
        (["kept", "--out", "run1"], "run1 holds a run, whose evaluation would be lost: name another --out"),
        (["kept", "--out", "kept"], "kept holds a record, whose evaluation would be lost"),
        (["kept", "--out", "kept/policies/seed-3"], "holds a policy, whose evaluation would be lost"),
    ):
        assert main(["evaluate", *arguments, "--episodes", "1"]) == 1
        assert message in capsys.readouterr().err
    record(runs[:1], "kept")
    assert find_policy(Path("kept"))[1] == ("seed-3",), "those of the record before are gone"


def test_a_policy_is_exported_and_not_trained_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record([untrained(here / "run", "ppo-lag", episodes=1)], "kept")
    before = {path: path.read_bytes() for path in Path("kept").rglob("*") if path.is_file()}
    assert main(["export", "kept"]) == 0
    assert "runs/kept-seed-0-evaluation/policy.zip: " in capsys.readouterr().out
    assert main(["inspect", "kept"]) == 1
    assert (
        "is a recorded policy. It has only the weights that act in evaluation: name the run itself"
        in capsys.readouterr().err
    )
    train = ["train", "ppo-lag", "--task", "probe/cost", "--preset", "debug", "--steps", "128"]
    policy = "holds a policy, without optimiser and replay, so training cannot continue there"
    for arguments, message in (
        (["--out", "kept/policies/seed-0"], policy),
        (["--out", "new", "--start-from", "kept/policies/seed-0"], policy),
        (["--out", "new", "--start-from", "kept"], "kept holds a record of runs, so training cannot continue there"),
    ):
        assert main([*train, *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not Path("new").exists()
    with pytest.raises(RunDirectoryError, match="is a policy of a record, not a run"):
        record(["kept/policies/seed-0"], "again")
    assert {path: path.read_bytes() for path in Path("kept").rglob("*") if path.is_file()} == before


def test_policies_are_small_or_are_left_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    untrained(here / "run", "ppo-lag", episodes=1)
    command = ["record", "run", "--out", "kept"]
    assert main([*command, "--policy-limit", "0.001"]) == 1
    said = capsys.readouterr().err
    named = f"the policy of {here / 'run'}"
    assert f"{named} takes 0.0 MB, more than 0.001: give --policy-limit 0.1 to keep it anyway" in said
    assert list(Path("kept").iterdir()) == []
    assert main([*command, "--no-policies"]) == 0
    assert not Path("kept/policies").exists()
    assert main(["evaluate", "kept"]) == 1
    assert "kept is a record without policies: evaluate a run, or record its runs again" in capsys.readouterr().err


def test_what_acting_lacks_is_not_made_up(here: Path) -> None:
    record([untrained(here / "run", "ppo-lag", episodes=1)], "kept")
    config, agent, state, _ = load_run("kept")
    run = RunDirectory(Path("kept/policies/seed-0"))
    about = checkpoint.read_meta(run.policy)
    shutil.rmtree(run.policy)
    partial = acting_parts(agent, state)
    first = next(path for path, leaf in jax.tree_util.tree_leaves_with_path(partial) if np.ndim(leaf))
    drop = lambda path, leaf: None if path == first else leaf
    checkpoint.save(run.policy, 40, (jax.tree_util.tree_map_with_path(drop, partial), None), about)
    with pytest.raises(CheckpointMismatch, match=r"lacks what acting reads: \[0\]\.actor.*record its run again"):
        load_acting(run.policy, agent, {"task": config.env.task, "spaces": agent.spaces})


def test_a_run_that_learned_otherwise_acts_as_it_did(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As where another version had optimiser states of another form."""
    run = untrained(here / "run", "ppo-lag")
    recorded = (run / "evaluation.json").read_bytes()
    _, agent, state, _ = load_run(run, parts="all")
    about = checkpoint.read_meta(run / "checkpoints")
    checkpoint.save(run / "checkpoints", 41, (acting_parts(agent, state), None), about)
    (run / "evaluation.json").unlink()
    evaluate_run(run, episodes=12)
    assert (run / "evaluation.json").read_bytes() == recorded
    assert "saved by another version of prudence: it acts as it did, but cannot be trained or inspected" in caplog.text
    with pytest.raises(CheckpointMismatch, match=r"optim.*not in the checkpoint"):
        load_run(run, parts="all")


def test_a_recorded_policy_has_no_model_to_inspect(here: Path) -> None:
    """Not on other data either: its decoder would be one that has learned nothing."""
    run = untrained(here / "run", "safedreamer-bsrp-lag", episodes=1)
    record([run], "kept")
    with pytest.raises(RunDirectoryError, match="has only the weights that act in evaluation: name the run itself"):
        inspect_run("kept", key=jax.random.key(0), data=run)


@pytest.mark.parametrize(
    "policy",
    [*SHIPPED[:1], *(pytest.param(path, marks=pytest.mark.slow) for path in SHIPPED[1:])] or ["made here"],
    ids=lambda path: "/".join(Path(path).parts[-3::2]),
)
def test_shipped_policies_can_be_evaluated(policy: Path | str, here: Path) -> None:
    """The first of every record that has policies; where none has, of one that is made now."""
    if not SHIPPED:
        record([untrained(here / "run", "ppo-lag", episodes=1)], "kept")
        policy = here / "kept/policies/seed-0"
    elif "Safety" in (Path(policy) / "config.json").read_text():
        pytest.importorskip("mujoco")
    assert main(["evaluate", str(policy), "--episodes", "2", "--out", "seen"]) == 0
    assert len(json.loads(Path("seen/evaluation.json").read_text())["returns"]) == 2
