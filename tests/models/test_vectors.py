"""Observations as one vector."""

from __future__ import annotations

import jax
import numpy as np
import toys

from prudence.models.vectors import named, vector, vector_size
from prudence.types import ObservationSpec


def test_vectors_and_names_are_inverse():
    spaces = toys.spaces(("b", ObservationSpec((2,), "float32")), ("a", ObservationSpec((2, 2), "float32")))
    seen, specs = toys.batch(spaces, 3, 2).observation, spaces.observations
    flat = vector(seen, specs)
    assert flat.shape == (3, 2, vector_size(specs))
    np.testing.assert_array_equal(flat[..., :4], seen["a"].reshape(3, 2, 4))
    jax.tree.map(np.testing.assert_array_equal, named(flat, specs), seen)
