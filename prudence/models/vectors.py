"""Vector observations as one vector ``[F]``, for agents without an encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
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


def named(vector: Float[Array, "*batch F"], specs: Mapping[str, ObservationSpec]) -> Observation:
    """The inverse of :func:`vector`, where no observation is an image."""
    names = sorted(specs)
    ends = np.cumsum([math.prod(specs[name].shape) for name in names])
    parts = jnp.split(vector, ends[:-1].tolist(), -1)
    return {name: x.reshape(*x.shape[:-1], *specs[name].shape) for name, x in zip(names, parts, strict=True)}
