"""The agent: acting, what an update changes, and the actor's gradient against direct differentiation."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.flatten_util import ravel_pytree

from prudence.budgets import Budget, Imagined, Lived
from prudence.constraints import AugmentedLagrangian
from prudence.cores.dreamer.dreamer import Dreamer
from prudence.critics import CriticBatch, together
from prudence.envs.base import EnvConfig
from prudence.models.rssm import LatentState
from prudence.presets import preset
from prudence.types import EpisodeSummary, ObservationSpec, Spaces

CONTINUOUS = toys.spaces()
DISCRETE = toys.spaces(action="discrete", actions=3)
COSTS = toys.spaces(costs=("left", "right"))
CONTACTS = ("contacts", ObservationSpec((4,), "float32"))
PRIVILEGED_COSTS = toys.spaces(toys.VECTOR, CONTACTS, costs=("left", "right"), privileged=("contacts",))


def started(agent: Dreamer):
    return agent.init(key=jax.random.key(0))


def act(agent, state, batch, *, carry=None, mode="train", first=False):
    carry = agent.init_carry(len(batch.reward)) if carry is None else carry
    is_first = np.full(len(batch.reward), first)
    return agent.act(state, carry, batch.observation, is_first, key=jax.random.key(3), mode=mode)


def differs(a, b) -> bool:
    pairs = zip(jax.tree.leaves(eqx.filter(a, eqx.is_array)), jax.tree.leaves(eqx.filter(b, eqx.is_array)), strict=True)
    return any(not np.array_equal(x, y) for x, y in pairs)


# --- acting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_an_environments_action_depends_on_its_own_observation(mode):
    # Gaussian latents: a discrete one may stay the same while the observation moves.
    model = toys.debug_config().world_model
    agent = toys.dreamer(CONTINUOUS, world_model=replace(model, rssm=replace(model.rssm, latent="gaussian")))
    state, batch = started(agent), toys.batch(CONTINUOUS, 3)
    before, carry, _ = act(agent, state, batch, mode=mode)
    moved = {"state": batch.observation["state"] + jnp.array([[0.0], [5.0], [0.0]])}
    after, other, _ = act(agent, state, batch._replace(observation=moved), mode=mode)
    np.testing.assert_array_equal(before[::2], after[::2])
    np.testing.assert_array_equal(carry.latent.features[::2], other.latent.features[::2])
    assert not np.array_equal(before[1], after[1])


def test_evaluation_takes_the_policys_mode():
    agent, batch = toys.dreamer(CONTINUOUS, evaluation="mode"), toys.batch(CONTINUOUS, 3)
    state = started(agent)
    action, carry, _ = act(agent, state, batch, mode="evaluate")
    np.testing.assert_allclose(action, state.actor.module(carry.latent.features).mode(), atol=1e-5)
    np.testing.assert_array_equal(action, act(agent, state, batch, mode="evaluate")[0])
    assert not np.array_equal(action, act(agent, state, batch)[0])
    np.testing.assert_array_equal(carry.prev_action, action)


def test_evaluation_samples_the_policy_if_configured_to():
    agent, batch = toys.dreamer(CONTINUOUS, evaluation="sample"), toys.batch(CONTINUOUS, 3)
    state = started(agent)
    action = act(agent, state, batch, mode="evaluate")[0]
    np.testing.assert_array_equal(action, act(agent, state, batch, mode="train")[0])


def test_the_carry_is_forgotten_when_an_episode_begins():
    agent, batch = toys.dreamer(CONTINUOUS), toys.batch(CONTINUOUS, 3)
    state = started(agent)
    used = jax.tree.map(lambda x: x + 1, agent.init_carry(3))
    fresh = act(agent, state, batch, first=True)[0]
    np.testing.assert_array_equal(fresh, act(agent, state, batch, carry=used, first=True)[0])
    assert not np.array_equal(fresh, act(agent, state, batch, carry=used)[0])


def test_discrete_actions_are_one_hot():
    agent = toys.dreamer(DISCRETE)
    for mode in ("train", "evaluate"):
        action = act(agent, started(agent), toys.batch(DISCRETE, 4), mode=mode)[0]
        np.testing.assert_allclose(jnp.sort(action, -1), [[0, 0, 1]] * 4, atol=0)


# --- learning -----------------------------------------------------------------------------------


def test_an_update_changes_what_it_should():
    agent = toys.dreamer(CONTINUOUS)
    before = started(agent)
    after, metrics = agent.update(before, toys.batch(CONTINUOUS, 2, 2, 8), key=jax.random.key(1))
    assert after.step == 2
    for part in ("world_model", "actor", "critic", "cost_critic", "return_scale", "constraint"):
        assert differs(getattr(before, part), getattr(after, part)), part
    assert not differs(before.lived, after.lived)
    assert all(np.isfinite(v) for v in metrics.values())
    assert {"model/loss", "actor/gradient_norm", "cost_critic/value", "constraint/multiplier"} <= set(metrics)


def test_dreamerv3_has_no_cost_critic_and_no_multiplier():
    agent = toys.dreamer(CONTINUOUS, "dreamerv3", constraint=AugmentedLagrangian())
    before = started(agent)
    assert before.cost_critic is None
    after, metrics = agent.update(before, toys.batch(CONTINUOUS, 2, 2, 8), key=jax.random.key(1))
    np.testing.assert_array_equal(after.constraint, [0.0])
    assert metrics["constraint/multiplier"] == 0.0
    assert not any(name.startswith("cost_critic") for name in metrics)


def test_the_gradient_follows_the_kind_of_action():
    assert toys.dreamer(DISCRETE).imagination.scores
    assert not toys.dreamer(CONTINUOUS).imagination.scores
    assert toys.dreamer(CONTINUOUS, gradient="reinforce").imagination.scores


def test_bfloat16_computes_finitely_with_float32_parameters():
    agent = toys.dreamer(CONTINUOUS, compute_dtype="bfloat16")
    state, metrics = agent.update(started(agent), toys.batch(CONTINUOUS, 2, 2, 8), key=jax.random.key(1))
    assert all(np.isfinite(v) for v in metrics.values())
    params = jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array))
    assert {p.dtype for p in params} == {jnp.dtype("float32")}
    action, carry, _ = act(agent, state, toys.batch(CONTINUOUS, 3))
    assert action.dtype == jnp.float32
    assert carry.latent.deter.dtype == jnp.bfloat16


# A lively agent: nothing of what the objective is made of is 0, and two constraints press.
LIVELY = {
    "constraint": AugmentedLagrangian(multiplier_init=0.7, penalty_factor_init=0.01),
    "budget": Budget((0.0, 0.1)),
    "entropy": 0.1,
}


def lively(name: str = "safedreamer-bsrp-lag", spaces: Spaces = COSTS) -> Dreamer:
    config = toys.debug_config(name, **LIVELY)
    awake = lambda head: replace(head, out_scale=1.0)
    model = replace(config.world_model, reward=awake(config.world_model.reward))
    critic = replace(config.critic, head=awake(config.critic.head))
    return Dreamer(spaces, replace(config, world_model=model, critic=critic, cost_critic=critic))


@pytest.mark.parametrize(("name", "spaces"), [("safedreamer-bsrp-lag", COSTS), ("asymdreamer", PRIVILEGED_COSTS)])
def test_pathwise_gradient_is_that_of_the_objective_by_the_policys_parameters(name, spaces):
    agent = lively(name, spaces)
    state, batch, c = started(agent), toys.batch(spaces, 2, 4), agent.config
    model = state.world_model.module
    states = model.observe(batch, key=jax.random.key(4)).states
    start, alive = agent.imagination.starts(states, batch, key=jax.random.key(6))

    @eqx.filter_jit
    def direct(actor):
        action_key, dynamics_key = jax.random.split(jax.random.key(5))
        noise = actor.noise(c.horizon, len(alive), key=action_key)
        blind = lambda features, noise: actor(jax.lax.stop_gradient(features)).sample(noise)
        trajectory = model.imagine(blind, start, noise, key=dynamics_key)
        loss, dream = agent.imagination.dream(state, trajectory, alive)
        entropy = actor(jax.lax.stop_gradient(trajectory.actor_features[:-1])).entropy()
        return loss - c.entropy * (dream.weights * entropy).mean()

    expected = eqx.filter_jit(eqx.filter_grad(direct))(state.actor.module)
    _, actor, _ = eqx.filter_jit(agent.imagination.improve)(state, model, None, start, alive, key=jax.random.key(5))
    # Adam's first moment after one step is a tenth of the gradient.
    momentum = actor.optimiser_state[1][0].mu
    assert jnp.abs(expected.net.output.weight).max() > 1e-3
    np.testing.assert_allclose(10 * momentum, ravel_pytree(expected)[0], rtol=1e-3, atol=1e-6)


class Plant(NamedTuple):
    """A policy that answers a price late: its cost is ``scale`` without one, and falls with it."""

    scale: float
    knee: float = 0.4
    lag: float = 300.0

    def step(self, cost: float, price: float) -> float:
        return cost + (self.scale / (1 + price / self.knee) ** 3 - cost) / self.lag


@pytest.mark.parametrize(("rate", "runs"), [(1.8, 1), (None, 3)])
@pytest.mark.parametrize("limits", [(0.5,), (2.0,), (25.0,), (2.0, 25.0)])
def test_the_same_gains_hold_any_budget(limits, rate, runs):
    """The cpu preset's constraint against simulated policies: each cost ends within a tenth of the unit of violations
    from its budget, and never fell far below it. With a dual rate of 1.8 one run is enough; the preset's own, which is
    gentler, needs the time of three."""
    config = preset("cpu", "safedreamer-bsrp-lag", EnvConfig("SafetyPointGoal1-v0")).agent
    spaces = toys.spaces(costs=COSTS.costs[: len(limits)])
    constraint = config.constraint if rate is None else replace(config.constraint, dual_rate=rate)
    tiny = toys.debug_config(constraint=constraint, budget=replace(config.budget, limit=limits, margin=0.0, start=0))
    agent, plants = replace(Dreamer(spaces, tiny), run_updates=25_000), [Plant(60.0), Plant(90.0)][: len(limits)]
    state, costs = started(agent), np.array([plant.scale for plant in plants])

    @jax.jit
    def episode(state, cost):
        state = agent.on_episode(state, EpisodeSummary(0.0, cost, 20))
        violation = agent.config.budget.measure(state.lived, jnp.zeros(len(limits)))
        within = lambda constraint: eqx.tree_at(lambda s: s.constraint, state, constraint)
        step = lambda _, constraint: agent.imagination.update_constraint(within(constraint), violation)
        state = within(jax.lax.fori_loop(0, 60, step, state.constraint))
        return state, agent.config.constraint.weights(state.constraint, violation)[1]

    history = []
    for _ in range(runs * 25_000 // 60):
        state, prices = episode(state, np.asarray(costs, np.float32))
        prices = np.asarray(prices)
        for _ in range(60):
            costs = np.array([p.step(c, float(x)) for p, c, x in zip(plants, costs, prices, strict=True)])
        history.append(costs)
    unit = np.asarray(state.lived.scale.of_violations(agent.cost_limits))
    np.testing.assert_array_less(np.abs(np.mean(history[-40:], 0) - limits) / unit, 0.1)
    assert (np.array(history) > 0.3 * np.array(limits)).all()


@pytest.mark.parametrize(("unit", "factor"), [("mean", 1.0), ("sum", 3.0), ("episode", 20 * 0.1)])
def test_units_of_the_imagined_cost(unit, factor):
    # Discounts 3; episodes of 20 decisions at γ_c = .9.
    budget = Budget(discount=0.9, violation=Imagined(unit))
    assert toys.dreamer(CONTINUOUS, budget=budget).imagination.cost_unit == pytest.approx(factor)


# --- the end of a run ---------------------------------------------------------------------------

SHORT = replace(toys.dreamer(CONTINUOUS, cooldown=0.2, averaging=0.9), run_updates=100)


def test_learning_rates_fall_to_nothing_over_the_last_share_of_a_run():
    agent = SHORT
    rates = [
        float(agent.imagination.rate(replace(started(agent), step=jnp.asarray(step))))
        for step in (0, 80, 90, 99, 100, 200)
    ]
    np.testing.assert_allclose(rates, [1.0, 1.0, 0.5, 0.05, 0.0, 0.0], atol=1e-6)
    assert toys.dreamer(CONTINUOUS, cooldown=0.0).imagination.rate(started(agent)) is None
    state = replace(started(agent), step=jnp.asarray(100))
    after, _ = agent.update(state, toys.batch(CONTINUOUS, 1, 2, 8), key=jax.random.key(1))
    for part in ("world_model", "actor", "critic", "cost_critic"):
        assert not differs(getattr(state, part).module if part in ("world_model", "actor") else
                           getattr(state, part).online.module,
                           getattr(after, part).module if part in ("world_model", "actor") else
                           getattr(after, part).online.module), part  # fmt: skip


def test_an_average_of_the_actor_acts_in_evaluation_and_not_in_training():
    agent, batch = SHORT, toys.batch(CONTINUOUS, 3)
    state = started(agent)
    assert not differs(state.average[0].module, state.actor.module)
    weights = []
    for number in range(3):
        state, _ = agent.update(state, toys.batch(CONTINUOUS, 1, 2, 8), key=jax.random.key(number))
        weights.append(state.actor.module.net.output.weight)
    # The first step's average is what it came to (0 of the initial weights); then 1/11 and 2/12 of the average stay.
    average = weights[0]
    for keep, weight in ((1 / 11, weights[1]), (2 / 12, weights[2])):
        average = keep * average + (1 - keep) * weight
    np.testing.assert_allclose(state.average[0].module.net.output.weight, average, rtol=1e-5, atol=1e-7)
    bias = lambda s: s.average[0].module.net.output.bias
    swapped = eqx.tree_at(bias, state, bias(state) + 1)
    np.testing.assert_array_equal(act(agent, state, batch)[0], act(agent, swapped, batch)[0])
    of = [np.asarray(act(agent, s, batch, mode="evaluate")[0]) for s in (state, swapped)]
    assert np.abs(of[0] - of[1]).max() > 1e-3


def test_an_average_that_begins_late_begins_at_the_weights_of_its_time():
    """As a planner's does that starts from a run without one: its fresh weights count for nothing."""
    agent = toys.dreamer(CONTINUOUS, "safedreamer-osrp-lag", averaging=0.9)
    learned = started(agent)
    for number in range(3):
        learned, _ = agent.update(learned, toys.batch(CONTINUOUS, 1, 2, 8), key=jax.random.key(number))
    late = eqx.tree_at(lambda s: s.average[1:], learned, agent.init(key=jax.random.key(9)).average[1:])
    after, _ = agent.update(late, toys.batch(CONTINUOUS, 1, 2, 8), key=jax.random.key(5))
    assert not differs(after.average[1].module, after.world_model.module)
    assert differs(after.average[0].module, after.actor.module)


