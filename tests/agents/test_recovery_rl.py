"""Recovery RL as a system: its presets, its runs, and what it has instead of plans to show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import pytest
import toys
from helpers import assert_same_run, history, run_config, train_in_pieces

from prudence.agents.recovery_rl import published
from prudence.cores.dreamer.uncertainty import DisagreementConfig
from prudence.deploy.deadline import planner_of
from prudence.envs.base import EnvConfig
from prudence.planners import CrossEntropy
from prudence.presets import preset
from prudence.systems import find_system
from prudence.training.trainer import train


@pytest.mark.parametrize("name", ["debug", "cpu", "paper", "gpu", "comparison"])
def test_its_policy_is_dreamerv3s(name):
    env = EnvConfig("SafetyPointGoal1-v0")
    config, plain = preset(name, "recovery-rl", env), preset(name, "dreamerv3", env)
    assert replace(config, agent_name="dreamerv3", agent=replace(config.agent, recovery=None)) == plain


def test_its_search_is_the_papers_in_paper_and_smaller_in_cpu():
    recovery = {
        name: preset(name, "recovery-rl", EnvConfig("SafetyPointGoal1-v0")).agent.recovery for name in ("cpu", "paper")
    }
    found = recovery["paper"].search
    assert found == CrossEntropy(
        horizon=10, plans=400, elites=10, iterations=10, momentum=0.0, init_std=0.5, rule="best"
    )
    assert published(False).agent.planning.search == found
    small = recovery["cpu"].search
    assert (small.horizon, small.plans, small.elites, small.iterations, small.num_proposals) == (6, 64, 8, 3, 0)
    assert recovery["cpu"].critic.head.units == 128


def test_offline_the_policy_is_penalised_where_models_disagree_and_online_it_is_not():
    system, config = find_system("recovery-rl"), toys.debug_config("recovery-rl")
    assert system.offline(config) == replace(config, disagreement=DisagreementConfig())
    assert system.online(config) == config


@pytest.mark.slow
def test_a_run_that_recovers_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = run_config(agent="recovery-rl", evaluate_every=80)
    recovery = replace(config.agent.recovery, threshold=0.01)  # Below the risk with which critics begin.
    config = replace(config, agent=replace(config.agent, recovery=recovery))
    whole = train(config, tmp_path / "whole")
    assert_same_run(whole, train_in_pieces(config, tmp_path / "pieces", 24, 168, 240))
    rows = history(whole)
    shares = [row["recovery/share"] for row in rows if "recovery/share" in row]
    assert max(shares) > 0.5
    assert {"risk/loss", "risk/value", "risk/violations", "recovery/risk"} <= {name for row in rows for name in row}


def test_it_has_no_plans_for_a_deadline_and_none_to_show():
    agent = toys.dreamer(toys.spaces(), "recovery-rl")
    state = agent.init(key=jax.random.key(0))
    with pytest.raises(ValueError, match="does not plan every decision"):
        planner_of(agent, state)
    rows = toys.batch(toys.spaces(), 2)
    with pytest.raises(ValueError, match="no plans to show"):
        agent.preview(state, agent.init_carry(2), rows.observation, rows.is_first, key=jax.random.key(1))
