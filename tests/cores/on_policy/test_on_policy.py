"""The on-policy core: advantages by a plain loop, what is masked, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.constraints import CostPenalty, Saute, Unconstrained
from prudence.cores.on_policy.on_policy import Inputs, OnPolicy, OnPolicyConfig, OnPolicyState
from prudence.envs.base import EnvConfig
from prudence.presets import preset
from prudence.systems import find_system
from prudence.types import Batch, EpisodeSummary, ObservationSpec, Spaces

SPENT = ("spent", ObservationSpec((1,), "float32"))


def config(name: str = "ppo-lag", **changes) -> OnPolicyConfig:
    return replace(preset("debug", name, EnvConfig("probe/cost")).agent, **changes)


def agent_of(name: str = "ppo-lag", spaces: Spaces | None = None, **changes) -> OnPolicy:
    return find_system(name).agent(spaces or toys.spaces(), config(name, **changes))


def rollout(spaces: Spaces, steps: int = 12, envs: int = 3) -> Batch:
    """One rollout ``[1, E, T+1]`` in which episodes begin, are truncated and terminate at random."""
    rows = toys.batch(spaces, 1, envs, steps + 1)
    last = np.random.default_rng(1).random((1, envs, steps + 1)) < 0.3
    return rows._replace(is_last=jnp.asarray(last), is_terminal=jnp.asarray(last) & rows.is_terminal)


def after(agent: OnPolicy, rows: Batch) -> OnPolicyState:
    return agent.update(agent.init(key=jax.random.key(0)), rows, key=jax.random.key(1))[0]


def leaves(state: OnPolicyState) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


@pytest.mark.parametrize("lambda_", [0.95, 0.5])
def test_advantages_by_a_plain_loop(lambda_):
    """Σ (γλ)^k δ_{t+k} up to the end of the episode; the value of its last observation counts if it was truncated."""
    spaces = toys.spaces()
    agent = agent_of(spaces=spaces)
    state, rows = agent.init(key=jax.random.key(0)), jax.tree.map(lambda x: x[0].swapaxes(0, 1), rollout(spaces))
    inputs = Inputs(rows.observation["state"], {})
    told = agent._advantages(state.critic, inputs, rows.reward[..., None], rows, 0.9, lambda_)
    found, rows = np.asarray(told.advantages).reshape(12, 3), jax.tree.map(np.asarray, rows)
    values = np.asarray(state.critic.module(inputs))[..., 0]
    for env in range(3):
        for t in range(12):
            if rows.is_last[t, env]:
                continue
            total, weight = 0.0, 1.0
            for k in range(t, 12):
                goes_on = not rows.is_terminal[k + 1, env]
                delta = rows.reward[k + 1, env] + 0.9 * goes_on * values[k + 1, env] - values[k, env]
                total, weight = total + weight * float(delta), weight * 0.9 * lambda_
                if rows.is_last[k + 1, env]:
                    break
            assert float(found[t, env]) == pytest.approx(total, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["ppo-lag", "cpo"])
def test_nothing_is_learnt_from_the_step_between_two_episodes(name):
    """What is 'done' at an episode's last observation is done by nobody."""
    spaces = toys.spaces()
    agent, rows = agent_of(name, spaces), rollout(spaces)
    # The last row's own flag counts for the decision before it only.
    resets = np.asarray(rows.is_last)[:, :, :-1]
    actions, rewards = np.array(rows.prev_action), np.array(rows.reward)
    actions[:, :, 1:][resets] = 0.123
    rewards[:, :, 1:][resets] = 50.0
    other = rows._replace(prev_action=jnp.asarray(actions), reward=jnp.asarray(rewards))
    one, two = after(agent, rows).actor, after(agent, other).actor
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "observation", "action"),
    [
        ("ppo-lag", (toys.IMAGE, toys.VECTOR), "discrete"),
        ("ppo-pid", (toys.VECTOR,), "continuous"),
        ("focops", (toys.VECTOR,), "continuous"),
        ("trpo-lag", (toys.VECTOR,), "continuous"),
        ("cpo", (toys.IMAGE,), "discrete"),
        ("saute-ppo", (toys.VECTOR, SPENT), "discrete"),
    ],
)
def test_acts_and_learns(name, observation, action):
    """Every improvement and constraint, pictures, vectors and both kinds of action."""
    spaces = toys.spaces(*observation, action=action)
    agent, rows = agent_of(name, spaces), rollout(spaces)
    state = agent.init(key=jax.random.key(0))
    after, metrics = agent.update(state, rows, key=jax.random.key(1))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert all(np.isfinite(leaf).all() for leaf in leaves(after))
    assert all(np.ndim(value) == 0 for value in metrics.values())
    moved = any((a != b).any() for a, b in zip(leaves(state.actor), leaves(after.actor), strict=True))
    assert moved or metrics["actor/step_fraction"] == 0
    shown = {key: np.asarray(value)[0, :, 0] for key, value in rows.observation.items()}
    action_taken, _, _ = agent.act(after, (), shown, np.zeros(3, bool), key=jax.random.key(2), mode="train")
    assert action_taken.shape == (3, 2)
    assert float(jnp.abs(action_taken).max()) <= 1.0


