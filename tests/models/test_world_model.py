"""The world model: losses, reconstructions, heads, and open-loop prediction."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.models.world_model import Head, HeadConfig, WorldModel, WorldModelConfig
from prudence.types import ObservationSpec, Spaces

BOTH = toys.spaces(toys.IMAGE, toys.VECTOR, costs=("left", "right"))
PRIVILEGED = toys.spaces(toys.VECTOR, ("contacts", ObservationSpec((4, 2), "float32")), privileged=("contacts",))
CONFIG = toys.debug_config().world_model


def model(spaces: Spaces = BOTH, **changes) -> WorldModel:
    config: WorldModelConfig = replace(CONFIG, **changes)
    return WorldModel(spaces, config, key=jax.random.key(0))


@eqx.filter_jit
def whole_loss(net: WorldModel, batch):
    return net.loss(batch, key=jax.random.key(1))


def loss(net: WorldModel, batch) -> dict:
    return whole_loss(net, batch)[1][1]


@eqx.filter_jit
def observe(net: WorldModel, batch, key):
    return net.observe(batch, key=key).states


@eqx.filter_jit
def open_loop(net: WorldModel, batch):
    return net.open_loop(batch, 4, key=jax.random.key(1))


def test_every_loss_is_named_and_scaled():
    net, batch = model(), toys.batch(BOTH, 2, 5)
    total, (filtered, metrics) = whole_loss(net, batch)
    s = CONFIG.scales
    names = {
        "reconstruct_image": s.image,
        "reconstruct_state": s.vector,
        "reward": s.reward,
        "cost": s.cost,
        "continue": s.continue_,
        "dynamics": s.dynamics,
        "representation": s.representation,
    }
    assert total == pytest.approx(sum(float(metrics[f"model/{n}"]) * scale for n, scale in names.items()), rel=1e-5)
    assert filtered.states.deter.shape == (2, 5, CONFIG.rssm.deter)


def test_unsafe_samples_weigh_as_stated():
    batch = toys.batch(BOTH, 2, 5)
    half = jnp.zeros((2, 5, 2))
    safe, unsafe = batch._replace(cost=half), batch._replace(cost=half + 1)
    one, three = model(unsafe_weight=1.0), model(unsafe_weight=3.0)
    assert loss(three, unsafe)["model/cost"] == pytest.approx(3 * float(loss(one, unsafe)["model/cost"]), rel=1e-5)
    assert loss(three, safe)["model/cost"] == pytest.approx(float(loss(one, safe)["model/cost"]), rel=1e-6)


def test_a_calibrated_likelihood_weighs_each_entry_by_its_own_error():
    plain, net = model(), model(vector_std=0.5)
    error = jnp.array([[[3.0, 0.0], [1.0, 0.0]]])
    np.testing.assert_array_equal(plain.latents._vector_loss("state", error), jnp.square(error))
    # Mean squares 5 and 0, to which the floor adds 1/4.
    expected = 0.5 * (np.array([[9.0, 0.0], [1.0, 0.0]]) / [5.25, 0.25] + np.log([5.25, 0.25]))
    np.testing.assert_allclose(net.latents._vector_loss("state", error)[0], expected, rtol=1e-6)
    slope = jax.grad(lambda e: net.latents._vector_loss("state", e).sum())(error)
    np.testing.assert_allclose(slope[0, :, 0], [3 / 5.25, 1 / 5.25], rtol=1e-6)


def test_precise_entries_have_a_floor_of_their_own():
    spaces = replace(BOTH, precise=(("state", (1,)),))
    net = WorldModel(spaces, replace(CONFIG, vector_std=0.5, precise_std=0.1), key=jax.random.key(0))
    error = jnp.array([[[3.0, 0.2], [1.0, 0.0]]])
    # Mean squares 5 and .02; .5² and .1².
    expected = 0.5 * (np.array([[9.0, 0.04], [1.0, 0.0]]) / [5.25, 0.03] + np.log([5.25, 0.03]))
    np.testing.assert_allclose(net.latents._vector_loss("state", error)[0], expected, rtol=1e-5)
    others = 0.5 * (np.array([[9.0, 0.04], [1.0, 0.0]]) / [5.25, 0.27] + np.log([5.25, 0.27]))
    np.testing.assert_allclose(net.latents._vector_loss("other", error)[0], others, rtol=1e-5)


def test_a_floor_of_precise_entries_needs_a_calibrated_likelihood():
    with pytest.raises(ValueError, match="precise_std bounds a calibrated deviation: give vector_std"):
        model(precise_std=0.1)


def test_a_calibrated_likelihood_needs_a_positive_floor():
    with pytest.raises(ValueError, match=r"vector_std is 0\.0: it must be positive"):
        model(vector_std=0.0)


def test_free_nats_floor_the_kl():
    metrics = loss(model(free_nats=1000.0), toys.batch(BOTH, 2, 5))
    assert metrics["model/dynamics"] == metrics["model/representation"] == 1000.0


def test_termination_and_not_truncation_is_what_the_continue_head_learns():
    batch, net = toys.batch(BOTH, 2, 5), model()
    never = jnp.zeros((2, 5), bool)
    losses = [
        float(loss(net, batch._replace(is_last=last, is_terminal=terminal))["model/continue"])
        for last, terminal in [(never, never), (~never, never), (~never, ~never)]
    ]
    assert losses[0] == losses[1] != losses[2]


def test_reconstructions_have_the_observations_shapes():
    net = model(PRIVILEGED, decoder_keys=("state", "contacts"))
    out = net.decoder(jnp.zeros((2, 5, net.feature_size)))
    assert {k: v.shape for k, v in out.items()} == {"state": (2, 5, 3), "contacts": (2, 5, 8)}
    image = model().decoder(jnp.zeros((2, 5, net.feature_size)))["image"]
    assert image.shape == (2, 5, 8, 8, 3)
    assert image.dtype == jnp.float32


def test_privileged_observations_are_not_encoded_unless_asked_for():
    assert model(PRIVILEGED).encoder.keys == ("state",)
    assert model(PRIVILEGED, encoder_keys=("contacts",)).encoder.keys == ("contacts",)


def test_missing_observations_are_named():
    with pytest.raises(ValueError, match=r"observations \['camera'\] are missing: the environment offers"):
        model(encoder_keys=("camera",))


def test_the_encoder_sees_every_vector_and_image():
    net, batch = model(), toys.batch(BOTH, 2)
    embed = net.encoder(batch.observation)
    assert embed.shape == (2, net.encoder.out_size)
    for name in ("image", "state"):
        other = net.encoder(batch.observation | {name: jnp.roll(batch.observation[name], 1, 0)})
        assert not np.array_equal(embed, other)


def test_open_loop_sees_the_context_and_nothing_after_it():
    net, batch = model(), toys.batch(BOTH, 2, 6)
    predicted = open_loop(net, batch)
    assert predicted["image"].shape == (2, 6, 8, 8, 3)
    assert predicted["reward"].shape == (2, 6)
    assert predicted["cost"].shape == (2, 6, 2)
    observe_key, _ = jax.random.split(jax.random.key(1))
    seen = observe(net, jax.tree.map(lambda x: x[:, :4], batch), observe_key).features
    np.testing.assert_allclose(predicted["state"][:, :4], net.decoder(seen)["state"], atol=1e-5)

    blind = {k: jnp.concatenate([v[:, :4], v[:, 4:][:, ::-1]], 1) for k, v in batch.observation.items()}
    other = open_loop(net, batch._replace(observation=blind))
    np.testing.assert_array_equal(predicted["state"], other["state"])
    steered = batch._replace(prev_action=batch.prev_action * jnp.array([1.0, 1.0, 1.0, 1.0, -1.0, 1.0])[:, None])
    other = open_loop(net, steered)
    assert not np.array_equal(predicted["state"][:, 4], other["state"][:, 4])


def test_imagined_trajectory():
    net = model()
    start = jax.tree.map(lambda x: x[:, -1], observe(net, toys.batch(BOTH, 3, 2), jax.random.key(1)))
    noise = jnp.ones((4, 3, 2))
    dream = net.imagine(lambda features, noise: 0.5 * noise, start, noise, key=jax.random.key(2))
    assert dream.actor_features is dream.critic_features
    np.testing.assert_array_equal(dream.actor_features[0], start.features)
    assert dream.costs.shape == (5, 3, 2)
    np.testing.assert_array_equal(dream.actions, 0.5 * noise)
    nudged = net.imagine(lambda f, n: 0.5 * n, start, noise, key=jax.random.key(2), nudge=noise)
    np.testing.assert_array_equal(nudged.actions, 1.5 * noise)
    assert 0 <= dream.continues.min() <= dream.continues.max() <= 1


@pytest.mark.parametrize(("see", "told"), [("features", True), ("deter", False)])
def test_heads_that_see_the_memory_alone_are_not_told_by_the_observation_that_came_with_a_cost(see, told):
    """The cost loss of a window's last step, with another observation there; memory has not met it yet."""
    net, batch = model(toys.spaces(), heads_see=see), toys.batch(toys.spaces(), 3, 4)
    other = batch._replace(observation={"state": batch.observation["state"].at[:, -1].add(1.0)})
    one, two = (loss(net, b) for b in (batch, other))
    assert bool(one["model/cost"] != two["model/cost"]) == told
    assert one["model/reconstruct_state"] != two["model/reconstruct_state"]


