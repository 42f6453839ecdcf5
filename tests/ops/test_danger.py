"""Costs read off observations."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from prudence.ops.danger import near
from prudence.types import CostFunction


def test_near_any_of_the_positions():
    # A first number that is no position, then two positions; at radius .5: both far, one at the border, one inside.
    positions = jnp.array([[9.0, 1.0, 0.0, 0.0, -2.0], [0.1, 2.0, 2.0, 0.3, 0.4], [0.0, 0.1, 0.1, 5.0, 5.0]])
    arguments = (("name", "where"), ("start", 1), ("stop", 5), ("radius", 0.5), ("cost", 3.0))
    costs = near({"where": positions}, **dict(arguments))
    np.testing.assert_array_equal(costs, [[0.0], [3.0], [3.0]])
    named = CostFunction("prudence.ops.danger:near", arguments)
    np.testing.assert_array_equal(named({"where": positions}), costs)
    assert hash(named) == hash(CostFunction("prudence.ops.danger:near", arguments))
