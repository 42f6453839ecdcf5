"""SafeLOOP: what a plan is worth in an ensemble, what the actor proposes, when the model is fitted, and runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from helpers import assert_same_run, history, run_config, train_in_pieces

from prudence.budgets import Lived
from prudence.cores.lookahead import Lookahead, LookaheadConfig, forecast, propose
from prudence.deploy.export import export_run
from prudence.deploy.policy import load_policy
from prudence.envs.base import EnvConfig
from prudence.models.dynamics import Outcome, Simulator
from prudence.presets import preset
from prudence.presets.offline import offline
from prudence.systems import find_system
from prudence.training.trainer import train
from prudence.types import EpisodeSummary, ObservationSpec


def configured(name: str) -> LookaheadConfig:
    config = preset(name, "safeloop", EnvConfig("probe/value")).agent
    assert isinstance(config, LookaheadConfig)
    return config


CONFIG = configured("debug")


def world_of(agent: Lookahead) -> Simulator:
    return agent.dynamics.simulator(agent.init(key=jax.random.key(0)).dynamics)


@pytest.mark.parametrize(
    ("ends_after", "scores", "costs"),
    [
        # Rewards 1 in one elite and 3 in the other: 2 (1 + .5 + .25), and .125 · 3 for where a plan ends. The second
        # elite says twice the cost of the first: 2 · 3 · .2 and 2 · 3 · .4.
        (10**9, [3.875, 3.875], [1.2, 2.4]),
        # After two steps nothing follows: 2 (1 + .5), and no value.
        (2, [3.0, 3.0], [0.8, 1.6]),
    ],
)
def test_a_plan_is_worth_the_mean_and_costs_the_maximum_over_models(ends_after, scores, costs, monkeypatch):
    """Two elites with two futures each, of two plans. Observations count the steps, and have their value."""
    second = jnp.arange(8) >= 4

    def step(self, observation, action, order, noise) -> Outcome:
        np.testing.assert_array_equal(order.shape, (8,))
        then, cost = observation + 1, jnp.abs(action[:, :1]) * jnp.where(second, 2.0, 1.0)[:, None]
        return Outcome(then, jnp.where(second, 3.0, 1.0), cost, then[:, 0] >= ends_after)

    monkeypatch.setattr(Simulator, "step", step)
    agent = Lookahead(toys.spaces(), CONFIG)
    plans = jnp.stack([jnp.full((3, 2), 0.2), jnp.full((3, 2), -0.4)])
    value = lambda observations: observations[:, 0]
    found = forecast(world_of(agent), value, jnp.zeros(3), plans, particles=2, discount=0.5, key=jax.random.key(1))
    np.testing.assert_allclose(found.score, scores, rtol=1e-6)
    np.testing.assert_allclose(found.cost[:, 0], costs, rtol=1e-6)


def test_trajectories_keep_their_model():
    """The futures of a plan in each elite of a fresh ensemble, with one future each and one plan."""
    agent = Lookahead(toys.spaces(), CONFIG)
    world = world_of(agent)
    actions, first = jnp.ones((3, 2, 2)), jnp.zeros((2, 3))
    orders = jnp.broadcast_to(jnp.arange(2), (3, 2))
    swapped = jax.tree.map(lambda x: x[::-1], world.members)
    act = lambda _, __, action: action
    here = world.rollout(act, first, orders, actions, key=jax.random.key(0))
    there = replace(world, members=swapped).rollout(act, first, orders[:, ::-1], actions, key=jax.random.key(0))
    np.testing.assert_allclose(here.rewards, there.rewards, rtol=1e-5)
    assert not np.allclose(here.rewards[:, 0], here.rewards[:, 1])


def test_the_actor_proposes_plans_and_the_first_has_no_noise():
    """Three plans, which do not divide among two elites."""
    agent = Lookahead(toys.spaces(), CONFIG)
    state, search = agent.init(key=jax.random.key(0)), replace(CONFIG.search, proposals=0.15)
    actor, seen = state.learner.actor.module, jnp.ones(3)
    plans = propose(world_of(agent), actor, search, seen, key=jax.random.key(1))
    assert plans.shape == (3, 3, 2)
    np.testing.assert_allclose(plans[0, 0], actor(seen).mode(), rtol=1e-5)
    assert not np.allclose(plans[1, 0], plans[0, 0])
    none = propose(world_of(agent), actor, replace(search, proposals=0.0), seen, key=jax.random.key(1))
    assert none.shape == (0, 3, 2)


def test_the_papers_threshold_is_a_margin():
    """.2 for plans of 8 decisions, of 200 in an episode; 100 plans and 5 of the actor's."""
    agent = Lookahead(toys.spaces(steps=200, costs=("a", "b")), configured("paper"))
    np.testing.assert_allclose(agent.plan_limits, [0.2, 0.2], rtol=1e-6)
    assert (agent.config.search.plans, agent.config.search.num_proposals) == (105, 5)


