"""The loop: what it counts, what it may not touch, and that an interruption changes nothing."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import jax
import numpy as np
import pytest
from envs import custom
from faulty import Registrar
from helpers import PlainAgent, assert_same_run, content, history, run_config, train_in_pieces

from prudence.cli.api import configure
from prudence.cores.dreamer.dreamer import Dreamer
from prudence.deploy.policy import load_run
from prudence.envs.base import EnvError
from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.checkpoint import CheckpointMismatch
from prudence.runs.config import ConfigError, read_config
from prudence.runs.metrics import Logger, read_metrics
from prudence.training.collect import random_actions
from prudence.training.trainer import Trainer, TrainingDiverged, _on_signals, train
from prudence.types import ActionSpec, Spaces


class Killed(BaseException):
    """Ends a process without giving it a chance to save."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing interrupted; it is left as it is."""
    return train(run_config(), tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains an agent without networks, which is enough where the loop is what is tested."""
    monkeypatch.setattr(RunConfig, "make_agent", lambda config, spaces: PlainAgent(spaces))


def after(monkeypatch: pytest.MonkeyPatch, steps: int, react: Any) -> None:
    """Calls ``react`` once, at the end of the first iteration beyond ``steps``."""
    original = Trainer._after_iteration
    done = []

    def patched(self: Trainer, *arguments: Any) -> None:
        original(self, *arguments)
        if self.now >= steps and not done:
            done.append(self.now)
            react()

    monkeypatch.setattr(Trainer, "_after_iteration", patched)


def kill() -> None:
    raise Killed


# ---- resuming ------------------------------------------------------------------------------------------------------


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """Stopped before the first update, in the middle of episodes, and at their ends."""
    config = run_config(evaluate_every=80)
    whole = train(config, tmp_path / "whole")
    assert_same_run(whole, train_in_pieces(config, tmp_path / "pieces", 24, 96, 168, 240))
    assert {"constraint/multiplier", "model/loss", "evaluation/return_mean", "episode/cost"} <= {
        name for row in history(whole) for name in row
    }


def test_death_between_checkpoints_changes_nothing(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config()
    for steps in (64, 136):
        with monkeypatch.context() as patch:
            after(patch, steps, kill)
            with pytest.raises(Killed):
                train(config, tmp_path / "killed")
    assert_same_run(whole, train(config, tmp_path / "killed"))


def test_a_truncated_checkpoint_is_passed_over(tmp_path: Path, whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = run_config()
    pieces = train_in_pieces(config, tmp_path / "pieces", 160)
    newest = checkpoint.latest(pieces / "checkpoints")
    assert newest is not None
    os.truncate(newest, newest.stat().st_size // 2)
    with caplog.at_level(logging.WARNING):
        train(config, pieces)
    assert f"{newest.name} is damaged" in caplog.text
    assert_same_run(whole, pieces)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    config, previous = run_config(checkpoint_every=0), signal.getsignal(number)
    after(monkeypatch, 72, lambda: os.kill(os.getpid(), number))
    run = train(config, tmp_path / "stopped")
    assert content(run)["manifest"]["step"] in (72, 80)  # The handler runs when the interpreter comes to it.
    assert signal.getsignal(number) is previous
    monkeypatch.undo()
    assert_same_run(train(config, tmp_path / "whole"), train(config, run))


@pytest.mark.slow
def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    here = train(run_config("probe/policy", steps=160), tmp_path / "here")
    elsewhere = train_in_pieces(run_config("probe/policy", steps=160, workers=2), tmp_path / "elsewhere", 88, 160)
    assert_same_run(here, elsewhere)


@pytest.mark.slow
def test_safety_gymnasium_resumes_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    config = run_config("SafetyPointGoal1-v0", steps=320, evaluate_every=0)
    config = replace(config, env=replace(config.env, time_limit=60))
    whole = train(config, tmp_path / "whole")
    assert_same_run(whole, train_in_pieces(config, tmp_path / "pieces", 48, 200, 320))


def test_an_environment_that_cannot_be_brought_back_begins_anew(
    tmp_path: Path, plain: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Its observations differ every time. Stopped 3 steps into an episode of 5: the episode is given up, not mixed."""
    config = run_config("envs.custom:Restless", steps=100, num_envs=1, decisions_per_iteration=3, evaluate_every=0)
    with caplog.at_level(logging.WARNING):
        run = train_in_pieces(config, tmp_path / "run", 3, 9)
    assert "is not deterministic" in caplog.text
    episodes = [row for row in history(run) if "episode/length" in row]
    # The second process: row 0 opens the episode, which ends at its fifth decision, step 3 + 5.
    assert [(row["step"], row["episode/length"], row["episode/cost"]) for row in episodes] == [(9, 5, 3)]
    # No window spans the first process's rows and the second's.
    assert content(run)["manifest"]["meta"]["replay"]["spans"] == [[0, 4], [5, 12]]


# ---- starting from another run ---------------------------------------------------------------------------------------


def test_a_copy_goes_on_as_the_run_would_have(tmp_path: Path, whole: Path) -> None:
    config = run_config()
    first = train_in_pieces(config, tmp_path / "first", 160)
    copy = train(config, tmp_path / "copy", start_from=first)
    assert_same_run(whole, copy)
    assert content(first)["manifest"]["step"] == 160
    assert len(json.loads((copy / "provenance.json").read_text())) == 2
    assert_same_run(train(config, first), copy)


@pytest.mark.slow
def test_a_planner_starts_from_a_run_of_the_policy(tmp_path: Path) -> None:
    first = train_in_pieces(run_config(), tmp_path / "first", 160)
    planner = run_config(agent="safedreamer-osrp-lag")
    _, _, state, _ = load_run(train(planner, tmp_path / "planner", start_from=first))
    assert int(state.step) > 0
    assert state.price is not None
    assert read_metrics(first / "metrics.jsonl")[0] == read_metrics(tmp_path / "planner" / "metrics.jsonl")[0]


def test_what_a_run_cannot_start_from_is_refused(tmp_path: Path, plain: None) -> None:
    with pytest.raises(ConfigError, match="no run with a checkpoint"):
        train(run_config(steps=16), tmp_path / "run", start_from=tmp_path / "nothing")
    first = train(run_config(steps=16), tmp_path / "first")
    with pytest.raises(ConfigError, match=r"must have the same env, loop\.num_envs"):
        train(run_config("probe/value", steps=16, num_envs=4), tmp_path / "run", start_from=first)


# ---- beginning anew --------------------------------------------------------------------------------------------------


def test_a_run_that_lost_its_checkpoints_is_refused_and_restarts_when_told(
    tmp_path: Path, plain: None, whole_plain: tuple[RunConfig, Path]
) -> None:
    config, whole = whole_plain
    run = train(config, tmp_path / "run")
    (run / "checkpoints").rename(tmp_path / "away")
    kept = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file() and path.name != ".lock"}
    with pytest.raises(ConfigError, match=r"metrics up to step 9\d, but no checkpoint .* --restart .*restart=True"):
        train(config, run)
    assert kept == {path: path.read_bytes() for path in kept}
    (run / "notes.txt").write_text("mine")
    train(config, run, restart=True)
    assert_same_run(whole, run)
    assert len(json.loads((run / "provenance.json").read_text())) == 1
    assert (run / "notes.txt").read_text() == "mine"
    (run / "checkpoints").rename(tmp_path / "away too")
    (run / "metrics.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"has experience \(replay/\), but no checkpoint"):
        train(config, run)


@pytest.fixture
def whole_plain(tmp_path: Path, plain: None) -> tuple[RunConfig, Path]:
    config = run_config("envs.custom:Counter", steps=96, checkpoint_every=32, evaluate_every=0, log_every=8)
    return config, train(config, tmp_path / "whole plain")


def test_a_restart_with_another_configuration_is_another_run(
    tmp_path: Path, plain: None, whole_plain: tuple[RunConfig, Path]
) -> None:
    config, run = whole_plain
    train(replace(config, seed=1), run, restart=True)
    assert_same_run(train(replace(config, seed=1), tmp_path / "other"), run)


def test_a_kill_before_the_first_checkpoint_is_due_needs_no_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_plain: tuple[RunConfig, Path]
) -> None:
    """Also in the iteration whose metrics are written and whose checkpoint is not."""
    config, whole = whole_plain
    for steps, method in ((24, "_after_iteration"), (32, "_save")):
        with monkeypatch.context() as patch:
            if method == "_save":
                patch.setattr(Trainer, "_save", lambda self: kill())
            else:
                after(patch, steps, kill)
            with pytest.raises(Killed):
                train(config, tmp_path / "run")
        assert 0 < history(tmp_path / "run")[-1]["step"] <= steps
    assert_same_run(whole, train(config, tmp_path / "run"))


