"""SAC and SAC-Lag: one step by hand, what a budget changes, and their runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from helpers import assert_same_run, history, run_config, train_in_pieces

from prudence.actors import Actor
from prudence.budgets import Budget, Imagined, Lived
from prudence.constraints import DualAscent, PIDLagrangian, Unconstrained
from prudence.cores.pairs import Pairs
from prudence.cores.sac import SAC, SACConfig, SoftActorCritic
from prudence.deploy.policy import load_policy
from prudence.envs.base import EnvConfig
from prudence.inspection.inspect import inspect_run
from prudence.models.heads import Head
from prudence.optim import OptimiserConfig
from prudence.presets import preset
from prudence.presets.offline import offline
from prudence.systems import find_system
from prudence.training.trainer import train
from prudence.types import EpisodeSummary, ObservationSpec

SPACES = toys.spaces()
ONE = toys.spaces(("state", ObservationSpec((1,), "float32")), actions=1)


def config(name: str = "sac-lag", **changes) -> SACConfig:
    return replace(preset("debug", name, EnvConfig("probe/value")).agent, **changes)


def agent_of(name: str = "sac-lag", spaces=SPACES, **changes) -> SAC:
    agent = find_system(name).agent(spaces, config(name, **changes))
    assert isinstance(agent, SAC)
    return agent


def leaves(tree) -> list:
    return jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


def updated(agent: SAC, rows=None, *costs: float):
    """After two gradient steps, and before them training episodes with these costs."""
    state = agent.init(key=jax.random.key(0))
    for cost in costs:
        state = agent.on_episode(state, EpisodeSummary(1.0, np.full(agent.spaces.num_costs, cost), 20))
    rows = toys.batch(agent.spaces, 2, 4, 3) if rows is None else rows
    return agent.update(state, rows, key=jax.random.key(1))[0]


# --- one step by hand: s = 0, and the noise is .5 -----------------------------------------------

# a = tanh(.5) = .46212, with 1 - a² = .78645; ln π = -.125 - .91894 - ln(.78645) = -.80371.
ACTION, SLOPE, LOG_PROB = 0.46212, 0.78645, -0.80371
PLAIN = OptimiserConfig(0.1, clip=1e9, eps=1e-8)


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Actor, "noise", lambda self, *batch, key: jnp.full((*batch, self.action.size), 0.5))


def linear(config: SACConfig) -> SACConfig:
    """Linear networks, whose first Adam step moves each parameter by .1."""
    critic = replace(config.critic, head=replace(config.critic.head, layers=0), optimiser=PLAIN)
    temperature = replace(config.temperature, init=0.5, optimiser=PLAIN)
    return replace(
        config,
        actor=replace(config.actor, layers=0),
        critic=critic,
        cost_critic=critic,
        actor_optimiser=PLAIN,
        temperature=temperature,
        discount=0.9,
        budget=replace(config.budget, discount=0.5),
    )


def with_line(heads: Head, biases: list[float], slopes: list[float]) -> Head:
    """The heads of N critics b + k a, whatever s is."""
    output = heads.net.output
    assert output is not None
    weight = jnp.stack([jnp.zeros(len(slopes)), jnp.array(slopes)], 1)[..., None]
    biased = eqx.tree_at(lambda o: (o.weight, o.bias), output, (weight, jnp.array(biases)[:, None]))
    return eqx.tree_at(lambda h: h.net.output, heads, biased)


def by_hand(c: SACConfig) -> SoftActorCritic:
    """μ = 0 and σ = 1 before tanh, Q = 2 + a and 3 - a, Q^c = 4 + 2a."""
    learner = SoftActorCritic.init(1, ONE, c, key=jax.random.key(0))
    assert learner.cost_critic is not None
    nets = lambda critics: (critics.members.online.module, critics.members.slow)
    twins = [with_line(net, [2.0, 3.0], [1.0, -1.0]) for net in nets(learner.critic)]
    costs = [with_line(net, [4.0], [2.0]) for net in nets(learner.cost_critic)]
    weight = lambda made: made.actor.module.net.output.weight
    learner = eqx.tree_at(weight, learner, jnp.zeros_like(weight(learner)))
    return eqx.tree_at(lambda made: (*nets(made.critic), *nets(made.cost_critic)), learner, (*twins, *costs))


def one_pair(*, last: bool, terminal: bool) -> Pairs:
    """In s = 0 the action 0, then a reward of 1 and a cost of 3."""
    rows = jax.tree.map(jnp.zeros_like, toys.batch(ONE, 1, 2))
    end = lambda flag: jnp.array([[False, flag]])
    rows = rows._replace(
        reward=jnp.array([[0.0, 1.0]]),
        cost=jnp.array([[[0.0], [3.0]]]),
        is_last=end(last),
        is_terminal=end(terminal),
    )
    return Pairs.of(rows.observation["state"], rows)


@pytest.mark.parametrize(
    ("last", "terminal", "target", "cost_target"),
    [
        # min(2 + a, 3 - a) = 2.46212, and .5 · .80371 for the entropy: 1 + .9 · 2.86397. 3 + .5 (4 + 2a), without it.
        (False, False, 3.57758, 5.46212),
        (True, False, 3.57758, 5.46212),  # A truncated episode would have gone on.
        (True, True, 1.0, 3.0),
    ],
)
def test_targets_and_slow_copies_by_hand(half, last, terminal, target, cost_target):
    c = linear(config())
    pairs = one_pair(last=last, terminal=terminal)
    critic, cost_critic, metrics = by_hand(c)._learn(pairs, c, key=jax.random.key(1))
    np.testing.assert_allclose(metrics["critic/target"], target, rtol=1e-5)
    np.testing.assert_allclose(metrics["cost_critic/target"], cost_target, rtol=1e-5)
    # Both Q(s, 0), 2 and 3, and Q^c(s, 0) = 4 move by .1 towards their target, their slow copies by .005 of that.
    assert cost_critic is not None
    for critics, values, aim in ((critic, [2.0, 3.0], target), (cost_critic, [4.0], cost_target)):
        for net, share in ((critics.members.online.module, 1.0), (critics.members.slow, 0.005)):
            moved = np.array(values) + share * 0.1 * np.sign(aim - np.array(values))
            np.testing.assert_allclose(net.net.output.bias[:, 0], moved, rtol=1e-5)


def test_the_policy_and_the_temperature_move_by_hand(half):
    c = linear(config())
    priced = lambda task, costs: task + 2.0 * costs[0]
    learner = by_hand(c)
    actor, found, metrics = learner._improve(one_pair(last=False, terminal=False), priced, key=jax.random.key(1))
    # α ln π - min Q + 2 Q^c = -.40186 - 2.46212 + 2 (4 + 2a).
    np.testing.assert_allclose(metrics["actor/loss"], -0.40186 - 2.46212 + 8 + 4 * ACTION, rtol=1e-5)
    np.testing.assert_allclose(found.entropy, -LOG_PROB, rtol=1e-4)
    # By μ: α 2a - (1 - 2 · 2)(1 - a²). By ln σ, with σ · noise = .5: α(-1 + a) - (1 - 4)(1 - a²) / 2.
    by_mean, by_log_std = 0.5 * 2 * ACTION + 3 * SLOPE, 0.5 * (-1 + ACTION) + 3 * SLOPE / 2
    np.testing.assert_allclose(metrics["actor/gradient_norm"], np.hypot(by_mean, by_log_std), rtol=1e-4)
    np.testing.assert_allclose(actor.module.net.output.bias, [-0.1, -0.1], rtol=1e-4)
    after, _, metrics = learner.update(one_pair(last=False, terminal=False), priced, c, key=jax.random.key(1))
    # The entropy of .8 is above -1, so that ln α falls.
    np.testing.assert_allclose(metrics["policy/temperature"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(after.log_temperature.module, np.log(0.5) - 0.1, rtol=1e-5)


# --- budgets ------------------------------------------------------------------------------------


def sensitivity(agent: SAC, *costs: float) -> tuple[float, float, float]:
    """The objective of a task's loss of 8 and a discounted cost of 3, and its derivatives, after these episodes."""
    state = agent.init(key=jax.random.key(0))
    for cost in costs:
        state = agent.on_episode(state, EpisodeSummary(1.0, np.array([cost]), 20))
    state = eqx.tree_at(lambda s: s.return_scale.high, state, jnp.array(4.0))
    inputs = jnp.array(8.0), jnp.array([3.0])
    value, (task, cost) = jax.value_and_grad(lambda i: agent._objective(state, *i))(inputs)
    return float(value), float(task), float(cost[0])


