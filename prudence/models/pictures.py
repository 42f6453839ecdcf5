"""Encoders and decoders of pictures: convolutions for GPUs, and patches for CPUs.

Pictures are ``uint8 [height, width, channels]``, square, with a side of 2^n pixels. All modules accept any batch axes
before them. On a CPU, XLA is quick at matrix products and slow at convolutions (docs/performance.md). So the networks
of patches are nothing but products.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from prudence.nets import Dense, Linear, Norm, NormKind, Style, fan_normal
from prudence.ranges import Size
from prudence.types import Key


class ConvEncoder(eqx.Module):
    """Encodes images as features (DreamerV3, 2023 release).

    Convolutions of kernel 4 and stride 2 shrink the image to 4x4 pixels. The number of channels begins at ``depth`` and
    doubles from layer to layer. Images are ``uint8 [height, width, channels]`` with height = width = 2^n.

    Raises:
        ValueError: images are not square, or their side is not 8, 16, 32, 64 ... pixels.
    """

    kernels: tuple[Float[Array, "4 4 i o"], ...]
    norms: tuple[Norm, ...]

    def __init__(self, shape: tuple[int, ...], depth: int, *, norm: NormKind = "layer", key: Key):
        depths = [shape[-1], *_depths(shape, depth)]
        keys = jax.random.split(key, len(depths) - 1)
        pairs = list(pairwise(depths))
        self.kernels = tuple(
            fan_normal(k, (4, 4, i, o), 16 * (i + o) / 2, 1.0) for (i, o), k in zip(pairs, keys, strict=True)
        )
        self.norms = tuple(Norm(o, norm) for _, o in pairs)

    @property
    def out_size(self) -> int:
        return 16 * self.kernels[-1].shape[-1]

    def __call__(self, image: Array) -> Float[Array, "*batch F"]:
        batch = image.shape[:-3]
        x = image.reshape(-1, *image.shape[-3:]).astype(self.kernels[0].dtype) / 255 - 0.5
        for kernel, norm in zip(self.kernels, self.norms, strict=True):
            x = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.silu(norm(x))
        return x.reshape(*batch, -1)


class ConvDecoder(eqx.Module):
    """Decodes features as an image in [0, 1], not clipped. It mirrors :class:`ConvEncoder` by transposed convolutions.

    One half is added to the output, so that an output of 0 is mid-grey.

    Raises:
        ValueError: images are not square, or their side is not 8, 16, 32, 64 ... pixels.
    """

    project: Linear
    kernels: tuple[Float[Array, "4 4 i o"], ...]
    norms: tuple[Norm, ...]

    def __init__(self, in_size: int, shape: tuple[int, ...], depth: int, *, norm: NormKind = "layer", key: Key):
        depths = [*reversed(_depths(shape, depth)), shape[-1]]
        project_key, *keys = jax.random.split(key, len(depths))
        pairs = list(pairwise(depths))
        self.project = Linear(in_size, 16 * depths[0], key=project_key)
        self.kernels = tuple(
            fan_normal(k, (4, 4, i, o), 16 * (i + o) / 2, 1.0) for (i, o), k in zip(pairs, keys, strict=True)
        )
        self.norms = tuple(Norm(o, norm) for _, o in pairs[:-1])

    def __call__(self, x: Float[Array, "*batch F"]) -> Float[Array, "*batch height width channels"]:
        batch = x.shape[:-1]
        x = self.project(x).reshape(-1, 4, 4, self.kernels[0].shape[-2])
        for index, kernel in enumerate(self.kernels):
            x = upsample(x, kernel)
            if index < len(self.norms):
                x = jax.nn.silu(self.norms[index](x))
        return x.reshape(*batch, *x.shape[-3:]).astype(jnp.float32) + 0.5

    def error(self, features: Float[Array, "*batch F"], picture: Array) -> Float[Array, "*batch"]:
        """The squared error, summed over the values of ``picture`` (``uint8``)."""
        return jnp.square(self(features) - picture.astype(jnp.float32) / 255).sum((-3, -2, -1))


def upsample(x: Float[Array, "B h w i"], kernel: Float[Array, "4 4 i o"]) -> Float[Array, "B 2*h 2*w o"]:
    """Transposed convolution of kernel 4 and stride 2 (padding "SAME").

    Each output pixel depends on 2x2 inputs, through every second row and column of the kernel. So one convolution of
    kernel 2 yields the four interleaved grids of the output. XLA's own transposed convolution gives the same result but
    takes 2.4 times as long on a CPU, gradients included.
    """
    batch, height, width, size = x.shape
    taps = kernel.reshape(2, 2, 2, 2, size, -1)  # Axes: row tap, row grid, column tap, column grid, ...
    # Window p of the padded input yields the odd pixel 2p - 1 and the even pixel 2p.
    taps = taps[:, ::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, size, -1)
    y = jax.lax.conv_general_dilated(x, taps, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))
    y = y.reshape(batch, height + 1, width + 1, 2, 2, -1).swapaxes(2, 3)
    return y.reshape(batch, 2 * height + 2, 2 * width + 2, -1)[:, 1:-1, 1:-1]


def _depths(shape: tuple[int, ...], depth: int) -> list[int]:
    size = shape[0]
    if len(shape) != 3 or shape[0] != shape[1] or size < 8 or size & (size - 1):
        raise ValueError(
            f"images must be square with a side of 8, 16, 32, 64 ... pixels and have channels last; got {shape}. "
            "Resize them in a wrapper around the environment, or by --env.image-size."
        )
    return [depth * 2**i for i in range((size // 4).bit_length() - 1)]


@dataclass(frozen=True)
class Patches:
    """Sizes of :class:`PatchEncoder` and :class:`PatchDecoder`.

    Attributes:
        side: height and width of a patch in pixels, 2^n. A smaller picture is one patch.
        units: features of a patch after the first layer. They double at each merging.
        half: reconstruct at half the resolution: means of 2x2 pixels.
    """

    side: Size = 8
    units: Size = 64
    half: bool = False


def cells(picture: Any, side: int) -> Any:
    """Cuts pictures ``[*batch, height, width, channels]`` into patches ``[*batch, cells, side * side * channels]``.

    Patches stand in Z-order (Morton 1966): four neighbours that form a square follow one another, and so do four such
    squares. To merge 2x2 patches is therefore a reshape. Works on arrays of NumPy and of JAX.

    >>> cells(np.arange(16).reshape(4, 4, 1), 1)[:, 0].tolist()
    [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    """
    *batch, height, _, channels = picture.shape
    halvings = _log2(height // side)
    split = picture.reshape(*batch, *[2] * halvings, side, *[2] * halvings, side * channels)
    return split.transpose(_z_order(len(batch), halvings)).reshape(*batch, 4**halvings, side * side * channels)


def picture_of(patches: Any, side: int) -> Any:
    """Puts patches together. It is the inverse of :func:`cells`."""
    *batch, number, size = patches.shape
    halvings, channels = _log2(number) // 2, size // side**2
    order = _z_order(len(batch), halvings)
    split = patches.reshape(*batch, *[2] * (2 * halvings), side, side * channels)
    return split.transpose(np.argsort(order)).reshape(*batch, 2**halvings * side, 2**halvings * side, channels)


def _z_order(batch: int, halvings: int) -> list[int]:
    """The order of axes that makes rows of patches of a picture whose rows and columns are split by halves.

    Before, the axes after the ``batch`` ones are the halves of the rows, the row in a patch, the halves of the columns,
    and the column in a patch. After, the halves of rows and columns come by turns, and the pixels of a patch last.
    """
    rows, columns = batch, batch + halvings + 1
    by_turns = [axis for level in range(halvings) for axis in (rows + level, columns + level)]
    return [*range(batch), *by_turns, rows + halvings, columns + halvings]


def _log2(number: int) -> int:
    return number.bit_length() - 1


def halved(picture: Array) -> Array:
    """Means of 2x2 pixels: ``[*batch, 2 * h, 2 * w, channels]`` becomes ``[*batch, h, w, channels]``."""
    *batch, height, width, channels = picture.shape
    return picture.reshape(*batch, height // 2, 2, width // 2, 2, channels).mean((-4, -2))


class _Grid(NamedTuple):
    """How a picture is cut: the side of a patch, and how often 2x2 cells are merged until ``coarsest`` are left."""

    side: int
    merges: int
    coarsest: int


def _grid(shape: tuple[int, ...], patches: Patches) -> _Grid:
    halvings, side = len(_depths(shape, 1)) + 2, patches.side
    if side & (side - 1) or side <= patches.half:
        raise ValueError(f"patches have a side of {side} pixels: make it {'' if patches.half else '1, '}2, 4, 8 ...")
    halvings = max(0, halvings - _log2(side))
    merges = max(0, halvings - 1)
    return _Grid(min(side, shape[0]), merges, 4 ** (halvings - merges))


class PatchEncoder(eqx.Module):
    """Encodes pictures as features by matrix products.

    A dense layer encodes every patch. Others merge 2x2 neighbours until at most 2x2 cells are left, and their features
    in a row are the result. With patches of 8 pixels, a picture of 64x64 takes three layers: 8x8, 4x4 and 2x2 cells.

    Raises:
        ValueError: pictures are not square, or the side of a picture or patch is not 2^n pixels.
    """

    layers: tuple[Dense, ...]
    side: int = eqx.field(static=True)
    out_size: int = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], patches: Patches, *, norm: NormKind = "layer", key: Key):
        grid = _grid(shape, patches)
        units = [patches.units * 2**level for level in range(grid.merges + 1)]
        sizes = [(grid.side**2 * shape[-1], units[0]), *((4 * fine, coarse) for fine, coarse in pairwise(units))]
        keys = jax.random.split(key, len(sizes))
        self.layers = tuple(
            Dense(i, o, norm=norm, activation="silu", key=k) for (i, o), k in zip(sizes, keys, strict=True)
        )
        self.side, self.out_size = grid.side, grid.coarsest * units[-1]

    def __call__(self, picture: Array) -> Float[Array, "*batch F"]:
        first, *rest = self.layers
        x = first(cells(picture, self.side).astype(first.linear.weight.dtype) / 255 - 0.5)
        for merge in rest:
            x = merge(x.reshape(*x.shape[:-2], x.shape[-2] // 4, -1))
        return x.reshape(*x.shape[:-2], -1)


class PatchDecoder(eqx.Module):
    """Decodes features as a picture in [0, 1], not clipped. It mirrors :class:`PatchEncoder`.

    One half is added to the output, so that an output of 0 is mid-grey.

    Raises:
        ValueError: pictures are not square, or the side of a picture or patch is not 2^n pixels.
    """

    project: Dense
    splits: tuple[Dense, ...]
    output: Linear
    grid: _Grid = eqx.field(static=True)
    half: bool = eqx.field(static=True)

    def __init__(self, in_size: int, shape: tuple[int, ...], patches: Patches, *, norm: NormKind = "layer", key: Key):
        self.grid, self.half = _grid(shape, patches), patches.half
        units = [patches.units * 2**level for level in range(self.grid.merges, -1, -1)]
        style: Style = {"norm": norm, "activation": "silu"}
        project_key, out_key, *keys = jax.random.split(key, 2 + self.grid.merges)
        self.project = Dense(in_size, self.grid.coarsest * units[0], **style, key=project_key)
        self.splits = tuple(
            Dense(coarse, 4 * fine, **style, key=k) for (coarse, fine), k in zip(pairwise(units), keys, strict=True)
        )
        self.output = Linear(units[-1], self._side**2 * shape[-1], key=out_key)

    @property
    def _side(self) -> int:
        """The side of a patch in the pixels that are decoded."""
        return self.grid.side // 2 if self.half else self.grid.side

    def _patches(self, features: Float[Array, "*batch F"]) -> Float[Array, "*batch cells P"]:
        batch = features.shape[:-1]
        x = self.project(features).reshape(*batch, self.grid.coarsest, -1)
        for split in self.splits:
            x = split(x).reshape(*batch, 4 * x.shape[-2], -1)
        return self.output(x).astype(jnp.float32) + 0.5

    def __call__(self, features: Float[Array, "*batch F"]) -> Float[Array, "*batch height width channels"]:
        picture = picture_of(self._patches(features), self._side)
        return picture.repeat(2, -3).repeat(2, -2) if self.half else picture

    def error(self, features: Float[Array, "*batch F"], picture: Array) -> Float[Array, "*batch"]:
        """The squared error, summed over the values of ``picture`` (``uint8``).

        At half the resolution it is the error for the mean of 2x2 pixels, which counts as those four.
        """
        side, target = self.grid.side, cells(picture, self.grid.side).astype(jnp.float32) / 255
        if self.half:
            target = halved(target.reshape(*target.shape[:-1], side, side, -1)).reshape(*target.shape[:-1], -1)
        return jnp.square(self._patches(features) - target).sum((-2, -1)) * (4 if self.half else 1)


def picture_encoder(
    shape: tuple[int, ...], patches: Patches | None, depth: int, *, norm: NormKind = "layer", key: Key
) -> ConvEncoder | PatchEncoder:
    """The encoder of pictures of this shape: of patches, or without them of convolutions with ``depth`` channels."""
    if patches is None:
        return ConvEncoder(shape, depth, norm=norm, key=key)
    return PatchEncoder(shape, patches, norm=norm, key=key)


def picture_decoder(
    in_size: int, shape: tuple[int, ...], patches: Patches | None, depth: int, *, norm: NormKind = "layer", key: Key
) -> ConvDecoder | PatchDecoder:
    """The decoder that belongs to :func:`picture_encoder`."""
    if patches is None:
        return ConvDecoder(in_size, shape, depth, norm=norm, key=key)
    return PatchDecoder(in_size, shape, patches, norm=norm, key=key)