def test_a_copy_interrupted_before_its_checkpoint_is_copied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_plain: tuple[RunConfig, Path]
) -> None:
    config, whole = whole_plain
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save", lambda self: kill())
        with pytest.raises(Killed):
            train(config, tmp_path / "copy", start_from=whole)
    assert_same_run(whole, train(config, tmp_path / "copy", start_from=whole))


def test_a_restart_checks_what_it_starts_from_before_it_deletes(
    tmp_path: Path, whole_plain: tuple[RunConfig, Path]
) -> None:
    config, run = whole_plain
    with pytest.raises(ConfigError, match="cannot start from itself"):
        train(config, run, restart=True, start_from=run)
    with pytest.raises(ConfigError, match="no run with a checkpoint"):
        train(config, run, restart=True, start_from=tmp_path / "nothing")
    assert checkpoint.latest(run / "checkpoints") is not None


# ---- what a run refuses --------------------------------------------------------------------------------------------


def test_another_configuration_is_refused_by_name(tmp_path: Path, plain: None) -> None:
    config = run_config(steps=16)
    run = train(config, tmp_path / "run")
    other = replace(config, seed=1, agent=replace(config.agent, budget=replace(config.agent.budget, limit=5.0)))
    both = r"configuration:\n  agent.budget.limit: 2.0 there, 5.0 now\n  seed: 0 there, 1 now\nRepeat"
    with pytest.raises(ConfigError, match=both):
        train(other, run)
    with pytest.raises(
        ConfigError, match=r"configuration:\n  env.task: probe/cost there, probe/value now\n"
    ) as refused:
        train(run_config("probe/value", steps=16), run)
    assert len(str(refused.value)) < 1000
    # Longer is no other run, and is what the difference must not name.
    with pytest.raises(ConfigError, match=r"configuration:\n  seed: 0 there, 1 now\nRepeat"):
        train(replace(config, seed=1, loop=replace(config.loop, steps=32)), run)


