"""SLAC's model: its losses by hand, what an episode's beginning forgets, and filtering step by step."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.models.heads import HeadConfig
from prudence.models.slac import Slac, SlacConfig, SlacState
from prudence.types import ObservationSpec

COST = HeadConfig("bernoulli", layers=0, norm="none")
LINEAR = SlacConfig(z1=1, z2=2, layers=0, units=1, features=1, mlp_layers=1, mlp_units=1, cost=COST)
ONE = toys.spaces(("state", ObservationSpec((1,), "float32")), actions=1)


def constant(model: Slac, **outputs: list[float]) -> Slac:
    """A model whose networks have no weights. Those that are named have these outputs."""
    model = jax.tree.map(lambda x: jnp.zeros_like(x) if eqx.is_inexact_array(x) else x, model)
    bias = lambda made: [getattr(made, name).net.output.bias for name in outputs]
    return eqx.tree_at(bias, model, [jnp.array(values) for values in outputs.values()])


def test_losses_by_hand():
    wide, unit = np.log(np.expm1(2.0)), np.log(np.expm1(1.0))  # softplus^-1 of 2 and of 1
    model = constant(
        Slac(ONE, LINEAR, key=jax.random.key(0)),
        first_posterior=[1.0, wide],
        posterior=[0.0, unit],
        prior=[1.0, wide],
        reward=[0.5, unit],
        cost=[np.log(1 / 3)],
    )
    seen = np.expm1(0.1)  # symlog of it is .1
    rows = toys.batch(ONE, 1, 2)._replace(
        observation={"state": jnp.full((1, 2, 1), seen)},
        reward=jnp.array([[9.0, 1.5]]),
        is_first=jnp.zeros((1, 2), bool),
    )
    loss = eqx.filter_jit(lambda batch: model.loss(batch, key=jax.random.key(1)))
    total, (_, found) = loss(rows._replace(cost=jnp.array([[[9.0], [3.0]]])))
    # First step, N(1, 2²) against N(0, 1): -ln 2 + (4 + 1) / 2 - 1/2 = 1.30685. Then N(0, 1) against N(1, 2²):
    # ln 2 + (1 + 1) / 8 - 1/2 = .44315. The second latents add nothing.
    np.testing.assert_allclose(found["model/dynamics"], (1.30685 + 0.44315) / 2, rtol=1e-4)
    # A deviation of .1 from a prediction of 0, in units of .1.
    np.testing.assert_allclose(found["model/reconstruct_state"], 0.5, rtol=1e-4)
    # No reward or cost belongs to the first row. (1.5 - .5)² / 2 + ln(2π) / 2 = 1.41894.
    np.testing.assert_allclose(found["model/reward"], 1.41894 / 2, rtol=1e-4)
    # A cost of 3 counts as a cost: -100 ln(1/4) = 138.629.
    np.testing.assert_allclose(found["model/cost"], 138.629 / 2, rtol=1e-4)
    np.testing.assert_allclose(total, 0.875 + 0.5 + 0.70947 + 30 * 69.3147, rtol=1e-4)
    # Without a cost: -ln(3/4) = .28768.
    found = loss(rows._replace(cost=jnp.zeros((1, 2, 1))))[1][1]
    np.testing.assert_allclose(found["model/cost"], 0.28768 / 2, rtol=1e-4)


SPACES = toys.spaces()
SMALL = SlacConfig(z1=2, z2=3, layers=1, units=4, features=4, mlp_layers=1, mlp_units=4)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Slac:
    """A model that takes the means of its latents."""
    monkeypatch.setattr(Slac, "noise", lambda self, *batch, key: self.initial(*batch))
    return Slac(SPACES, SMALL, key=jax.random.key(0))


def states(model: Slac, rows) -> SlacState:
    return eqx.filter_jit(lambda batch: model.observe(batch, key=jax.random.key(1)).states)(rows)


def test_an_episode_remembers_nothing_of_the_one_before(model):
    rows = toys.batch(SPACES, 2, 5)
    rows = rows._replace(is_first=jnp.zeros((2, 5), bool).at[0, 3].set(True))
    seen = rows.observation["state"]
    other = rows._replace(
        observation={"state": seen.at[:, :3].add(1.0)}, prev_action=rows.prev_action.at[:, :4].add(1.0)
    )
    one, two = states(model, rows), states(model, other)
    for left, right in zip(one, two, strict=True):
        np.testing.assert_array_equal(left[0, 3:], right[0, 3:])
        assert not np.array_equal(left[1, 3:], right[1, 3:])


def test_filtering_step_by_step_gives_the_states_of_the_sequence(model):
    rows = toys.batch(SPACES, 2, 5)
    rows = rows._replace(is_first=rows.is_first.at[:, 0].set(True))
    step = eqx.filter_jit(lambda state, a, x, first: model.filter_step(state, a, {"state": x}, first, key=None))
    state, found = model.initial(2), []
    for t in range(5):
        state = step(state, rows.prev_action[:, t], rows.observation["state"][:, t], rows.is_first[:, t])
        found.append(state.features)
    np.testing.assert_allclose(jnp.stack(found, 1), states(model, rows).features, rtol=1e-4, atol=1e-6)