def test_imagined_and_open_loop_costs_are_those_of_what_the_heads_see():
    net, batch = model(toys.spaces(), heads_see="deter"), toys.batch(toys.spaces(), 3, 4)
    states = observe(net, batch, jax.random.split(jax.random.key(1))[0])
    expected = net.cost_head.predict(states.deter)
    np.testing.assert_allclose(open_loop(net, batch)["cost"], expected, rtol=1e-5)
    start, noise = jax.tree.map(lambda x: x[:, -1], states), jnp.ones((2, 3, 2))
    dream = net.imagine(lambda features, noise: noise, start, noise, key=jax.random.key(2))
    np.testing.assert_allclose(dream.costs[0], expected[:, -1], rtol=1e-5)
    after = net.rssm.advance(start, noise[0])
    np.testing.assert_allclose(dream.costs[1], net.cost_head.predict(after), rtol=1e-5)
    assert dream.actor_features.shape == (3, 3, net.feature_size)


def test_a_bernoulli_head_predicts_the_chance_that_the_cost_is_positive():
    head = Head(3, (2,), HeadConfig("bernoulli", 1, 4, out_scale=0.0, bernoulli_scale=4.0), key=jax.random.key(0))
    np.testing.assert_allclose(head.predict(jnp.ones(3)), [2.0, 2.0])  # 4 · one half.
    loss = head.negative_log_likelihood(jnp.ones(3), jnp.array([0.0, 7.0]))
    np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)


