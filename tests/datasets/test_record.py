"""Recording: whole episodes, as the environment gave them, of runs, of chance and of scripts."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import helpers
import jax
import numpy as np
import pytest

from prudence.cli.commands.dataset import Record
from prudence.cli.commands.usage import UsageError
from prudence.data.dataset import Dataset
from prudence.data.manifest import DatasetError
from prudence.data.replay import Replay
from prudence.datasets import record
from prudence.datasets.record import dataset_from_replay, record_dataset
from prudence.envs.base import EnvConfig
from prudence.envs.interface import interface_from, unchanged
from prudence.envs.registry import configure
from prudence.envs.vector import episode_seed, make_vector
from prudence.run_config import RunConfig
from prudence.runs.config import from_json, to_json, write_config
from prudence.types import Observation, Spaces

COST = configure("probe/cost")


def bold(observation: Observation) -> np.ndarray:
    """Takes the risk 1: every decision earns 1 and costs 1."""
    return np.ones(1)


def as_many_as_there_are(spaces: Spaces) -> Callable[[Observation], np.ndarray]:
    return lambda observation: np.ones(spaces.action.size)


def too_many(observation: Observation) -> np.ndarray:
    return np.ones(2)


class Alternating:
    """Risk 1 and 0 in turns, beginning with 1."""

    def __init__(self) -> None:
        self.count = 99

    def reset(self) -> None:
        self.count = 0

    def __call__(self, observation: Observation) -> list[float]:
        self.count += 1
        return [float(self.count % 2)]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that loads as a run of an agent that acts at random, at step 70."""
    directory, config = tmp_path / "safe", helpers.run_config("probe/cost")
    directory.mkdir()
    write_config(directory / "config.json", config)
    with closing(make_vector(config.env, 1, seed=0)) as envs:
        agent, interface = helpers.PlainAgent(envs.spaces), envs.interface

    def load_run(path: Path, **rest: Any) -> tuple[RunConfig, Any, Any, int]:
        assert Path(path) == directory
        return config, agent, agent.init(key=jax.random.key(0)), 70

    monkeypatch.setattr(record, "load_run", load_run)
    monkeypatch.setattr(record, "load_interface", lambda path, spaces, **rest: interface)
    return directory


def test_a_run_is_recorded_as_it_is_evaluated(run: Path, tmp_path: Path) -> None:
    done: list[int] = []
    data, result = record_dataset(run, tmp_path / "d", episodes=12, seed=3, licence="MIT", progress=done.append)
    assert done == list(range(1, 13))
    assert data.env is not None
    assert from_json(data.env, EnvConfig) == COST
    assert data.manifest.licence == "MIT"
    assert interface_from(data.manifest.interface) == unchanged(data.spaces)
    (source,) = data.sources
    assert (source.name, source.run, source.step, source.mode, source.seed) == ("safe", str(run), 70, "evaluate", 3)
    assert [episode.length for episode in data.episodes] == [20] * 12
    assert sorted(e.episode_return for e in data.episodes) == pytest.approx(sorted(result.returns), rel=1e-6)
    assert sorted(e.costs[0] for e in data.episodes) == pytest.approx(sorted(result.costs[:, 0]), rel=1e-6)
    rows = data.episode(0)
    risk = np.maximum(rows.prev_action[1:, 0], 0)  # The probe: reward .5 + risk / 2, cost risk.
    np.testing.assert_allclose(rows.reward[1:], 0.5 + risk / 2, rtol=1e-6)
    np.testing.assert_allclose(rows.cost[1:, 0], risk, rtol=1e-6)
    assert rows.prev_action[0, 0] == rows.reward[0] == rows.cost[0, 0] == 0


