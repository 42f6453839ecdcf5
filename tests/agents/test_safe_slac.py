"""Safe-SLAC: what its two parts learn from, what it refuses, and its runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from helpers import assert_same_run, history, run_config, train_in_pieces

from prudence.constraints import DualAscent
from prudence.cores.latent_sac import LatentSAC, LatentSACConfig
from prudence.deploy.policy import load_policy
from prudence.envs.base import EnvConfig
from prudence.inspection.inspect import inspect_run
from prudence.presets import preset
from prudence.presets.offline import offline
from prudence.systems import find_system
from prudence.training.trainer import train
from prudence.types import EpisodeSummary

SPACES = toys.spaces()
SETTINGS = run_config(agent="safe-slac", evaluate_every=80)


def agent_of(spaces=SPACES, **changes) -> LatentSAC:
    config = preset("debug", "safe-slac", EnvConfig("probe/value")).agent
    assert isinstance(config, LatentSACConfig)
    agent = find_system("safe-slac").agent(spaces, replace(config, **changes))
    assert isinstance(agent, LatentSAC)
    return agent


def updated(agent: LatentSAC, rows):
    return agent.update(agent.init(key=jax.random.key(0)), rows, key=jax.random.key(1))[0]


def same(a, b) -> bool:
    pairs = zip(*(jax.tree.leaves(eqx.filter(tree, eqx.is_array)) for tree in (a, b)), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_the_policy_waits_for_the_model_and_learns_from_the_last_pairs():
    agent = agent_of(pretraining=2)
    start, rows = agent.init(key=jax.random.key(0)), toys.batch(SPACES, 2, 2, 6)
    state, _ = agent.update(start, rows, key=jax.random.key(1))
    assert same(state.sac, start.sac)
    assert not same(state.world_model, start.world_model)
    # One step, then: the second one of the dispatch begins with another model.
    state = eqx.tree_at(lambda s: s.step, state, jnp.array(1))
    after, _ = agent.update(state, rows, key=jax.random.key(2))
    assert int(after.sac.step) == 1
    earlier = rows._replace(reward=rows.reward.at[:, :, :4].add(1.0), cost=rows.cost.at[:, :, :4].add(1.0))
    changed = jax.tree.map(lambda a, b: b.at[0].set(a[0]), rows, earlier)
    other, _ = agent.update(state, changed, key=jax.random.key(2))
    assert not same(other.world_model, after.world_model)
    assert same(other.sac, after.sac)


def test_episodes_move_the_multiplier():
    """Not during the model's pretraining."""
    agent, episode = agent_of(pretraining=3), EpisodeSummary(1.0, np.array([35.0]), 20)
    state = agent.init(key=jax.random.key(0))
    multiplier = lambda state: agent.sac.multiplier_metrics(state.sac.constraint)["constraint/multiplier"]
    during = agent.on_episode(state, episode)
    np.testing.assert_allclose(multiplier(during), 0.02, rtol=1e-5)
    np.testing.assert_allclose(during.sac.lived.recent.mean, [35.0])
    after = agent.on_episode(replace(state, step=jnp.array(3)), episode)
    # σ(p) = 1 - exp(-.02) = .019801, so p rises by 2e-4 · .99007 · 10, and λ by .019801 times that.
    np.testing.assert_allclose(multiplier(after) - multiplier(during), 3.9209e-5, rtol=2e-3)


def test_costs_count_from_the_end_of_pretraining():
    agent = replace(SETTINGS.agent, pretraining=60, budget=replace(SETTINGS.agent.budget, start=60))
    short = replace(SETTINGS, agent=agent)
    assert short.run_updates == 100
    assert short.notes == ("costs never count: agent.budget.start=60 is none of the 100 updates of this run",)
    assert SETTINGS.notes == ()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: agent_of(toys.spaces(action="discrete")), "continuous actions only"),
        (
            lambda: replace(SETTINGS, agent=replace(SETTINGS.agent, pretraining=1000)).make_agent(SPACES),
            r"the policy would never learn: agent.pretraining=1,000 updates are .* and the run has 100",
        ),
        (
            lambda: updated(agent_of(), toys.batch(SPACES, 2, 2, 2)),
            "give --loop.batch-length 3 or more",
        ),
        (
            lambda: offline("debug", "safe-slac", EnvConfig("probe/value"), Path("data"), "digest"),
            "safe-slac values actions that a data set may never have tried",
        ),
    ],
)
def test_what_does_not_suit_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.slow
def test_a_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = train(SETTINGS, tmp_path / "whole")
    assert_same_run(whole, train_in_pieces(SETTINGS, tmp_path / "pieces", 24, 168, 240))
    names = {name for row in history(whole) for name in row}
    assert {"model/dynamics", "cost_critic/value", "foresight/cost_predicted", "evaluation/return_mean"} <= names
    assert load_policy(whole)({"state": np.zeros(1, np.float32)}).shape == (1,)
    found = inspect_run(whole, key=jax.random.key(0), sequences=2, context=4, ahead=4, episodes=1)
    assert found.foresight is not None


def test_its_paper_preset_is_the_papers():
    found = preset("paper", "safe-slac", EnvConfig("SafetyPointGoal1-v0", obs=("vision",)))
    agent, loop, model = found.agent, found.loop, found.agent.model
    assert (model.z1, model.z2, model.units, model.layers, model.features) == (32, 200, 256, 2, 200)
    assert (model.image_std**2, model.cost_scale, model.unsafe_weight) == (pytest.approx(0.4), 30, 100)
    assert (agent.discount, agent.budget.discount, agent.budget.limit) == (0.99, 0.995, 25.0)
    assert (agent.critic.slow_rate, agent.temperature.init, agent.temperature.target) == (0.005, 0.004, -1.0)
    assert (agent.model_optimiser.learning_rate, agent.actor_optimiser.learning_rate) == (1e-4, 2e-4)
    # 10 actions a sequence, and 64 pairs a batch.
    assert (loop.batch_length, loop.batch_size * agent.pairs, loop.replay_capacity) == (11, 64, 200_000)
    assert (found.env.action_repeat, loop.updates_per_decision, agent.pretraining) == (2, 1.0, 30_000)
    assert not isinstance(agent.constraint, DualAscent)
