"""The bootstrap of an ensemble's members: which steps each learns from, and that nothing else reaches it."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.models.ensemble import Ensemble, bootstrap_weights, step_digests
from prudence.models.world_model import WorldModel

SPACES = toys.spaces()
BATCH = toys.batch(SPACES, 16, 32)


def test_a_step_counts_for_a_member_alike_in_every_batch():
    weights = bootstrap_weights(BATCH, 3, 0.5)
    other = jax.tree.map(lambda x: x[jnp.array([5, 2]), 7:20], BATCH)
    np.testing.assert_array_equal(bootstrap_weights(other, 3, 0.5), weights[:, jnp.array([5, 2]), 7:20])


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_each_member_learns_from_a_share_of_its_own(share):
    weights = np.asarray(bootstrap_weights(BATCH, 4, share))
    assert set(np.unique(weights).tolist()) == {0.0, np.float32(1 / share)}
    # 512 steps: standard errors of at most .02, of shares.
    np.testing.assert_allclose((weights > 0).mean((1, 2)), share, atol=0.08)
    both = ((weights[0] > 0) & (weights[1] > 0)).mean()
    assert both == pytest.approx(share**2, abs=0.08)


def test_without_a_bootstrap_every_step_counts_once():
    np.testing.assert_array_equal(bootstrap_weights(BATCH, 2, 1.0), np.ones((2, 16, 32)))


@pytest.mark.parametrize("shares", [0.0, 1.5])
def test_a_share_is_one(shares):
    with pytest.raises(ValueError, match=f"share={shares} of the steps"):
        Ensemble(share=shares)


def test_steps_are_told_apart_by_all_that_is_recorded():
    assert len(np.unique(step_digests(BATCH))) == 512
    before = step_digests(BATCH)
    for name in ("reward", "cost", "prev_action"):
        after = step_digests(BATCH._replace(**{name: getattr(BATCH, name) + 0.5}))
        assert (after != before).all(), name
    pixels = toys.batch(toys.spaces(toys.IMAGE), 2, 4)
    image = pixels.observation["image"]
    brighter = pixels._replace(observation={"image": image.at[0, 0, 3, 3, 1].add(1)})
    np.testing.assert_array_equal(np.argwhere(step_digests(brighter) != step_digests(pixels)), [[0, 0]])


def test_round_numbers_are_told_apart_as_well():
    """Their lower bits are 0, and of the upper ones a product modulo 2³² keeps little."""
    count = 1024
    zeros = jax.tree.map(lambda x: jnp.zeros((1, count, *x.shape[2:]), x.dtype), BATCH)
    counting = zeros._replace(reward=jnp.arange(count, dtype=jnp.float32)[None])
    assert len(np.unique(step_digests(counting))) == count


def test_a_step_without_weight_teaches_nothing():
    model = WorldModel(SPACES, toys.debug_config().world_model, key=jax.random.key(0))
    batch = toys.batch(SPACES, 2, 4)
    filtered = eqx.filter_jit(lambda model: model.observe(batch, key=jax.random.key(1)))(model)
    first = jax.tree.map(lambda x: x[:1], (filtered, batch))
    weights = jnp.array([[1.0], [0.0]]) * jnp.ones((2, 4))
    loss = eqx.filter_jit(lambda model, *given: model.prediction_loss(*given))
    # Half of the mean over both sequences is that of the first.
    assert 2 * loss(model, filtered, batch, weights) == pytest.approx(float(loss(model, *first)), rel=1e-5)