def test_what_a_planner_plans_with_is_averaged_too():
    agent = toys.dreamer(CONTINUOUS, "safedreamer-osrp-lag", averaging=0.9)
    state = started(agent)
    for number in range(2):
        state, _ = agent.update(state, toys.batch(CONTINUOUS, 1, 2, 8), key=jax.random.key(number))
    acting = agent.acting(state, "evaluate")
    for part in ("actor", "world_model"):
        assert differs(getattr(acting, part).module, getattr(state, part).module), part
    for part in ("critic", "cost_critic"):
        assert differs(getattr(acting, part).online.module, getattr(state, part).online.module), part
    assert agent.acting(state, "train") is state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cooldown": 1.5}, "share of the run"),
        ({"averaging": 1.0}, "keeps at each step"),
    ],
)
def test_ends_of_runs_that_mean_nothing_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        toys.dreamer(CONTINUOUS, **change)


def test_the_actors_price_rests_while_plans_act():
    agent = toys.dreamer(CONTINUOUS, "safedreamer-osrp-lag", budget=Budget(violation=Lived()))
    planning = replace(agent.config.planning, start=2)
    agent = replace(
        agent, config=replace(agent.config, planning=planning, constraint=AugmentedLagrangian(dual_rate=1.0))
    )
    costly, violation = EpisodeSummary(1.0, np.array([30.0]), 20), jnp.array([1.0])
    state = agent.on_episode(started(agent), costly)
    assert differs(state.lived, started(agent).lived)
    assert differs(agent.imagination.update_constraint(state, violation), state.constraint)
    later = replace(state, step=jnp.asarray(2))
    after = agent.on_episode(later, costly)
    for part in ("lived", "constraint"):
        assert not differs(getattr(after, part), getattr(later, part)), part
    assert differs(after.price, later.price)
    assert not differs(agent.imagination.update_constraint(later, violation), later.constraint)