def test_the_objective_by_hand():
    plain = agent_of(constraint=DualAscent(0.5), budget=Budget(25.0, violation=Lived(relative=False)))
    # 8 + .5 (50 - 25): returns and discounted costs in their own units.
    np.testing.assert_allclose(sensitivity(plain, 50.0), [20.5, 1.0, 0.5], rtol=1e-5)
    relative = agent_of(constraint=DualAscent(0.5), budget=Budget(25.0, discount=0.9, violation=Lived()))
    # 8 / 4 + .5 (50 - 25) / 25. A discounted cost of 3 is (1 - .9) · 20 · 3 = 6 an episode, counted in 25.
    np.testing.assert_allclose(sensitivity(relative, 50.0), [2.5, 0.25, 0.5 * 2 / 25], rtol=1e-5)


def test_costs_do_not_count_before_their_start():
    budget = Budget(25.0, start=1, violation=Lived(relative=False))
    agent = agent_of(constraint=DualAscent(0.5), budget=budget)
    assert sensitivity(agent, 50.0) == (8.0, 1.0, 0.0)
    assert float(updated(agent, None, 50.0).constraint.multiplier[0]) == pytest.approx(0.535)  # One step of two.


def test_episodes_do_not_move_a_multiplier_before_costs_count():
    """They give the mean cost, of which the multiplier then begins."""
    price = PIDLagrangian(0.0, 0.01, 0.0, maximum=10.0, cost_smoothing=0.0, delay=1, warmup=0)
    agent = agent_of(constraint=price, budget=Budget(25.0, start=1, violation=Lived(relative=False)))
    state, episode = agent.init(key=jax.random.key(0)), EpisodeSummary(0.0, np.array([35.0]), 20)
    multiplier = lambda state: float(agent.config.constraint.multiplier(state.constraint)[0])
    before = agent.on_episode(state, episode)
    assert multiplier(before) == multiplier(state)
    assert float(before.lived.recent.mean[0]) == 35.0
    after = agent.on_episode(replace(before, step=jnp.array(1)), episode)
    assert multiplier(after) == pytest.approx(multiplier(state) + 0.1, rel=1e-4)


