"""Offline runs: no environment is touched, an interruption changes nothing, and what does not fit is refused."""

from __future__ import annotations

import functools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import PlainAgent, assert_same_run, content, history, train_in_pieces

from prudence.cli.api import configure
from prudence.data.dataset import Dataset
from prudence.data.dataset_writer import DatasetWriter
from prudence.data.manifest import DatasetError, Source
from prudence.deploy.policy import load_interface
from prudence.envs import registry
from prudence.envs.interface import Interface, OwnAction, unchanged
from prudence.run_config import RunConfig
from prudence.runs.config import ConfigError, to_json
from prudence.training.learning import offline
from prudence.training.trainer import train
from prudence.types import Spaces, Transition

TASK = "probe/cost"


def episodes(spaces: Spaces, number: int, seed: int = 0) -> list[Transition]:
    """Episodes of 20 decisions with random numbers."""
    rng, length = np.random.default_rng(seed), 20
    found = []
    for _ in range(number):
        rows = length + 1
        first, last = (np.arange(rows) == index for index in (0, length))

        def draw(*shape: int, rows: int = rows) -> np.ndarray:
            return rng.uniform(-1, 1, (rows, *shape)).astype(np.float32)

        found.append(
            Transition(
                observation={name: draw(*spec.shape) for name, spec in spaces.observation},
                prev_action=np.where(first[:, None], 0, draw(spaces.action.size)).astype(np.float32),
                reward=np.where(first, 0, draw()).astype(np.float32),
                cost=np.where(first[:, None], 0, draw(spaces.num_costs) > 0.5).astype(np.float32),
                is_first=first,
                is_last=last,
                is_terminal=np.zeros(rows, bool),
            )
        )
    return found


@functools.cache
def spaces_of_task() -> Spaces:
    env = registry.configure(TASK)
    with registry.make(env) as made:
        return registry.spaces_of(made, env)


def write(
    directory: Path, *, known: bool = True, number: int = 12, seed: int = 0, interface: Interface | None = None
) -> Path:
    env, spaces = to_json(registry.configure(TASK)) if known else None, spaces_of_task()
    own = None if interface is None else interface.content()
    with DatasetWriter(directory, spaces, env=env, interface=own) as writer:
        source = writer.source(Source("random"))
        for rows in episodes(spaces, number, seed):
            writer.add(rows, source)
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "random")


def run_config(data: Path, **loop) -> RunConfig:
    config = configure("bc", dataset=data, preset_name="debug")
    return replace(config, loop=replace(config.loop, **loop))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains an agent without networks, which is enough where the loop is what is tested."""
    monkeypatch.setattr(RunConfig, "make_agent", lambda config, spaces: PlainAgent(spaces))


@pytest.fixture
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an environment was made")

    monkeypatch.setattr(registry, "make", refuse)
    monkeypatch.setattr(offline, "make_vector", refuse)


def test_it_learns_from_every_update_and_makes_no_environment(data, tmp_path, plain, no_environment):
    run = train(run_config(data), tmp_path / "run")
    assert content(run)["manifest"]["meta"]["counters"] == {"decisions": 0, "updates": 40}
    logged = [row["plain/updates"] for row in history(run) if "plain/updates" in row]
    # Every 10th gradient step is logged at the end of its iteration of two dispatches of two: the mean of 10 and 12.
    assert logged == [11, 19, 31, 39]


def test_a_resumed_run_equals_an_uninterrupted_one(data, tmp_path):
    whole = train(run_config(data), tmp_path / "whole")
    assert_same_run(whole, train_in_pieces(run_config(data), tmp_path / "pieces", 12, 24, 40))


def test_the_model_is_measured_on_episodes_that_are_held_out(data, tmp_path):
    rows = [row for row in history(train(run_config(data), tmp_path / "run")) if "holdout/loss" in row]
    assert [row["step"] for row in rows] == [20, 40]
    assert all("foresight/cost_correlation_4" in row for row in rows)


def test_held_out_episodes_are_never_sampled(data, tmp_path, plain, monkeypatch):
    learned, held = (set(of.episodes) for of in Dataset(data).hold_out(0.2))
    assert (len(learned), len(held)) == (10, 2)
    whole = Dataset(data)
    withheld = {row.tobytes() for i in (10, 11) for row in whole.episode(i).observation["state"]}
    seen: set[bytes] = set()
    update = PlainAgent.update

    def watching(self, state, batches, *, key):
        values = np.asarray(batches.observation["state"])
        seen.update(row.tobytes() for row in values.reshape(-1, values.shape[-1]))
        return update(self, state, batches, key=key)

    monkeypatch.setattr(PlainAgent, "update", watching)
    train(run_config(data), tmp_path / "run")
    assert len(seen) > 100
    assert not seen & withheld


def test_more_updates_extend_a_run_and_a_moved_data_set_is_found(data, tmp_path, plain):
    run = train(run_config(data), tmp_path / "run")
    moved = Path(shutil.copytree(data, tmp_path / "moved"))
    train(run_config(moved, updates=60), run)
    assert content(run)["manifest"]["meta"]["counters"]["updates"] == 60


def test_another_data_set_is_refused(data, tmp_path, plain):
    run = train(run_config(data), tmp_path / "run")
    other = write(tmp_path / "other", seed=1)
    with pytest.raises(ConfigError, match="digest"):
        train(run_config(other), run)
    with pytest.raises(DatasetError, match="is not the data set that the run learns from"):
        train(run_config(data, dataset=str(other)), tmp_path / "third")


def test_sequences_longer_than_the_data_are_refused(data, tmp_path, plain):
    with pytest.raises(DatasetError, match=r"--loop\.batch-length"):
        train(run_config(data, batch_length=1000), tmp_path / "run")


def test_evaluation_in_an_environment_of_other_spaces_is_refused(data, tmp_path, plain):
    config = run_config(data, evaluate_every=20)
    config = replace(config, env=registry.configure("probe/conflict", costs="separate"))
    with pytest.raises(ValueError, match=r"the data set and the task differ: .*costs \('cost',\) in the data set"):
        train(config, tmp_path / "run")


def test_data_of_an_unknown_environment_can_be_learned_from(data, tmp_path, plain, no_environment):
    data = write(tmp_path / "logs", known=False)
    assert run_config(data).env.task == "recorded"
    train(run_config(data), tmp_path / "run")


def test_the_longest_episode_of_imported_data_is_their_time_limit(tmp_path):
    """A budget is spread over an episode's decisions, so that preset `cpu` needs their number."""
    spaces = replace(spaces_of_task(), episode_steps=None)
    with DatasetWriter(tmp_path / "data", spaces) as writer:
        for rows in episodes(spaces, 3):
            writer.add(rows, writer.source(Source("random")))
    data = Dataset(tmp_path / "data")
    found = offline._with_time_limit(data)
    assert found == replace(spaces, episode_steps=max(episode.length for episode in data.episodes))
    for agent in ("fosp", "safedreamer-bsrp-lag"):
        config = configure(agent, dataset=tmp_path / "data", preset_name="cpu", cost_limit=2.0)
        with pytest.raises(ValueError, match="needs its length"):
            config.make_agent(spaces)
        assert config.make_agent(found).spaces == found


