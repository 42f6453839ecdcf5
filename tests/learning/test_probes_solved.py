"""Learning itself, on environments whose answers are known (see their docstrings in prudence/envs/probes.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pytest

from prudence.budgets import Budget, Imagined
from prudence.constraints import AugmentedLagrangian
from prudence.cores.dreamer.dreamer import Dreamer, DreamerState
from prudence.cores.dreamer.sizes import sizes
from prudence.deploy.policy import load_run
from prudence.envs.base import EnvConfig
from prudence.envs.vector import make_vector
from prudence.evidence.evaluate import Evaluation, evaluate_agent
from prudence.inspection.doubt import record
from prudence.optim import OptimiserConfig
from prudence.presets import preset
from prudence.run_config import RunConfig
from prudence.training.trainer import train

pytestmark = pytest.mark.slow

# Quick to settle: the dual step is apart from the penalty factor, which damps it.
CONSTRAINT = AugmentedLagrangian(multiplier_init=0.1, penalty_factor_init=0.3, growth=0.0, dual_rate=0.01)


class Solved(NamedTuple):
    agent: Dreamer
    state: DreamerState
    evaluation: Evaluation


def budget(limit: float | tuple[float, ...], estimate: Literal["sum", "mean", "episode"] = "mean") -> Budget:
    return Budget(limit, discount=0.9, violation=Imagined(estimate))


def quick(name: str, env: EnvConfig, steps: int, **changes: Any) -> RunConfig:
    """The debug preset, large enough to learn a probe within a minute."""
    config = preset("debug", name, env)
    model, actor, critic = sizes(16, 32, 4, 4, bins=41)
    # With a free nat the model need not tell the times of an episode apart.
    model = replace(model, free_nats=0.1, reward=replace(model.reward, limit=5.0), cost=replace(model.cost, limit=5.0))
    half = config.agent.privileged
    critic = replace(critic, head=replace(critic.head, limit=5.0), optimiser=OptimiserConfig(2e-3, eps=1e-5))
    agent = replace(
        config.agent,
        world_model=model,
        privileged=None if half is None else replace(half, rssm=model.rssm, mlp_units=32),
        actor=replace(actor, min_std=0.05),
        critic=critic,
        cost_critic=critic,
        model_optimiser=OptimiserConfig(2e-3, clip=1000.0),
        actor_optimiser=OptimiserConfig(1e-3, eps=1e-5),
        horizon=5,
        imagination_starts=64,
        discount=0.9,
        budget=budget(2.0, "sum"),
        cooldown=0.0,
        averaging=None,
    )
    loop = replace(
        config.loop,
        steps=steps,
        num_envs=4,
        prefill=400,
        updates_per_decision=0.5,
        updates_per_dispatch=20,
        decisions_per_iteration=40,
        batch_size=16,
        batch_length=12,
        replay_capacity=20_000,
        log_every=400,
        evaluate_every=0,
        checkpoint_every=steps,
    )
    return replace(config, agent=replace(agent, **changes), loop=loop)


def solve(out: Path, task: str, name: str = "dreamerv3", steps: int = 4000, costs: Any = "total", **changes) -> Solved:
    config = quick(name, EnvConfig(task, costs=costs), steps, **changes)
    _, agent, state, _ = load_run(train(config, out))
    assert isinstance(agent, Dreamer)
    return Solved(agent, state, evaluate_agent(agent, state, config.env, episodes=8, seed=1))


def values_along_an_episode(solved: Solved, task: str) -> np.ndarray:
    """What the critic expects at the observations of one episode."""
    agent, state = solved.agent, solved.state
    with closing(make_vector(EnvConfig(task), 1, seed=5)) as envs:
        carry, row, values = agent.init_carry(1), envs.reset(), []
        while not row.is_last[0]:
            key = jax.random.fold_in(jax.random.key(3), len(values))
            action, carry, _ = agent.act(state, carry, row.observation, row.is_first, key=key, mode="evaluate")
            values.append(float(state.critic.values(carry.latent.features)[0]))
            row = envs.step(np.asarray(action))
    return np.array(values)


def test_value(tmp_path):
    # 1 / (1 - .9) everywhere; taking truncation for termination would give 1 at the last step.
    values = values_along_an_episode(solve(tmp_path, "probe/value"), "probe/value")
    np.testing.assert_allclose(values, 10.0, rtol=0.1)


def test_terminal(tmp_path):
    # 1 / (1 - .9) · (1 - .9^(10 - t)): the reward of time t has arrived, and the last arrives with the terminal state.
    values = values_along_an_episode(solve(tmp_path, "probe/terminal"), "probe/terminal")
    expected = 10 * (1 - 0.9 ** (10.0 - np.arange(10)))
    np.testing.assert_allclose(values, expected, atol=0.5)


def test_policy(tmp_path):
    assert solve(tmp_path, "probe/policy-discrete").evaluation.returns.mean() > 19.0


@pytest.mark.parametrize(("discount", "answer"), [(0.95, 1.0), (0.7, 0.5)])
def test_discount(tmp_path, discount, answer):
    # Waiting for 1 is worth .95⁴ = .81 > .5, but .7⁴ = .24 < .5.
    evaluation = solve(tmp_path, "probe/discount-discrete", discount=discount).evaluation
    assert evaluation.returns.mean() == pytest.approx(answer, abs=0.1)


@pytest.mark.parametrize("task", ["probe/cost", "probe/cost-discrete"])
def test_budget_zero_keeps_off_the_unsafe_arm(tmp_path, task):
    solved = solve(
        tmp_path,
        task,
        "safedreamer-bsrp-lag",
        constraint=CONSTRAINT,
        budget=budget(0.0),
    )
    assert solved.evaluation.costs.mean() < 0.2
    assert solved.evaluation.returns.mean() == pytest.approx(10.0, abs=0.2)


def test_a_plan_acts_where_the_policy_would_take_the_unsafe_arm(tmp_path):
    """The policy learns to take it, as DreamerV3 does (return 20, cost 20), and every such action is replaced."""
    recovery = preset("debug", "recovery-rl", EnvConfig("probe/cost")).agent.recovery
    fast = replace(recovery.critic, optimiser=OptimiserConfig(2e-3, eps=1e-5), slow_rate=0.05)
    fast = replace(fast, head=replace(fast.head, units=32))
    search = replace(recovery.search, plans=32, elites=4, iterations=3, init_std=0.5)
    recovery = replace(recovery, critic=fast, search=search)
    solved = solve(tmp_path / "recovery", "probe/cost", "recovery-rl", recovery=recovery)
    reckless = solve(tmp_path / "dreamerv3", "probe/cost")
    assert reckless.evaluation.costs.mean() > 19.0
    assert solved.evaluation.costs.mean() < 1.0
    assert solved.evaluation.returns.mean() == pytest.approx(10.0, abs=0.5)


def test_large_budget_takes_the_unsafe_arm(tmp_path):
    solved = solve(
        tmp_path,
        "probe/cost",
        "safedreamer-bsrp-lag",
        constraint=CONSTRAINT,
        budget=budget(100.0),
    )
    assert solved.evaluation.returns.mean() > 19.0
    assert float(solved.state.constraint.multiplier[0]) == 0.0


def test_two_conflicting_constraints_are_both_held(tmp_path):
    solved = solve(
        tmp_path,
        "probe/conflict",
        "safedreamer-bsrp-lag",
        steps=6000,
        costs="separate",
        constraint=CONSTRAINT,
        budget=budget((0.4, 0.4), "episode"),
    )
    assert solved.evaluation.costs.mean(0).max() < 0.6
    # Not by giving up, and not by holding one constraint only (20): the middle arm's 5, or a position near a border.
    # The multipliers may be back at 0 by then: an arm that is not taken costs nothing.
    assert 2.5 < solved.evaluation.returns.mean() < 10.0


def test_privileged_critics_tell_apart_what_looks_alike(tmp_path):
    """Windows of replay in which nothing that acting sees tells the unsafe state from the safe one. Without a budget
    the policy takes every risk: costs are worth 1 / (1 - .9) in the one and nothing in the other.

    From an episode's start, where the sign is shown, both agents learn these values within so many steps.
    """
    env = EnvConfig("probe/alike")
    values = {}
    for name in ("asymdreamer", "asymdreamer-o"):
        config = quick(name, env, 4000, constraint=CONSTRAINT, budget=budget(100.0, "episode"))
        # Too short to hold an episode's begin and middle.
        config = replace(config, loop=replace(config.loop, batch_length=5))
        _, agent, state, _ = load_run(train(config, tmp_path / name))
        assert isinstance(agent, Dreamer)
        rows = record(agent, state, env, sequences=32, length=10, seed=5)
        middle = jax.tree.map(lambda x: jax.numpy.asarray(x[:, 3:8]), rows)
        model = state.world_model.module
        seen = model.critic_features(model.observe(middle, key=jax.random.key(3)).states)
        unsafe = middle.observation["sign"][:, 0, 0] > 0
        found = np.asarray(state.cost_critic.values(seen))[..., 0]
        values[name] = found[unsafe].mean(), found[~unsafe].mean()
    np.testing.assert_allclose(values["asymdreamer"], [10.0, 0.0], atol=1.5)
    assert abs(np.subtract(*values["asymdreamer-o"])) < 1.5


def test_pessimism_keeps_off_the_ledge_that_greed_takes(tmp_path):
    """Two agents that differ in ``uncertainty.safety`` alone, after learning from the same recorded steps. The budget
    is 5, which allows the ledge, with what it really costs, at a quarter of the steps: return 12.5."""
    script, out = Path(__file__).parents[2] / "benchmarks" / "ledge.py", tmp_path / "ledge.json"
    subprocess.run([sys.executable, script, "--seeds", "0", "--out", out], check=True)
    greedy, pessimistic = json.loads(out.read_text())["rows"]
    assert (greedy["safety"], pessimistic["safety"]) == ("mean", "pessimistic")
    # Some of the models know, most do not.
    assert 0 < pessimistic["knowing"] < 0.5
    assert greedy["cost"] > 15.0
    assert pessimistic["cost"] < 8.0
    assert 11.0 < pessimistic["return"] < 14.5