def test_acting_starts_from_the_last_plan_and_all_modes_act_alike():
    agent = Lookahead(toys.spaces(), CONFIG)
    state, carry = agent.init(key=jax.random.key(0)), agent.init_carry(2)
    observation = {"state": jnp.ones((2, 3))}
    act = lambda carry, first, mode: agent.act(
        state, carry, observation, jnp.array([first, first]), key=jax.random.key(1), mode=mode
    )
    action, plan, metrics = act(carry, True, "train")
    np.testing.assert_array_equal(action, plan[:, 0])
    np.testing.assert_array_equal(act(plan, True, "evaluate")[0], action)
    assert not np.array_equal(act(plan, False, "train")[0], action)
    assert {"plan/safe_share", "plan/iterations"} <= set(metrics)


def test_real_episodes_do_not_count():
    agent = Lookahead(toys.spaces(), CONFIG)
    state = agent.init(key=jax.random.key(0))
    assert agent.on_episode(state, EpisodeSummary(1.0, np.ones(1), 20)) is state


def test_privileged_observations_are_not_in_the_model():
    contacts = ("contacts", ObservationSpec((4,), "float32"))
    agent = Lookahead(toys.spaces(toys.VECTOR, contacts, privileged=("contacts",)), CONFIG)
    assert agent.dynamics.size == 3


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="this model predicts vector observations, and image is of pictures"):
        Lookahead(toys.spaces(toys.IMAGE), CONFIG)
    with pytest.raises(ValueError, match="plans are of continuous actions"):
        Lookahead(toys.spaces(action="discrete"), CONFIG)
    with pytest.raises(ValueError, match="the environment has no time limit"):
        Lookahead(replace(toys.spaces(), episode_steps=None), CONFIG)
    with pytest.raises(ValueError, match="compares the cost of imagined plans with its budget"):
        replace(CONFIG, budget=replace(CONFIG.budget, violation=Lived()))
    with pytest.raises(ValueError, match=r"budget\.start=5 and budget\.discount=.* would have no effect"):
        replace(CONFIG, budget=replace(CONFIG.budget, start=5))
    with pytest.raises(ValueError, match=r"safeloop needs search\.rule='constrained'"):
        find_system("safeloop").agent(toys.spaces(), replace(CONFIG, search=replace(CONFIG.search, rule="best")))
    agent = Lookahead(toys.spaces(), CONFIG)
    state, rows = agent.init(key=jax.random.key(0)), toys.batch(agent.spaces, 1, 2, 1)
    with pytest.raises(ValueError, match=r"pairs of rows: give --loop\.batch-length 2"):
        agent.update(state, rows, key=jax.random.key(1))
    with pytest.raises(ValueError, match="it learns from its own episodes only"):
        offline("debug", "safeloop", EnvConfig("probe/value"), tmp_path, "")


# ---- runs ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """With all that it has recorded, since the next fit needs it. What acts, and is exported, is the planner."""
    config = run_config(agent="safeloop", evaluate_every=0, log_every=8)
    whole = train(config, tmp_path / "whole")
    assert_same_run(whole, train_in_pieces(config, tmp_path / "pieces", 104, 240))
    names = {name for row in history(whole) for name in row}
    assert {"model/holdout", "model/epochs", "model/holdout_cost", "critic/loss", "plan/safe_share"} <= names
    assert load_policy(whole)({"state": np.zeros(1, np.float32)}).shape == (1,)
    about = export_run(whole, tmp_path / "policy.zip").about
    assert about["observation"] == {"state": [[1], "float32"]}


def test_the_model_is_fitted_to_all_that_is_recorded_now_and_then(tmp_path: Path, monkeypatch) -> None:
    """After the 40 first decisions, and every 80 after that, of two environments."""
    seen = []

    def spy(self: Lookahead, state, recorded, *, key):
        seen.append(recorded.reward.shape)
        return state

    monkeypatch.setattr(Lookahead, "fit", spy)
    train(run_config(agent="safeloop", evaluate_every=0), tmp_path / "run")
    # And the first row of each.
    assert seen == [(2, 21), (2, 61), (2, 101)]