def test_the_multiplier_waits_for_an_episode_and_follows_it():
    agent = agent_of(constraint=DualAscent(0.5, 0.01))
    assert float(updated(agent).constraint.multiplier[0]) == 0.5
    assert float(updated(agent, None, 50.0).constraint.multiplier[0]) == pytest.approx(0.52, rel=1e-4)
    assert float(updated(agent, None, 5.0).constraint.multiplier[0]) == pytest.approx(0.48, rel=1e-4)
    controlled = agent_of(
        constraint=PIDLagrangian(1.0, 0.0, 0.0, 9.0, 0.0, smoothing=0.0, cost_smoothing=0.0, warmup=0)
    )
    assert float(updated(controlled, None, 26.0).constraint.multiplier[0]) == pytest.approx(1.0, rel=1e-4)


def test_a_multiplier_of_zero_is_the_unconstrained_agent():
    free, plain = updated(agent_of(constraint=DualAscent(0.0))), updated(agent_of("sac"))
    assert plain.learner.cost_critic is None
    # Two programs, which round differently.
    for x, y in zip(*(leaves((s.learner.actor, s.learner.critic)) for s in (free, plain)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
    assert not same(free.learner.actor, updated(agent_of(constraint=DualAscent(1.0))).learner.actor)


# --- what it learns from and acts on ------------------------------------------------------------


def test_nothing_is_learnt_from_the_step_between_two_episodes():
    agent, rows = agent_of(), toys.batch(SPACES, 2, 4, 3)
    rows = rows._replace(is_last=rows.is_last.at[:, :2, 1].set(True))
    ended = np.asarray(rows.is_last)[:, :, :-1]
    actions, rewards, costs = np.array(rows.prev_action), np.array(rows.reward), np.array(rows.cost)
    actions[:, :, 1:][ended], rewards[:, :, 1:][ended], costs[:, :, 1:][ended] = 0.123, 50.0, 50.0
    other = rows._replace(prev_action=jnp.array(actions), reward=jnp.array(rewards), cost=jnp.array(costs))
    for left, right in zip(leaves(updated(agent, rows).learner), leaves(updated(agent, other).learner), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_several_costs_have_a_value_and_a_multiplier_each():
    spaces = toys.spaces(toys.VECTOR, ("more", ObservationSpec((2, 2), "float32")), costs=("left", "right"))
    agent = agent_of(spaces=spaces)
    state = agent.init(key=jax.random.key(0))
    after, metrics = agent.update(state, toys.batch(spaces, 2, 4, 3), key=jax.random.key(1))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {np.shape(value) for value in metrics.values()} == {()}
    assert {"constraint/multiplier_left", "constraint/multiplier_right", "cost_critic/loss"} <= set(metrics)
    shown = toys.batch(spaces, 3).observation
    act = lambda state, mode, key: agent.act(state, (), shown, np.ones(3, bool), key=jax.random.key(key), mode=mode)[0]
    assert act(after, "train", 0).shape == (3, 2)
    assert not np.array_equal(act(after, "evaluate", 0), act(after, "evaluate", 1)), "the budget is that of samples"
    agent = agent_of("sac", spaces)
    np.testing.assert_array_equal(*(act(agent.init(key=jax.random.key(0)), "evaluate", key) for key in (0, 1)))


def test_what_is_privileged_changes_nothing():
    spaces = toys.spaces(toys.VECTOR, ("contacts", ObservationSpec((4,), "float32")), privileged=("contacts",))
    agent, rows = agent_of(spaces=spaces), toys.batch(spaces, 2, 4, 3)
    changed = rows._replace(observation={**rows.observation, "contacts": rows.observation["contacts"] + 1})
    assert same(updated(agent, rows), updated(agent, changed))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: agent_of(spaces=toys.spaces(action="discrete")), "continuous actions only"),
        (lambda: agent_of(spaces=toys.spaces(toys.VECTOR, toys.IMAGE)), r"there are pictures \(image\): choose others"),
        (lambda: agent_of(budget=Budget(violation=Imagined())), "cannot imagine costs"),
        (lambda: agent_of(budget=Budget(violation=Lived()), spaces=toys.spaces(steps=None)), "has no time limit"),
        (lambda: agent_of(constraint=Unconstrained()), "sac-lag needs constraint=DualAscent or AugmentedLagrangian or"),
        (lambda: updated(agent_of(), toys.batch(SPACES, 2, 4, 1)), "give --loop.batch-length 2"),
    ],
)
def test_what_does_not_suit_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