def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path: Path, plain: None) -> None:
    """Though its arrays have the same shapes."""
    config = run_config(steps=16, evaluate_every=0)
    dearer = replace(config, agent=replace(config.agent, budget=replace(config.agent.budget, limit=5.0)))
    run, other = train(config, tmp_path / "run"), train(dearer, tmp_path / "other")
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(other / "checkpoints", run / "checkpoints")
    for use in (lambda: train(config, run), lambda: load_run(run)):
        with pytest.raises(CheckpointMismatch, match=r"other settings .*\n  agent.budget.limit: 5.0 there, 2.0 now"):
            use()


def test_a_lost_configuration_lets_no_other_one_go_on(tmp_path: Path, plain: None) -> None:
    config = run_config(steps=16, evaluate_every=0)
    run = train(config, tmp_path / "run")
    (run / "config.json").unlink()
    with pytest.raises(ConfigError, match="seed: 0 there, 1 now"):
        train(replace(config, seed=1), run)
    train(config, run)
    assert read_config(run / "config.json", RunConfig) == config


def test_a_run_shorter_than_its_checkpoints_are_apart_does_not_start_over_either(tmp_path: Path, plain: None) -> None:
    config = run_config(steps=16, checkpoint_every=1000, log_every=1000, evaluate_every=0)
    run = train(config, tmp_path / "run")
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"no checkpoint to go on from.*--restart"):
        train(config, run)
    train(config, run, restart=True)


def test_a_restart_deletes_only_once_the_environment_is_made(tmp_path: Path, plain: None) -> None:
    run = train(run_config(steps=16, evaluate_every=0), tmp_path / "run")
    with pytest.raises(EnvError, match="There is no task 'probe/costs'"):
        train(run_config("probe/costs", steps=16), run, restart=True)
    assert checkpoint.latest(run / "checkpoints") is not None


def test_numbers_that_are_whole_are_kept_as_such(tmp_path: Path, plain: None) -> None:
    def of(steps: float) -> RunConfig:
        config = run_config(steps=16, evaluate_every=0)
        object.__setattr__(config.loop, "steps", steps)  # Under test, constructors check types.
        return config

    run = train(of(16.0), tmp_path / "run")
    assert train(of(16.0), run) == run  # What was written could be read.
    with pytest.raises(ValueError, match=r"loop\.steps is 16\.5 instead of int"):
        train(of(16.5), tmp_path / "other")


def test_full_metrics_save_a_checkpoint_and_say_so(
    tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Logger, step: int, metrics: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Logger, "write", full)
    with pytest.raises(OSError, match=r"No space left on device\. A checkpoint of this step is saved: make room"):
        train(run_config(steps=64, evaluate_every=0, log_every=8), tmp_path / "run")
    assert checkpoint.latest(tmp_path / "run" / "checkpoints") is not None


