"""Imagined episodes, in a model that counts: its state is the number of decisions since it was recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from prudence.actors import Actor
from prudence.budgets import Imagined
from prudence.cores import imagined_episodes
from prudence.cores.imagined_episodes import FORGET, NUMBER, ImaginedEpisodes
from prudence.envs.base import EnvConfig
from prudence.models.base import AbstractWorldModel
from prudence.presets.offline import offline
from prudence.systems import find_system
from prudence.types import Trajectory


def imagine(policy: Any, start: Any, noise: Any, *, key: Any) -> Trajectory:
    """A decision costs as many as were taken before it, and itself; the second cost is 1, and the reward is 2."""
    states = start + jnp.arange(len(noise) + 1.0)[:, None, None] * policy(start, noise[0])
    costs, ones = jnp.concatenate([states, jnp.ones_like(states)], -1), jnp.ones(states.shape[:2])
    return Trajectory(states, states, noise, 2 * ones, costs, ones, states)


MODEL = MagicMock(spec=AbstractWorldModel, imagine=imagine)
POLICY = SimpleNamespace(mode=lambda: jnp.ones((NUMBER, 1)), sample=lambda noise: 1 + noise)
ACTOR = MagicMock(spec=Actor, return_value=POLICY, noise=lambda *shape, key: jnp.ones((*shape, 1)))
RECORDED = jnp.zeros((7, 1))


def fresh() -> ImaginedEpisodes:
    return ImaginedEpisodes.init(lambda number: jnp.full((number, 1), 99.0), 2)


def go_on(episodes: ImaginedEpisodes, mode: bool = True, seed: int = 0) -> ImaginedEpisodes:
    return episodes.go_on(MODEL, ACTOR, RECORDED, steps=10, mode=mode, key=jax.random.key(seed))


def test_costs_count_once_an_episode_has_forgotten_where_it_began(monkeypatch):
    monkeypatch.setattr(imagined_episodes, "LENGTH", 1e9)
    assert FORGET == 25
    episodes = fresh()
    for index in range(2):
        episodes = go_on(episodes)
        np.testing.assert_array_equal(episodes.age, 10 * (index + 1))
        np.testing.assert_array_equal(episodes.states, 10.0 * (index + 1))
        assert episodes.cost.weight == 0
    # Decisions 26 to 30 of the third update, then 31 to 40 of the fourth.
    episodes = go_on(episodes)
    np.testing.assert_allclose(episodes.cost.mean, [28.0, 1.0], rtol=1e-5)
    np.testing.assert_allclose(episodes.metrics(toys.spaces(steps=200))["imagined/episode_return"], 400.0, rtol=1e-5)
    episodes = go_on(episodes)
    np.testing.assert_allclose(episodes.cost.mean, [(0.99 * 28 + 35.5) / 1.99, 1.0], rtol=1e-5)


def test_the_policy_acts_as_it_is_evaluated():
    np.testing.assert_array_equal(go_on(fresh()).states, 10.0)
    np.testing.assert_array_equal(go_on(fresh(), mode=False).states, 20.0)


def test_some_episodes_begin_anew_at_a_recorded_state():
    episodes = go_on(fresh())
    for seed in range(1, 6):
        episodes = go_on(episodes, seed=seed)
    assert set(np.unique(episodes.age)) <= {10, 20, 30, 40, 50, 60}
    assert 0.3 < float((episodes.age == 60).mean()) < 0.85  # .9⁵ = .59 never began anew.
    np.testing.assert_array_equal(episodes.states[:, 0], episodes.age)


def test_the_cost_of_an_episode_has_the_gradient_of_the_estimate_from_recorded_states():
    spaces, estimate = toys.spaces(costs=("a", "b"), steps=200), jnp.array([3.0, 4.0])
    np.testing.assert_array_equal(fresh().instead_of(estimate, spaces), estimate)
    known = fresh()
    known = replace(known, cost=known.cost.update(jnp.array([0.5, 0.1])))
    value, gradient = jax.value_and_grad(lambda x: known.instead_of(x, spaces)[0])(estimate)
    np.testing.assert_allclose(value, 100.0, rtol=1e-5)
    np.testing.assert_array_equal(gradient, [1.0, 0.0])


def test_only_the_cost_of_an_episode_can_be_measured_so():
    with pytest.raises(ValueError, match=r"on_policy measures the cost of an episode.*estimate='episode'"):
        Imagined("sum", on_policy=True)


def config(name: str) -> Any:
    agent = offline("debug", name, EnvConfig("probe/cost"), Path("data"), "digest").agent
    violation = Imagined("episode", relative=True, bound=2.0, on_policy=True)
    return replace(agent, budget=replace(agent.budget, violation=violation))


@pytest.mark.parametrize(
    "name",
    ["safedreamer-bsrp-lag", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fosp", "asymdreamer-o"))],
)
def test_every_core_measures_so(name):
    agent = find_system(name).agent(toys.spaces(), config(name))
    before = agent.init(key=jax.random.key(0))
    after, metrics = agent.update(before, toys.batch(agent.spaces, 1, 2, 8), key=jax.random.key(1))
    assert len(before.episodes.age) == NUMBER
    assert after.episodes.age.min() == agent.config.horizon
    assert np.isfinite([metrics["imagined/cost"], metrics["imagined/episode_return"]]).all()


def test_agents_without_a_constraint_measure_nothing():
    assert (
        find_system("dreamerv3").agent(toys.spaces(), config("dreamerv3")).init(key=jax.random.key(0)).episodes is None
    )
