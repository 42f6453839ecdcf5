"""Symmetric logarithms and the running range of returns."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.ops.normalise import PercentileScale, RunningMoments, symexp, symlog


def test_symlog_by_hand():
    np.testing.assert_allclose(symlog(jnp.array([0.0, np.e - 1, 1 - np.e, 99.0])), [0, 1, -1, np.log(100)], rtol=1e-6)


def test_symexp_is_the_inverse():
    x = jnp.array([-1e4, -3.0, -1e-6, 0.0, 1e-6, 0.5, 1e4])
    np.testing.assert_allclose(symexp(symlog(x)), x, rtol=1e-4)


def test_symlog_is_the_identity_near_zero():
    assert jax.grad(symlog)(1e-4) == pytest.approx(1.0, rel=1e-3)


def test_scale_by_hand():
    # 0 … 100: P5 = 5 and P95 = 95. From zero at rate .5: 2.5 and 47.5, then 3.75 and 71.25.
    scale = PercentileScale.init(rate=0.5)
    returns = jnp.arange(101.0)
    once = scale.update(returns)
    assert once.scale == pytest.approx(45.0)
    assert once.update(returns).scale == pytest.approx(67.5)


def test_scale_never_falls_below_its_floor():
    tiny = jnp.linspace(0.0, 0.01, 50)
    assert PercentileScale.init().update(tiny).scale == 1.0
    assert PercentileScale.init(floor=0.5).update(tiny).scale == 0.5
    assert PercentileScale.init(rate=1.0, floor=0.0).update(tiny).scale == pytest.approx(0.009, rel=1e-4)


def test_running_moments_are_those_of_everything_seen():
    rng = np.random.default_rng(0)
    parts = [rng.normal(3.0, 2.0, (n, 2)).astype(np.float32) for n in (5, 1, 40)]
    moments = RunningMoments.init(2)
    for part in parts:
        moments = moments.update(jnp.asarray(part))
    everything = np.concatenate(parts)
    np.testing.assert_allclose(moments.mean, everything.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.std, everything.std(0), rtol=1e-5)
    # (x - mean) / std, and nothing beyond 5 of them.
    np.testing.assert_allclose(moments.normalise(moments.mean + moments.std), [1.0, 1.0], rtol=1e-4)
    np.testing.assert_allclose(moments.normalise(moments.mean - 9 * moments.std), [-5.0, -5.0])


def test_running_moments_before_anything_was_seen_and_of_a_constant():
    moments = RunningMoments.init(1)
    np.testing.assert_allclose(moments.normalise(jnp.array([[2.0], [-7.0]])), [[2.0], [-5.0]])
    constant = moments.update(jnp.full((3, 1), 4.0))
    np.testing.assert_allclose(constant.normalise(jnp.array([4.0])), [0.0])
