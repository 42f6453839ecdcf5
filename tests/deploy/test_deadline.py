"""Acting by a deadline."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.cores.dreamer.dreamer import Dreamer
from prudence.deploy import deadline as realtime
from prudence.deploy.deadline import RealTime, planner_of
from prudence.deploy.policy import Policy


@pytest.fixture(scope="module")
def planner():
    """An agent with two iterations, and its state."""
    agent = toys.dreamer(toys.spaces(), "safedreamer-osrp-lag")
    assert agent.config.planning.search.iterations == 2
    return agent, agent.init(key=jax.random.key(0))


class Clock:
    """Tells the time, which passes only where a search takes some."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(realtime, "time", self)
        monkeypatch.setattr(Dreamer, "begin_search", lambda *_, **__: self.after(2, ()))
        monkeypatch.setattr(
            Dreamer, "iterate_search", lambda _, state, done, index: self.after(3, ((*done, index), {}))
        )
        monkeypatch.setattr(Dreamer, "end_search", lambda _, __, done: self.after(1, (jnp.array([done], float), None)))

    def perf_counter(self):
        return self.now

    def after(self, seconds, value):
        self.now += seconds
        return value


OBSERVATION = {"state": np.array([[0.3, -1.0, 2.0]], np.float32)}


def decide(act, agent):
    return act(agent.init_carry(1), OBSERVATION, np.array([True]), key=jax.random.key(3))


@pytest.mark.parametrize("execute", ["mean", "checked"])
def test_as_many_iterations_as_configured_make_the_agents_own_decision(planner, execute):
    agent, state = planner
    search = replace(agent.config.planning.search, execute=execute)
    agent = replace(agent, config=replace(agent.config, planning=replace(agent.config.planning, search=search)))
    quick = RealTime(agent, state, deadline=1e-6)
    action, carry, _ = decide(quick.act, agent)
    once = replace(agent.config.planning, search=replace(agent.config.planning.search, iterations=1))
    once = replace(agent, config=replace(agent.config, planning=once))
    own_action, own_carry, _ = decide(partial(once.act, state, mode="evaluate"), once)
    np.testing.assert_allclose(action, own_action, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(carry.plan, own_carry.plan, rtol=1e-5, atol=1e-6)

    search_state = agent.begin_search(state, agent.init_carry(1), OBSERVATION, np.array([True]), key=jax.random.key(3))
    for index in range(2):
        search_state, metrics = agent.iterate_search(state, search_state, index)
    action, _ = agent.end_search(state, search_state)
    own_action, _, own = decide(partial(agent.act, state, mode="evaluate"), agent)
    np.testing.assert_allclose(action, own_action, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["plan/elite_score"], own["plan/elite_score"], rtol=1e-4)


@pytest.mark.parametrize(
    ("deadline", "iterations", "late"),
    # After n iterations 2 + 3n have passed, and 4 more are needed for another one and the end.
    [(0.5, 1, 1.0), (6.0, 1, 0.0), (8.9, 1, 0.0), (9.0, 2, 0.0), (93.5, 30, 0.0)],
)
def test_iterations_fit_the_deadline(planner, monkeypatch, deadline, iterations, late):
    Clock(monkeypatch)
    quick = RealTime(*planner, deadline)
    action, _, metrics = decide(quick.act, planner[0])
    assert action.tolist() == [list(range(iterations))]
    assert metrics["plan/iterations"].tolist() == [iterations]
    assert metrics["plan/late"].tolist() == [late]
    summary = quick.summary()
    assert summary["iterations_mean"] == summary["iterations_least"] == iterations
    assert (summary["deadline_ms"], summary["late_share"]) == (1000 * deadline, late)


def test_a_policy_says_how_many_it_did(planner):
    agent, state = planner
    policy = Policy(agent, state, agent.spaces, deadline=1e-6)
    assert policy(np.zeros(3, np.float32)).shape == (2,)
    assert policy.diagnostics["plan/iterations"] == 1
    assert policy.diagnostics["plan/late"] == 1


def test_who_has_no_plans_cannot_have_a_deadline(planner):
    agent, state = planner
    with pytest.raises(ValueError, match="leaves no time"):
        RealTime(agent, state, deadline=0.0)
    waiting = replace(agent, config=replace(agent.config, planning=replace(agent.config.planning, start=5)))
    with pytest.raises(ValueError, match="after 5 gradient steps, of which this checkpoint has 0"):
        planner_of(waiting, state)
    reactive = toys.dreamer(toys.spaces())
    with pytest.raises(ValueError, match="does not plan every decision"):
        Policy(reactive, reactive.init(key=jax.random.key(0)), reactive.spaces, deadline=0.1)
