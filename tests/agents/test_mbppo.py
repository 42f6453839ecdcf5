"""MBPPO-Lag: imagined rollouts, when learning in the model ends, and runs."""

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
from prudence.cores.on_policy.model_based import ModelBased, ModelBasedConfig, Trial, improves
from prudence.data.replay import Replay
from prudence.deploy.export import export_run
from prudence.deploy.policy import load_policy
from prudence.envs.base import EnvConfig
from prudence.models.dynamics import Outcome, Simulator
from prudence.presets import preset
from prudence.training.trainer import train
from prudence.types import EpisodeSummary, Spaces


def configured(name: str) -> ModelBasedConfig:
    config = preset(name, "mbppo-lag", EnvConfig("probe/value")).agent
    assert isinstance(config, ModelBasedConfig)
    return config


CONFIG = configured("debug")


def imagined(agent: ModelBased, monkeypatch: pytest.MonkeyPatch, ends_after: int = 10**9, horizon: int = 3):
    """Rollouts in a model whose observations count the steps, with reward 1, and cost 2 for each constraint."""

    def step(self, observation, action, order, noise) -> Outcome:
        then, number = observation + 1, len(observation)
        cost = jnp.full((number, len(self.spaces.costs)), 2.0)
        return Outcome(then, jnp.ones(number), cost, then[:, 0] >= ends_after)

    monkeypatch.setattr(Simulator, "step", step)
    state = agent.init(key=jax.random.key(0))
    world, orders = agent.dynamics.simulator(state.dynamics), jnp.zeros((horizon, 2), int)
    return agent.imagine(state.policy, world, jnp.zeros((2, 3)), orders, key=jax.random.key(1))


def test_a_rollout_is_cut_off_at_its_horizon_and_does_not_terminate(monkeypatch):
    agent = ModelBased(toys.spaces(), CONFIG)
    rows = imagined(agent, monkeypatch)
    np.testing.assert_array_equal(rows.observation["state"][0], np.arange(4)[:, None] * np.ones(3))
    np.testing.assert_array_equal(rows.reward, [[0, 1, 1, 1]] * 2)
    np.testing.assert_array_equal(rows.cost[..., 0], [[0, 2, 2, 2]] * 2)
    np.testing.assert_array_equal(rows.is_first, [[True, False, False, False]] * 2)
    assert not rows.is_last.any()
    assert not rows.is_terminal.any()
    assert (jnp.abs(rows.prev_action[:, 1:]).max() > 0) & (jnp.abs(rows.prev_action[:, 0]).max() == 0)
    assert configured("paper").horizon == 80


def test_a_rollout_stops_where_the_model_terminates_it(monkeypatch):
    rows = imagined(ModelBased(toys.spaces(), CONFIG), monkeypatch, ends_after=2)
    np.testing.assert_array_equal(rows.observation["state"][0, :, 0], [0, 1, 2, 2])
    np.testing.assert_array_equal(rows.reward[0], [0, 1, 1, 0])
    np.testing.assert_array_equal(rows.cost[0, :, 0], [0, 2, 2, 0])
    np.testing.assert_array_equal(rows.is_terminal[0], [False, False, True, True])
    np.testing.assert_array_equal(rows.is_last, rows.is_terminal)


def test_learning_goes_on_while_two_thirds_see_an_improvement():
    trial = lambda returns, costs: Trial(jnp.array(returns), jnp.array(costs)[:, None])
    targets = jnp.array([10.0])
    before = trial([1.0, 1.0, 1.0, 1.0], [5.0, 5.0, 12.0, 12.0])
    after = trial([2.0, 0.5, 0.5, 0.5], [20.0, 1.0, 11.0, 13.0])
    # A larger return; a smaller return, within the budget; less excess; more excess.
    assert improves(before, after, targets).tolist() == [True, False, True, False]
    # Of two costs, that which is exceeded most counts.
    before, after = (Trial(jnp.ones(1), jnp.array([costs])) for costs in ([12.0, 15.0], [14.0, 13.0]))
    assert improves(before, after, jnp.array([10.0, 10.0])).tolist() == [True]


@pytest.mark.parametrize(("shares", "kept"), [([0.0, 1.0, 0.5], 2), ([0.0, 0.0], 1), ([1.0] * 5, 5)])
def test_the_last_update_is_taken_back_but_not_the_multiplier(shares, kept, monkeypatch):
    """Of six elites, whose returns rise by as many as the share says. The first update is always kept."""
    agent = ModelBased(toys.spaces(), replace(CONFIG, updates=5))
    state, returns, learned = agent.init(key=jax.random.key(0)), [jnp.zeros(6)], iter(range(1, 9))
    for share in shares:
        returns.append(returns[-1] + jnp.where(jnp.arange(6) < 6 * share, 1.0, -1.0))
    tried = iter(returns)
    monkeypatch.setattr(ModelBased, "_try", lambda *_, key: Trial(next(tried), jnp.zeros((6, 1))))

    def learn(self, policy, world, starts, *, key):
        constraint = policy.constraint._replace(multiplier=policy.constraint.multiplier + 1)
        return replace(policy, step=jnp.asarray(next(learned)), constraint=constraint), {}

    monkeypatch.setattr(ModelBased, "_learn", learn)
    world = agent.dynamics.simulator(state.dynamics)
    policy, metrics = agent._practise(state.policy, world, np.zeros((4, 3), np.float32), key=jax.random.key(1))
    assert (int(policy.step), metrics["imagined/updates"]) == (kept, kept)
    made = kept if kept == 5 else kept + 1
    assert float(policy.constraint.multiplier[0] - state.policy.constraint.multiplier[0]) == pytest.approx(made)


