"""SAC and SAC-Lag on environments whose answers are known (see their docstrings in prudence/envs/probes.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from prudence.budgets import Budget, Lived
from prudence.constraints import DualAscent
from prudence.cores.sac import SAC, SACConfig, SACState
from prudence.critics import CriticConfig
from prudence.deploy.policy import load_run
from prudence.envs.base import EnvConfig
from prudence.evidence.evaluate import Evaluation, evaluate_agent
from prudence.optim import OptimiserConfig
from prudence.presets import preset
from prudence.training.trainer import train

pytestmark = pytest.mark.slow

FAST = OptimiserConfig(3e-3)


class Solved(NamedTuple):
    agent: SAC
    state: SACState
    evaluation: Evaluation


def quick(config: SACConfig, limit: float | tuple[float, ...]) -> SACConfig:
    """Networks of 32, steep learning rates, short sight, and less noise in the end."""

    def steep(critic: CriticConfig) -> CriticConfig:
        return replace(critic, head=replace(critic.head, units=32), optimiser=FAST, slow_rate=0.05)

    return replace(
        config,
        actor=replace(config.actor, units=32),
        critic=steep(config.critic),
        cost_critic=steep(config.cost_critic),
        actor_optimiser=FAST,
        temperature=replace(config.temperature, init=0.1, target=-2.0, optimiser=FAST),
        discount=0.9,
        budget=Budget(limit, discount=0.9, violation=Lived(memory=0.1, relative=False)),
        evaluation="mode",
    )


def solve(
    out: Path, task: str, name: str = "sac-lag", limit: Any = 25.0, steps: int = 4000, costs: Any = "total"
) -> Solved:
    config = preset("debug", name, EnvConfig(task, costs=costs))
    agent = quick(config.agent, limit)
    if name == "sac-lag":
        agent = replace(agent, constraint=DualAscent(0.5, 0.003, maximum=10.0))
    loop = replace(
        config.loop,
        steps=steps,
        num_envs=20,
        prefill=400,
        updates_per_dispatch=20,
        decisions_per_iteration=80,
        batch_size=64,
        replay_capacity=20_000,
        log_every=400,
        evaluate_every=0,
        checkpoint_every=steps,
    )
    config = replace(config, agent=agent, loop=loop)
    _, agent, state, _ = load_run(train(config, out))
    assert isinstance(agent, SAC)
    return Solved(agent, state, evaluate_agent(agent, state, config.env, episodes=4, seed=1))


def values(solved: Solved, observation: list[list[float]]) -> np.ndarray:
    """What the smaller critic expects of the action that is taken, without the entropy of later ones."""
    learner, seen = solved.state.learner, jnp.array(observation)
    return np.asarray(learner.critic.values(seen, learner.actor.module(seen).mode()).min(0))


def test_truncation_is_not_termination(tmp_path):
    # 1 / (1 - .9) everywhere; taking truncation for termination would give less.
    assert values(solve(tmp_path, "probe/value", "sac"), [[0.0]])[0] == pytest.approx(10.0, rel=0.05)


def test_termination_has_no_future(tmp_path):
    # 1 / (1 - .9) · (1 - .9^(10 - t)), the reward of time t having arrived.
    found = values(solve(tmp_path, "probe/terminal", "sac"), [[t / 10] for t in range(10)])
    np.testing.assert_allclose(found, [10 * (1 - 0.9 ** (10 - t)) for t in range(10)], atol=0.6)


def test_it_finds_the_best_action(tmp_path):
    assert solve(tmp_path, "probe/policy", "sac").evaluation.returns.mean() > 19.8


def test_budget_zero_keeps_off_the_unsafe_arm(tmp_path):
    evaluation = solve(tmp_path, "probe/cost", limit=0.0).evaluation
    assert evaluation.costs.mean() < 0.2
    assert evaluation.returns.mean() == pytest.approx(10.0, abs=0.2)


def test_large_budget_takes_the_unsafe_arm(tmp_path):
    solved = solve(tmp_path, "probe/cost", limit=100.0)
    assert solved.evaluation.returns.mean() > 19.0
    assert float(solved.state.constraint.multiplier[0]) == 0.0


def test_two_conflicting_constraints_are_both_held(tmp_path):
    evaluation = solve(tmp_path, "probe/conflict", limit=(0.4, 0.4), costs="separate").evaluation
    assert evaluation.costs.mean(0).max() < 0.4
    # The middle arm's 5, or a position near a border.
    assert 2.5 < evaluation.returns.mean() < 10.0
