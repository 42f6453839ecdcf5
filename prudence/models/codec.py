"""Encoder and decoder of named observations: one network for each image, one MLP for all vectors."""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.models.pictures import (
    ConvDecoder,
    ConvEncoder,
    PatchDecoder,
    PatchEncoder,
    Patches,
    picture_decoder,
    picture_encoder,
)
from prudence.nets import MLP, Activation, NormKind, Style
from prudence.ops.normalise import symlog
from prudence.types import Key, Observation, ObservationSpec


@runtime_checkable
class CodecSizes(Protocol):
    """The settings of a model that its encoder and decoder read (:class:`~prudence.models.config.WorldModelConfig`)."""

    @property
    def mlp_layers(self) -> int: ...
    @property
    def mlp_units(self) -> int: ...
    @property
    def cnn_depth(self) -> int: ...
    @property
    def patches(self) -> Patches | None: ...
    @property
    def norm(self) -> NormKind: ...
    @property
    def activation(self) -> Activation: ...


class Encoder(eqx.Module):
    """Encodes named observations as one embedding: one network for each image, one MLP for all vectors."""

    images: dict[str, ConvEncoder | PatchEncoder]
    vectors: MLP | None
    ranks: dict[str, int] = eqx.field(static=True)
    out_size: int = eqx.field(static=True)

    def __init__(self, specs: dict[str, ObservationSpec], config: CodecSizes, *, key: Key):
        c = config
        keys = iter(jax.random.split(key, len(specs) + 1))
        self.ranks = {k: len(specs[k].shape) for k in sorted(specs)}
        self.images = {
            k: picture_encoder(specs[k].shape, c.patches, c.cnn_depth, norm=c.norm, key=next(keys))
            for k in self.keys
            if specs[k].is_image
        }
        size = sum(math.prod(specs[k].shape) for k in self.keys if k not in self.images)
        style: Style = {"norm": c.norm, "activation": c.activation}
        self.vectors = MLP(size, c.mlp_units, c.mlp_layers, **style, key=next(keys)) if size else None
        self.out_size = sum(e.out_size for e in self.images.values()) + (c.mlp_units if size else 0)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the observations that are encoded."""
        return tuple(self.ranks)

    def __call__(self, observation: Observation) -> Float[Array, "*batch F"]:
        parts = [net(observation[k]) for k, net in self.images.items()]
        if self.vectors is not None:
            flat = [flatten(observation[k], self.ranks[k]) for k in self.keys if k not in self.images]
            x = symlog(jnp.concatenate(flat, -1).astype(jnp.float32))
            parts.append(self.vectors(x.astype(self.vectors.layers[0].linear.weight.dtype)))
        return jnp.concatenate(parts, -1)


def flatten(x: Array, rank: int) -> Array:
    """Joins the last ``rank`` axes into one. Adds an axis if ``rank`` is 0."""
    return x.reshape(*x.shape[: x.ndim - rank], -1)


class Decoder(eqx.Module):
    """Decodes features as the mean of every observation. It mirrors :class:`Encoder`."""

    images: dict[str, ConvDecoder | PatchDecoder]
    vectors: MLP | None
    sizes: tuple[tuple[str, int], ...] = eqx.field(static=True)

    def __init__(self, in_size: int, specs: dict[str, ObservationSpec], config: CodecSizes, *, key: Key):
        c = config
        keys = iter(jax.random.split(key, len(specs) + 1))
        names = sorted(specs)
        self.images = {
            k: picture_decoder(in_size, specs[k].shape, c.patches, c.cnn_depth, norm=c.norm, key=next(keys))
            for k in names
            if specs[k].is_image
        }
        self.sizes = tuple((k, math.prod(specs[k].shape)) for k in names if k not in self.images)
        size = sum(n for _, n in self.sizes)
        style: Style = {"norm": c.norm, "activation": c.activation}
        self.vectors = MLP(in_size, c.mlp_units, c.mlp_layers, size, **style, key=next(keys)) if size else None

    def __call__(self, features: Float[Array, "*batch F"]) -> dict[str, Array]:
        """Observations by name in float32: images ``[height, width, channels]`` in [0, 1], flat symlog vectors."""
        return {k: net(features) for k, net in self.images.items()} | self.flat_vectors(features)

    def flat_vectors(self, features: Float[Array, "*batch F"]) -> dict[str, Float[Array, "*batch D"]]:
        """The vectors among the observations, flat and in symlog space."""
        out: dict[str, Array] = {}
        if self.vectors is not None:
            flat, start = self.vectors(features).astype(jnp.float32), 0
            for name, size in self.sizes:
                out[name] = flat[..., start : start + size]
                start += size
        return out