def test_seeds_are_apart_from_those_of_training_and_evaluation(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    seeds = []
    monkeypatch.setattr(
        "prudence.evidence.evaluate.make_vector",
        lambda env, number, *, seed, **rest: seeds.append(seed) or make_vector(env, number, seed=seed, **rest),
    )
    record_dataset(run, tmp_path / "d", episodes=1, seed=4)
    assert seeds == [2_000_004]
    assert episode_seed(2_000_004, 0, 0) != episode_seed(1_000_004, 0, 0)


def test_exploring_and_names_are_noted(run: Path, tmp_path: Path) -> None:
    data, _ = record_dataset(run, tmp_path / "d", episodes=1, explore=True, name="wild")
    assert (data.sources[0].name, data.sources[0].mode) == ("wild", "train")


def test_uniform_actions_are_recorded_in_the_environment_of_a_run(run: Path, tmp_path: Path) -> None:
    data, _ = record_dataset("random", tmp_path / "d", episodes=30, env=run)
    actions = np.concatenate([data.column("prev_action", i)[1:, 0] for i in range(30)])
    assert len(actions) == 600
    assert abs(actions.mean()) < 0.1  # Of the uniform distribution: 0 ± .024, and the variance is 1/3.
    assert abs(actions.var() - 1 / 3) < 0.05
    assert (data.sources[0].name, data.sources[0].mode) == ("random", "random")
    again, _ = record_dataset("random", tmp_path / "again", episodes=30, env=run)
    assert again.digest == data.digest
    assert interface_from(data.manifest.interface) == unchanged(data.spaces)


def test_scripts_are_recorded(tmp_path: Path) -> None:
    # The probe's reward and cost of a decision with risk 1 are 1 and 1; with risk 0 they are .5 and 0.
    data, _ = record_dataset(f"{__name__}:bold", tmp_path / "bold", episodes=2, env=COST)
    assert [(e.episode_return, e.costs) for e in data.episodes] == [(20.0, (20.0,))] * 2
    assert data.sources[0].mode == "scripted"
    data, _ = record_dataset(f"{__name__}:Alternating", tmp_path / "turns", episodes=3, env=COST)
    for index in range(3):
        assert data.column("prev_action", index)[1:, 0].tolist() == [1.0, 0.0] * 10
    data, _ = record_dataset(f"{__name__}:as_many_as_there_are", tmp_path / "sized", episodes=1, env=COST)
    assert data.episodes[0].costs == (20.0,)


def test_actions_of_scripts_may_be_numbers_of_discrete_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "bold", lambda observation: 1)
    data, _ = record_dataset(f"{__name__}:bold", tmp_path / "d", episodes=1, env=configure("probe/cost-discrete"))
    assert data.column("prev_action", 0)[1:].tolist() == [[0.0, 1.0]] * 20
    monkeypatch.setattr(sys.modules[__name__], "bold", lambda observation: 2)
    with pytest.raises(ValueError, match="chose action 2 of 2: choose from 0 to 1"):
        record_dataset(f"{__name__}:bold", tmp_path / "e", episodes=1, env=configure("probe/cost-discrete"))


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("random", {}, "acts in any environment: say in which, with --like RUN"),
        ("random", {"env": COST, "explore": True}, "does not learn, so it does not explore"),
        ("nowhere:policy", {"env": COST}, "there is no scripted policy 'nowhere:policy'"),
        (f"{__name__}:COST", {"env": COST}, "is a EnvConfig, not a function"),
        (f"{__name__}:too_many", {"env": COST}, r"gave an action of shape \(2,\): give 1 numbers"),
    ],
)
def test_what_cannot_be_recorded_says_why_and_leaves_nothing(
    tmp_path: Path, policy: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        record_dataset(policy, tmp_path / "d", episodes=1, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_run_has_its_own_environment(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="acts in its own environment: leave --task and --like out"):
        record_dataset(run, tmp_path / "d", env=COST)


def test_the_whole_episodes_of_a_replay_become_a_dataset(run: Path, tmp_path: Path) -> None:
    config = helpers.run_config("probe/cost")
    with closing(make_vector(config.env, 2, seed=0)) as envs:
        replay = Replay(run / "replay", envs.spaces, 2, capacity=100, seed=0, chunk_size=16)
        replay.add(envs.reset())
        rewards = []
        for step in range(69):  # 70 rows, of which the last 50 are kept: an episode has 21.
            replay.add(envs.step(np.full((2, 1), step / 100 + np.arange(2)[:, None] / 1000)))
            rewards.append(0.5 + step / 200)
        replay.flush()
    config = helpers.replace(config, loop=helpers.replace(config.loop, num_envs=2, replay_capacity=100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "load_run", lambda path: (config, helpers.PlainAgent(envs.spaces), None, 70))
        data = dataset_from_replay(run, tmp_path / "d", name="tried")
    # Row 0 is an episode's first, and so are rows 21, 42 and 63. Of rows 20 to 69, those of 21 to 62 are whole.
    assert [episode.length for episode in data.episodes] == [20] * 4
    assert data.sources[0].name == "tried"
    assert data.sources[0].mode == "replay"
    # The decision that leads to row r is number r - 1 of the script.
    np.testing.assert_allclose(data.column("reward", 0)[1:], rewards[21:41], rtol=1e-5)
    np.testing.assert_allclose(data.column("reward", 1)[1:], rewards[42:62], rtol=1e-5)
    np.testing.assert_allclose(data.column("reward", 2)[1:], np.array(rewards[21:41]) + 0.0005, rtol=1e-5)


def test_a_run_without_a_replay_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no replay: it learns from rollouts"):
        dataset_from_replay(run, tmp_path / "d")


def test_the_command_records_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = Record("random", tmp_path / "d", episodes=2, task="probe/conflict", costs=("separate",), name="chance")
    assert command.run() == 0
    data, said = Dataset(tmp_path / "d"), capsys.readouterr().out
    assert data.spaces.costs == ("cost_left", "cost_right")
    for part in ("chance", "no cost_left", "over 2 episodes", data.digest[:12]):
        assert part in said


def test_the_command_takes_settings_of_the_environment(tmp_path: Path) -> None:
    command = Record("random", tmp_path / "d", episodes=1, task="probe/cost", env=("time_limit=5", "spent=true"))
    assert command.run() == 0
    assert Dataset(tmp_path / "d").env == to_json(configure("probe/cost", time_limit=5, spent=True))
    for env, task, message in (
        (("time_limit",), "probe/cost", "--env: 'time_limit' is not NAME=VALUE"),
        (("spent=true",), None, "--env sets the environment of --task"),
    ):
        with pytest.raises(UsageError, match=message):
            Record("random", tmp_path / "e", episodes=1, task=task, env=env).run()


@pytest.mark.slow
def test_a_kill_while_recording_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from prudence.datasets.record import record_dataset
        from prudence.envs.registry import configure
        kill = lambda done: done == 2 and os.kill(os.getpid(), signal.SIGKILL)
        record_dataset("random", Path(sys.argv[1]), episodes=4, env=configure("probe/cost"), progress=kill)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "d")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["d.partial"]
    with pytest.raises(DatasetError, match="is no dataset"):
        Dataset(tmp_path / "d.partial")


def test_a_dataset_is_where_it_was_asked_for_though_the_environment_wanders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found, _ = record_dataset("random", "data", episodes=2, env=configure("envs.custom:Wanderer"))
    assert found.directory == tmp_path / "data"