@pytest.mark.parametrize("kind", ["twohot", "symexp_twohot", "symlog_mse"])
def test_a_head_of_scale_zero_predicts_zero(kind):
    head = Head(3, (), HeadConfig(kind, 1, 4, bins=11), key=jax.random.key(0))
    assert head.predict(jnp.ones((2, 3))) == pytest.approx(np.zeros(2), abs=1e-5)


def test_free_nats_may_be_of_the_mean():
    # A state below the free nats pulls the mean down, though it counts for nothing by itself.
    batch = toys.batch(BOTH, 2, 5)
    free = float(loss(model(free_nats=0.0), batch)["model/dynamics"])
    own = float(loss(model(free_nats=free), batch)["model/dynamics"])
    assert own > free
    for nats, expected in ((free / 2, free), (2 * free, 2 * free)):
        found = loss(model(free_nats=nats, free_nats_of="mean"), batch)["model/dynamics"]
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_normal_head_has_half_the_squared_error():
    head = Head(3, (2,), HeadConfig("normal", layers=1, units=4, out_scale=0.0), key=jax.random.key(0))
    features, target = jnp.ones((5, 3)), jnp.array([3.0, -40.0])
    np.testing.assert_array_equal(head.predict(features), jnp.zeros((5, 2)))
    np.testing.assert_allclose(head.negative_log_likelihood(features, jnp.tile(target, (5, 1)))[0], [4.5, 800.0])


def test_a_model_with_another_predictor_imagines_as_that_one_and_sees_as_itself():
    one, other = model(), WorldModel(BOTH, CONFIG, key=jax.random.key(9))
    mixed, batch = one.with_predictor(other.predictor), toys.batch(BOTH, 2, 5)
    features = jnp.ones((3, CONFIG.rssm.feature_size))
    np.testing.assert_array_equal(mixed.cost_head.predict(features), other.cost_head.predict(features))
    np.testing.assert_array_equal(mixed.decoder(features)["state"], one.decoder(features)["state"])
    image, state = ({"image": batch.observation["image"], "state": batch.observation["state"]} for _ in range(2))
    np.testing.assert_array_equal(mixed.encoder(image), one.encoder(state))
