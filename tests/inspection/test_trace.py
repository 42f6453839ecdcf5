"""Traces of episodes whose every decision is known."""

from __future__ import annotations

import jax
import numpy as np
import toys
from envs import custom
from helpers import PlainAgent

from prudence.cores.base import Foreseeing
from prudence.envs.base import EnvConfig, entries
from prudence.envs.registry import describe, make
from prudence.inspection.trace import speed_of, trace_episodes


def traces_of(task: str, agent=None, **options):
    env = EnvConfig(f"envs.custom:{task}", **options)
    agent = agent or PlainAgent(describe(make(env), env).spaces)
    return trace_episodes(agent, agent.init(key=jax.random.key(0)), env, episodes=3, seed=0)


def test_decisions_have_what_came_after_them() -> None:
    found = traces_of("Moving")
    assert len(found) == 3
    for trace in found:
        # Five steps; a cost from the third on; a goal at every even one; the count before each is its speed.
        assert trace.costs[:, 0].tolist() == [0, 0, 1, 1, 1]
        assert trace.goals is not None
        assert trace.goals.tolist() == [0, 1, 0, 1, 0]
        assert trace.speed is not None
        assert trace.speed.tolist() == [0, 1, 2, 3, 4]
        assert (trace.value, trace.cost_value, trace.foreseen) == (None, None, None)


def test_what_an_environment_does_not_say_is_not_known() -> None:
    for trace in traces_of("Counter", action_repeat=2):
        assert (trace.goals, trace.speed) == (None, None)
        assert trace.costs[:, 0].tolist() == [0, 2, 1]


def test_what_a_dreamer_expects_is_kept() -> None:
    spaces = describe(make(EnvConfig("envs.custom:Moving")), EnvConfig("envs.custom:Moving")).spaces
    agent = toys.dreamer(spaces)
    assert isinstance(agent, Foreseeing)
    for trace in traces_of("Moving", agent):
        assert trace.value is not None
        assert trace.cost_value is not None
        assert trace.foreseen is not None
        assert trace.value.shape == (5,)
        assert trace.cost_value.shape == (5, 1)
        assert trace.foreseen.shape == (5, agent.config.horizon, 1)


def test_the_speed_is_the_length_of_the_velocity() -> None:
    layout = {"state": entries([("other", (1,)), ("velocimeter", (2,))])}
    np.testing.assert_allclose(speed_of({"state": np.array([[9.0, 3, 4], [9, 0, 0]])}, layout), [5, 0])
    assert speed_of({"state": np.zeros((2, 3))}, {}) is None
    assert custom.Moving.layout == {"state": {"velocimeter": 1}}
