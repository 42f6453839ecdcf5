"""A policy taken away acts as it did in evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import run_config, train_in_pieces

import prudence
from prudence.cli.present import evaluate_run
from prudence.deploy.policy import Policy, load_run
from prudence.envs.base import EnvConfig
from prudence.envs.vector import make_vector
from prudence.evidence.evaluate import _SEED_OFFSET, evaluate_agent
from prudence.runs.checkpoint import CheckpointError, CheckpointMismatch
from prudence.runs.directory import RunDirectoryError
from prudence.types import ObservationSpec


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = run_config("probe/policy", evaluate_every=0)
    # Samples are often clipped to the same 1 or -1, whatever was observed.
    config = replace(config, agent=replace(config.agent, evaluation="mode"))
    return train_in_pieces(config, tmp_path_factory.mktemp("runs") / "run", 64)


def test_it_acts_as_in_evaluation(run: Path) -> None:
    config, agent, state, steps = load_run(run)
    evaluation = evaluate_agent(agent, state, config.env, episodes=1, seed=0)
    policy, env = prudence.load_policy(run), make_vector(config.env, 1, seed=_SEED_OFFSET)
    row, total = env.reset(), 0.0
    while not row.is_last[0]:
        action = policy({"state": row.observation["state"][0]})
        row = env.step(action[None])
        total += float(row.reward[0])
    env.close()
    assert total == evaluation.returns[0]
    assert (steps, evaluation.lengths[0]) == (64, 20)


def test_reset_forgets_the_episode(run: Path) -> None:
    left, right, other = (prudence.load_policy(run) for _ in range(3))
    for policy, seen in ((left, 1.0), (right, -1.0), (other, -1.0)):
        policy(np.array([seen], np.float32))
    left.reset()
    right.reset()
    actions = [policy(np.array([0.5], np.float32)) for policy in (left, right, other)]
    np.testing.assert_array_equal(actions[0], actions[1])
    assert (actions[1] != actions[2]).any()  # It did not forget, and acts otherwise.
    assert actions[0].shape == (1,)


def test_observations_of_another_shape_are_refused(run: Path) -> None:
    policy = prudence.load_policy(run)
    with pytest.raises(ValueError, match=r"'state' has shape \(2,\) instead of \(1,\)"):
        policy(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="lacks state; it has position"):
        policy({"position": np.zeros(1, np.float32)})


def test_observations_that_would_go_wrong_silently_are_refused(run: Path) -> None:
    policy = prudence.load_policy(run)
    with pytest.raises(ValueError, match="'state' is not finite"):
        policy(np.array([np.nan], np.float32))
    with pytest.raises(ValueError, match="'state' is complex64 instead of float32"):
        policy(np.zeros(1, np.complex64))
    np.testing.assert_array_equal(policy(np.ones(1)), prudence.load_policy(run)(np.ones(1, np.float32)))


def test_what_is_privileged_need_not_be_given(run: Path) -> None:
    _, agent, state, _ = load_run(run)
    seen = (*agent.spaces.observation, ("contacts", ObservationSpec((2,), "float32")))
    policy = Policy(agent, state, replace(agent.spaces, observation=seen, privileged=("contacts",)))
    np.testing.assert_array_equal(policy(np.ones(1, np.float32)), prudence.load_policy(run)(np.ones(1, np.float32)))


def test_directories_without_a_policy_say_why(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"holds no run: there is no config.json"):
        prudence.load_policy(tmp_path)
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        prudence.load_policy(tmp_path)


def test_another_task_is_refused_by_name(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointMismatch, match="was trained on 'probe/policy', not on 'probe/cost'"):
        evaluate_run(run, task="probe/cost")
    config = json.loads((run / "config.json").read_text())
    config["env"]["task"] = "probe/value"
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "checkpoints").symlink_to(run / "checkpoints")
    with pytest.raises(CheckpointMismatch, match=r"trained on task 'probe/policy'.*asked for task 'probe/value'"):
        prudence.load_policy(tmp_path)


def test_evaluating_a_run_leaves_its_record(run: Path) -> None:
    result = evaluate_run(run, episodes=3, seed=4, video=True)
    record = json.loads((run / "evaluation.json").read_text())
    assert record["returns"] == result.returns.tolist()
    assert record["cost_names"] == ["cost"]
    assert record["budgets"] == [2.0]
    assert (run / "videos/evaluation.mp4").stat().st_size > 0
    assert "budget 2: " in result.summary()
    assert evaluate_run(run, episodes=3, seed=4).returns.tolist() == record["returns"]
    assert evaluate_run(run, episodes=3, seed=5).returns.tolist() != record["returns"]


def test_every_environment_contributes_its_share_of_episodes(run: Path) -> None:
    """Seven episodes of three environments: 3, 2 and 2."""
    _, agent, state, _ = load_run(run)
    told: list[int] = []
    result = evaluate_agent(
        agent, state, EnvConfig("probe/policy"), episodes=7, seed=0, parallel=3, progress=told.append
    )
    assert told == [1, 2, 3, 4, 5, 6, 7]
    assert result.lengths.tolist() == [20] * 7
    assert result.costs.shape == (7, 1)
    assert result.goals is None
    with pytest.raises(ValueError, match="episodes=0 must be at least 1"):
        evaluate_agent(agent, state, EnvConfig("probe/policy"), episodes=0, seed=0)
