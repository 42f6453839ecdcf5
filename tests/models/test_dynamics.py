"""The ensemble in observation space: likelihood, elites, when a fit ends, and what its simulator returns."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.models.dynamics import Dynamics, DynamicsConfig, Member, Progress, best, padded
from prudence.models.records import Records
from prudence.ops.losses import gaussian_loss, soft_bounds
from prudence.types import CostFunction

SMALL = DynamicsConfig(members=3, elites=2, layers=1, units=8, batch_size=4, epochs=2)
KNOWN = CostFunction("models.test_dynamics:first_is_positive")


def first_is_positive(observation):
    """A cost function of the kind that environments name."""
    return (observation["state"][..., :1] > 0).astype(jnp.float32)


def constant_member(mean: list[float], raw: list[float]) -> Member:
    """Two inputs, one change and two other numbers. The network returns its last bias."""
    member = Member.init(2, 1, 3, replace(SMALL, layers=0), key=jax.random.key(0))
    outputs = (jnp.zeros((2, 4)), jnp.asarray([*raw, *mean]))
    return eqx.tree_at(lambda m: (m.net.output.weight, m.net.output.bias), member, outputs)


def test_the_loss_of_one_gaussian():
    # (1 - 3)² / 4 + ln 4 = 1 + 1.386
    loss = gaussian_loss(jnp.array([3.0]), jnp.log(jnp.array([4.0])), jnp.array([1.0]))
    np.testing.assert_allclose(loss, [2.386294], rtol=1e-6)


def test_bounds_are_soft():
    # u = 1 - softplus(1 - 0) = 1 - 1.313262; -1 + softplus(u + 1) = -1 + softplus(.686738) = -1 + 1.094344
    of = lambda x: float(soft_bounds(jnp.float32(x), jnp.float32(-1), jnp.float32(1)))
    assert of(0.0) == pytest.approx(0.094344, abs=1e-5)
    assert of(100.0) == pytest.approx(1.126928, abs=1e-5)  # -1 + softplus(2), a little above the bound.
    assert of(-100.0) == pytest.approx(-1.0, abs=1e-5)


def test_the_loss_of_a_member():
    member = constant_member([3.0, 5.0, 7.0], [100.0])
    # The log-variance is -10 + softplus(1/2 + 10) = .5000275.
    inputs, targets = jnp.zeros((1, 2)), jnp.array([[1.0, 4.0, 9.0]])
    change = 4 * np.exp(-0.5000275) + 0.5000275  # = 2.926083
    bounds = 0.01 * 10.5
    found = member.loss(inputs, targets, jnp.ones(3), 0.0)
    np.testing.assert_allclose(found, (change + 1 + 4) / 3 + bounds, rtol=1e-5)
    # What never varies does not count.
    found = member.loss(inputs, targets, jnp.array([1.0, 1.0, 0.0]), 0.0)
    np.testing.assert_allclose(found, (change + 1) / 3 + bounds, rtol=1e-5)


def test_weights_decay_and_biases_do_not():
    member = constant_member([0.0, 0.0, 0.0], [0.0])
    member = eqx.tree_at(lambda m: m.net.output.weight, member, jnp.full((2, 4), 2.0))
    of = lambda decay: float(member.loss(jnp.zeros((1, 2)), jnp.zeros((1, 3)), jnp.ones(3), decay))
    assert of(0.1) - of(0.0) == pytest.approx(0.1 / 2 * 8 * 4)


def test_the_bounds_are_learned():
    gradient = eqx.filter_grad(lambda m: m.loss(jnp.zeros((1, 2)), jnp.ones((1, 3)), jnp.ones(3), 0.0))(
        constant_member([0.0, 0.0, 0.0], [0.0])
    )
    assert float(gradient.high[0]) != 0
    assert float(gradient.low[0]) == pytest.approx(-0.01, rel=0.1)  # The penalty alone: it is far away.


def test_elites_have_the_smallest_errors():
    assert best(np.array([0.5, 0.1, 0.9, 0.2]), 3).tolist() == [1, 3, 0]


def test_a_fit_ends_after_epochs_without_a_gain_of_any_member():
    progress = Progress(np.full(2, np.inf), 0)
    progress = progress.after(np.array([1.0, 2.0]), 0.01)
    assert (progress.best.tolist(), progress.stale) == ([1.0, 2.0], 0)
    progress = progress.after(np.array([0.995, 1.99]), 0.01)  # Half a per cent.
    assert (progress.best.tolist(), progress.stale) == ([1.0, 2.0], 1)
    progress = progress.after(np.array([1.5, 1.9]), 0.01)  # One of them is enough.
    assert (progress.best.tolist(), progress.stale) == ([1.0, 1.9], 0)


def test_fits_end_early_or_at_the_largest_number_of_epochs(monkeypatch):
    dynamics = Dynamics(toys.spaces(), replace(SMALL, epochs=7, patience=3))
    state, records = dynamics.init(key=jax.random.key(0)), Records.of(toys.batch(toys.spaces(), 2, 8), toys.spaces())
    errors = np.ones((3, dynamics.out_size), np.float32)
    for falls, epochs in ((1.0, 4), (0.5, 7)):  # The first one is a gain.
        found = iter(errors * falls**n for n in range(9))
        monkeypatch.setattr(Dynamics, "_epoch", lambda self, members, *_, key, found=found: (members, 0.0, next(found)))
        assert dynamics.fit(state, records, key=jax.random.key(1))[1]["model/epochs"] == epochs


def test_padding_is_to_a_power_of_two():
    assert [len(padded(np.ones((n, 1)))) for n in (1, 2, 3, 5, 8)] == [1, 2, 4, 8, 8]


def simulator_of(spaces, config=SMALL):
    dynamics = Dynamics(spaces, config)
    records = Records.of(toys.batch(spaces, 2, 8), spaces)
    state, metrics = dynamics.fit(dynamics.init(key=jax.random.key(0)), records, key=jax.random.key(1))
    return dynamics, state, dynamics.simulator(state), records, metrics


def test_each_trajectory_is_stepped_by_the_elite_that_the_order_names():
    _, state, simulator, records, _ = simulator_of(toys.spaces())
    observation, action = jnp.asarray(records.observations[:4]), jnp.asarray(records.actions[:4])
    of = lambda order: simulator.step(observation, action, jnp.array(order), jnp.zeros((4, 3))).reward
    inputs = state.inputs.normalise(jnp.concatenate([observation, action], -1))
    means = [
        jax.tree.map(lambda x, i=i: x[i] if eqx.is_array(x) else x, state.members.module)(inputs)[0][:, 3]
        for i in state.elites
    ]
    one, two = (state.outputs.mean[3] + state.outputs.std[3] * mean for mean in means)
    np.testing.assert_allclose(of([0, 1, 2, 3]), [*one[:2], *two[2:]], rtol=1e-5)
    np.testing.assert_allclose(of([3, 0, 1, 2]), [one[0], two[1], two[2], one[3]], rtol=1e-5)


def test_noise_moves_observations_within_recorded_bounds():
    _, state, simulator, records, _ = simulator_of(toys.spaces())
    observation, action = jnp.asarray(records.observations[:2]), jnp.asarray(records.actions[:2])
    of = lambda noise: simulator.step(observation, action, jnp.arange(2), jnp.full((2, 3), noise))
    assert (of(1.0).observation >= of(0.0).observation).all()
    np.testing.assert_array_equal(of(1e6).observation, jnp.broadcast_to(state.high, (2, 3)))
    np.testing.assert_array_equal(of(1e6).reward, of(0.0).reward)


def test_a_known_cost_function_is_used_and_not_learned():
    spaces = replace(toys.spaces(), cost_function=KNOWN)
    dynamics, _, simulator, records, metrics = simulator_of(spaces)
    assert dynamics.out_size == 5  # Three changes, the reward, the termination.
    assert "model/holdout_cost" not in metrics
    observation, action = (jnp.asarray(x[:4]) for x in records[:2])
    found = simulator.step(observation, action, jnp.arange(4), jnp.zeros((4, 3)))
    np.testing.assert_array_equal(found.cost, found.observation[:, :1] > 0)
    learned = simulator_of(toys.spaces(costs=("a", "b")))
    assert learned[0].out_size == 7
    assert "model/holdout_cost" in learned[4]
    assert learned[2].step(observation, action, jnp.arange(4), jnp.zeros((4, 3))).cost.shape == (4, 2)


def test_it_learns_a_linear_system():
    spaces = toys.spaces()
    rng = np.random.default_rng(0)
    observations, actions = (rng.normal(size=(600, n)).astype(np.float32) for n in (3, 2))
    reward, cost = observations[:, 0] + actions[:, 0], actions[:, :1]
    records = Records(observations, actions, observations[:, ::-1] / 2, reward, cost, reward * 0)
    dynamics = Dynamics(spaces, DynamicsConfig(members=3, elites=2, layers=2, units=32, batch_size=32, epochs=40))
    _, metrics = dynamics.fit(dynamics.init(key=jax.random.key(0)), records, key=jax.random.key(1))
    assert float(metrics["model/holdout"]) < 0.1
    assert float(metrics["model/holdout_cost"]) < 0.1


def test_pictures_are_refused():
    with pytest.raises(ValueError, match=r"image is of pictures: choose other observations \(--obs lidar\), or an ag"):
        Dynamics(toys.spaces(toys.IMAGE, toys.VECTOR), SMALL)


def test_what_is_too_little_is_refused():
    dynamics = Dynamics(toys.spaces(), SMALL)
    records = Records.of(toys.batch(toys.spaces(), 1, 1), toys.spaces())
    with pytest.raises(ValueError, match="0 recorded steps are too few to fit a model"):
        dynamics.fit(dynamics.init(key=jax.random.key(0)), records, key=jax.random.key(1))
    with pytest.raises(ValueError, match="elites=4 of members=3"):
        replace(SMALL, elites=4)