def test_a_class_that_a_data_set_names_is_not_imported(tmp_path, plain, monkeypatch):
    spaces, asked = spaces_of_task(), []

    def make(config):
        asked.append(config)
        raise AssertionError("no environment may be made")

    monkeypatch.setattr(registry, "make", make)
    with DatasetWriter(tmp_path / "data", spaces, env={"class": "EnvConfig", "task": "unwanted:Env"}) as writer:
        for rows in episodes(spaces, 3):
            writer.add(rows, writer.source(Source("random")))
    config = run_config(tmp_path / "data")
    assert config.env.task == "unwanted:Env"
    run = train(config, tmp_path / "run")
    assert [made.task for made in asked if made.task != "recorded"] == []  # That one raises, and imports nothing.
    with pytest.raises(ValueError, match="name it yourself, with --task unwanted:Env"):
        configure("fosp", start_from=run, preset_name="debug")


def test_a_policy_takes_the_interface_of_its_data_along(tmp_path, plain, no_environment):
    """Its environment's own actions reach from -4 to 8, which only the data know."""
    spaces = spaces_of_task()
    own = replace(unchanged(spaces), action=OwnAction("continuous", (1,), "float32", (-4.0,), (8.0,)))
    run = train(run_config(write(tmp_path / "data", known=False, interface=own)), tmp_path / "run")
    assert load_interface(run, spaces) == own


# --- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 100}, "give --updates instead of --steps"),
        ({"agent": "ppo-lag"}, "episodes of its current policy only"),
        ({"agent": "safedreamer-osrp-lag"}, "plans, and the price"),
        ({"task": "probe/value"}, "was recorded in probe/cost"),
        ({"time_limit": 7}, "was recorded in probe/cost"),
        ({"dataset": None, "agent": "bc"}, "give --dataset DIRECTORY"),
        ({"dataset": None, "agent": "dreamerv3", "updates": 5}, "--updates is the length of an offline run"),
        ({"dataset": "/nowhere"}, "no dataset"),
    ],
)
def test_settings_that_contradict_the_data_are_refused(data, settings, said):
    chosen = {"agent": "fosp", "dataset": data, "preset_name": "debug", **settings}
    with pytest.raises(ValueError, match=said):
        configure(chosen.pop("agent"), **chosen)


def test_a_world_model_agent_learns_offline_with_imagined_costs(data):
    config = configure("safedreamer-bsrp-lag", dataset=data, preset_name="cpu")
    online = configure("safedreamer-bsrp-lag", TASK)
    assert config.env == registry.configure(TASK)  # That of the data, not the preset's action repeat.
    assert config.agent.budget.estimate == "episode"
    assert config.agent.budget.relative
    assert config.run_updates == 30_000
    assert (config.loop.batch_size, config.loop.batch_length) == (online.loop.batch_size, online.loop.batch_length)
