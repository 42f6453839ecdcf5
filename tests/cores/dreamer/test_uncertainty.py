"""Optimism and pessimism over models: which trajectories count, and that nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.cores.dreamer.dreamer import Dreamer, DreamerState
from prudence.cores.dreamer.uncertainty import DisagreementConfig, Selection, UncertaintyConfig, select
from prudence.models.ensemble import Ensemble
from prudence.models.posterior import imagine_each
from prudence.models.swag import SWAG
from prudence.optim import OptimiserConfig

SPACES = toys.spaces()
COSTS = toys.spaces(costs=("left", "right"))
# Not warm after four updates; after toys.warmed it is.
WARM = SWAG(samples=3, burn_in=4, period=1, deviations=4, warm=2)
PROMISES = jnp.array([[1.0, 9.0], [3.0, 7.0], [2.0, 8.0], [0.0, 5.0], [4.0, 6.0]])  # Five models, two states.


@pytest.mark.parametrize(
    ("statistic", "larger_is_better", "columns"),
    [
        ("optimistic", True, [8, 1]),  # Model 4 of state 0: column 4 · 2; model 0 of state 1.
        ("pessimistic", False, [8, 1]),
        ("optimistic", False, [6, 7]),
        (1.0, True, [8, 1]),
        (0.5, True, [4, 3]),
        (0.75, False, [2, 5]),
    ],
)
def test_one_trajectory_of_each_state_counts(statistic, larger_is_better, columns):
    np.testing.assert_array_equal(select(PROMISES, statistic, larger_is_better=larger_is_better).columns, columns)


def test_all_count_for_a_mean():
    assert select(PROMISES, "mean", larger_is_better=True) == Selection(None)


def test_shares_make_a_mean_over_those_that_count():
    values = jnp.arange(10.0)[None]
    for counted in (select(PROMISES, "optimistic", larger_is_better=True), Selection(None)):
        assert (counted.share(10) * values).mean() == pytest.approx(float(counted(values).mean()))


def test_a_quantile_is_between_0_and_1():
    with pytest.raises(ValueError, match=r"safety=1\.5 is a quantile"):
        UncertaintyConfig(safety=1.5)


def agent(posterior: SWAG | Ensemble | None, spaces=SPACES, **changes: Any) -> Dreamer:
    uncertainty = None if posterior is None else UncertaintyConfig(posterior, common_noise=True, **changes)
    # Heads that start at 0 would hide every difference.
    config = toys.debug_config("safedreamer-bsrp-lag", uncertainty=uncertainty, replay_loss=0.3)
    reward = replace(config.world_model.reward, out_scale=1.0)
    return Dreamer(spaces, replace(config, world_model=replace(config.world_model, reward=reward)))


def trained(dreamer: Dreamer, updates: int = 4) -> tuple[DreamerState, dict]:
    """As many updates in all tests: a program for each agent is what they take their time for."""
    state = dreamer.init(key=jax.random.key(0))
    return dreamer.update(state, toys.batch(dreamer.spaces, updates, 2, 8), key=jax.random.key(1))


def test_models_are_imagined_each_by_itself():
    dreamer = agent(WARM, COSTS)
    state = toys.warmed(dreamer, dreamer.init(key=jax.random.key(0)))
    model = state.world_model.module
    predictors = WARM.sample(state.posterior, model, key=jax.random.key(2))
    start = model.rssm.initial(6)
    noise = jax.random.normal(jax.random.key(3), (4, 6, 2))
    act = lambda features, noise: noise
    together = imagine_each(model, predictors, act, start, noise, key=jax.random.key(4), common_noise=True)
    assert together.rewards.shape == (5, 6)
    for n in range(3):
        one = jax.tree.map(lambda x, n=n: x[n], predictors)
        first = jax.tree.map(lambda x: x[:2], start)
        alone = model.with_predictor(one).imagine(act, first, noise[:, 2 * n : 2 * n + 2], key=jax.random.key(4))
        for name in ("rewards", "costs", "actor_features"):
            columns = getattr(together, name)[:, 2 * n : 2 * n + 2]
            np.testing.assert_allclose(columns, getattr(alone, name), rtol=2e-4, atol=1e-5)
    assert jnp.ptp(together.costs[-1].reshape(3, 2, 2), 0).min() > 0


@pytest.mark.slow
def test_before_the_posterior_is_warm_an_update_is_that_of_one_model_and_then_bounds_are_beyond_the_mean():
    plain, plain_metrics = trained(agent(None, COSTS))
    dreamer = agent(WARM, COSTS)
    state, metrics = trained(dreamer)
    for part in ("world_model", "actor", "critic", "cost_critic", "constraint", "return_scale"):
        pairs = zip(*(jax.tree.leaves(eqx.filter(getattr(s, part), eqx.is_array)) for s in (plain, state)), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5, err_msg=part)
    assert metrics["imagined/return"] == pytest.approx(float(plain_metrics["imagined/return"]), rel=1e-4)
    assert metrics["posterior/cost_std"] == pytest.approx(0.0, abs=1e-6)
    _, metrics = dreamer.update(toys.warmed(dreamer, state), toys.batch(COSTS, 4, 2, 8), key=jax.random.key(2))
    assert metrics["posterior/optimism"] > 0
    assert metrics["posterior/pessimism"] > 0
    assert metrics["posterior/return_std"] > 0


@pytest.mark.parametrize(
    ("task", "safety", "of", "optimism", "pessimism"),
    [
        ("optimistic", "pessimistic", "returns", 2.0, 4.0),  # 3 of (-1, 1, 3); 4 of (-4, 0, 4).
        ("mean", "mean", "returns", 0.0, 0.0),
        ("pessimistic", 0.0, "returns", -2.0, -4.0),
        ("optimistic", "pessimistic", "values", 2.0, 4.0),
    ],
)
def test_what_a_bound_adds_to_the_mean(task, safety, of, optimism, pessimism):
    promise, cost = jnp.array([-1.0, 1.0, 3.0]), jnp.array([4.0, -4.0, 0.0])
    columns = lambda x, steps: jnp.broadcast_to(jnp.repeat(x, 2), (steps, 6))
    # Returns and values of which only those that are asked for differ between the models.
    flat = lambda x, name: columns(x if of == name else jnp.zeros(3), 2 + (name == "values"))
    returns, values = flat(promise, "returns"), flat(promise, "values")
    costs = [jnp.stack([x, jnp.zeros_like(x)], -1) for x in (flat(cost, "returns"), flat(cost, "values"))]
    count = agent(WARM, COSTS, task=task, safety=safety, of=of).imagination._select
    _, _, metrics = count(returns, values, *costs)
    assert metrics["posterior/optimism"] == pytest.approx(optimism, abs=1e-6)
    assert metrics["posterior/pessimism"] == pytest.approx(pessimism, abs=1e-6)


def test_each_constraint_counts_its_own_trajectories():
    dreamer = agent(WARM, COSTS)
    returns = jnp.zeros((2, 6))
    # Three models of two states; the costliest model for "left" is the last, for "right" the first.
    left, right = jnp.repeat(jnp.arange(3.0), 2), jnp.repeat(jnp.arange(3.0)[::-1], 2)
    costs = jnp.broadcast_to(jnp.stack([left, right], -1), (2, 6, 2))
    values = jnp.zeros((3, 6)), jnp.zeros((3, 6, 2))
    _, safety, metrics = dreamer.imagination._select(returns, values[0], costs, values[1])
    np.testing.assert_array_equal(safety[0].columns, [4, 5])
    np.testing.assert_array_equal(safety[1].columns, [0, 1])
    assert metrics["posterior/pessimism"] == pytest.approx(2.0)  # 2 + 2 against means of 1 + 1.


@pytest.mark.slow
# Each with the other one's; golden updates are of the agents with their own.
@pytest.mark.parametrize(("name", "latent"), [("lambda", "discrete"), ("safedreamer-bsrp-lag", "gaussian")])
def test_either_latent_serves_any_agent(name, latent):
    config = toys.debug_config(name)
    rssm = replace(config.world_model.rssm, latent=latent)
    dreamer = toys.dreamer(SPACES, name, world_model=replace(config.world_model, rssm=rssm))
    state, metrics = trained(dreamer)
    assert all(np.isfinite(v) for v in metrics.values())
    batch = toys.batch(SPACES, 2)
    action, _, _ = dreamer.act(
        state, dreamer.init_carry(2), batch.observation, batch.is_first, key=jax.random.key(2), mode="train"
    )
    assert np.isfinite(action).all()


def test_a_planner_imagines_each_future_under_another_model():
    dreamer = toys.dreamer(SPACES, "lambda-cem-mpc")
    cold = dreamer.init(key=jax.random.key(0))
    warm = toys.warmed(dreamer, dreamer.init(key=jax.random.key(0)))
    assert jax.tree.leaves(dreamer.plans.networks(warm).predictors)[0].shape[0] == 2
    spread = lambda state: float(jnp.ptp(jax.tree.leaves(dreamer.plans.networks(state).predictors)[0], 0).max())
    assert spread(cold) == 0.0
    assert spread(warm) > 0.0
    with pytest.raises(ValueError, match="must equal the posterior's samples=2"):
        toys.dreamer(SPACES, "lambda-cem-mpc", planning=replace(dreamer.config.planning, futures=3))


def test_lambda_needs_a_posterior():
    with pytest.raises(ValueError, match="give it an UncertaintyConfig"):
        toys.dreamer(SPACES, "lambda", uncertainty=None)


@pytest.mark.slow
def test_a_safe_agent_may_have_an_ensemble():
    dreamer = agent(Ensemble(3), COSTS)
    start = dreamer.init(key=jax.random.key(0))
    state, metrics = trained(dreamer)
    assert metrics["posterior/pessimism"] > 0
    assert metrics["posterior/gradient_norm"] > 0
    before, after = (s.posterior.module for s in (start, state))
    assert not np.array_equal(before.prior_net.output.weight, after.prior_net.output.weight)
    # Members begin apart, remember with the model's own cell, and do not teach it.
    assert jnp.ptp(before.cost_head.net.output.weight, 0).max() > 0
    model = state.world_model.module
    drawn = dreamer.config.uncertainty.posterior.sample(state.posterior, model, key=jax.random.key(5))
    np.testing.assert_array_equal(drawn.cell.recurrent.weight[1], model.rssm.cell.recurrent.weight)
    plain, _ = trained(agent(None, COSTS))
    leaves = [jax.tree.leaves(eqx.filter(s.world_model.module, eqx.is_array)) for s in (plain, state)]
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_members_are_not_clipped_by_units_of_their_stack():
    with pytest.raises(ValueError, match="use adam"):
        Ensemble(3, OptimiserConfig(kind="laprop"))


def test_members_agree_where_there_are_data_and_not_elsewhere():
    dreamer = agent(Ensemble(4, OptimiserConfig(1e-2)))
    state, batch = dreamer.init(key=jax.random.key(0)), toys.batch(SPACES, 4, 8)
    model, ensemble = state.world_model.module, dreamer.config.uncertainty.posterior
    filtered = model.observe(batch, key=jax.random.key(1))
    learn = eqx.filter_jit(
        lambda members: ensemble.update(members, model, filtered, batch, jnp.array(1), key=jax.random.key(2))[0]
    )
    members = state.posterior
    for _ in range(150):
        members = learn(members)
    spread = lambda features: float(
        eqx.filter_vmap(lambda head: head.predict(features))(members.module.reward_head).std(0).mean()
    )
    seen = filtered.states.features.reshape(32, -1)
    assert spread(-3 * seen) > 2 * spread(seen)


@pytest.mark.slow
def test_actions_of_discrete_environments_learn_by_the_score_of_those_that_count():
    dreamer = agent(replace(WARM, burn_in=1), toys.spaces(action="discrete", actions=3))
    _, metrics = trained(dreamer)
    assert metrics["actor/gradient_norm"] > 0
    assert metrics["posterior/optimism"] > 0


# --- disagreement -------------------------------------------------------------------------------


def test_members_that_agree_have_no_disagreement():
    dreamer = Dreamer(SPACES, toys.debug_config("dreamerv3", disagreement=DisagreementConfig(ensemble=Ensemble(3))))
    state = dreamer.init(key=jax.random.key(0))
    assert state.disagreement is not None
    size = state.world_model.module.feature_size
    model, features = state.world_model.module, jax.random.normal(jax.random.key(1), (4, size))
    measure = Ensemble(3).disagreement
    assert (measure(state.disagreement, model, features) > 0).all()
    alike = jax.tree.map(
        lambda x: jnp.broadcast_to(x[:1], x.shape) if eqx.is_array(x) and x.ndim else x, state.disagreement
    )
    np.testing.assert_allclose(measure(alike, model, features), 0.0, atol=1e-5)


@pytest.mark.slow
def test_disagreement_lowers_imagined_returns_and_its_members_learn():
    plain, wary = (
        Dreamer(SPACES, toys.debug_config("dreamerv3", disagreement=DisagreementConfig(weight, Ensemble(3))))
        for weight in (0.0, 10.0)
    )
    before = plain.init(key=jax.random.key(0))
    after, metrics = trained(wary)
    assert metrics["disagreement/imagined"] > 0
    assert metrics["imagined/return"] < trained(plain)[1]["imagined/return"]
    moved = jax.tree.map(np.array_equal, before.disagreement.module.prior_net, after.disagreement.module.prior_net)
    assert not all(jax.tree.leaves(moved))
