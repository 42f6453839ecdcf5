"""Recovery: what a risk is, when a plan takes the place of the policy's action, and which plan it is."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.cores.dreamer.recovery import Recovery, RecoveryConfig
from prudence.cores.pairs import Pairs
from prudence.models.rssm import LatentState
from prudence.optim import OptimiserConfig
from prudence.planners import CrossEntropy

SPACES = toys.spaces(costs=("left", "right"))
FIRST = np.full(4, True)


class ByAction(eqx.Module):
    """Two critics. The first gives the first entry of the action, the second that of the state, if they are larger."""

    def values(self, features, actions):
        return jnp.stack([actions[..., 0], features[..., 0]])


@pytest.fixture(scope="module")
def agent():
    return toys.dreamer(SPACES, "recovery-rl")


@pytest.fixture(scope="module")
def state(agent):
    return agent.init(key=jax.random.key(0))


def judged_by(risk, recovery: Recovery, **changes) -> Recovery:
    recovery = replace(recovery, config=replace(recovery.config, **changes))
    return eqx.tree_at(lambda r: r.risk, recovery, risk)  # Not by ``replace``, which checks the type.


def same(a, b) -> bool:
    pairs = zip(jax.tree.leaves(eqx.filter(a, eqx.is_array)), jax.tree.leaves(eqx.filter(b, eqx.is_array)), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def latents(*first: float) -> LatentState:
    """States of the debug preset's sizes; a number is the first feature."""
    deter = jnp.zeros((len(first), 8)).at[:, 0].set(jnp.array(first))
    return LatentState(deter, jnp.zeros((len(first), 16)))


# --- the risk -----------------------------------------------------------------------------------


def test_critics_learn_how_probable_a_violation_is(agent, state):
    """Four states in a row. The third action violates the second constraint alone, and nothing follows the fourth.

    γ = .5: .25, .5, 1, 0, whatever the action.
    """
    config = RecoveryConfig(discount=0.5)
    fast = replace(config.critic, optimiser=OptimiserConfig(1e-2), slow_rate=0.1)
    config = replace(config, critic=replace(fast, head=replace(fast.head, layers=1, units=16)))
    sizes = agent.config.world_model.rssm.feature_size, 2
    actor, number = state.actor.module, 64
    rng, row = np.random.default_rng(0), np.arange(number) % 4
    place = np.eye(4, sizes[0], dtype=np.float32)
    costs = np.zeros((number, 2), np.float32)
    costs[row == 2, 1] = 0.3
    pairs = Pairs(
        jnp.asarray(place[row]),
        jnp.asarray(rng.uniform(-1, 1, (number, 2)), jnp.float32),
        jnp.zeros(number),
        jnp.asarray(costs),
        jnp.asarray(row != 3, jnp.float32),
        jnp.asarray(place[(row + 1) % 4]),
        jnp.ones(number),
    )
    step = eqx.filter_jit(lambda recovery, key: recovery.update(actor, pairs, None, key=key))
    recovery = Recovery.init(*sizes, config, key=jax.random.key(1))
    before = recovery.risk.values(pairs.features, pairs.actions)
    np.testing.assert_allclose(before, 1 / (1 + np.exp(4.0)), rtol=1e-4)
    for number in range(300):
        recovery, metrics = step(recovery, jax.random.key(number))
    found = np.asarray(recovery.risk.values(pairs.features, pairs.actions))
    for place, expected in enumerate([0.25, 0.5, 1.0, 0.0]):
        np.testing.assert_allclose(found[:, row == place].mean(-1), expected, atol=0.05)
    assert metrics["risk/violations"] == 0.25


def test_an_update_is_dreamerv3s_and_one_of_the_critics(agent, state):
    batches = toys.batch(SPACES, 2, 2, 8)
    after, metrics = agent.update(state, batches, key=jax.random.key(1))
    plain = toys.dreamer(SPACES, "dreamerv3")
    other, _ = plain.update(plain.init(key=jax.random.key(0)), batches, key=jax.random.key(1))
    for part in ("world_model", "actor", "critic"):
        assert same(getattr(after, part), getattr(other, part)), part
    assert after.cost_critic is None
    assert other.recovery is None
    for critics in (lambda s: s.recovery.risk.members.online.module, lambda s: s.recovery.risk.members.slow):
        assert not same(critics(state), critics(after))
    assert 0 < metrics["risk/target"] < 1
    assert all(np.isfinite(value) for value in metrics.values())


# --- the switch ---------------------------------------------------------------------------------


