"""Targets of the reach critic along imagination and along data."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import toys

from prudence.cores.fosp.feasibility import Feasibility, FeasibilityConfig
from prudence.critics import CriticConfig
from prudence.models.heads import HeadConfig
from prudence.types import Trajectory

HEAD = HeadConfig("bernoulli", layers=1, units=4, init_logit=-4.0)
CONFIG = FeasibilityConfig(critic=CriticConfig(HEAD, slow_regulariser=0.0), discount=0.9)
SMALL = 1 / (1 + np.exp(4.0))


def fresh(config: FeasibilityConfig = CONFIG) -> Feasibility:
    return Feasibility.init(2, 1, config, key=jax.random.key(0))


def test_it_starts_close_to_feasible():
    np.testing.assert_allclose(fresh()(jnp.ones((3, 2))), 1 - SMALL, rtol=1e-5)


def test_targets_along_imagination():
    # Column 0: safe, and a mean cost of .4 two steps on. Column 1: a terminal start state, in which a cost came.
    costs = jnp.zeros((3, 2, 1)).at[2, 0].set(0.4)
    trajectory = Trajectory(
        actor_features=jnp.ones((3, 2, 2)),
        critic_features=jnp.ones((3, 2, 2)),
        actions=jnp.zeros((2, 2, 1)),
        rewards=jnp.zeros((3, 2)),
        costs=costs,
        continues=jnp.ones((3, 2)),
    )
    lesson = fresh()._along_imagination(trajectory, jnp.array([[0.0], [1.0]]), jnp.array([1.0, 0.0]))
    # y_2 = max(.4, p) = .4; y_1 = .9 · .4 = .36; y_0 = .9 · .36 = .324. Column 1: y_1 = .81 p / .9, and y_0 = 1.
    np.testing.assert_allclose(lesson.targets[:, 0], [0.324, 1.0, 0.36, 0.9 * SMALL], rtol=1e-5)
    np.testing.assert_array_equal(lesson.weights, 1.0)
    # A violation counts if the episode ends with it (first column), and not if it ended before (second column).
    costs = jnp.zeros((3, 2, 1)).at[2].set(0.4)
    ending = trajectory._replace(costs=costs, continues=jnp.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]))
    lesson = fresh()._along_imagination(ending, jnp.zeros((2, 1)), jnp.ones(2))
    np.testing.assert_allclose(lesson.targets[:, 0], [0.324, 0.0, 0.36, 0.0], rtol=1e-5)


def test_targets_along_data():
    rows = toys.batch(toys.spaces(), 1, 4)
    flags = lambda *values: jnp.array([values], bool)
    # Row 0 goes on; row 1 is truncated, and safe; row 2 is terminal, and unsafe. Row 3 has no next row.
    rows = rows._replace(
        cost=jnp.array([[[0.0], [0.0], [2.0], [0.0]]]),
        is_last=flags(False, True, True, False),
        is_terminal=flags(False, False, True, False),
    )
    behaviour = fresh(replace(CONFIG, of="behaviour"))
    lesson = behaviour._along_data(jnp.ones((1, 4, 2)), rows)
    np.testing.assert_allclose(lesson.targets[:, 0], [0.9 * SMALL, 0.0, 1.0], rtol=1e-5)
    np.testing.assert_array_equal(lesson.weights[:, 0], [1.0, 0.0, 1.0])
    # An unsafe row counts where it is truncated, too.
    lesson = behaviour._along_data(jnp.ones((1, 4, 2)), rows._replace(cost=jnp.ones((1, 4, 1))))
    np.testing.assert_array_equal(lesson.weights[:, 0], [1.0, 1.0, 1.0])


def test_hamilton_jacobi_is_feasible_where_the_value_is_not_positive():
    head = replace(HEAD, kind="normal", init_logit=0.0)
    found = fresh(FeasibilityConfig("hj", CriticConfig(head, slow_regulariser=0.0)))
    np.testing.assert_array_equal(found(jnp.ones((3, 2))), 1.0)
