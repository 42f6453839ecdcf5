"""The FOSP core: what an update changes, its values, weights and penalty, by hand where there is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.budgets import Budget, Imagined, Lived
from prudence.constraints import AugmentedLagrangian
from prudence.cores.fosp.config import FospConfig, RegressionConfig
from prudence.cores.fosp.fosp import Fosp
from prudence.cores.pairs import Pairs
from prudence.envs.base import EnvConfig
from prudence.optim import OptimiserConfig
from prudence.presets.offline import offline
from prudence.systems import find_system

SPACES = toys.spaces(costs=("left", "right"))
DISCRETE = toys.spaces(action="discrete", actions=3)


def make(name: str = "fosp", spaces=SPACES, **changes) -> Fosp:
    config = offline("debug", name, EnvConfig("probe/value"), Path("data"), "digest").agent
    assert isinstance(config, FospConfig)
    usual = {"budget": replace(config.budget, violation=Imagined("episode", relative=True, bound=2.0))}
    if config.regression is not None:  # The paper's penalty, which has a gradient.
        usual["regression"] = replace(config.regression, penalty="imagined")
    agent = find_system(name).agent(spaces, replace(config, **{**usual, **changes}))
    assert isinstance(agent, Fosp)
    return agent


def same(a, b) -> bool:
    pairs = zip(jax.tree.leaves(eqx.filter(a, eqx.is_array)), jax.tree.leaves(eqx.filter(b, eqx.is_array)), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def updated(agent: Fosp, **changes):
    state, rows = agent.init(key=jax.random.key(0)), toys.batch(agent.spaces, 2, 2, 8)
    return state, *agent.update(state, rows._replace(**changes), key=jax.random.key(1))


# --- pairs --------------------------------------------------------------------------------------


def test_a_pair_has_the_action_that_was_taken_and_what_followed():
    rows = toys.batch(SPACES, 1, 4)
    last = jnp.array([[False, True, False, False]])
    rows = rows._replace(is_last=last, is_terminal=jnp.array([[False, False, False, True]]))
    features = jnp.arange(8.0).reshape(1, 4, 2)
    pairs = Pairs.of(features, rows)
    np.testing.assert_array_equal(pairs.features, features[0, :3])
    np.testing.assert_array_equal(pairs.next_features, features[0, 1:])
    np.testing.assert_array_equal(pairs.actions, rows.prev_action[0, 1:])
    np.testing.assert_array_equal(pairs.rewards, rows.reward[0, 1:])
    np.testing.assert_array_equal(pairs.costs, rows.cost[0, 1:])
    np.testing.assert_array_equal(pairs.continues, [1, 1, 0])
    np.testing.assert_array_equal(pairs.weights, [1, 0, 1])


# --- an update ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_update():
    return updated(make())


def test_every_part_learns(one_update):
    before, after, metrics = one_update
    parts = ("world_model", "actor", "values", "feasibility", "average", "lived", "step")
    assert [name for name in parts if same(getattr(before, name), getattr(after, name))] == []
    assert all(np.isfinite(value) for value in metrics.values())
    assert after.step == 2


def test_metrics_say_what_the_weights_do(one_update):
    _, _, metrics = one_update
    # It starts at σ(-4) = .018 for each of two costs, and learns for two steps.
    assert 0.9 < metrics["regression/feasible"] < 0.99
    assert metrics["regression/weight"] > 0
    assert {"constraint/multiplier_left", "imagined/cost_right", "reach/loss", "action_cost_value/loss"} <= set(metrics)


def random_values(agent: Fosp, state, rows):
    """Critics that tell actions apart, since fresh ones say 0, and pairs of random features."""
    draw = lambda x: jax.random.normal(jax.random.key(x.size), x.shape) if eqx.is_inexact_array(x) else x
    state = eqx.tree_at(lambda s: [of.action for of in s.values], state, replace_fn=lambda x: jax.tree.map(draw, x))
    size = state.world_model.module.critic_size
    return state, Pairs.of(jax.random.normal(jax.random.key(1), (2, 8, size)), rows)


def test_normalised_weights_do_not_depend_on_the_ranges_of_returns_and_costs():
    agent, config = make(), RegressionConfig(3.0, 3.0, normalised=True, penalty="weights")
    state, pairs = random_values(agent, agent.init(key=jax.random.key(0)), toys.batch(SPACES, 2, 8))
    found, metrics = agent._weights(state, pairs, config)
    assert metrics["regression/advantage_std"] > 0.01
    assert found.std() > 0.1
    wide = lambda scale: replace(scale, high=scale.low + 20.0)
    state = eqx.tree_at(lambda s: [of.scale for of in s.values], state, replace_fn=wide)
    again, wider = agent._weights(state, pairs, config)
    np.testing.assert_allclose(wider["regression/advantage_std"], metrics["regression/advantage_std"] / 20, rtol=1e-4)
    np.testing.assert_allclose(again, found, rtol=1e-4)


def test_the_multipliers_weigh_cost_advantages_once_costs_count():
    config = RegressionConfig(0.5, 0.5, penalty="weights")
    agent = make(feasibility=None, regression=config)
    state, pairs = random_values(agent, agent.init(key=jax.random.key(0)), toys.batch(SPACES, 2, 8))
    multiplier = jnp.array([0.5, 2.0])
    state = eqx.tree_at(lambda s: s.constraint.multiplier, state, multiplier)
    rewards, costs = (of.advantages(pairs) for of in state.values)
    for start, counts in ((0, 1.0), (10, 0.0)):
        agent = make(feasibility=None, regression=config, budget=replace(agent.config.budget, start=start))
        expected = jnp.minimum(jnp.exp(0.5 * (rewards - counts * costs @ multiplier)), 100.0) * pairs.weights
        np.testing.assert_allclose(agent._weights(state, pairs, config)[0], expected, rtol=1e-4)


@pytest.fixture(scope="module")
def cloner():
    return make("bc", averaging=None, cooldown=0.0, actor_optimiser=OptimiserConfig(1e-2))


def test_behaviour_cloning_learns_model_and_policy_only(cloner):
    before, after, metrics = updated(cloner)
    assert before.values is before.feasibility is None
    assert not same(before.actor, after.actor)
    assert not same(before.world_model, after.world_model)
    assert "regression/log_prob" in metrics
    assert "imagined/cost" not in metrics


def test_cloning_makes_recorded_actions_likely(cloner):
    state, rows = cloner.init(key=jax.random.key(0)), toys.batch(SPACES, 2, 2, 8)
    rows = rows._replace(prev_action=jnp.full_like(rows.prev_action, 0.6))
    log_probs = []
    for i in range(40):
        state, metrics = cloner.update(state, rows, key=jax.random.fold_in(jax.random.key(1), i))
        log_probs.append(float(metrics["regression/log_prob"]))
    assert log_probs[-1] > log_probs[0] + 0.5


@pytest.mark.slow
def test_discrete_actions_are_learned_too():
    before, after, metrics = updated(make(spaces=DISCRETE))
    assert not same(before.actor, after.actor)
    assert all(np.isfinite(value) for value in metrics.values())


# --- weights and penalty ------------------------------------------------------------------------


def objective_gradient(agent: Fosp, state, multiplier: float):
    """The derivative of the penalty with respect to imagined actions."""
    state = eqx.tree_at(lambda s: s.constraint.multiplier, state, jnp.full(2, multiplier))
    model, actor = state.world_model.module, state.actor.module
    start = jax.tree.map(lambda x: jnp.zeros((3, *x.shape[1:])), agent.perception.first_latent(3))
    noise = actor.noise(agent.config.horizon, 3, key=jax.random.key(2))
    policy = lambda features, noise: jax.lax.stop_gradient(actor(features).sample(noise))

    def loss(nudge):
        trajectory = model.imagine(policy, start, noise, key=jax.random.key(3), nudge=nudge)
        return agent._objective(state, jnp.ones(3), trajectory)[0]

    return jax.grad(loss)(jnp.zeros(noise.shape))


def test_the_penalty_has_no_gradient_without_a_price_or_where_nothing_is_feasible(one_update):
    none = AugmentedLagrangian(multiplier_init=0.0, penalty_factor_init=1e-30, growth=0.0)
    agent = make(constraint=none, budget=Budget(1.0, discount=0.9, violation=make().config.budget.violation))
    state = one_update[1]
    np.testing.assert_allclose(objective_gradient(agent, state, 0.0), 0.0, atol=1e-7)
    assert np.abs(objective_gradient(agent, state, 1.0)).max() > 1e-6
    in_weights = make(regression=RegressionConfig(penalty="weights"), budget=agent.config.budget)
    np.testing.assert_array_equal(objective_gradient(in_weights, state, 1.0), 0.0)
    bias = lambda s: s.feasibility.critic.online.module.net.output.bias
    infeasible = eqx.tree_at(bias, state, jnp.full_like(bias(state), 100.0))
    np.testing.assert_allclose(objective_gradient(agent, infeasible, 1.0), 0.0, atol=1e-7)


@pytest.fixture(scope="module")
def priced():
    """An agent with a price of .5, a fresh state, and a trajectory that costs 5 at every step."""
    budget = Budget(0.01, start=0, violation=make().config.budget.violation)
    agent = make(constraint=AugmentedLagrangian(0.5, 0.05, 0.0, dual_rate=1.0), budget=budget)
    agent = replace(agent, run_updates=100)
    state, start = agent.init(key=jax.random.key(0)), agent.perception.first_latent(2)
    idle = lambda features, noise: jnp.zeros((2, 2))
    noise = jnp.zeros((agent.config.horizon, 2, 2))
    trajectory = state.world_model.module.imagine(idle, start, noise, key=jax.random.key(3))
    return agent, state, trajectory._replace(costs=jnp.full_like(trajectory.costs, 5.0))


def test_a_paced_multiplier_rises_by_the_dual_rate_over_a_run(priced):
    agent, state, trajectory = priced
    loss, dream = agent._objective(state, jnp.ones(2), trajectory)
    # Two targets above the budget is where the violation is clipped: .5 + 1.0 · 2 / 100.
    np.testing.assert_allclose(agent._update_constraint(state, dream).multiplier, 0.52, rtol=1e-5)
    # λg + μg²/2 with g = 2, for each of two costs.
    np.testing.assert_allclose(loss, 2 * (0.5 * 2 + 0.05 / 2 * 4), rtol=1e-5)


def test_costs_have_no_price_before_the_start(priced):
    agent, state, trajectory = priced
    later = replace(agent, config=replace(agent.config, budget=replace(agent.config.budget, start=1)))
    loss, dream = later._objective(state, jnp.ones(2), trajectory)
    assert loss == 0
    np.testing.assert_array_equal(later._update_constraint(state, dream).multiplier, state.constraint.multiplier)


# --- acting and refusals ------------------------------------------------------------------------


def test_evaluation_takes_the_mode_of_the_average():
    agent = make()
    _, state, _ = updated(agent)
    rows = toys.batch(SPACES, 3)
    act = lambda mode: agent.act(
        state, agent.init_carry(3), rows.observation, np.full(3, True), key=jax.random.key(3), mode=mode
    )
    action, carry, _ = act("evaluate")
    np.testing.assert_allclose(action, state.average.module(carry.latent.features).mode(), atol=1e-5)
    assert not np.array_equal(action, act("train")[0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"budget": Budget(violation=Lived())}, "no episodes of its policy"),
        ({"regression": None}, "behaviour cloning"),
        ({"feasibility": None}, "safe_action='next'"),
    ],
)
def test_combinations_that_mean_nothing_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        replace(make(), config=replace(make().config, **changes))


def test_a_reach_critic_needs_probabilities():
    config = make().config
    assert config.feasibility is not None
    with pytest.raises(ValueError, match="needs 'bernoulli'"):
        make(feasibility=replace(config.feasibility, kind="hj"))


def test_fosp_without_weights_is_refused_by_name():
    with pytest.raises(ValueError, match="train bc"):
        make(regression=None)