def test_a_plan_acts_where_the_risk_exceeds_the_threshold(agent, state):
    """ε = .25. The largest of two critics counts: of the action in environments 0 to 2, of the state in 3."""
    recovery = judged_by(ByAction(), state.recovery, threshold=0.25)
    model, policy = state.world_model.module, jnp.array([[0.125, 0.5], [0.25, 0.5], [0.5, 0.5], [-0.5, 0.5]])
    act = jax.jit(lambda policy: recovery.act(model, latents(0, 0, 0, 0.5), policy, key=jax.random.key(1)))
    action, metrics = act(policy)
    np.testing.assert_array_equal(metrics["recovery/share"], [0, 0, 1, 1])
    np.testing.assert_array_equal(metrics["recovery/risk"], [0.125, 0.25, 0.5, 0.5])
    np.testing.assert_array_equal(action[:2], policy[:2])
    assert (action[2:] != policy[2:]).any(-1).all()
    alone, _ = act(policy.at[3].set(0.0).at[0].set(0.9))  # The others' risks are nothing to environment 2.
    np.testing.assert_array_equal(alone[2], action[2])


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_the_executed_action_is_remembered(agent, state, mode):
    rows = toys.batch(SPACES, 4)

    def act(agent, state):
        carry = agent.init_carry(4)
        return agent.act(state, carry, rows.observation, FIRST, key=jax.random.key(3), mode=mode)

    plain = toys.dreamer(SPACES, "dreamerv3")
    policy, _, _ = act(plain, plain.init(key=jax.random.key(0)))
    for threshold, share in ((1.0, 0.0), (0.0, 1.0)):
        config = replace(agent.config.recovery, threshold=threshold)
        other = toys.dreamer(SPACES, "recovery-rl", recovery=config)
        action, carry, metrics = act(other, other.init(key=jax.random.key(0)))
        np.testing.assert_array_equal(metrics["recovery/share"], share)
        np.testing.assert_array_equal(carry.prev_action, action)
        assert (np.asarray(action) == np.asarray(policy)).all() == (share == 0.0)


# --- the plan -----------------------------------------------------------------------------------


def test_the_plan_is_that_of_the_least_risk(agent, state):
    """With one round and one elite it is the best of those that were drawn. Each is judged here, step by step."""
    search = CrossEntropy(horizon=3, plans=12, elites=1, iterations=1, momentum=0.0, rule="best")
    weights = jax.tree.map(lambda x: x + 0.3 if eqx.is_inexact_array(x) else x, state.recovery.risk)
    recovery = judged_by(weights, state.recovery, search=search)
    model, latent, key = state.world_model.module, jax.tree.map(lambda x: x[0], latents(0.7)), jax.random.key(4)
    found = recovery.plan(model, latent, key=jax.random.clone(key))
    draw_key, dream_key = jax.random.split(jax.random.fold_in(key, 0))
    plans = search.propose(search.begin(jnp.zeros((3, 2)), jnp.asarray(True)), jnp.zeros((0, 3, 2)), key=draw_key)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (12, *x.shape)), latent)
    dream = model.imagine(lambda _, action: action, start, plans.swapaxes(0, 1), key=dream_key)
    risks, goes_on = np.zeros(12), np.ones(12)
    for step in range(3):
        goes_on *= 1.0 if step == 0 else dream.continues[step]
        of_both = recovery.risk.values(dream.critic_features[step], plans[:, step])
        risks += goes_on * np.asarray(of_both).max(0)
    assert np.ptp(risks) > 1e-3
    np.testing.assert_array_equal(found, plans[risks.argmin(), 0])


def test_the_search_finds_the_safe_direction(state):
    """A risk that grows with the first entry of the action is least at -1."""
    search = CrossEntropy(horizon=2, plans=64, elites=8, iterations=4, momentum=0.0, init_std=0.5, rule="best")
    recovery = judged_by(ByAction(), state.recovery, search=search)
    latent = jax.tree.map(lambda x: x[0], latents(-9.0))
    # The second critic reads imagined states, whose first feature is above -1 only.
    found = jax.jit(recovery.plan)(state.world_model.module, latent, key=jax.random.key(5))
    assert found[0] < -0.5


# --- what does not go together ------------------------------------------------------------------


def test_what_does_not_fit_is_refused(agent):
    recovery = agent.config.recovery
    with pytest.raises(ValueError, match="recovery searches continuous actions"):
        toys.dreamer(toys.spaces(action="discrete", actions=3), "recovery-rl")
    planning = toys.debug_config("safedreamer-osrp-lag").planning
    with pytest.raises(ValueError, match="leave planning and privileged out"):
        toys.dreamer(SPACES, "recovery-rl", planning=planning)
    head = replace(recovery.critic.head, kind="normal")
    with pytest.raises(ValueError, match="kind='normal' does not suit a risk"):
        toys.dreamer(SPACES, "recovery-rl", recovery=replace(recovery, critic=replace(recovery.critic, head=head)))
    proposing = replace(recovery, search=replace(recovery.search, proposals=0.5))
    with pytest.raises(ValueError, match=r"proposals=0\.5 are plans of the policy"):
        toys.dreamer(SPACES, "recovery-rl", recovery=proposing)
    with pytest.raises(ValueError, match="train dreamerv3 without them"):
        toys.dreamer(SPACES, "recovery-rl", recovery=None)
    with pytest.raises(ValueError, match="leave the constraint out"):
        toys.dreamer(SPACES, "recovery-rl", constraint=toys.debug_config().constraint)