def test_the_multiplier_follows_the_cost_of_an_imagined_episode(monkeypatch):
    """Cost 2 at each of 5 decisions, of 20 in an episode: 40, and 10 (1 - .25) and 50 (1 - .25) are allowed."""
    spaces = toys.spaces(costs=("a", "b"))
    budget = replace(CONFIG.budget, limit=(10.0, 60.0), margin=0.25)
    agent = ModelBased(spaces, replace(CONFIG, budget=budget))

    def step(self, observation, action, order, noise) -> Outcome:
        ones = jnp.ones(len(observation))
        return Outcome(observation, ones, 2 * jnp.ones((len(observation), 2)), ones < 0)

    monkeypatch.setattr(Simulator, "step", step)
    state = agent.init(key=jax.random.key(0))
    world = agent.dynamics.simulator(state.dynamics)
    policy, _ = agent._learn(state.policy, world, jnp.zeros((4, 3)), key=jax.random.key(1))
    np.testing.assert_allclose(policy.lived.recent.mean, [40.0, 40.0], rtol=1e-6)
    # Adam's first step is as long as its rate, up for what is exceeded and down for what is not.
    moved = policy.constraint.multiplier - state.policy.constraint.multiplier
    np.testing.assert_allclose(moved, [0.05, -0.05], rtol=1e-4)


def test_real_episodes_do_not_count():
    agent = ModelBased(toys.spaces(), CONFIG)
    state = agent.init(key=jax.random.key(0))
    assert agent.on_episode(state, EpisodeSummary(1.0, np.ones(1), 20)) is state


def test_the_papers_target_is_a_margin():
    """.02 d for rollouts of 80 decisions, of 750 in an episode."""
    budget = configured("paper").budget
    assert (1 - budget.margin) * 80 / 750 == pytest.approx(0.02)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="this model predicts vector observations, and image is of pictures"):
        ModelBased(toys.spaces(toys.IMAGE), CONFIG)
    with pytest.raises(ValueError, match="the environment has no time limit"):
        ModelBased(replace(toys.spaces(), episode_steps=None), CONFIG)
    with pytest.raises(ValueError, match=r"rollouts=5 must be a multiple of dynamics\.elites=2, .* choose 6"):
        replace(CONFIG, rollouts=5)
    with pytest.raises(ValueError, match="measures the cost of its imagined episodes"):
        replace(CONFIG, budget=replace(CONFIG.budget, violation=Lived()))


# ---- runs ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """With all that it has recorded, since the next fit needs it. The policy acts and is exported without the model."""
    config = run_config(agent="mbppo-lag", steps=160, evaluate_every=0)
    whole = train(config, tmp_path / "whole")
    assert_same_run(whole, train_in_pieces(config, tmp_path / "pieces", 40, 160))
    names = {name for row in history(whole) for name in row}
    assert {"model/holdout", "model/epochs", "imagined/updates", "imagined/cost", "constraint/multiplier"} <= names
    observation = {"state": np.zeros(1, np.float32)}
    assert load_policy(whole)(observation).shape == (1,)
    about = export_run(whole, tmp_path / "policy.zip").about
    assert about["observation"] == {"state": [[1], "float32"]}


def test_an_update_gets_everything_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(self: ModelBased, state, batches, *, key):
        seen.append(jax.tree.map(np.asarray, batches))
        return state, {}

    monkeypatch.setattr(ModelBased, "update", spy)
    train(run_config(agent="mbppo-lag", steps=160, evaluate_every=0, replay_capacity=100), tmp_path / "run")
    # 20 decisions in each of 2 environments at a time; 100 records are 50 rows.
    assert [rows.reward.shape for rows in seen] == [(1, 2, 21), (1, 2, 41), (1, 2, 50), (1, 2, 50)]
    np.testing.assert_array_equal(seen[0].observation["state"], seen[1].observation["state"][:, :, :21])
    assert seen[2].is_first[:, :, 0].all()


def test_rows_after_missing_ones_do_not_follow(tmp_path: Path) -> None:
    spaces: Spaces = toys.spaces()
    rows = jax.tree.map(np.asarray, toys.batch(spaces, 6, 2))._replace(is_first=np.zeros((6, 2), bool))
    first = Replay(tmp_path, spaces, 2, capacity=100, seed=0)
    for index in range(4):
        first.add(jax.tree.map(lambda x, index=index: x[index], rows))
    first.flush()
    second = Replay(tmp_path, spaces, 2, capacity=100, seed=0)  # It leaves a gap: steps may have been lost.
    second.add(jax.tree.map(lambda x: x[5], rows))
    found = second.recorded()
    np.testing.assert_array_equal(found.reward, rows.reward[[0, 1, 2, 3, 5]].T)
    assert found.is_first.tolist() == [[True, False, False, False, True]] * 2


@pytest.mark.slow
def test_rewards_costs_and_a_model_of_a_real_task(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    config = run_config("SafetyPointGoal1-v0", agent="mbppo-lag", steps=160, evaluate_every=0)
    config = replace(config, env=replace(config.env, time_limit=60))
    whole = train(config, tmp_path / "whole")
    assert_same_run(whole, train_in_pieces(config, tmp_path / "pieces", 80, 160))
