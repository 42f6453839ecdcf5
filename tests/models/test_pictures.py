"""Pictures: patches in Z-order by hand, convolutions, and what both have in common."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.models.pictures import (
    ConvDecoder,
    ConvEncoder,
    PatchDecoder,
    PatchEncoder,
    Patches,
    cells,
    halved,
    picture_of,
    upsample,
)

COUNTED = np.arange(64).reshape(8, 8, 1)
"""A picture of 8x8 pixels that are numbered by rows."""


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


@pytest.mark.parametrize("xp", [np, jnp])
def test_four_cells_in_a_row_are_four_neighbours(xp):
    one_by_one = cells(xp.asarray(COUNTED), 1)[:, 0]
    # Rows of 8: the square in the upper left corner, the one to its right, and the two below them.
    np.testing.assert_array_equal(
        one_by_one[:16].reshape(4, 4), [[0, 1, 8, 9], [2, 3, 10, 11], [16, 17, 24, 25], [18, 19, 26, 27]]
    )
    two_by_two = cells(xp.asarray(COUNTED), 2)
    np.testing.assert_array_equal(two_by_two[:4], one_by_one[:16].reshape(4, 4))


def test_merging_two_by_two_cells_is_a_reshape():
    """Patches of 4 pixels have the values of the four patches of 2 pixels that lie in them."""
    small, large = cells(COUNTED, 2), cells(COUNTED, 4)
    for merged, patch in zip(small.reshape(4, 16), large, strict=True):
        assert set(merged) == set(patch)


@pytest.mark.parametrize("side", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_patches_are_put_together_again(side, lead):
    picture = np.random.default_rng(0).integers(0, 256, (*lead, 16, 16, 6), dtype=np.uint8)
    patches = cells(picture, side)
    assert patches.shape == (*lead, (16 // side) ** 2, side * side * 6)
    np.testing.assert_array_equal(picture_of(patches, side), picture)
    np.testing.assert_array_equal(cells(jnp.asarray(picture), side), patches)


def test_channels_of_a_pixel_stay_together():
    picture = np.stack([COUNTED[..., 0], 100 + COUNTED[..., 0]], -1)
    np.testing.assert_array_equal(cells(picture, 2)[1], [2, 102, 3, 103, 10, 110, 11, 111])


def test_half_the_resolution_has_means_of_four_pixels():
    # (0 + 1 + 8 + 9) / 4 = 4.5, and two columns on 6.5; two rows below 16 more.
    np.testing.assert_array_equal(halved(jnp.asarray(COUNTED))[:2, :2, 0], [[4.5, 6.5], [20.5, 22.5]])


@pytest.mark.parametrize(
    ("size", "side", "cells_left", "layers"),
    [(64, 8, 4, 3), (32, 8, 4, 2), (16, 8, 4, 1), (8, 8, 1, 1), (8, 16, 1, 1), (64, 4, 4, 4)],
)
def test_patches_are_merged_until_four_are_left(size, side, cells_left, layers):
    patches = Patches(side, units=2)
    encoder = PatchEncoder((size, size, 3), patches, key=key())
    decoder = PatchDecoder(5, (size, size, 3), patches, key=key(1))
    picture = jnp.zeros((2, 3, size, size, 3), jnp.uint8)
    assert len(encoder.layers) == layers
    assert encoder.out_size == cells_left * 2**layers  # Two features of a patch, doubled at each merging.
    assert encoder(picture).shape == (2, 3, encoder.out_size)
    assert decoder(jnp.zeros((2, 3, 5))).shape == picture.shape


def test_a_merged_cell_sees_its_four_patches_and_no_other():
    """64 pixels: the first of the four last cells sees the upper left quarter."""
    encoder = PatchEncoder((64, 64, 1), Patches(units=2), key=key())
    dark = encoder(jnp.zeros((64, 64, 1), jnp.uint8)).reshape(4, -1)
    for cell, (row, column) in enumerate([(0, 0), (0, 32), (32, 0), (32, 32)]):
        lit = encoder(jnp.zeros((64, 64, 1), jnp.uint8).at[row + 9, column + 20].set(255)).reshape(4, -1)
        assert [bool((lit[i] != dark[i]).any()) for i in range(4)] == [i == cell for i in range(4)]


@pytest.mark.parametrize("half", [False, True])
def test_the_error_on_patches_is_that_of_the_picture(half):
    picture = jax.random.randint(key(2), (3, 16, 16, 6), 0, 256).astype(jnp.uint8)
    decoder = PatchDecoder(5, (16, 16, 6), Patches(4, units=2, half=half), key=key(1))
    features = jax.random.normal(key(), (3, 5))
    real = picture.astype(jnp.float32) / 255
    real = halved(real).repeat(2, -3).repeat(2, -2) if half else real
    expected = jnp.square(decoder(features) - real).sum((-3, -2, -1))
    np.testing.assert_allclose(decoder.error(features, picture), expected, rtol=1e-5)


def test_the_error_of_convolutions_is_that_of_the_picture():
    decoder = ConvDecoder(5, (8, 8, 1), 2, key=key())
    # Undecided: mid-grey everywhere. Against black that is .5² for each of 64 pixels.
    assert float(decoder.error(jnp.zeros(5), jnp.zeros((8, 8, 1), jnp.uint8))) == pytest.approx(16.0)


@pytest.mark.parametrize("size", [8, 16, 64])
def test_convolutions_reach_four_by_four_and_back(size):
    encoder = ConvEncoder((size, size, 3), 2, key=key())
    decoder = ConvDecoder(5, (size, size, 3), 2, key=key(1))
    image = jnp.zeros((2, 3, size, size, 3), jnp.uint8)
    features = encoder(image)
    assert features.shape == (2, 3, encoder.out_size)
    assert encoder.out_size == 16 * 2 * (size // 8)  # 4·4 pixels, depth doubled at each further halving.
    assert decoder(jnp.zeros((2, 3, 5))).shape == image.shape


def test_upsampling_is_a_transposed_convolution():
    x, kernel = jax.random.normal(key(), (2, 3, 5, 4)), jax.random.normal(key(1), (4, 4, 4, 3))
    expected = jax.lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(upsample(x, kernel), expected, atol=1e-4)


@pytest.mark.parametrize("half", [False, True])
def test_an_undecided_decoder_predicts_grey(half):
    for decoder in (ConvDecoder(5, (8, 8, 1), 2, key=key()), PatchDecoder(5, (8, 8, 1), Patches(half=half), key=key())):
        np.testing.assert_allclose(decoder(jnp.zeros(5)), 0.5)


@pytest.mark.parametrize("shape", [(64, 32, 3), (48, 48, 3), (4, 4, 3), (64, 64)])
def test_pictures_of_other_shapes_are_refused_with_the_remedy(shape):
    for make in (lambda: ConvEncoder(shape, 2, key=key()), lambda: PatchEncoder(shape, Patches(), key=key())):
        with pytest.raises(ValueError, match=r"images must be square .* Resize them in a wrapper"):
            make()


@pytest.mark.parametrize(("patches", "sides"), [(Patches(6), "1, 2, 4, 8"), (Patches(1, half=True), "2, 4, 8")])
def test_patches_of_other_sides_are_refused(patches, sides):
    with pytest.raises(ValueError, match=f"a side of {patches.side} pixels: make it {sides}"):
        PatchDecoder(5, (64, 64, 3), patches, key=key())
