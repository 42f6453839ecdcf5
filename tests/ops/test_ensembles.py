"""The least and the largest value of an ensemble."""

import jax
import jax.numpy as jnp
import numpy as np

from prudence.ops.ensembles import least, most

VALUES = jnp.array([[1.0, 5.0, 2.0], [3.0, 4.0, 2.0]])


def test_values():
    np.testing.assert_array_equal(least(VALUES), [1.0, 4.0, 2.0])
    np.testing.assert_array_equal(most(VALUES), [3.0, 5.0, 2.0])


def test_the_gradient_goes_to_one_entry():
    np.testing.assert_array_equal(jax.grad(lambda x: least(x).sum())(VALUES), [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    np.testing.assert_array_equal(jax.grad(lambda x: most(x).sum())(VALUES), [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])


def test_nan_is_not_hidden():
    broken = VALUES.at[1, 0].set(jnp.nan)
    assert np.isnan(least(broken)[0])
    assert np.isnan(most(broken)[0])
