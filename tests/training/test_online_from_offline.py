"""Runs that go on from an offline run: its weights and data, another task, interruptions, and what does not fit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import PlainAgent, assert_same_run, content, history, train_in_pieces

from prudence.cli.api import configure
from prudence.data.manifest import DatasetError
from prudence.datasets.record import record_dataset
from prudence.envs.base import EnvConfig
from prudence.envs.registry import configure as environment
from prudence.loops import MixedLoop, ReplayLoop
from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.config import ConfigError, read_config, write_config
from prudence.runs.directory import RunDirectory
from prudence.training.origin import _require_data
from prudence.training.trainer import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "random"
    record_dataset("random", out, episodes=12, env=environment("probe/cost"))
    return out


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every agent is one without networks."""
    monkeypatch.setattr(RunConfig, "make_agent", lambda self, spaces: PlainAgent(spaces))


def offline(data: Path, agent: str = "fosp") -> RunConfig:
    config = configure(agent, dataset=data, preset_name="debug")
    return replace(config, loop=replace(config.loop, updates=8, foresight_every=0))


def following(origin: Path, agent: str = "fosp", **choices) -> RunConfig:
    loop = {"steps": 120, "prefill": 20, "evaluate_every": 0, **choices.pop("loop", {})}
    config = configure(agent, start_from=origin, preset_name="debug", **choices)
    return replace(config, loop=replace(config.loop, **loop))


@pytest.fixture
def origin(data, tmp_path, plain) -> Path:
    return train(offline(data), tmp_path / "offline")


def test_it_takes_weights_and_counts_anew(origin, data, tmp_path):
    config = following(origin)
    assert isinstance(config.loop, MixedLoop)
    assert config.loop.dataset == str(data)
    assert config.env.task == "probe/cost"
    assert config.agent.budget.start == 0
    run = train(config, tmp_path / "online", start_from=origin)
    meta = content(run)["manifest"]["meta"]
    # From 20 of 120 decisions on, one update for every second one.
    assert meta["counters"]["decisions"] == 120
    assert meta["counters"]["updates"] == int(config.loop.updates_per_decision * 100)
    assert {"mixture", "replay", "interface"} <= meta.keys()
    rows = history(run)
    first = next(row for row in rows if "plain/updates" in row)
    assert first["plain/updates"] > 8  # The sums of the offline run go on.
    assert min(row["step"] for row in rows) > 0
    assert not any("holdout/loss" in row for row in rows)


def test_the_agent_acts_from_its_first_decision_on(origin, tmp_path, monkeypatch):
    monkeypatch.setattr("prudence.training.collect.Collector.explore", lambda self: pytest.fail("explored"))
    run = train(following(origin, loop={"prefill": 40}), tmp_path / "online", start_from=origin)
    assert content(run)["manifest"]["meta"]["counters"]["decisions"] == 120


def test_an_interrupted_run_equals_an_uninterrupted_one(origin, tmp_path):
    config = following(origin)
    whole = train(config, tmp_path / "whole", start_from=origin)
    pieces = tmp_path / "pieces"
    (pieces / "checkpoints").mkdir(parents=True)  # As a kill in the middle of the switch leaves it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prudence.training.trainer.Trainer.run", lambda self: None)
        train(config, pieces, start_from=origin)
    assert checkpoint.read_meta(pieces / "checkpoints")["step"] == 0
    assert_same_run(whole, train_in_pieces(config, pieces, 40, 80, 120))


def test_moved_data_are_found_and_others_refused(origin, data, tmp_path):
    config = following(origin)
    run = train(config, tmp_path / "online", start_from=origin)
    moved = Path(shutil.copytree(data, tmp_path / "moved"))
    longer = replace(config.loop, dataset=str(moved), steps=140)
    train(replace(config, loop=longer), run)
    other = tmp_path / "other"
    record_dataset("random", other, episodes=3, env=environment("probe/cost"), seed=5)
    with pytest.raises(DatasetError, match="is not the data set that the run learns from"):
        train(replace(config, loop=replace(longer, dataset=str(other))), run)
    with pytest.raises(DatasetError, match="is no dataset"):
        train(replace(config, loop=replace(longer, dataset=str(tmp_path / "gone"))), run)


def test_another_task_of_the_same_spaces_is_a_transfer(origin, tmp_path):
    config = following(origin, time_limit=15)
    assert config.env.time_limit == 15
    run = train(config, tmp_path / "shorter", start_from=origin)
    assert {row["episode/length"] for row in history(run) if "episode/length" in row} == {15}


def test_a_task_of_other_spaces_is_refused(origin, tmp_path):
    config = following(origin, task="probe/conflict", costs="separate")
    with pytest.raises(checkpoint.CheckpointMismatch, match="costs"):
        train(config, tmp_path / "online", start_from=origin)


def test_another_robot_is_refused(origin):
    """Though its observations may have the same shapes: of pictures all robots', and of lidar Point's and Racecar's."""
    config = following(origin)
    of = lambda config, task: replace(config, env=EnvConfig(task))
    source = of(read_config(origin / "config.json", RunConfig), "SafetyPointGoal1-v0")
    for task, said in (("SafetyCarGoal1-v0", "a Car"), ("SafetyRacecarGoal1-v0", "a Racecar")):
        with pytest.raises(ConfigError, match=rf"how a Point moves, and {task} has {said}, whose sensors"):
            _require_data(RunDirectory(origin), source, of(config, task))
    _require_data(RunDirectory(origin), source, of(config, "SafetyPointGoal2-v0"))


def test_what_does_not_fit_is_refused(origin, data, tmp_path):
    with pytest.raises(ConfigError, match="a decision lasts 1 steps in the data"):
        train(following(origin, action_repeat=2), tmp_path / "repeat", start_from=origin)
    with pytest.raises(ValueError, match="give --dataset"):
        following(origin, agent="bc")
    with pytest.raises(ValueError, match="episodes of its current policy only"):
        following(origin, agent="ppo-lag")
    config = following(origin, agent="safedreamer-bsrp-lag")
    with pytest.raises(ConfigError, match="cannot start from it"):
        train(config, tmp_path / "agent", start_from=origin)


def test_a_run_that_went_online_is_no_origin(origin, tmp_path):
    config = following(origin)
    again = tmp_path / "again"
    again.mkdir()
    write_config(again / "config.json", config)
    (again / "checkpoints").mkdir()
    (again / "checkpoints" / "000000000001.ckpt").touch()
    other = replace(config, loop=ReplayLoop(num_envs=2, decisions_per_iteration=2))
    with pytest.raises(ConfigError, match="again goes on online from an offline run, and this run learns in an env"):
        train(other, tmp_path / "online", start_from=again)


def test_without_an_origin_the_loop_is_refused(origin):
    config = following(origin)
    with pytest.raises(ValueError, match="--start-from"):
        replace(config, loop=replace(config.loop, dataset="")).check()


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent", ["fosp", "safedreamer-bsrp-lag", "dreamerv3", "recovery-rl", "lambda", "asymdreamer-o"]
)
def test_every_world_model_goes_on_from_offline_to_online(agent, data, tmp_path):
    config = offline(data, agent)
    first = train(config, tmp_path / "offline")
    online = following(first, agent)
    run = train(online, tmp_path / "online", start_from=first)
    assert all(np.isfinite(value) for row in history(run) for value in row.values())
    assert checkpoint.read_meta(run / "checkpoints")["counters"]["updates"] > 0