def test_the_price_follows_finished_episodes_and_waits_for_the_first():
    agent = agent_of(budget=replace(config().budget, limit=5.0))
    rows = rollout(agent.spaces)
    state = agent.init(key=jax.random.key(0))
    untouched, _ = agent.update(state, rows, key=jax.random.key(1))
    np.testing.assert_allclose(untouched.constraint.multiplier, [0.001])
    dear = agent.on_episode(state, EpisodeSummary(1.0, np.array([9.0]), 20))
    cheap = agent.on_episode(state, EpisodeSummary(1.0, np.array([1.0]), 20))
    assert float(agent.update(dear, rows, key=jax.random.key(1))[0].constraint.multiplier[0]) == pytest.approx(
        0.036, rel=1e-4
    )
    assert float(agent.update(cheap, rows, key=jax.random.key(1))[0].constraint.multiplier[0]) == 0.0


def test_shaped_rewards_are_what_is_learnt_from():
    """A penalty of 0 is PPO; Sauté within its budget is PPO, too."""
    spaces = toys.spaces(toys.VECTOR, SPENT)
    rows = rollout(spaces)
    rows = rows._replace(observation={**rows.observation, "spent": jnp.zeros_like(rows.observation["spent"])})
    plain = after(OnPolicy(spaces, config("ppo")), rows)
    free = after(OnPolicy(spaces, config("ppo", constraint=CostPenalty(0.0))), rows)
    dear = after(OnPolicy(spaces, config("ppo", constraint=CostPenalty(1.0))), rows)
    same = [np.array_equal(a, b) for a, b in zip(leaves(plain), leaves(free), strict=True)]
    assert all(same)
    assert not all(np.array_equal(a, b) for a, b in zip(leaves(plain), leaves(dear), strict=True))


def test_moments_are_of_all_rollouts_and_take_effect_after_learning():
    agent = agent_of()
    rows = rollout(agent.spaces)
    state = after(agent, rows)
    seen = np.asarray(rows.observation["state"])[0, :, :-1].reshape(-1, 3)
    np.testing.assert_allclose(state.moments.mean, seen.mean(0), rtol=1e-4, atol=1e-5)
    assert float(state.moments.count) == len(seen)


def test_learning_rates_fall_to_a_twentieth():
    agent = replace(agent_of(), run_updates=10)
    state = agent.init(key=jax.random.key(0))
    rates = []
    for step in (0, 5, 10, 50):
        rows = jax.tree.map(lambda x: x[0].swapaxes(0, 1), rollout(agent.spaces))
        inputs = Inputs(rows.observation["state"].reshape(-1, 3)[: 12 * 3], {})
        reward = agent._advantages(
            state.critic, Inputs(rows.observation["state"], {}), rows.reward[..., None], rows, 0.9, 0.95
        )
        later = replace(state, step=jnp.asarray(step))
        rates.append(float(agent._rollout(later, state.constraint, inputs, rows, reward, None).rate))
    np.testing.assert_allclose(rates, [1.0, 0.525, 0.05, 0.05], rtol=1e-5)


# ---- what it refuses -------------------------------------------------------------------------


def test_budgets_must_be_as_many_as_costs():
    with pytest.raises(ValueError, match=r"budget\.limit names 2 budgets, but the environment reports 1 costs: cost"):
        agent_of(budget=replace(config().budget, limit=(1.0, 2.0)))


def test_saute_needs_to_see_what_was_spent():
    with pytest.raises(ValueError, match=r"set EnvConfig.spent"):
        agent_of("saute-ppo")


def test_cpo_needs_the_length_of_an_episode():
    with pytest.raises(ValueError, match="set one"):
        agent_of("cpo", toys.spaces(steps=None))


def test_a_name_stands_for_an_improvement_and_a_constraint():
    with pytest.raises(ValueError, match="ppo-lag needs improvement=ClippedSurrogate and constraint=DualAscent or"):
        find_system("ppo-lag").agent(toys.spaces(), config("ppo-lag", constraint=Unconstrained()))
    with pytest.raises(ValueError, match="the configuration has ClippedSurrogate and Saute"):
        find_system("saute-trpo").agent(toys.spaces(), config("saute-ppo", constraint=Saute()))


def test_there_is_no_gpu_preset():
    with pytest.raises(ValueError, match="ppo has no preset 'gpu': choose from debug, cpu, paper, suite"):
        preset("gpu", "ppo", EnvConfig("probe/cost"))


def test_what_is_privileged_changes_nothing():
    spaces = toys.spaces(toys.VECTOR, ("contacts", ObservationSpec((4,), "float32")), privileged=("contacts",))
    agent, rows = agent_of(spaces=spaces), rollout(spaces)
    changed = rows._replace(observation={**rows.observation, "contacts": rows.observation["contacts"] + 1})
    for left, right in zip(leaves(after(agent, rows)), leaves(after(agent, changed)), strict=True):
        np.testing.assert_array_equal(left, right)
    state, seen = agent.init(key=jax.random.key(0)), toys.batch(spaces, 3).observation
    carry, first = agent.init_carry(3), np.ones(3, bool)
    actions = [
        agent.act(state, carry, given, first, key=jax.random.key(2), mode="evaluate")[0]
        for given in (seen, {"state": seen["state"]})
    ]
    np.testing.assert_array_equal(*actions)
