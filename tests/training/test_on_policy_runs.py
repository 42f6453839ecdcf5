"""Runs of on-policy agents: resuming, signals, and what does not go with them."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers import assert_same_run, content, history, run_config, train_in_pieces

from prudence.cores.on_policy.on_policy import OnPolicy
from prudence.deploy.policy import load_policy
from prudence.inspection.inspect import inspect_run
from prudence.training.trainer import train


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """Twice, in the middle of episodes; observations' moments, multiplier and environments among it."""
    config = run_config(agent="ppo-lag", evaluate_every=80)
    whole = train(config, tmp_path / "whole")
    assert_same_run(whole, train_in_pieces(config, tmp_path / "pieces", 40, 160, 240))
    names = {name for row in history(whole) for name in row}
    assert {"constraint/multiplier", "actor/kl", "evaluation/return_mean", "episode/cost"} <= names


def test_sigterm_saves_after_the_rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, original = run_config(agent="ppo", steps=120, checkpoint_every=0, evaluate_every=0), OnPolicy.update

    def killing(self: OnPolicy, *arguments, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments, **named)

    monkeypatch.setattr(OnPolicy, "update", killing)
    run = train(config, tmp_path / "run")
    assert content(run)["manifest"]["step"] == 40
    monkeypatch.undo()
    assert_same_run(train(config, tmp_path / "whole"), train(config, run))


def test_a_rollout_holds_every_decision_and_its_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``[1, E, T+1]``: begins with the row that the last one ended with."""
    seen, original = [], OnPolicy.update

    def spy(self: OnPolicy, state, batches, *, key):
        seen.append(jax.tree.map(np.asarray, batches))
        return original(self, state, batches, key=key)

    monkeypatch.setattr(OnPolicy, "update", spy)
    train(run_config(agent="ppo", steps=120, evaluate_every=0), tmp_path / "run")
    assert [rows.reward.shape for rows in seen] == [(1, 2, 21)] * 3
    for one, two in pairwise(seen):
        np.testing.assert_array_equal(one.observation["state"][:, :, -1], two.observation["state"][:, :, 0])
        np.testing.assert_array_equal(one.is_last[:, :, -1], two.is_last[:, :, 0])
    # probe/cost: .5 + risk / 2, where anything was done.
    rows = seen[0]
    done = ~rows.is_first[:, :, 1:]
    np.testing.assert_allclose(rows.reward[:, :, 1:][done], 0.5 + rows.cost[:, :, 1:, 0][done] / 2, rtol=1e-5)
    np.testing.assert_allclose(rows.cost[..., 0], np.maximum(rows.prev_action[..., 0], 0), atol=1e-6)


def test_rollouts_are_of_whole_decisions_of_all_environments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="decisions_per_iteration=41 must be a multiple of num_envs=2"):
        train(run_config(agent="ppo", decisions_per_iteration=41), tmp_path / "run")


def test_sauted_policies_are_deployed_with_what_was_spent(tmp_path: Path) -> None:
    run = train(run_config(agent="saute-ppo", steps=40, evaluate_every=0), tmp_path / "run")
    policy = load_policy(run)
    action = policy({"state": np.zeros(1, np.float32), "spent": np.zeros(1, np.float32)})
    assert action.shape == (1,)
    with pytest.raises(ValueError, match="the observation lacks spent"):
        policy({"state": np.zeros(1, np.float32)})


def test_there_is_no_model_to_look_into(tmp_path: Path) -> None:
    run = train(run_config(agent="ppo", steps=120, evaluate_every=0), tmp_path / "run")
    with pytest.raises(ValueError, match="ppo has no world model to inspect"):
        inspect_run(run, key=jax.random.key(0))
    found = inspect_run(run, key=jax.random.key(0), episodes=2)
    assert found.anatomy is not None
    assert (found.anatomy.episodes, found.foresight) == (2, None)
    assert all(event.warned is None for event in found.anatomy.events)


@pytest.mark.slow
def test_safety_gymnasium_resumes_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    config = run_config("SafetyPointGoal1-v0", agent="saute-trpo", steps=240, evaluate_every=0, workers=2)
    config = replace(config, env=replace(config.env, time_limit=60))
    whole = train(config, tmp_path / "whole")
    assert_same_run(whole, train_in_pieces(config, tmp_path / "pieces", 120, 240))


def test_nothing_is_kept_of_a_rollout(tmp_path: Path) -> None:
    run = train(run_config(agent="ppo", steps=120, evaluate_every=0), tmp_path / "run")
    assert not (run / "replay").exists()