def test_what_never_happens_is_said() -> None:
    """236 decisions after the prefill make 118 updates, or fewer."""
    config = run_config(evaluate_every=1000)
    late = replace(config, agent=replace(config.agent, budget=replace(config.agent.budget, start=10**6)))
    assert [note.split(":")[0] for note in late.notes] == [
        "costs never count",
        "no evaluation happens before the end",
    ]
    assert run_config(evaluate_every=0).notes == ()
    notes = configure("lambda", "probe/cost", preset_name="debug", steps=500).notes
    assert any("not how much" in note for note in notes)


def test_a_second_signal_interrupts_at_once() -> None:
    asked: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    with _on_signals(lambda: asked.append(1)):
        signal.raise_signal(signal.SIGTERM)
        assert asked == [1]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL  # The third one ends the process.
    assert signal.getsignal(signal.SIGINT) == before


def test_a_directory_without_a_checkpoint_may_be_used_again(tmp_path: Path, plain: None) -> None:
    with pytest.raises(EnvError, match="There is no task 'probe/costs'"):
        train(run_config("probe/costs"), tmp_path / "run")
    assert content(train(run_config(steps=16), tmp_path / "run"))["manifest"]["step"] == 16


def test_other_spaces_are_refused_by_name(tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(run_config("envs.custom:Counter", steps=16), tmp_path / "run")
    monkeypatch.setattr(custom.Counter, "action_space", gym.spaces.Box(0.0, 10.0, (3,), np.float64))
    with pytest.raises(CheckpointMismatch, match=r"continuous action \[1\].*continuous action \[3\]"):
        train(run_config("envs.custom:Counter", steps=32), run)


def test_other_bounds_are_refused_by_name(tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent would not notice: its actions are in [-1, 1] all the same."""
    config = run_config("envs.custom:Counter", steps=16, evaluate_every=0)
    run = train(config, tmp_path / "run")
    monkeypatch.setattr(custom.Counter, "action_space", gym.spaces.Box(0.0, 20.0, (1,), np.float64))
    with pytest.raises(
        CheckpointMismatch, match=r"has changed since.*\n  action: high: \(10\.0,\) there, \(20\.0,\) now"
    ):
        train(replace(config, loop=replace(config.loop, steps=32)), run)


# ---- counting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "dispatch"), [(0.5, 1), (0.3, 1), (1.0, 4), (0.2, 4), (2.0, 3)])
def test_updates_are_the_ratio_times_the_decisions(
    tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch, ratio: float, dispatch: int
) -> None:
    """From the prefill on, in whole dispatches, at every iteration and across interruptions."""
    prefill, seen = 40, []
    original = Trainer._after_iteration

    def spy(self: Trainer, *arguments: Any) -> None:
        counters = self._counters
        seen.append((counters.decisions, counters.updates, int(self._state.updates)))
        original(self, *arguments)

    monkeypatch.setattr(Trainer, "_after_iteration", spy)
    config = run_config(
        steps=400,
        updates_per_decision=ratio,
        updates_per_dispatch=dispatch,
        prefill=prefill,
        evaluate_every=0,
        batch_size=1,
    )
    train_in_pieces(config, tmp_path / "run", 16, 56, 120, 400)
    assert [decisions for decisions, _, _ in seen] == list(range(8, 401, 8))
    for decisions, counted, performed in seen:
        owed = max(0, round(ratio * (decisions - prefill), 9))
        assert counted == performed == int(owed) // dispatch * dispatch


def test_episodes_are_summed_exactly(tmp_path: Path, plain: None) -> None:
    """``Counter`` pays the action, mapped from [-1, 1] to [0, 10], and costs 1 at steps 3, 4 and 5, the last. The
    row that opens an episode takes an action, too, which does nothing: so one begins every six decisions.
    """
    config = run_config("envs.custom:Counter", seed=3, num_envs=2, prefill=200, decisions_per_iteration=6)
    run = train_in_pieces(replace(config, env=replace(config.env, action_repeat=1)), tmp_path / "run", 18, 48)
    rows = [row for row in history(run) if "episode/return" in row]
    arm = ActionSpec("continuous", 1)
    actions = np.stack([random_actions(arm, 2, (3, index))[:, 0] for index in range(0, 48, 2)])
    expected = []
    for first in range(0, 24, 6):
        expected += [(5 * (actions[first : first + 5, env] + 1)).sum() for env in range(2)]
    np.testing.assert_allclose([row["episode/return"] for row in rows], expected, rtol=1e-5)
    assert {(row["episode/length"], row["episode/cost"]) for row in rows} == {(5, 3)}
    like = PlainAgent(Spaces((), arm)).init(key=jax.random.key(0)), jax.numpy.zeros(2)
    (state, _), _ = checkpoint.load(run / "checkpoints", like)
    assert float(state.episode_cost[0]) == 3 * len(rows) == 24


def test_a_crash_ends_the_episode_and_the_run_goes_on(
    tmp_path: Path, plain: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Episode 2 breaks at its third step, which counts for no reward and no cost; episode 1 and 3 are whole."""
    config = run_config("faulty:Flaky", num_envs=1, decisions_per_iteration=1, evaluate_every=0, steps=20)
    with caplog.at_level(logging.WARNING):
        run = train(config, tmp_path / "run")
    assert "the wheel came off" in caplog.text
    episodes = [row for row in history(run) if "episode/length" in row]
    # The environment that is made after the crash counts its episodes from one again.
    assert [(row["step"], row["episode/length"], row["episode/cost"]) for row in episodes] == [
        (5, 5, 3),
        (9, 3, 0),
        (15, 5, 3),
        (19, 3, 0),
    ]


# ---- failures ------------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = run_config()
    original = Dreamer.update

    def diverging(self: Dreamer, state: Any, batches: Any, *, key: Any) -> Any:
        state, metrics = original(self, state, batches, key=key)
        return state, metrics | ({"model/loss": np.float32(np.nan)} if int(state.step) > 40 else {})

    monkeypatch.setattr(Dreamer, "update", diverging)
    with pytest.raises(TrainingDiverged, match="model/loss is not finite after") as caught:
        train(config, tmp_path / "run")
    newest = checkpoint.latest(tmp_path / "run/checkpoints")
    assert newest is not None
    assert str(newest) in str(caught.value)
    # 40 updates are owed after 40 + 80 decisions: the last good checkpoint is that of step 104.
    assert newest.stem == f"{104:012d}"


def test_rewards_that_are_not_finite_never_reach_replay(
    tmp_path: Path, plain: None, caplog: pytest.LogCaptureFixture
) -> None:
    config = run_config("faulty:Poisoned", num_envs=1, decisions_per_iteration=1, evaluate_every=0)
    with caplog.at_level(logging.WARNING), pytest.raises(EnvError, match="values that are not finite: reward"):
        train(config, tmp_path / "run")
    assert "crashed in episode 0, which ends as truncated" in caplog.text


# ---- evaluation apart from training --------------------------------------------------------------------------------


def test_evaluation_leaves_training_as_it_was(tmp_path: Path) -> None:
    """Neither multiplier nor episode cost nor episodes: the checkpoints are the same in every byte."""
    often = train(run_config(evaluate_every=32, evaluate_episodes=3), tmp_path / "often")
    never = train(run_config(evaluate_every=0), tmp_path / "never")
    assert content(often) == content(never)
    assert sum("evaluation/cost_mean" in row for row in history(often)) == 7


def test_evaluation_has_seeds_of_its_own(tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Registrar, "instances", [])
    train(
        run_config("faulty:Registrar", steps=64, num_envs=2, evaluate_every=32, evaluate_episodes=2),
        tmp_path / "run",
    )
    used = [seeds for seeds in Registrar.instances if seeds]  # One was made to see whether it shows pictures.
    (first, second), *evaluations = used[:2], used[2:4], used[4:6]
    assert len({*first, *second}) == len(first) + len(second) > 10  # No episode twice.
    assert evaluations[0] == evaluations[1]  # Comparable with one another.
    assert not {*first, *second} & {seed for seeds in evaluations[0] for seed in seeds}


def test_metrics_are_numbered_by_raw_steps(tmp_path: Path, plain: None) -> None:
    config = run_config("probe/value", prefill=8, log_every=1, evaluate_every=0, steps=96)
    run = train(replace(config, env=replace(config.env, action_repeat=3)), tmp_path / "run")
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["step"] for row in rows if "plain/updates" in row][-1] == 96
    assert all(math.isfinite(row["time/steps_per_second"]) for row in rows if "time/wall" in row)
    assert {row["episode/length"] for row in rows if "episode/length" in row} == {7}  # 20 raw steps, three at a time.
