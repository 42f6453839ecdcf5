"""Paired world models: who sees what, who teaches whom, and that both imagine the same actions."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.models.config import LossScales, PrivilegedConfig, WorldModelConfig
from prudence.models.paired import PairedModel
from prudence.models.rssm import RSSMConfig
from prudence.types import ObservationSpec

SPACES = toys.spaces(
    toys.VECTOR, ("contacts", ObservationSpec((4, 2), "float32")), costs=("left", "right"), privileged=("contacts",)
)
CONFIG = toys.debug_config().world_model
HALF = PrivilegedConfig(RSSMConfig(deter=6, units=5, stoch=3, classes=2), mlp_layers=1, mlp_units=7)
BATCH = toys.batch(SPACES, 3, 5)
OTHER = BATCH._replace(observation={**BATCH.observation, "contacts": BATCH.observation["contacts"] + 1.0})


def model(half: PrivilegedConfig = HALF, **changes) -> PairedModel:
    config: WorldModelConfig = replace(CONFIG, **changes)
    return PairedModel(SPACES, config, half, key=jax.random.key(0))


@eqx.filter_jit
def starts(net: PairedModel, batch=BATCH):
    return jax.tree.map(lambda x: x[:, -1], net.observe(batch, key=jax.random.key(1)).states)


@eqx.filter_jit
def loss(net: PairedModel):
    return net.loss(BATCH, key=jax.random.key(1))


@eqx.filter_jit
def open_loop(net: PairedModel, batch):
    return net.open_loop(batch, 3, key=jax.random.key(1))


@eqx.filter_jit
def dream(net: PairedModel, start, nudge=None):
    policy = lambda features, noise: jnp.tanh(features[:, :2] + noise)
    return net.imagine(policy, start, jnp.ones((4, 3, 2)), key=jax.random.key(2), nudge=nudge)


def largest(tree) -> float:
    return max(float(jnp.abs(x).max()) for x in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array)))


@pytest.mark.parametrize("kinds", [("discrete", "gaussian"), ("gaussian", "discrete")])
def test_either_half_may_be_of_either_kind(kinds):
    mine, theirs = (replace(c, latent=kind) for c, kind in zip((CONFIG.rssm, HALF.rssm), kinds, strict=True))
    net = model(replace(HALF, rssm=theirs), rssm=mine)
    assert (net.actor_size, net.critic_size) == (mine.feature_size, mine.feature_size + theirs.feature_size)
    found = dream(net, starts(net))
    assert found.actor_features.shape == (5, 3, mine.feature_size)
    assert found.critic_features.shape == (5, 3, mine.feature_size + theirs.feature_size)
    assert (found.rewards.shape, found.costs.shape) == ((5, 3), (5, 3, 2))
    total, (filtered, metrics) = loss(net)
    assert filtered.states.privileged.deter.shape == (3, 5, 6)
    # What BSRP-Lag has, by the same names, and what the privileged half adds.
    s, p = CONFIG.scales, "model/privileged_"
    expected = metrics["model/reconstruct_state"] * s.vector + metrics[f"{p}reconstruct_contacts"] * s.vector
    for name, scale in (("dynamics", s.dynamics), ("representation", s.representation)):
        expected += scale * (metrics[f"model/{name}"] + metrics[p + name])
    expected += sum(metrics[f"model/{name}"] * scale for name, scale in s.of_heads.items())
    assert total == pytest.approx(float(expected), rel=1e-5)


def test_heads_teach_the_observation_model_nothing():
    heads_only = LossScales(image=0.0, vector=0.0, dynamics=0.0, representation=0.0)
    net = model(scales=heads_only)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda net: loss(net)[0]))(net)
    assert largest(gradient.observation) == 0.0
    assert largest(gradient.privileged.encoder) > 0
    assert largest(gradient.heads.cost) > 0


def test_heads_and_critics_see_both_halves_and_actors_one():
    net, features = model(), starts(model())
    blank = jax.tree.map(jnp.zeros_like, features.privileged)
    one, two = net.seen_by_heads(features), net.seen_by_heads(features._replace(privileged=blank))
    own = CONFIG.rssm.feature_size
    np.testing.assert_array_equal(one[:, :own], two[:, :own])
    np.testing.assert_array_equal(one, net.critic_features(features))
    assert not np.array_equal(net.heads.cost.predict(one), net.heads.cost.predict(two))
    alone = model(replace(HALF, critics_see="privileged"))
    np.testing.assert_array_equal(alone.critic_features(features), features.privileged.features)
    assert alone.critic_size == HALF.rssm.feature_size


def test_what_is_privileged_changes_critics_features_and_nothing_that_acts():
    net = model()
    one, two = (dream(net, starts(net, batch)) for batch in (BATCH, OTHER))
    np.testing.assert_array_equal(one.actor_features, two.actor_features)
    np.testing.assert_array_equal(one.actions, two.actions)
    assert not np.array_equal(one.critic_features, two.critic_features)
    state = net.observation.rssm.initial(3)
    first, seen = jnp.ones(3, bool), {"state": BATCH.observation["state"][:, 0]}
    filtered = net.filter_step(state, jnp.zeros((3, 2)), seen, first, key=None)
    assert filtered.features.shape == (3, net.actor_size)


def test_both_halves_imagine_the_same_actions():
    net = model()
    start, keys = starts(net), jax.random.split(jax.random.key(2))
    found = dream(net, start)
    actions = found.actions.swapaxes(0, 1)
    halves = zip((net.observation, net.privileged), start, keys, strict=True)
    imagine = eqx.filter_jit(lambda half, own, key: half.rssm.imagine(own, actions, key=key).features.swapaxes(0, 1))
    apart = [imagine(half, own, key) for half, own, key in halves]
    np.testing.assert_allclose(found.critic_features[1:], np.concatenate(apart, -1), rtol=1e-5, atol=1e-6)


def test_the_derivative_by_actions_goes_through_both_halves():
    net = model(reward=replace(CONFIG.reward, out_scale=1.0))
    start = starts(net)

    def reward(nudge, frozen):
        """The last reward, with one half's part of what the head sees held fixed."""
        states = dream(net, start, nudge).critic_features
        own, sg = net.actor_size, jax.lax.stop_gradient
        parts = [states[-1, :, :own], states[-1, :, own:]]
        parts[frozen] = sg(parts[frozen])
        return net.heads.reward.predict(jnp.concatenate(parts, -1)).sum()

    for frozen in (0, 1):
        assert jnp.abs(jax.grad(reward)(jnp.zeros((4, 3, 2)), frozen)[0]).max() > 0


def test_open_loop_predicts_what_both_halves_see():
    net = model()
    found = open_loop(net, BATCH)
    assert {name: x.shape for name, x in found.items()} == {
        "state": (3, 5, 3),
        "contacts": (3, 5, 8),
        "reward": (3, 5),
        "cost": (3, 5, 2),
    }
    later = {"state": BATCH.observation["state"], "contacts": BATCH.observation["contacts"].at[:, 3:].add(1.0)}
    blind = open_loop(net, BATCH._replace(observation=later))
    np.testing.assert_array_equal(found["cost"], blind["cost"])