# --- runs ---------------------------------------------------------------------------------------


def test_a_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    settings = run_config(agent="sac-lag", evaluate_every=80)
    whole = train(settings, tmp_path / "whole")
    assert_same_run(whole, train_in_pieces(settings, tmp_path / "pieces", 24, 168, 240))
    names = {name for row in history(whole) for name in row}
    assert {"constraint/multiplier", "cost_critic/value", "policy/temperature", "evaluation/return_mean"} <= names
    assert load_policy(whole)({"state": np.zeros(1, np.float32)}).shape == (1,)
    with pytest.raises(ValueError, match="sac-lag has no world model to inspect"):
        inspect_run(whole, key=jax.random.key(0))


def test_its_paper_preset_is_the_papers():
    found = preset("paper", "sac", EnvConfig("SafetyPointGoal1-v0"))
    agent, loop = found.agent, found.loop
    assert (agent.discount, agent.critic.slow_rate, agent.temperature.target) == (0.99, 0.005, -1.0)
    assert (loop.batch_size, loop.batch_length, loop.updates_per_decision, loop.replay_capacity) == (256, 2, 1, 10**6)
    parts = (agent.actor, agent.critic.head)
    assert {(part.layers, part.units, part.activation, part.norm) for part in parts} == {(2, 256, "relu", "none")}
    rates = (agent.actor_optimiser, agent.critic.optimiser, agent.temperature.optimiser)
    assert {optimiser.learning_rate for optimiser in rates} == {3e-4}
    lag = preset("paper", "sac-lag", EnvConfig("SafetyPointGoal1-v0")).agent
    assert replace(lag, constraint=Unconstrained(), budget=agent.budget, evaluation="mode") == agent


def test_it_does_not_learn_from_data_alone():
    with pytest.raises(ValueError, match="sac-lag values actions that a data set may never have tried"):
        offline("debug", "sac-lag", EnvConfig("probe/value"), Path("data"), "digest")
