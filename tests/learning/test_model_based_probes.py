"""MBPPO-Lag on a probe: it learns in its model to earn what the budget allows, from 2,000 real decisions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prudence.budgets import Budget, Imagined
from prudence.constraints import DualAscent
from prudence.cores.on_policy.improvement import ClippedSurrogate
from prudence.cores.on_policy.model_based import ModelBasedConfig
from prudence.deploy.policy import load_run
from prudence.envs.base import EnvConfig
from prudence.evidence.evaluate import evaluate_agent
from prudence.models.dynamics import DynamicsConfig
from prudence.optim import OptimiserConfig
from prudence.presets import preset
from prudence.runs.metrics import read_metrics
from prudence.training.trainer import train

pytestmark = pytest.mark.slow


def quick(config: ModelBasedConfig, limit: float) -> ModelBasedConfig:
    """Networks of 32, steep learning rates, short sight."""
    rate = OptimiserConfig(3e-3)
    return replace(
        config,
        dynamics=DynamicsConfig(members=3, elites=2, layers=2, units=32, batch_size=64, epochs=30),
        improvement=ClippedSurrogate(10, 64, kl_limit=0.05),
        constraint=DualAscent(1.0, 0.3, maximum=20.0),
        actor=replace(config.actor, units=32),
        actor_optimiser=rate,
        critic=replace(config.critic, units=32, optimiser=rate, passes=5, batch_size=64),
        discount=0.9,
        budget=Budget(limit, discount=0.9, violation=Imagined("episode")),
        horizon=10,
        rollouts=40,
        updates=10,
        trials=16,
    )


def test_it_earns_what_the_budget_allows(tmp_path: Path) -> None:
    config = preset("debug", "mbppo-lag", EnvConfig("probe/cost"))
    assert isinstance(config.agent, ModelBasedConfig)
    loop = replace(config.loop, steps=2000, num_envs=10, decisions_per_iteration=200, evaluate_every=0)
    loop = replace(loop, checkpoint_every=2000, replay_capacity=2000)
    config = replace(config, agent=quick(config.agent, limit=5.0), loop=loop)
    run = train(config, tmp_path / "run")
    _, agent, state, _ = load_run(run)
    evaluation = evaluate_agent(agent, state, config.env, episodes=40, seed=1)
    # The known answer is return 12.5 and cost 5. Without a budget they are 20 and 20; random actions have 15 and 10 or
    # less. With budget 0 they are 10 and 0.
    assert 2.0 < evaluation.costs.mean() < 7.0
    assert evaluation.returns.mean() == pytest.approx(10 + evaluation.costs.mean() / 2, abs=0.01)
    last = [row for row in read_metrics(run / "metrics.jsonl") if "model/holdout" in row][-1]
    assert last["model/holdout_cost"] < 0.05
    assert last["imagined/cost"] == pytest.approx(evaluation.costs.mean(), abs=2.0)
