"""AsymDreamer and its ablations: what they need, and what is the same as in BSRP-Lag."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import numpy as np
import pytest
import toys

from prudence.constraints import Unconstrained
from prudence.cores.dreamer.planning import PlanningConfig
from prudence.cores.dreamer.uncertainty import UncertaintyConfig
from prudence.envs.base import EnvConfig
from prudence.presets import preset
from prudence.types import ObservationSpec

PLAIN = toys.spaces()
PRIVILEGED = toys.spaces(toys.VECTOR, ("contacts", ObservationSpec((4, 2), "float32")), privileged=("contacts",))


def numbers(tree) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(eqx.filter(tree, eqx.is_array))]


def updated(agent, batch):
    return agent.update(agent.init(key=jax.random.key(0)), batch, key=jax.random.key(1))


def test_without_anything_privileged_it_is_bsrp_lag_bit_for_bit():
    batch = toys.batch(PRIVILEGED, 2, 2, 8)
    one, metrics = updated(toys.dreamer(PRIVILEGED, "asymdreamer-o"), batch)
    plain = batch._replace(observation={"state": batch.observation["state"]})
    two, others = updated(toys.dreamer(PLAIN, "safedreamer-bsrp-lag"), plain)
    jax.tree.map(np.testing.assert_array_equal, numbers(one), numbers(two))
    assert metrics.keys() == others.keys()


@pytest.mark.parametrize("name", ["debug", "cpu", "paper"])
def test_presets_are_bsrp_lags_with_a_privileged_half(name):
    env = EnvConfig("SafetyPointGoal1-v0")
    both, alone, other = (preset(name, f"asymdreamer{which}", env) for which in ("", "-s", "-o"))
    bsrp_lag = preset(name, "safedreamer-bsrp-lag", env)
    assert other == replace(bsrp_lag, agent_name="asymdreamer-o")
    assert replace(both.agent, privileged=None) == replace(alone.agent, privileged=None) == bsrp_lag.agent
    assert both.agent.privileged == replace(alone.agent.privileged, critics_see="union")
    assert both.env == replace(bsrp_lag.env, privileged="paper")


def test_the_papers_sizes_are_table_1():
    config = preset("paper", "asymdreamer", EnvConfig("SafetyPointGoal1-v0", obs=("vision",)))
    agent, loop = config.agent, config.loop
    for half in (agent.world_model.rssm, agent.privileged.rssm):
        assert (half.stoch, half.classes, half.latent) == (48, 48, "discrete")
    assert (agent.privileged.mlp_layers, agent.privileged.mlp_units) == (5, 512)
    assert (agent.horizon, agent.lambda_, agent.entropy, agent.budget.limit) == (15, 0.95, 3e-4, 2.0)
    assert (agent.model_optimiser.learning_rate, agent.actor_optimiser.learning_rate) == (1e-4, 3e-5)
    # A train ratio of 512 over 16 sequences of 64.
    assert (loop.batch_size, loop.batch_length, loop.updates_per_decision) == (16, 64, 0.5)
    assert (loop.steps, config.env.action_repeat) == (2_000_000, 4)


def test_an_environment_of_ones_own_says_itself_what_is_privileged():
    assert preset("debug", "asymdreamer", EnvConfig("probe/memory")).env.privileged == ()
    named = EnvConfig("SafetyPointGoal1-v0", ("lidar", "coordinates"), privileged=("coordinates",))
    assert preset("cpu", "asymdreamer", named).env.privileged == ("coordinates",)


def test_it_refuses_to_do_without_privileged_observations():
    with pytest.raises(ValueError, match=r"but the environment declares none: train with `--env\.privileged paper`"):
        toys.dreamer(PLAIN, "asymdreamer")
    toys.dreamer(PLAIN, "asymdreamer-o")


def test_what_does_not_go_together_is_refused():
    half = toys.debug_config("asymdreamer").privileged
    for part in ({"planning": PlanningConfig()}, {"uncertainty": UncertaintyConfig()}):
        with pytest.raises(ValueError, match="has neither planning nor uncertainty"):
            toys.dreamer(PRIVILEGED, "asymdreamer", **part)
    with pytest.raises(ValueError, match="give it a PrivilegedConfig"):
        toys.dreamer(PRIVILEGED, "asymdreamer", privileged=None)
    with pytest.raises(ValueError, match="AsymDreamer needs a constraint"):
        toys.dreamer(PRIVILEGED, "asymdreamer", constraint=Unconstrained())
    with pytest.raises(ValueError, match="critics see the privileged state only"):
        toys.dreamer(PRIVILEGED, "asymdreamer-s", privileged=half)


def test_acting_neither_needs_nor_heeds_privileged_observations():
    agent = toys.dreamer(PRIVILEGED, "asymdreamer")
    state, seen = agent.init(key=jax.random.key(0)), toys.batch(PRIVILEGED, 3).observation
    act = lambda seen: agent.act(
        state, agent.init_carry(3), seen, np.ones(3, bool), key=jax.random.key(2), mode="evaluate"
    )
    alone = act({"state": seen["state"]})
    for other in (seen, seen | {"contacts": seen["contacts"] + 1}):
        jax.tree.map(np.testing.assert_array_equal, alone, act(other))


@pytest.mark.parametrize(("name", "gradient"), [("asymdreamer-s", "reinforce")])  # Golden updates are of the other.
def test_an_update_moves_every_part(name, gradient):
    agent = toys.dreamer(PRIVILEGED, name, gradient=gradient, replay_loss=0.3)
    before = agent.init(key=jax.random.key(0))
    after, metrics = agent.update(before, toys.batch(PRIVILEGED, 2, 2, 8), key=jax.random.key(1))
    assert all(np.isfinite(value) for value in metrics.values())
    one, two = before.world_model.module, after.world_model.module
    parts = [(getattr(one, part), getattr(two, part)) for part in ("observation", "privileged", "heads")]
    parts += [(getattr(before, part), getattr(after, part)) for part in ("actor", "critic", "cost_critic")]
    for old, new in parts:
        assert any(not np.array_equal(x, y) for x, y in zip(numbers(old), numbers(new), strict=True))


def test_a_report_has_the_observations_of_both_halves():
    agent, batch = toys.dreamer(PRIVILEGED, "asymdreamer"), toys.batch(PRIVILEGED, 2, 6)
    found = agent.report(agent.init(key=jax.random.key(0)), batch, key=jax.random.key(1), context=3)
    assert found["prediction/contacts"].shape == found["truth/contacts"].shape == (2, 6, 8)
    assert found["prediction/state"].shape == (2, 6, 3)
