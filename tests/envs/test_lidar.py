from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from prudence.envs.lidar import closeness, nearness
from prudence.ops.normalise import symlog

ZERO = np.zeros(1, int)


def test_an_object_in_the_middle_of_a_bin_shows_in_it_and_half_beside_it():
    # Four bins of 90°. At 45° and 1 m of 4: s = 3/4 in bin 0; half of it in bins 1 and 3.
    rings = closeness(np.array([[1.0, 1.0]]) / np.sqrt(2), ZERO, 1, 4, 4.0)
    np.testing.assert_allclose(rings, [[0.75, 0.375, 0.0, 0.375]])


def test_the_nearest_of_a_kind_counts_and_kinds_have_rings_of_their_own():
    positions = np.array([[0.0, 1.0], [0.0, 3.0], [0.0, 2.0], [9.0, 0.0]])
    rings = closeness(positions, np.array([0, 0, 1, 1]), 2, 4, 4.0)
    # At exactly 90° an object is at the start of bin 1: all of it beside bin 1 falls to bin 0.
    np.testing.assert_allclose(rings, [[0.75, 0.75, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]], atol=1e-12)


def test_outside_of_the_arc_nothing_is_seen():
    angles = np.deg2rad([0.0, 59.0, 61.0, -59.0, -61.0, 180.0])
    positions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    seen = [closeness(p[None], ZERO, 1, 16, 3.0, 120.0).any() for p in positions]
    assert seen == [True, True, False, True, False, False]
    # Something may look along its y axis.
    turned = [closeness(p[None], ZERO, 1, 16, 3.0, 120.0, np.pi / 2).any() for p in positions]
    assert turned == [False, True, True, False, False, False]


def test_nearness_is_a_logarithm_of_distance_to_a_world_model():
    """At 3 m reach and ε = .03 the symlog at distance d is ln(1.03 / (d/3 + .03)): ln(1.03/.13) at 30 cm."""
    distances = np.array([0.0, 0.3, 1.5, 3.0, 9.0])
    seen = symlog(jnp.asarray(nearness(np.maximum(0.0, 1 - distances / 3)), jnp.float32))
    np.testing.assert_allclose(seen, np.log(1.03 / np.array([0.03, 0.13, 0.53, 1.03, 1.03])), atol=1e-6)
