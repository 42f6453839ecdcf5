"""The model-free agents on environments whose answers are known (see their docstrings in prudence/envs/probes.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import pytest

from prudence.budgets import Budget, Lived
from prudence.constraints import CostPenalty, DualAscent, PIDLagrangian, Saute
from prudence.cores.on_policy.improvement import FirstOrder
from prudence.cores.on_policy.on_policy import Inputs, OnPolicy, OnPolicyConfig, OnPolicyState
from prudence.deploy.policy import load_run
from prudence.envs.base import EnvConfig
from prudence.evidence.evaluate import Evaluation, evaluate_agent
from prudence.models.pictures import Patches
from prudence.optim import OptimiserConfig
from prudence.presets import preset
from prudence.run_config import RunConfig
from prudence.systems import SYSTEMS
from prudence.training.trainer import train

pytestmark = pytest.mark.slow

BUDGETED = [
    name
    for name, system in SYSTEMS.items()
    if system.config is OnPolicyConfig and name not in ("ppo", "ppo-reward-shaping")
]
# One for each kind of constraint, and every improvement: what the budget is worth is the constraint's affair.
KINDS = ("ppo-lag", "ppo-pid", "focops", "cpo", "crpo", "saute-trpo")
# Two hundred episodes of twenty steps are all there is: the multipliers move faster than on a real task.
CONSTRAINTS = {
    DualAscent: DualAscent(0.5, 0.1, maximum=10.0),
    PIDLagrangian: PIDLagrangian(1.0, 0.02, 0.0, 10.0, 0.5, smoothing=0.5, cost_smoothing=0.8, warmup=0),
    CostPenalty: CostPenalty(1.0),
    Saute: Saute(-1.0),
}


class Solved(NamedTuple):
    agent: OnPolicy
    state: OnPolicyState
    evaluation: Evaluation


def quick(config: OnPolicyConfig, limit: float | tuple[float, ...] = 25.0, **changes: Any) -> OnPolicyConfig:
    """Networks of 32, steep learning rates, short sight."""
    improvement = config.improvement
    if isinstance(improvement, FirstOrder):
        improvement = replace(improvement, passes=10, batch_size=64, kl_limit=0.05)
    else:
        improvement = replace(improvement, kl_limit=0.03)
    critic = replace(config.critic, units=32, optimiser=OptimiserConfig(3e-3), passes=5, batch_size=64)
    config = replace(
        config,
        improvement=improvement,
        constraint=CONSTRAINTS.get(type(config.constraint), config.constraint),
        actor=replace(config.actor, units=32),
        critic=critic,
        actor_optimiser=OptimiserConfig(3e-3),
        discount=0.9,
        budget=Budget(limit, discount=0.9, violation=Lived(memory=0.1, relative=False)),
        final_rate=1.0,
        evaluation="mode",
    )
    return replace(config, **changes)


def solve(out: Path, task: str, name: str, steps: int = 12_000, costs: Any = "total", **changes: Any) -> Solved:
    config = preset("debug", name, EnvConfig(task, costs=costs))
    assert isinstance(config.agent, OnPolicyConfig)
    loop = replace(
        config.loop, steps=steps, num_envs=20, decisions_per_iteration=400, evaluate_every=0, checkpoint_every=steps
    )
    config: RunConfig = replace(config, agent=quick(config.agent, **changes), loop=loop)
    _, agent, state, _ = load_run(train(config, out))
    assert isinstance(agent, OnPolicy)
    return Solved(agent, state, evaluate_agent(agent, state, config.env, episodes=4, seed=1))


def prompt(name: str) -> dict[str, Any]:
    """Prices that are high from the start, where they ascend: advantages of reward are standardised, those of cost are
    not, so that the less often the safe arm is taken, the more standard deviations its reward lies below, and a price
    that rises slowly comes too late."""
    rises = isinstance(SYSTEMS[name].published(False).agent.constraint, DualAscent)
    return {"constraint": DualAscent(4.0, 0.3, maximum=20.0)} if rises else {}


def values(solved: Solved, vector: list[list[float]]) -> jnp.ndarray:
    """What the critic expects at observations."""
    inputs = Inputs(solved.state.moments.normalise(jnp.array(vector)), {})
    return solved.state.critic.module(inputs)[:, 0]


def test_truncation_is_not_termination(tmp_path):
    # 1 / (1 - .9) everywhere; taking truncation for termination would give less, the more the later.
    found = values(solve(tmp_path, "probe/value", "ppo", 6000), [[0.0]])
    assert float(found[0]) == pytest.approx(10.0, rel=0.05)


def test_termination_has_no_future(tmp_path):
    # 1 / (1 - .9) · (1 - .9^(10 - t)), the reward of time t having arrived.
    times = [[t / 10] for t in range(10)]
    found = values(solve(tmp_path, "probe/terminal", "ppo"), times)
    expected = jnp.array([10 * (1 - 0.9 ** (10 - t)) for t in range(10)])
    assert float(jnp.abs(found - expected).max()) < 0.6


@pytest.mark.parametrize("name", ["ppo", "focops", "trpo-lag", "cpo"])
def test_every_improvement_finds_the_best_policy(tmp_path, name):
    # Continuous actions, with a budget that allows everything, are below.
    assert solve(tmp_path, "probe/policy-discrete", name, limit=100.0).evaluation.returns.mean() > 19.0


@pytest.mark.parametrize(
    ("name", "task"),
    [(name, "probe/cost") for name in (*BUDGETED, "ppo-reward-shaping")]
    + [(name, "probe/cost-discrete") for name in ("ppo-lag", "focops", "trpo-lag", "cpo")],
)
def test_budget_zero_keeps_off_the_unsafe_arm(tmp_path, task, name):
    evaluation = solve(tmp_path, task, name, limit=0.0, **prompt(name)).evaluation
    assert evaluation.costs.mean() < 0.2
    assert evaluation.returns.mean() == pytest.approx(10.0, abs=0.2)


@pytest.mark.parametrize("name", KINDS)
def test_large_budget_takes_the_unsafe_arm(tmp_path, name):
    assert solve(tmp_path, "probe/cost-discrete", name, limit=100.0).evaluation.returns.mean() > 19.0


@pytest.mark.parametrize("name", ["ppo-lag", "cpo", "crpo", "saute-trpo"])  # A constraint of each kind.
def test_two_conflicting_constraints_are_both_held(tmp_path, name):
    """The middle arm: not one of the others, each of which only one constraint forbids."""
    changes = {"limit": (0.4, 0.4), "costs": "separate", **prompt(name)}
    evaluation = solve(tmp_path, "probe/conflict-discrete", name, 16_000, **changes).evaluation
    assert evaluation.costs.mean(0).max() < 0.4
    assert evaluation.returns.mean() == pytest.approx(5.0, abs=0.1)


def test_pictures_are_seen(tmp_path):
    """Half of the way to the best place at least: a policy that does not look stays at x = -0.7, and returns less."""
    patches = Patches(side=4, units=16)  # Those of the debug preset have too few features to see anything.
    evaluation = solve(tmp_path, "probe/pixels-16", "ppo", 16_000, patches=patches).evaluation
    assert evaluation.returns.mean() > 18.0