def test_a_price_of_plans_is_not_deceived_by_rare_costs():
    """One episode in ten costs 40, the others nothing: 4 on average, twice the budget, and the price rises."""
    agent = toys.dreamer(CONTINUOUS, "safedreamer-osrp-lag", budget=Budget(violation=Lived(bound=2.0)))
    price = replace(agent.config.planning.price, proportional=0.0, integral=0.01, derivative=0.0, maximum=5.0, warmup=0)
    agent = replace(agent, config=replace(agent.config, planning=replace(agent.config.planning, price=price)))
    state = started(agent)
    episode = jax.jit(lambda state, cost: agent.on_episode(state, EpisodeSummary(1.0, cost, 20)))
    for number in range(200):
        state = episode(state, np.array([40.0 * (number % 10 == 0)], np.float32))
    assert float(price.multiplier(state.price)[0]) > 1.0


def test_a_planners_price_is_the_actors_exchange_rate():
    """λ = .5 at 50 a unit of costs; an episode of 20 decisions at γ_c = .9 costs (1 − .9)·20 = 2 mean cost returns."""
    agent = toys.dreamer(
        CONTINUOUS,
        "safedreamer-osrp-lag",
        budget=Budget(discount=0.9, violation=Lived()),
        constraint=AugmentedLagrangian(multiplier_init=0.5),
    )
    state = started(agent)
    state = eqx.tree_at(lambda s: s.lived.scale.peak, state, jnp.array([50.0]))
    state = eqx.tree_at(lambda s: s.return_scale.high, state, jnp.asarray(6.0))
    np.testing.assert_allclose(agent.imagination.exchange_rate(state), [0.5 / 50 * 2 * 6], rtol=1e-5)
    multiplier = agent.config.planning.price.multiplier(state.price)
    np.testing.assert_allclose(agent.imagination.planning_price(state), multiplier * 0.12, rtol=1e-5)
    free = eqx.tree_at(lambda s: s.constraint.multiplier, state, jnp.zeros(1))
    np.testing.assert_allclose(agent.imagination.exchange_rate(free), [0.12], rtol=1e-5)
    papers = toys.dreamer(CONTINUOUS, "safedreamer-osrp-lag")
    np.testing.assert_array_equal(papers.imagination.exchange_rate(started(papers)), [1.0])


