"""SafeLOOP on a probe: its plans earn what the budget allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prudence.cores.lookahead import LookaheadConfig
from prudence.deploy.policy import load_run
from prudence.envs.base import EnvConfig
from prudence.evidence.evaluate import evaluate_agent
from prudence.models.dynamics import DynamicsConfig
from prudence.optim import OptimiserConfig
from prudence.presets import preset
from prudence.runs.metrics import read_metrics
from prudence.training.trainer import train

pytestmark = pytest.mark.slow


def quick(config: LookaheadConfig, limit: float, horizon: int) -> LookaheadConfig:
    """Networks of 32, steep learning rates, short sight."""
    rate = OptimiserConfig(3e-3)
    search = replace(config.search, horizon=horizon, plans=60, elites=6, kappa=10.0, iterations=8, min_iterations=4)
    return replace(
        config,
        dynamics=DynamicsConfig(members=3, elites=2, layers=2, units=32, batch_size=64, epochs=30),
        search=search,
        actor=replace(config.actor, units=32),
        critic=replace(config.critic, head=replace(config.critic.head, units=32), optimiser=rate, slow_rate=0.05),
        actor_optimiser=rate,
        temperature=replace(config.temperature, init=0.1, optimiser=rate),
        discount=0.9,
        budget=replace(config.budget, limit=limit, margin=0.0),
        fit_every=400,
    )


def test_it_earns_what_the_budget_allows(tmp_path: Path) -> None:
    """With plans of one decision. Of longer ones the first decision may cost what all of them may, again and again, and
    in this probe it does, since rewards come at once."""
    config = preset("debug", "safeloop", EnvConfig("probe/cost"))
    assert isinstance(config.agent, LookaheadConfig)
    loop = replace(
        config.loop,
        steps=1200,
        num_envs=20,
        prefill=400,
        updates_per_dispatch=20,
        decisions_per_iteration=80,
        batch_size=64,
        replay_capacity=2000,
        log_every=400,
        evaluate_every=0,
        checkpoint_every=1200,
    )
    config = replace(config, agent=quick(config.agent, limit=10.0, horizon=1), loop=loop)
    run = train(config, tmp_path / "run")
    _, agent, state, _ = load_run(run)
    evaluation = evaluate_agent(agent, state, config.env, episodes=40, seed=1)
    # The known answer is return 15 and cost 10; without a budget, 20 and 20. The mean of safe plans costs less than the
    # most that is safe.
    assert 5.0 < evaluation.costs.mean() < 10.0
    assert evaluation.returns.mean() == pytest.approx(10 + evaluation.costs.mean() / 2, abs=0.01)
    last = [row for row in read_metrics(run / "metrics.jsonl") if "model/holdout" in row][-1]
    assert last["model/holdout_cost"] < 0.05
