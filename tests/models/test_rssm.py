"""The recurrent state-space model: shapes, resets, and where randomness enters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.models.rssm import RSSM, LatentState, RSSMConfig
from prudence.ops.distributions import Normal, OneHot

B, T, A, EMBED = 2, 5, 3, 7


@pytest.fixture(params=["discrete", "gaussian"])
def rssm(request) -> RSSM:
    config = RSSMConfig(deter=8, units=6, latent=request.param, stoch=4, classes=3)
    return RSSM(A, EMBED, config, key=jax.random.key(0))


def draw(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def states(rssm: RSSM, actions, embeds, is_first) -> LatentState:
    return rssm.observe(actions, embeds, jnp.asarray(is_first), key=jax.random.key(9))[0]


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_shapes(rssm):
    post, posterior, prior = rssm.observe(
        draw(1, B, T, A), draw(2, B, T, EMBED), jnp.zeros((B, T), bool), key=jax.random.key(9)
    )
    size = rssm.config.stoch_size
    assert size == (12 if rssm.config.latent == "discrete" else 4)
    assert post.deter.shape == (B, T, 8)
    assert post.stoch.shape == (B, T, size)
    assert post.features.shape == (B, T, rssm.config.feature_size) == (B, T, 8 + size)
    assert type(posterior) is type(prior) is (OneHot if rssm.config.latent == "discrete" else Normal)
    event = (4, 3) if rssm.config.latent == "discrete" else (4,)
    assert posterior.mode().shape == prior.mode().shape == (B, T, *event)
    assert posterior.entropy().shape == (B, T)


def test_is_first_forgets_what_came_before(rssm):
    embeds, is_first = draw(2, B, T, EMBED), np.zeros((B, T), bool)
    is_first[0, 3] = True
    actions = draw(1, B, T, A)
    one = states(rssm, actions, embeds, is_first)
    # Everything before step 3 differs, and the action that led to the episode's first step.
    other = states(rssm, actions.at[:, :4].add(1.0), embeds.at[:, :3].add(1.0), is_first)
    assert_equal(jax.tree.map(lambda x: x[0, 3:], one), jax.tree.map(lambda x: x[0, 3:], other))
    assert not np.array_equal(one.deter[1, 3], other.deter[1, 3])  # The other sequence remembers.


def test_a_window_begins_with_an_empty_memory(rssm):
    actions, embeds = draw(1, B, T, A), draw(2, B, T, EMBED)
    marked = np.zeros((B, T), bool)
    marked[:, 0] = True
    assert_equal(states(rssm, actions, embeds, np.zeros((B, T), bool)), states(rssm, actions, embeds, marked))


def test_observe_is_repeated_steps(rssm):
    actions, embeds, is_first = draw(1, B, T, A), draw(2, B, T, EMBED), np.zeros((B, T), bool)
    whole = states(rssm, actions, embeds, is_first)
    noise = rssm.noise(T, B, key=jax.random.key(9))
    state = rssm.initial(B)
    for t in range(T):
        state, _ = rssm.observe_step(state, actions[:, t], embeds[:, t], jnp.full(B, t == 0), noise[t])
        np.testing.assert_allclose(state.features, whole.features[:, t], rtol=1e-4, atol=1e-5)


def test_imagination_without_noise_is_the_priors_mode(rssm):
    state, action = LatentState(draw(1, B, 8), draw(2, B, rssm.config.stoch_size)), draw(3, B, A)
    following = rssm.imagine_step(state, action, None)
    assert_equal(following, rssm.imagine_step(state, action, None))
    mode = rssm.latent(rssm.prior_net(following.deter)).mode().reshape(B, -1)
    np.testing.assert_allclose(following.stoch, mode, atol=1e-6)
    noisy = rssm.imagine_step(state, action, 5 * rssm.noise(B, key=jax.random.key(4)))
    assert_equal(noisy.deter, following.deter)  # Noise enters the stochastic part alone.
    assert not np.array_equal(noisy.stoch, following.stoch)


def test_a_discrete_latent_is_one_hot():
    rssm = RSSM(A, EMBED, RSSMConfig(deter=8, units=6, stoch=4, classes=3), key=jax.random.key(0))
    following = rssm.imagine_step(rssm.initial(B), draw(3, B, A), rssm.noise(B, key=jax.random.key(4)))
    np.testing.assert_allclose(jnp.sort(following.stoch.reshape(B, 4, 3), -1), [[[0, 0, 1]] * 4] * B, atol=0)


def test_a_gaussian_latents_deviation_has_a_floor():
    rssm = RSSM(A, EMBED, RSSMConfig(latent="gaussian", stoch=4, min_std=0.1), key=jax.random.key(0))
    latent = rssm.latent(jnp.full(8, -100.0))
    assert isinstance(latent, Normal)
    np.testing.assert_allclose(latent.std, 0.1, rtol=1e-5)


def test_imagine_follows_the_actions(rssm):
    start = LatentState(draw(1, B, 8), draw(2, B, rssm.config.stoch_size))
    actions = draw(3, B, T, A)
    rolled = rssm.imagine(start, actions, key=jax.random.key(5))
    assert rolled.deter.shape == (B, T, 8)
    changed = rssm.imagine(start, actions.at[:, 2].add(1.0), key=jax.random.key(5))
    assert_equal(rolled.deter[:, :2], changed.deter[:, :2])
    assert not np.array_equal(rolled.deter[:, 2], changed.deter[:, 2])


def test_gradient_reaches_the_first_action_through_the_dynamics(rssm):
    start, actions = rssm.initial(B), draw(3, B, T, A)
    last = lambda a: rssm.imagine(start, a, key=jax.random.key(5)).deter[:, -1].sum()
    assert jnp.abs(jax.grad(last)(actions)[:, 0]).max() > 0