def test_starts_after_a_termination_do_not_count():
    agent, batch = toys.dreamer(CONTINUOUS, imagination_starts=None), toys.batch(CONTINUOUS, 2, 3)
    terminal = jnp.array([[False, True, False], [True, False, False]])
    model = started(agent).world_model.module
    states = model.observe(batch, key=jax.random.key(4)).states
    start, alive = agent.imagination.starts(states, batch._replace(is_terminal=terminal), key=jax.random.key(6))
    np.testing.assert_array_equal(alive, [1, 0, 1, 0, 1, 1])
    np.testing.assert_array_equal(start.deter[3], states.deter[1, 0])


def test_a_critic_learns_from_replay_beside_imagination():
    agent = toys.dreamer(CONTINUOUS, replay_loss=0.3, lambda_=1.0)
    critic, size = started(agent).critic, agent.config.world_model.rssm.feature_size
    batch = toys.batch(CONTINUOUS, 1, 4)
    # Step 1 ends by truncation, step 2 begins an episode that terminates at step 3.
    batch = batch._replace(
        is_last=jnp.array([[False, True, False, True]]), is_terminal=jnp.array([[False, False, False, True]])
    )
    latents = LatentState(jax.random.normal(jax.random.key(3), (1, 4, size - 2)), jnp.ones((1, 4, 2)))
    imagined = CriticBatch(jnp.zeros((10, size)), jnp.full(10, 7.0), jnp.ones(10))
    features, targets, weights = together(imagined, agent._replayed(critic, latents.features, batch, batch.reward, 0.5))

    values, reward = critic.values(latents.features)[0], batch.reward[0]
    np.testing.assert_array_equal(features[10:], latents.features[0, :3])
    np.testing.assert_allclose(targets[:10], 7.0)
    # State 0 bootstraps from the truncated state 1, state 2 has the last reward and nothing after it.
    np.testing.assert_allclose(targets[10], reward[1] + 0.5 * values[1], rtol=1e-6)
    np.testing.assert_allclose(targets[12], reward[3], rtol=1e-6)
    # Nothing follows the last state of an episode; the mean of weights is mean(imagined) + .3 · mean(replayed).
    np.testing.assert_allclose(weights[:10], 13 / 10)
    np.testing.assert_allclose(weights[10:], 0.3 * np.array([1, 0, 1]) * 13 / 3, rtol=1e-6)


