"""Recorded steps."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import toys

from prudence.models.records import Records


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
