"""Policies: what they execute, and in which ranges."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from prudence.actors import Actor, ActorConfig, Policy
from prudence.ops.distributions import Normal
from prudence.types import ActionSpec

CONFIG = ActorConfig(layers=1, units=8)


def actor(kind, size, config=CONFIG) -> Actor:
    return Actor(4, ActionSpec(kind, size), config, key=jax.random.key(0))


def features() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (5, 4))


def test_discrete_actions_are_one_hot():
    net = actor("discrete", 3)
    policy = net(features())
    action = policy.sample(net.noise(5, key=jax.random.key(2)))
    np.testing.assert_allclose(jnp.sort(action, -1), [[0.0, 0.0, 1.0]] * 5, atol=1e-6)
    assert policy.mode().shape == (5, 3)
    assert policy.entropy().shape == (5,)
    np.testing.assert_allclose(jnp.exp(policy.log_prob(jnp.eye(3)[None, 0].repeat(5, 0))), 1 / 3, atol=0.1)


def test_unimix_keeps_every_arm_possible():
    net = actor("discrete", 4, ActorConfig(layers=1, units=8, out_scale=1e6, unimix=0.04))
    policy = net(features())
    assert min(jnp.exp(policy.log_prob(arm)).min() for arm in jnp.eye(4)[:, None].repeat(5, 1)) >= 0.0099


@pytest.mark.parametrize("continuous", ["normal", "tanh_normal", "squashed_normal"])
def test_continuous_actions_stay_in_range(continuous):
    net = actor("continuous", 2, ActorConfig(layers=1, units=8, continuous=continuous, out_scale=100.0))
    policy = net(features())
    action = policy.sample(net.noise(5, key=jax.random.key(2)))
    assert action.shape == (5, 2)
    assert jnp.abs(action).max() <= 1.0
    assert jnp.abs(policy.mode()).max() <= 1.0
    assert jnp.isfinite(policy.log_prob(action)).all()


def test_normal_policy_by_hand():
    # A last layer of scale 0: mean tanh(0), std = .1 + .9 σ(2).
    policy = actor("continuous", 2, ActorConfig(layers=1, units=8, out_scale=0.0))(features())
    assert isinstance(policy.distribution, Normal)
    np.testing.assert_allclose(policy.mode(), np.zeros((5, 2)))
    np.testing.assert_allclose(policy.distribution.std, 0.1 + 0.9 / (1 + np.exp(-2)), rtol=1e-5)


@pytest.mark.parametrize(("out", "std"), [(0.0, 1.0), (-20.0, 0.01), (3.0, 2.0)])
def test_squashed_normal_by_hand(out, std):
    # The std before tanh is e^x in [.01, 2], whatever the mean.
    config = ActorConfig(layers=0, continuous="squashed_normal", min_std=0.01, max_std=2.0, out_scale=0.0)
    net = eqx.tree_at(lambda a: a.net.output.bias, actor("continuous", 1, config), jnp.array([0.5, out]))
    normal = net(features()).distribution.normal
    np.testing.assert_allclose(normal.mean, np.full((5, 1), 0.5))
    np.testing.assert_allclose(normal.std, np.full((5, 1), std), rtol=1e-5)


@pytest.mark.parametrize("continuous", ["normal", "squashed_normal", "clipped_normal"])
def test_a_sample_comes_with_its_likelihood(continuous):
    net = actor("continuous", 2, ActorConfig(layers=1, units=8, continuous=continuous))
    policy, noise = net(features()), net.noise(5, key=jax.random.key(2))
    action, log_prob = policy.sample_with_log_prob(noise)
    np.testing.assert_array_equal(action, policy.sample(noise))
    np.testing.assert_allclose(log_prob, policy.log_prob(action), rtol=1e-4)


def test_clipping_lets_the_gradient_pass():
    def action(mean):
        return Policy(Normal(mean, jnp.ones(1))).sample(jnp.array([3.0]))[0]

    value, slope = jax.value_and_grad(lambda m: action(m[None]))(0.5)
    assert value == 1.0
    assert slope == 1.0


def test_tanh_normal_starts_wide():
    # LAMBDA: standard deviation 5 before tanh, so that most first actions are extreme.
    net = actor("continuous", 1, ActorConfig(layers=1, units=8, continuous="tanh_normal", out_scale=0.0))
    noise = net.noise(2000, key=jax.random.key(2))
    actions = jax.vmap(lambda n: net(jnp.zeros(4)).sample(n))(noise)
    assert float((jnp.abs(actions) > 0.9).mean()) > 0.7


def test_a_clipped_sample_has_the_likelihood_of_the_tail():
    """Mean .9 and std .5: an action of 1 stands for all samples beyond, Φ(-.2); inside it is the Gaussian's density."""
    policy = Policy(Normal(jnp.array([0.9, 0.9]), jnp.array([0.5, 0.5])))
    beyond, inside = scipy.stats.norm.cdf(-0.2), scipy.stats.norm.pdf(-1.8) / 0.5
    assert float(policy.log_prob(jnp.array([1.0, 0.0]))) == pytest.approx(np.log(beyond) + np.log(inside), rel=1e-5)
