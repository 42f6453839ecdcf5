"""Vector observations in one vector, for agents without a world model."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.types import Observation, ObservationSpec


def vector_size(specs: Mapping[str, ObservationSpec]) -> int:
    """F, the size of :func:`vector`."""
    return sum(math.prod(spec.shape) for spec in specs.values() if not spec.is_image)


def vector(observation: Observation, specs: Mapping[str, ObservationSpec]) -> Float[Array, "*batch F"]:
    """All observations of ``specs`` but images in one vector, in the order of their names."""
    some = next(iter(specs))
    batch = jnp.shape(observation[some])[: jnp.ndim(observation[some]) - len(specs[some].shape)]
    names = [name for name in sorted(specs) if not specs[name].is_image]
    flat = [jnp.asarray(observation[name], jnp.float32).reshape(*batch, -1) for name in names]
    return jnp.concatenate(flat, -1) if flat else jnp.zeros((*batch, 0))
