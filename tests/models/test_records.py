"""Recorded steps and vectors of observations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import toys

from prudence.models.records import Records, flat, named
from prudence.types import ObservationSpec


def test_records_are_steps_within_episodes():
    spaces = toys.spaces()
    batch = toys.batch(spaces, 1, 4)
    batch = batch._replace(is_first=jnp.array([[True, False, True, False]]))
    records = Records.of(batch, spaces)
    seen = np.asarray(batch.observation["state"][0])
    np.testing.assert_array_equal(records.observations, seen[[0, 2]])
    np.testing.assert_array_equal(records.changes, seen[[1, 3]] - seen[[0, 2]])
    np.testing.assert_array_equal(records.actions, batch.prev_action[0, [1, 3]])
    np.testing.assert_array_equal(records.costs, batch.cost[0, [1, 3]])


def test_vectors_and_names_are_inverse():
    spaces = toys.spaces(("b", ObservationSpec((2,), "float32")), ("a", ObservationSpec((2, 2), "float32")))
    seen = toys.batch(spaces, 3, 2).observation
    vector = flat(seen, spaces)
    np.testing.assert_array_equal(vector[..., :4], seen["a"].reshape(3, 2, 4))
    jax.tree.map(np.testing.assert_array_equal, named(jnp.asarray(vector), spaces), seen)