def test_a_cost_critic_learns_each_cost_from_replay():
    agent = toys.dreamer(COSTS, replay_loss=0.3)
    state, metrics = agent.update(started(agent), toys.batch(COSTS, 2, 2, 8), key=jax.random.key(1))
    assert np.isfinite(metrics["cost_critic/loss"])
    plain = toys.dreamer(COSTS)
    other, _ = plain.update(started(plain), toys.batch(COSTS, 2, 2, 8), key=jax.random.key(1))
    assert differs(state.cost_critic, other.cost_critic)
    assert not differs(state.world_model, other.world_model)


def test_a_number_of_budgets_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="names 3 budgets, but the environment reports 2 costs: left, right"):
        toys.dreamer(COSTS, budget=Budget((1.0, 2.0, 3.0)))
    with pytest.raises(ValueError, match="needs its length"):
        toys.dreamer(toys.spaces(steps=None), budget=Budget(violation=Lived()))


def test_what_is_privileged_changes_nothing():
    """Neither what is learned nor what is done: not by its values, and not by its presence."""
    spaces = toys.spaces(toys.VECTOR, CONTACTS, privileged=("contacts",))
    agent, batch = toys.dreamer(spaces), toys.batch(spaces, 2, 2, 8)
    changed = batch._replace(observation={**batch.observation, "contacts": batch.observation["contacts"] + 1})
    (left, _), (right, _) = (agent.update(started(agent), b, key=jax.random.key(1)) for b in (batch, changed))
    assert not differs(left, right)
    first, both = np.ones(3, bool), toys.batch(spaces, 3).observation
    acts = [
        agent.act(left, agent.init_carry(3), seen, first, key=jax.random.key(2), mode="evaluate")[0]
        for seen in (both, {"state": both["state"]})
    ]
    np.testing.assert_array_equal(*acts)
    asking = replace(agent.config.world_model, encoder_keys=("state", "contacts"))
    with pytest.raises(ValueError, match="encoder_keys names contacts, which is privileged"):
        toys.dreamer(spaces, world_model=asking)


