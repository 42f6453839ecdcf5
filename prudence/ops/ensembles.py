"""The least and the largest of several networks' values, with a gradient that is always finite.

The gradient of ``jnp.min`` is shared by the entries that equal the minimum. A compiler may compute an entry a second
time and round it differently. Then no entry equals the minimum, and the gradient is 0/0.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def least(values: Float[Array, "N *shape"]) -> Float[Array, "*shape"]:
    """The smallest of N values. The gradient goes to the first entry that has it."""
    return jnp.take_along_axis(values, jnp.argmin(values, 0)[None], 0)[0]


def most(values: Float[Array, "N *shape"]) -> Float[Array, "*shape"]:
    """The largest of N values. The gradient goes to the first entry that has it."""
    return jnp.take_along_axis(values, jnp.argmax(values, 0)[None], 0)[0]
