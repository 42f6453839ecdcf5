"""FOSP in an environment: the transfer, the choice between two policies, and the advantages that one ascends."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.cores.fosp.config import ExpansionConfig, FineTuningConfig, FospConfig
from prudence.cores.fosp.critics import Values
from prudence.cores.fosp.expansion import choose
from prudence.cores.fosp.fosp import Fosp
from prudence.envs.base import EnvConfig
from prudence.ops.offline import expansion_probabilities
from prudence.presets import preset
from prudence.systems import find_system
from prudence.types import EpisodeSummary

SPACES = toys.spaces(costs=("left", "right"))


def make(name: str = "fosp", **changes) -> Fosp:
    config = find_system(name).online(preset("debug", name, EnvConfig("probe/value")).agent)
    assert isinstance(config, FospConfig)
    agent = find_system(name).agent(SPACES, replace(config, **changes))
    assert isinstance(agent, Fosp)
    return agent


def same(a, b) -> bool:
    pairs = zip(jax.tree.leaves(eqx.filter(a, eqx.is_array)), jax.tree.leaves(eqx.filter(b, eqx.is_array)), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


# --- the choice ---------------------------------------------------------------------------------


def test_probabilities_of_proposals_by_hand():
    scores = jnp.array([[0.0, 1.0, 3.0], [0.1, 1.0, -2.0]])
    found = expansion_probabilities(scores, 10.0)
    np.testing.assert_allclose(found[1], [1 / (1 + np.exp(-1.0)), 0.5, 0.0], atol=1e-6)  # σ(10 · .1) = .731.
    np.testing.assert_allclose(found.sum(0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(expansion_probabilities(scores + 7.0, 10.0), found, atol=1e-5)
    np.testing.assert_array_equal(expansion_probabilities(scores, 0.0), 0.5)


class Scale(eqx.Module):
    scale: jax.Array


class Toy(eqx.Module):
    """Q is ``gain`` times the first entry of the action, for each entry of ``scale``."""

    gain: float
    scale: Scale

    def of_actions(self, features, actions):
        return self.gain * actions[:, 0].reshape(-1, *(1,) * self.scale.scale.ndim) * jnp.ones(self.scale.scale.shape)


def test_each_environment_takes_the_better_of_its_own_proposals():
    """Reward 4a in units of 2, two costs of 6a in units of 4 and 12: 2a − ω(1.5a + .5a)."""
    values = Values(Toy(4.0, Scale(jnp.array(2.0))), Toy(6.0, Scale(jnp.array([4.0, 12.0]))))
    proposals = jnp.array([[[0.5], [0.0]], [[0.0], [0.5]]])
    features = jnp.zeros((2, 1))
    choice = lambda share: choose(proposals, values, features, ExpansionConfig(10.0, share), key=None)
    action, probabilities = choice(0.0)
    np.testing.assert_array_equal(action[:, 0], [0.5, 0.5])
    np.testing.assert_allclose(probabilities[0], jax.nn.sigmoid(jnp.array([10.0, -10.0])), rtol=1e-5)
    np.testing.assert_allclose(choice(1.0)[1], 0.5, atol=1e-6)
    np.testing.assert_array_equal(choice(2.0)[0][:, 0], [0.0, 0.0])


def test_proposals_are_drawn_with_their_probabilities():
    values = Values(Toy(1.0, Scale(jnp.array(1.0))), Toy(0.0, Scale(jnp.array([1.0]))))
    proposals = jnp.stack([jnp.zeros((4000, 1)), jnp.full((4000, 1), 0.1)])
    action, probabilities = choose(proposals, values, jnp.zeros((4000, 1)), ExpansionConfig(), key=jax.random.key(0))
    np.testing.assert_allclose(probabilities[1], 0.7310586, rtol=1e-5)
    assert abs((action > 0).mean() - 0.731) < 0.03  # Four standard deviations.


# --- the transfer -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agent() -> Fosp:
    return make()


@pytest.fixture(scope="module")
def transferred(agent):
    """A state after the offline phase, the same after the transfer, and that after two gradient steps."""
    before = agent.init(key=jax.random.key(0))
    moved = jax.tree.map(lambda x: x + 0.01 if eqx.is_inexact_array(x) else x, before.average.module)
    before = eqx.tree_at(lambda s: (s.average.module, s.step), before, (moved, jnp.asarray(7, jnp.int32)))
    after = agent.begin_online(before, key=jax.random.key(1))
    return before, after, *agent.update(after, toys.batch(SPACES, 2, 2, 8), key=jax.random.key(2))


@pytest.mark.slow
def test_the_offline_policy_is_kept_and_a_new_one_learns(transferred):
    before, after, later, metrics = transferred
    assert same(after.prior, before.average.module)
    assert same(later.prior, after.prior)
    assert not same(after.actor, before.actor)
    assert not same(later.actor, after.actor)
    assert same(after.average.module, after.actor.module)
    for kept in ("world_model", "values", "feasibility", "constraint", "lived"):
        assert same(getattr(after, kept), getattr(before, kept)), kept
        assert kept == "lived" or not same(getattr(later, kept), getattr(after, kept)), kept
    assert (after.step, later.step) == (0, 2)
    assert all(np.isfinite(value) for value in metrics.values())
    assert not any(name.startswith("regression/") for name in metrics)


def test_a_copy_begins_with_the_offline_policy():
    expansion = FineTuningConfig(expansion=ExpansionConfig(policy="copy"))
    agent = make(fine_tuning=expansion)
    before = agent.init(key=jax.random.key(0))
    after = agent.begin_online(before, key=jax.random.key(1))
    assert same(after.actor, before.actor)


def test_without_expansion_the_policy_learns_on():
    agent = make("fosp-no-expansion")
    before = agent.init(key=jax.random.key(0))
    after = agent.begin_online(before, key=jax.random.key(1))
    assert after.prior is None
    assert same(after.actor, before.actor)


def test_evaluation_takes_one_of_the_two_modes(agent, transferred):
    _, state, _, _ = transferred
    rows = toys.batch(SPACES, 6)
    act = lambda mode, key: agent.act(
        state, agent.init_carry(6), rows.observation, np.full(6, True), key=jax.random.key(key), mode=mode
    )
    action, carry, metrics = act("evaluate", 3)
    features = carry.latent.features
    modes = [np.asarray(actor(features).mode()) for actor in (state.prior, state.average.module)]
    new = np.asarray(metrics["expansion/new"]) > 0.5
    np.testing.assert_allclose(action, np.where(new[:, None], modes[1], modes[0]), atol=1e-5)
    np.testing.assert_allclose(carry.prev_action, action)


# --- what the new policy ascends ----------------------------------------------------------------


def test_gains_by_hand():
    """u = .75: .75 · 2 · (3 / 6) − .25 · 4 · (1 / 2 + 6 / 3) = .75 − 2.5."""
    values = Values(Toy(0.0, Scale(jnp.array(6.0))), Toy(0.0, Scale(jnp.array([2.0, 3.0]))))
    gain = Fosp._gain(
        values,
        jnp.full((1, 1), 3.0),
        jnp.array([[[1.0, 6.0]]]),
        jnp.full((1, 1), 0.75),
        FineTuningConfig(2.0, 4.0),
    )
    np.testing.assert_allclose(gain, [[-1.75]], rtol=1e-6)


def test_the_policy_ascends_imagined_returns(agent, transferred):
    """Where rewards are the first entry of the action, the derivative of the loss lowers with that entry only."""
    _, state, _, _ = transferred
    free = eqx.tree_at(lambda s: s.constraint.multiplier, state, jnp.zeros(2))
    model, actor = state.world_model.module, state.actor.module
    start, noise = agent.perception.first_latent(3), actor.noise(agent.config.horizon, 3, key=jax.random.key(2))
    policy = lambda features, noise: jax.lax.stop_gradient(actor(features).sample(noise))

    def loss(nudge):
        trajectory = model.imagine(policy, start, noise, key=jax.random.key(3), nudge=nudge)
        flat = jax.lax.stop_gradient(trajectory)
        rewards = flat.rewards.at[1:].add(
            trajectory.actions[..., 0] - jax.lax.stop_gradient(trajectory.actions[..., 0])
        )
        return agent._objective(free, jnp.ones(3), flat._replace(rewards=rewards))[0]

    gradient = jax.grad(loss)(jnp.zeros(noise.shape))
    assert (gradient[..., 0] < 0).all()
    np.testing.assert_allclose(gradient[..., 1], 0.0, atol=1e-7)


def test_episodes_measure_the_costs(agent, transferred):
    _, state, _, _ = transferred
    after = agent.on_episode(state, EpisodeSummary(3.0, np.array([4.0, 0.0], np.float32), 20))
    np.testing.assert_allclose(after.lived.recent.mean, [4.0, 0.0], rtol=1e-5)