def test_bsrp_lag_needs_a_constraint():
    config = toys.debug_config("dreamerv3")
    with pytest.raises(ValueError, match="BSRP-Lag needs a constraint"):
        toys.find_system("safedreamer-bsrp-lag").agent(CONTINUOUS, config)


def test_report_predicts_observations_reward_and_cost():
    agent, batch = toys.dreamer(CONTINUOUS), toys.batch(CONTINUOUS, 2, 6)
    report = agent.report(started(agent), batch, key=jax.random.key(1), context=3)
    assert report["prediction/state"].shape == report["truth/state"].shape == (2, 6, 3)
    assert report["prediction/cost"].shape == report["truth/cost"].shape == (2, 6, 1)
    np.testing.assert_array_equal(report["truth/reward"], batch.reward)


def test_the_outlook_is_that_of_the_states_in_which_it_acted() -> None:
    agent = toys.dreamer(COSTS)
    state = started(agent)
    _, carry, _ = act(agent, state, toys.batch(COSTS, 3), first=True, mode="evaluate")
    outlook = agent.foresee(state, carry, key=jax.random.key(1))
    assert outlook is not None
    assert outlook.costs.shape == (3, agent.config.horizon, 2)
    np.testing.assert_allclose(outlook.value, state.critic.values(carry.latent.features), rtol=1e-5)
    assert state.cost_critic is not None
    np.testing.assert_allclose(outlook.cost_value, state.cost_critic.values(carry.latent.features), rtol=1e-5)


@pytest.mark.parametrize("spaces", [CONTINUOUS, DISCRETE])
def test_without_a_cost_critic_costs_are_imagined_only(spaces: Spaces) -> None:
    agent = toys.dreamer(spaces, "dreamerv3")
    outlook = agent.foresee(started(agent), agent.init_carry(2), key=jax.random.key(1))
    assert outlook is not None
    assert outlook.cost_value is None
    assert outlook.costs.shape == (2, agent.config.horizon, 1)


def test_critics_that_see_more_than_what_acts_have_no_outlook() -> None:
    agent = toys.dreamer(PRIVILEGED_COSTS, "asymdreamer")
    assert agent.foresee(started(agent), agent.init_carry(2), key=jax.random.key(1)) is None
