"""Networks: shapes, errors, and the recurrent cell by hand."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.nets import MLP, BlockLinear, GRUCell, Linear, Norm, cast


def key(seed: int = 0) -> jax.Array:
    return jax.random.key(seed)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_linear_scale_zero_is_the_constant_zero():
    net = Linear(3, 2, key=key(), scale=0.0)
    np.testing.assert_array_equal(net(jnp.ones((4, 3))), np.zeros((4, 2)))


def test_initial_weights_have_the_stated_variance():
    net = Linear(300, 100, key=key(), scale=2.0)
    assert float(net.weight.var()) == pytest.approx(2.0 / 200, rel=0.05)


def test_mlp_keeps_batch_axes():
    assert MLP(3, 8, 2, 5, key=key())(jnp.ones((2, 7, 3))).shape == (2, 7, 5)
    assert MLP(3, 8, 2, key=key())(jnp.ones(3)).shape == (8,)


def test_layer_norm_by_hand():
    # Mean 2, variance 1: ±1 up to the constant 1e-3 in the root.
    np.testing.assert_allclose(Norm(2, "layer")(jnp.array([1.0, 3.0])), [-1.0, 1.0], atol=1e-3)
    np.testing.assert_allclose(Norm(2, "rms")(jnp.array([1.0, 3.0])), np.array([1.0, 3.0]) / np.sqrt(5), atol=1e-3)
    np.testing.assert_array_equal(Norm(2, "none")(jnp.array([1.0, 3.0])), [1.0, 3.0])


def test_block_linear_is_block_diagonal():
    net = BlockLinear(4, 6, 2, key=key())
    full = np.zeros((4, 6), np.float32)
    full[:2, :3], full[2:, 3:] = net.weight
    x = jnp.arange(4.0)
    np.testing.assert_allclose(net(x), x @ full, rtol=1e-5)


def test_block_linear_refuses_uneven_sizes():
    with pytest.raises(ValueError, match="3 blocks must divide both 4 inputs and 6 outputs"):
        BlockLinear(4, 6, 3, key=key())


def tiny_cell() -> GRUCell:
    """One input and one unit: gates are W [x, h] + b without normalisation."""
    cell = GRUCell(1, 1, norm="none", key=key())
    weight, bias = jnp.array([[[1.0, 2.0, 3.0], [0.5, -1.0, 0.25]]]), jnp.array([[0.1, 0.2, 0.3]])
    return eqx.tree_at(lambda c: (c.recurrent.weight, c.recurrent.bias), cell, (weight, bias))


def test_dense_gru_by_hand():
    x, h = 0.4, -0.6
    reset, candidate, update = 1.0 * x + 0.5 * h + 0.1, 2.0 * x - 1.0 * h + 0.2, 3.0 * x + 0.25 * h + 0.3
    u, c = sigmoid(update - 1), np.tanh(sigmoid(reset) * candidate)
    assert tiny_cell()(jnp.array([x]), jnp.array([h])) == pytest.approx(u * c + (1 - u) * h, rel=1e-5)


def test_block_gru_is_a_dense_one_with_block_diagonal_recurrent_weights():
    blocks = GRUCell(3, 4, blocks=2, key=key())
    dense = GRUCell(3, 4, key=key(1))
    assert blocks.input is not None
    weight = np.zeros((7, 12), np.float32)
    weight[:3] = blocks.input.weight
    for b in range(2):  # Block b holds (reset, candidate, update) of units 2b and 2b + 1.
        for gate in range(3):
            columns = slice(4 * gate + 2 * b, 4 * gate + 2 * b + 2)
            weight[3 + 2 * b : 5 + 2 * b, columns] = blocks.recurrent.weight[b][:, 2 * gate : 2 * gate + 2]
    dense = eqx.tree_at(lambda c: c.recurrent.weight, dense, jnp.asarray(weight)[None])
    x, h = jnp.linspace(-1, 1, 6).reshape(2, 3), jnp.linspace(-0.5, 0.9, 8).reshape(2, 4)
    np.testing.assert_allclose(blocks(x, h), dense(x, h), rtol=1e-5)


def test_cast_leaves_integers_alone():
    tree = cast({"a": jnp.ones(2), "n": jnp.arange(2)}, jnp.dtype("bfloat16"))
    assert tree["a"].dtype == jnp.bfloat16
    assert tree["n"].dtype == jnp.int32
