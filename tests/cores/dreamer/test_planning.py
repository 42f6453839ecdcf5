"""What a plan is worth, by hand; and agents that plan."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.budgets import Budget
from prudence.constraints import PIDLagrangian, Unconstrained
from prudence.cores.dreamer import planning
from prudence.cores.dreamer.planning import Discounts, PlannerNetworks, PlanningConfig, forecast, preview
from prudence.models.rssm import LatentState
from prudence.ops.normalise import symexp
from prudence.planners import Candidates, CrossEntropy, Forecast
from prudence.types import CostFunction, EpisodeSummary, Trajectory

CONTINUOUS = toys.spaces(costs=("hazards", "vases"))
LATENT = LatentState(jnp.zeros(2), jnp.zeros(1))
HORIZON = Discounts(discount=0.5, cost_discount=1.0, lambda_=1.0, episode_steps=20)


def networks_at(price, *, futures=1):
    """Two steps: rewards are the action, costs its square and 3; each future after the first costs 1 more."""

    def imagine(policy, start, actions, *, key, alike=1):
        assert start.deter.shape == (actions.shape[1], 2)
        chosen = policy(None, actions)[..., 0]
        extra = jnp.arange(actions.shape[1]) % futures
        zero = jnp.zeros((1, actions.shape[1]))
        costs = jnp.stack([chosen**2 + extra, jnp.full_like(chosen, 3.0)], -1)
        return Trajectory(
            actor_features=jnp.zeros((3, actions.shape[1], 3)),
            critic_features=jnp.zeros((3, actions.shape[1], 3)),
            actions=actions,
            rewards=jnp.concatenate([zero + 100, chosen]),
            costs=jnp.concatenate([zero[..., None] + jnp.full(2, 100.0), costs]),
            continues=jnp.ones((3, actions.shape[1])),
        )

    value = SimpleNamespace(values=lambda features: jnp.full(features.shape[:-1], 8.0))
    cost_value = SimpleNamespace(values=lambda features: jnp.full((*features.shape[:-1], 2), 10.0))
    return PlannerNetworks(SimpleNamespace(imagine=imagine), None, value, cost_value, jnp.asarray(price, jnp.float32))


def judged(config, networks):
    plans = jnp.array([[1.0, 2.0], [-1.0, 0.5]])[..., None]
    return forecast(config, networks, HORIZON, LATENT, plans, key=jax.random.key(0))


def test_fewer_plans_than_an_iteration_has_get_more_futures():
    """A search of eight plans in one future each compares two of them again in four."""
    config, networks = PlanningConfig(search=CrossEntropy(plans=8, elites=2)), networks_at([0.0, 0.0])
    plans = jnp.array([[1.0, 2.0], [-1.0, 0.5]])[..., None]
    seen = []

    def imagine(policy, start, actions, **rest):
        seen.append(actions.shape[1])
        return networks.model.imagine(policy, start, actions, **rest)

    counted = networks._replace(model=SimpleNamespace(imagine=imagine))
    found = planning._foresee(config, counted, HORIZON, LATENT)(plans, jax.random.key(0))
    alone = forecast(config, networks, HORIZON, LATENT, plans, key=jax.random.key(0))
    assert seen == [8]
    np.testing.assert_allclose(found.score, alone.score)  # This model's rewards do not depend on the future.
    np.testing.assert_allclose(found.cost, alone.cost)


def test_a_plan_by_hand():
    found = judged(PlanningConfig(), networks_at([0.0, 0.0]))
    # γ = .5, λ = 1, value 8 at the end: 1 + .5·2 + .25·8 = 4 and -1 + .25 + 2.
    np.testing.assert_allclose(found.score, [4.0, 1.25])
    # An episode of 20 decisions holds 10 plans of 2: 10·(1 + 4) and 10·(3 + 3).
    np.testing.assert_allclose(found.cost, [[50.0, 60.0], [12.5, 60.0]])


def test_the_price_is_paid_for_the_cost_return():
    found = judged(PlanningConfig(), networks_at([0.1, 0.01]))
    # Cost returns, undiscounted: 1 + 4 + 10 = 15 and 3 + 3 + 10 = 16; 1 + .25 + 10 and 16.
    np.testing.assert_allclose(found.score, [4.0 - 1.5 - 0.16, 1.25 - 1.125 - 0.16], rtol=1e-6)


def test_nothing_beyond_the_horizon():
    found = judged(PlanningConfig(beyond="nothing"), networks_at([0.1, 0.0]))
    np.testing.assert_allclose(found.score, [3.0 - 0.5, -0.5 - 0.125], rtol=1e-6)


def test_what_comes_after_an_imagined_end_does_not_count():
    """The first plan surely terminates with its first decision: what that earns and costs counts, the rest does not."""
    networks = networks_at([0.1, 0.0])
    imagine = networks.model.imagine

    def ending(*arguments, **options):
        dream = imagine(*arguments, **options)
        return dream._replace(continues=dream.continues.at[1, 0].set(0.0))

    networks = networks._replace(model=SimpleNamespace(imagine=ending))
    found = judged(PlanningConfig(beyond="nothing"), networks)
    np.testing.assert_allclose(found.score, [1.0 - 0.1, -0.5 - 0.125], rtol=1e-6)
    np.testing.assert_allclose(found.cost, [[10.0, 30.0], [12.5, 60.0]])


@pytest.mark.parametrize(("pessimism", "more"), [("mean", 20.0), ("max", 40.0)])
def test_several_futures_of_a_plan(pessimism, more):
    # Three futures cost 0, 1 and 2 more at each of two steps.
    found = judged(PlanningConfig(futures=3, pessimism=pessimism), networks_at([0.0, 0.0], futures=3))
    np.testing.assert_allclose(found.cost, [[50.0 + more, 60.0], [12.5 + more, 60.0]], rtol=1e-6)
    np.testing.assert_allclose(found.score, [4.0, 1.25], rtol=1e-6)


def test_costs_are_read_off_what_is_decoded():
    # The head's costs are 1, 4 and 3, 3 (first test); the reader's are 7 and 0 at every state but the first.
    reader = lambda features: jnp.stack([jnp.full(features.shape[:-1], 7.0), jnp.zeros(features.shape[:-1])], -1)
    found = judged(PlanningConfig(costs="observation"), networks_at([0.1, 0.0])._replace(costs_of=reader))
    np.testing.assert_allclose(found.cost, [[140.0, 0.0]] * 2)
    # Its cost return, undiscounted, is 7 + 7 + 10.
    np.testing.assert_allclose(found.score, [4.0 - 2.4, 1.25 - 2.4], rtol=1e-6)


def first_entry(observation):
    return jnp.stack([observation["state"][..., 0], 0 * observation["state"][..., 1]], -1)


def one_cost_only(observation):
    return observation["state"][..., :1]


def test_a_task_supplies_the_cost_function():
    function = CostFunction(f"{__name__}:first_entry")
    spaces = replace(CONTINUOUS, cost_function=function)
    agent = planner(spaces=spaces, planning=replace(planner().config.planning, costs="observation"))
    state, batch = agent.init(key=jax.random.key(0)), toys.batch(CONTINUOUS, 3)
    features = jnp.ones((4, 3, agent.init_carry(1).latent.features.shape[-1]))
    model = state.world_model.module
    decoded = symexp(model.decoder(features)["state"])
    np.testing.assert_allclose(agent.plans._read_costs(model, features)[..., 0], decoded[..., 0], rtol=1e-6)
    assert act(agent, state, batch)[0].shape == (3, 2)
    wrong = replace(agent, spaces=replace(spaces, cost_function=CostFunction(f"{__name__}:one_cost_only")))
    with pytest.raises(ValueError, match=r"must return .*one cost for each of hazards, vases"):
        act(wrong, state, batch)


def planner(name="safedreamer-osrp-lag", spaces=CONTINUOUS, **changes):
    return toys.dreamer(spaces, name, **changes)


def act(agent, state, batch, *, carry=None, first=False):
    carry = agent.init_carry(3) if carry is None else carry
    is_first = np.full(3, first)
    return agent.act(state, carry, batch.observation, is_first, key=jax.random.key(7), mode="evaluate")


def test_planning_ahead_of_its_neighbours():
    agent, batch = planner(), toys.batch(CONTINUOUS, 3)
    state = agent.init(key=jax.random.key(0))
    action, carry, metrics = act(agent, state, batch)
    assert action.shape == (3, 2)
    assert float(jnp.abs(action).max()) <= 1
    assert carry.plan.shape == (3, 3, 2)
    np.testing.assert_array_equal(carry.plan[:, 0], action)
    names = {f"plan/{name}" for name in ("safe_share", "elite_score", "elite_cost", "std", "acting")}
    assert {name: value.shape for name, value in metrics.items()} == dict.fromkeys(names | {"policy/entropy"}, (3,))
    moved = {"state": batch.observation["state"] + jnp.array([[0.0], [5.0], [0.0]])}
    np.testing.assert_array_equal(act(agent, state, batch._replace(observation=moved))[0][::2], action[::2])


@pytest.mark.parametrize("uncertain", [False, True])
def test_equal_plans_are_foreseen_equally_under_common_noise(uncertain):
    name = "lambda-cem-mpc" if uncertain else "safedreamer-osrp"
    base = planner(name).config.planning
    for common, same in ((True, True), (False, False)):
        config = replace(base, common_noise=common)
        agent = planner(name, planning=config)
        state = agent.init(key=jax.random.key(0))
        networks = agent.plans.networks(toys.warmed(agent, state) if uncertain else state)
        latent = jax.tree.map(lambda x: x[0], agent.init_carry(1).latent)
        plans = jnp.zeros((3, config.search.horizon, 2))
        limits = HORIZON._replace(episode_steps=20)
        found = forecast(config, networks, limits, latent, plans, key=jax.random.key(5))
        assert (float(jnp.ptp(found.cost[:, 0])) == 0.0) is same


def test_the_last_plan_is_forgotten_when_an_episode_begins():
    agent, batch = planner(), toys.batch(CONTINUOUS, 3)
    state = agent.init(key=jax.random.key(0))
    fresh = agent.init_carry(3)
    used = fresh._replace(plan=fresh.plan + 0.9)
    first = act(agent, state, batch, first=True)[0]
    np.testing.assert_array_equal(act(agent, state, batch, carry=used, first=True)[0], first)
    assert not np.array_equal(act(agent, state, batch, carry=used)[0], first)


def test_until_the_start_the_policy_acts_and_the_price_waits():
    price = PIDLagrangian(1.0, 0.0, 0.0, maximum=9.0, integral_init=0.5, warmup=0)
    agent, batch = planner(), toys.batch(CONTINUOUS, 3)
    agent = planner(planning=replace(agent.config.planning, start=2, price=price), evaluation="mode", averaging=None)
    policy = replace(agent, config=replace(agent.config, planning=None))
    state, costly = agent.init(key=jax.random.key(0)), EpisodeSummary(1.0, np.array([30.0, 30.0]), 20)
    action, carry, metrics = act(agent, state, batch)
    np.testing.assert_array_equal(action, act(policy, state, batch)[0])
    assert not carry.plan.any()
    assert not metrics["plan/acting"].any()
    np.testing.assert_allclose(price.multiplier(agent.on_episode(state, costly).price), 0.5)
    later = eqx.tree_at(lambda s: s.step, state, jnp.asarray(2))
    action, carry, metrics = act(agent, later, batch)
    np.testing.assert_array_equal(action, carry.plan[:, 0])
    assert metrics["plan/acting"].all()
    assert (price.multiplier(agent.on_episode(later, costly).price) > 0.5).all()


@pytest.mark.parametrize("name", ["safedreamer-osrp-lag", "cem-mpc"])
def test_a_preview_is_what_the_action_was_chosen_from(name):
    agent, batch = planner(name), toys.batch(CONTINUOUS, 3)
    state, search = agent.init(key=jax.random.key(0)), agent.config.planning.search
    _, carry, _ = act(agent, state, batch, first=True)
    _, after, metrics = act(agent, state, batch, carry=carry)
    seen = agent.preview(state, carry, batch.observation, np.full(3, False), key=jax.random.key(7))
    np.testing.assert_allclose(seen.safe.mean(), metrics["plan/safe_share"][0])
    np.testing.assert_allclose(seen.forecast.score[seen.elite].mean(), metrics["plan/elite_score"][0], rtol=1e-5)
    assert (int(seen.elite.sum()), len(seen.elite)) == (search.elites, search.plans)
    assert seen.cost.shape == (search.horizon, 2)
    assert seen.observations["state"].shape == (search.plans + 1, search.horizon + 1, 3)
    np.testing.assert_allclose(seen.plan, after.plan[0], rtol=1e-5, atol=1e-6)


class Decoder:
    """Shows the first feature."""

    sizes = (("state", 1),)

    def __call__(self, features):
        return {"state": features[..., :1]}


def test_an_executed_plan_is_foreseen_in_several_futures():
    """The model of the plans by hand: costs are the squared action and 3, and 1 more for each future but one."""
    candidates = Candidates(
        jnp.array([[1.0, 2.0], [-1.0, 0.5]])[..., None], Forecast(jnp.array([1.0, 2.0]), jnp.array([[1.0], [3.0]]))
    )
    networks = networks_at([0.3, 0.3], futures=2)
    model = SimpleNamespace(imagine=networks.model.imagine, decoder=Decoder())
    config = PlanningConfig(CrossEntropy(horizon=2, plans=2, elites=1, rule="best"))
    seen = preview(
        config, networks._replace(model=model), LATENT, jnp.array([[2.0], [3.0]]), candidates, jnp.array([2.0]),
        key=jax.random.key(0), futures=4,
    )  # fmt: skip
    np.testing.assert_allclose(seen.cost, [[4.5, 3.0], [9.5, 3.0]])
    np.testing.assert_array_equal(seen.safe, [True, False])
    np.testing.assert_array_equal(seen.elite, [False, True])


def test_without_plans_there_is_nothing_to_preview():
    agent, batch = planner("safedreamer-bsrp-lag"), toys.batch(CONTINUOUS, 3)
    state, carry = agent.init(key=jax.random.key(0)), agent.init_carry(3)
    with pytest.raises(ValueError, match="without a planner has no plans to show"):
        agent.preview(state, carry, batch.observation, np.full(3, False), key=jax.random.key(7))


def test_without_a_price_osrp_lag_is_osrp():
    lag, batch = planner(), toys.batch(CONTINUOUS, 3)
    free = replace(lag.config.planning, price=PIDLagrangian(integral_init=0.0))
    lag = planner(planning=free)
    osrp = planner("safedreamer-osrp")
    assert isinstance(osrp.config.planning.price, Unconstrained)
    states = [agent.init(key=jax.random.key(0)) for agent in (lag, osrp)]
    actions = [act(agent, s, batch)[0] for agent, s in zip((lag, osrp), states, strict=True)]
    np.testing.assert_array_equal(*actions)


def test_finished_episodes_set_the_price():
    price = PIDLagrangian(0.0, 0.01, 0.0, maximum=1.0, integral_init=0.0, cost_smoothing=0.0, warmup=0)
    planning = replace(planner().config.planning, price=price)
    agent = planner(planning=planning, budget=Budget(2.0))
    state = agent.init(key=jax.random.key(0))
    state = agent.on_episode(state, EpisodeSummary(1.0, np.array([12.0, 1.0]), 20))
    np.testing.assert_allclose(price.multiplier(state.price), [0.1, 0.0], rtol=1e-6)
    batches = toys.batch(CONTINUOUS, 1, 2, 4)
    after, metrics = agent.update(state, batches, key=jax.random.key(1))
    np.testing.assert_allclose(price.multiplier(after.price), [0.1, 0.0], rtol=1e-6)
    assert float(metrics["plan/price_hazards"]) == pytest.approx(0.1)
    assert all(np.isfinite(float(value)) for value in metrics.values())


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(ValueError, match="the planner searches continuous actions, but the environment's are discrete"):
        planner(spaces=toys.spaces(action="discrete"))
    with pytest.raises(ValueError, match=r"no time limit: set one \(EnvConfig\.time_limit\)"):
        planner(spaces=toys.spaces(steps=None))
    with pytest.raises(ValueError, match="the environment has none: give it an attribute cost_function"):
        planner(planning=replace(planner().config.planning, costs="observation"))
    with pytest.raises(ValueError, match="rule='constrained'"):
        planner("safedreamer-osrp", planning=PlanningConfig(CrossEntropy(rule="best")))
    with pytest.raises(ValueError, match="OSRP-Lag needs a price of costs"):
        planner(planning=PlanningConfig())
    with pytest.raises(ValueError, match="CEM-MPC plans with the model alone"):
        planner("cem-mpc", planning=PlanningConfig())


def test_cem_mpc_acts():
    agent, batch = planner("cem-mpc"), toys.batch(CONTINUOUS, 3)
    assert act(agent, agent.init(key=jax.random.key(0)), batch)[0].shape == (3, 2)
