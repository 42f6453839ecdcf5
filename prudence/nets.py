"""Networks: dense layers, multilayer perceptrons, recurrent cell.

All modules act on the last axes and accept any batch axes before them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, TypedDict

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.types import Key

NormKind = Literal["layer", "rms", "none"]
Activation = Literal["silu", "elu", "relu", "tanh"]


class Style(TypedDict):
    """Normalisation and activation of all layers of a network."""

    norm: NormKind
    activation: Activation


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
}


def cast(tree: Any, dtype: jnp.dtype) -> Any:
    """Casts every floating-point array of ``tree`` to ``dtype``.

    This is for mixed precision: parameters stay float32 in the optimiser and are cast where they are used.
    """
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, tree)


def fan_normal(key: Key, shape: tuple[int, ...], fan: float, scale: float) -> Array:
    """Truncated normal of variance ``scale / fan`` (DreamerV3's initialisation, with the average of both fans)."""
    # A unit normal truncated at 2 has standard deviation 0.8796.
    return jax.random.truncated_normal(key, -2.0, 2.0, shape) * jnp.sqrt(scale / fan) / 0.87962566


class Linear(eqx.Module):
    """``y = W x + b`` over the last axis of ``x``."""

    weight: Float[Array, "i o"]
    bias: Float[Array, " o"]

    def __init__(self, in_size: int, out_size: int, *, key: Key, scale: float = 1.0):
        """``scale`` multiplies the initial variance of the weights. With 0 the layer outputs 0 at first."""
        self.weight = fan_normal(key, (in_size, out_size), (in_size + out_size) / 2, scale)
        self.bias = jnp.zeros(out_size)

    def __call__(self, x: Float[Array, "*batch i"]) -> Float[Array, "*batch o"]:
        return x @ self.weight + self.bias


class BlockLinear(eqx.Module):
    """A block-diagonal :class:`Linear`. Inputs and outputs are split into ``blocks`` groups.

    Raises:
        ValueError: ``blocks`` does not divide both sizes.
    """

    weight: Float[Array, "blocks i o"]
    bias: Float[Array, "blocks o"]

    def __init__(self, in_size: int, out_size: int, blocks: int, *, key: Key):
        if in_size % blocks or out_size % blocks:
            raise ValueError(f"{blocks} blocks must divide both {in_size} inputs and {out_size} outputs evenly")
        fan_in, fan_out = in_size // blocks, out_size // blocks
        self.weight = fan_normal(key, (blocks, fan_in, fan_out), (fan_in + fan_out) / 2, 1.0)
        self.bias = jnp.zeros((blocks, fan_out))

    def __call__(self, x: Float[Array, "*batch i"]) -> Float[Array, "*batch o"]:
        batch, (blocks, size, _) = x.shape[:-1], self.weight.shape
        if blocks == 1:
            return x @ self.weight[0] + self.bias[0]
        groups = x.reshape(*batch, blocks, size)
        return (jnp.einsum("...gi,gio->...go", groups, self.weight) + self.bias).reshape(*batch, -1)


class Norm(eqx.Module):
    """Layer or root-mean-square normalisation over the last axis, computed in float32."""

    scale: Array | None
    offset: Array | None
    kind: NormKind = eqx.field(static=True)

    def __init__(self, size: int, kind: NormKind):
        self.kind = kind
        self.scale = None if kind == "none" else jnp.ones(size)
        self.offset = jnp.zeros(size) if kind == "layer" else None

    def __call__(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        if self.scale is None:
            return x
        y = x.astype(jnp.float32)
        if self.offset is None:
            y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + 1e-4) * self.scale
        else:
            y = y - y.mean(-1, keepdims=True)
            y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + 1e-3) * self.scale + self.offset
        return y.astype(x.dtype)


class Dense(eqx.Module):
    """Linear, normalisation, activation."""

    linear: Linear
    norm: Norm
    activation: Activation = eqx.field(static=True)

    def __init__(self, in_size: int, out_size: int, *, norm: NormKind, activation: Activation, key: Key):
        self.linear = Linear(in_size, out_size, key=key)
        self.norm = Norm(out_size, norm)
        self.activation = activation

    def __call__(self, x: Float[Array, "*batch i"]) -> Float[Array, "*batch o"]:
        return _ACTIVATIONS[self.activation](self.norm(self.linear(x)))


class MLP(eqx.Module):
    """Multilayer perceptron: ``layers`` :class:`Dense` layers of ``units``, and a linear one if ``out_size`` is given.

    ``out_scale`` multiplies the initial variance of the weights of the linear layer.
    """

    layers: tuple[Dense, ...]
    output: Linear | None

    def __init__(
        self,
        in_size: int,
        units: int,
        layers: int,
        out_size: int | None = None,
        *,
        norm: NormKind = "layer",
        activation: Activation = "silu",
        out_scale: float = 1.0,
        key: Key,
    ):
        keys = jax.random.split(key, layers + 1)
        sizes = [in_size] + [units] * layers
        self.layers = tuple(
            Dense(a, b, norm=norm, activation=activation, key=k)
            for (a, b), k in zip(pairwise(sizes), keys[:-1], strict=True)
        )
        self.output = None if out_size is None else Linear(sizes[-1], out_size, key=keys[-1], scale=out_scale)

    def __call__(self, x: Float[Array, "*batch i"]) -> Float[Array, "*batch o"]:
        for layer in self.layers:
            x = layer(x)
        return x if self.output is None else self.output(x)


class GRUCell(eqx.Module):
    r"""Gated recurrent unit (GRU) with normalised pre-activations (DreamerV3).

    .. math::
        (r, c, u) = \mathrm{norm}(W[x, h]),\; r=σ(r),\; c=\tanh(r ⊙ c),\; u=σ(u-1),\; h' = u ⊙ c + (1-u) ⊙ h

    With ``blocks`` > 1 the recurrent weights are block-diagonal over h, and every block sees all of x (current
    generation of DreamerV3). With ``blocks`` = 1 the cell is dense (2023 release).
    """

    input: Linear | None
    recurrent: BlockLinear
    norm: Norm

    def __init__(self, in_size: int, size: int, *, blocks: int = 1, norm: NormKind = "layer", key: Key):
        input_key, recurrent_key = jax.random.split(key)
        # One product over [x, h] is faster than two. With blocks, x needs its own product, since all blocks see it.
        self.input = Linear(in_size, 3 * size, key=input_key) if blocks > 1 else None
        self.recurrent = BlockLinear(size if blocks > 1 else size + in_size, 3 * size, blocks, key=recurrent_key)
        self.norm = Norm(3 * size, norm)

    def __call__(self, x: Float[Array, "*batch i"], h: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        if self.input is None:
            gates = self.recurrent(jnp.concatenate([x, h], -1))
        else:
            # Each block yields its own (reset, candidate, update): group them by gate.
            by_block = self.recurrent(h).reshape(*h.shape[:-1], self.recurrent.weight.shape[0], 3, -1)
            gates = self.input(x) + by_block.swapaxes(-3, -2).reshape(*h.shape[:-1], -1)
        reset, candidate, update = jnp.split(self.norm(gates), 3, -1)
        update = jax.nn.sigmoid(update - 1)
        candidate = jnp.tanh(jax.nn.sigmoid(reset) * candidate)
        return update * candidate + (1 - update) * h
