"""Learning from recorded actions, on environments whose answers are known. The data is of uniform actions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prudence.budgets import Budget, Imagined
from prudence.cli.api import configure
from prudence.constraints import AugmentedLagrangian, Unconstrained
from prudence.cores.dreamer.sizes import sizes
from prudence.cores.fosp.config import FospConfig
from prudence.cores.fosp.critics import ValuesConfig
from prudence.datasets.record import record_dataset
from prudence.deploy.policy import load_run
from prudence.envs import registry
from prudence.evidence.evaluate import Evaluation, evaluate_agent
from prudence.optim import OptimiserConfig
from prudence.run_config import RunConfig
from prudence.runs.metrics import read_metrics
from prudence.training.trainer import train

pytestmark = pytest.mark.slow

FAST = OptimiserConfig(2e-3, eps=1e-5)
CONSTRAINT = AugmentedLagrangian(multiplier_init=0.1, penalty_factor_init=0.3, growth=0.0, dual_rate=0.01)


@pytest.fixture(scope="module")
def uniform(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 episodes of probe/cost: return 15 - 5/2 = 12.5 and cost 5 on average."""
    out = tmp_path_factory.mktemp("data") / "uniform"
    record_dataset("random", out, episodes=100, env=registry.configure("probe/cost"))
    return out


def tuned(config: RunConfig, **changes: Any) -> RunConfig:
    """The debug preset, large enough to learn a probe within a minute, with a budget of 0."""
    agent = config.agent
    assert isinstance(agent, FospConfig)
    model, actor, critic = sizes(16, 32, 4, 4, bins=41)
    model = replace(model, free_nats=0.1, reward=replace(model.reward, limit=5.0), cost=replace(model.cost, limit=5.0))
    value = replace(ValuesConfig().state, optimiser=FAST)
    value = replace(value, head=replace(critic.head, kind="symexp_twohot", limit=5.0), slow_regulariser=0.0)
    feasibility = agent.feasibility
    if feasibility is not None:
        head = replace(feasibility.critic.head, layers=critic.head.layers, units=critic.head.units)
        feasibility = replace(feasibility, discount=0.8, critic=replace(feasibility.critic, head=head, optimiser=FAST))
    agent = replace(
        agent,
        world_model=model,
        actor=replace(actor, min_std=0.05),
        values=replace(agent.values, state=value, action=value),
        model_optimiser=OptimiserConfig(2e-3, clip=1000.0),
        actor_optimiser=OptimiserConfig(1e-3, eps=1e-5),
        feasibility=feasibility,
        constraint=CONSTRAINT if agent.constrained else Unconstrained(),
        budget=Budget(0.0, discount=0.9, violation=Imagined("mean")),
        horizon=5,
        imagination_starts=64,
        discount=0.9,
        cooldown=0.0,
        averaging=None,
    )
    return replace(config, agent=replace(agent, **changes))


def solve(name: str, data: Path, out: Path, updates: int = 1500, **changes: Any) -> Evaluation:
    """Trains on data, then evaluates."""
    config = tuned(configure(name, dataset=data, preset_name="debug", updates=updates), **changes)
    loop = replace(
        config.loop,
        updates_per_dispatch=20,
        updates_per_iteration=20,
        batch_size=16,
        batch_length=12,
        log_every=300,
        checkpoint_every=updates,
        foresight_every=0,
    )
    config = replace(config, loop=loop)
    _, made, state, _ = load_run(train(config, out))
    return evaluate_agent(made, state, config.env, episodes=8, seed=1)


def test_cloning_uniform_actions_earns_and_costs_as_they_did(uniform, tmp_path):
    found = solve("bc", uniform, tmp_path, evaluation="sample")
    assert found.returns.mean() == pytest.approx(12.5, abs=1.5)
    assert found.costs.mean() == pytest.approx(5.0, abs=2.5)


def test_fosp_keeps_a_budget_that_its_data_breaks(uniform, tmp_path):
    found = solve("fosp", uniform, tmp_path)
    assert found.costs.mean() < 0.5
    assert found.returns.mean() > 9.0


def test_without_feasibility_and_penalty_rewards_win(uniform, tmp_path):
    found = solve("fosp-no-reachability", uniform, tmp_path, constraint=Unconstrained())
    assert found.returns.mean() > 15.0


def test_fosp_keeps_two_budgets_that_conflict(tmp_path):
    """It earns .3 of 5 here, so its return is not tested: the safe actions with a reward are on both sides, and a
    Gaussian's mode is between them."""
    data = tmp_path / "data"
    record_dataset("random", data, episodes=100, env=registry.configure("probe/conflict", costs="separate"))
    found = solve("fosp", data, tmp_path / "run")
    assert found.costs.mean(0).max() < 0.5


def online(config: RunConfig, out: Path, origin: Path | None = None) -> tuple[float, float]:
    """Trains for 60 episodes in the environment. Mean cost of all of them, and mean return of the last 20."""
    loop = replace(
        config.loop,
        steps=1200,
        prefill=100,
        updates_per_decision=1.0,
        updates_per_dispatch=10,
        decisions_per_iteration=10,
        batch_size=16,
        batch_length=12,
        checkpoint_every=1200,
        evaluate_every=0,
    )
    rows = read_metrics(train(replace(config, loop=loop), out, start_from=origin) / "metrics.jsonl")
    returns, costs = (
        [row[f"episode/{name}"] for row in rows if f"episode/{name}" in row] for name in ("return", "cost")
    )
    return sum(costs) / len(costs), sum(returns[-20:]) / 20


def test_going_on_from_data_costs_less_than_beginning_anew(uniform, tmp_path):
    solve("fosp", uniform, tmp_path / "offline")
    following = tuned(configure("fosp", start_from=tmp_path / "offline", preset_name="debug"))
    cost, earned = online(following, tmp_path / "online", tmp_path / "offline")
    cost_anew, _ = online(tuned(configure("fosp", "probe/cost", preset_name="debug")), tmp_path / "anew")
    assert cost < 0.5 * cost_anew
    assert earned > 9.0
