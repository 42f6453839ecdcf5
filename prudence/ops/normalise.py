"""Normalisation of returns, and symmetric logarithms."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


def symlog(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r""":math:`\operatorname{sign}(x) \ln(1+|x|)` (DreamerV3 eq. 9)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r""":math:`\operatorname{sign}(x) (e^{|x|}-1)`, the inverse of :func:`symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


class PercentileScale(eqx.Module):
    r"""Running range of returns, :math:`S = \mathrm{EMA}(P_{95} - P_5)` (DreamerV3 eq. 11).

    Advantages are divided by :math:`\max(1, S)`, so that small returns are not amplified. Both percentiles are
    exponential averages, in which the newest batch has the weight ``rate``. Returns of C costs have C ranges.
    """

    low: Float[Array, " *C"]
    high: Float[Array, " *C"]
    rate: float = eqx.field(static=True, default=0.01)
    floor: float = eqx.field(static=True, default=1.0)

    @classmethod
    def init(cls, rate: float = 0.01, floor: float = 1.0, shape: tuple[int, ...] = ()) -> PercentileScale:
        """A fresh normaliser with scale ``floor`` (the papers' 1). ``shape`` is that of one return."""
        return cls(jnp.zeros(shape), jnp.zeros(shape), rate, floor)

    def update(self, returns: Float[Array, "*batch *C"]) -> PercentileScale:
        """The normaliser after one more batch of returns."""
        low, high = jnp.percentile(returns.reshape(-1, *self.low.shape), jnp.array([5.0, 95.0]), axis=0)
        mix = lambda old, new: (1 - self.rate) * old + self.rate * new
        return PercentileScale(mix(self.low, low), mix(self.high, high), self.rate, self.floor)

    @property
    def scale(self) -> Float[Array, " *C"]:
        """``max(floor, P95 - P5)``."""
        return jnp.maximum(self.floor, self.high - self.low)


class RunningMoments(eqx.Module):
    r"""Running mean and variance of each entry of a vector, over all values so far.

    The update is exact: it joins the count, mean and sum of squares of two sets (Chan et al. 1979).

    Attributes:
        count: number of values so far.
        squares: sum of squared deviations from the mean.
        clip: bound on the absolute value of normalised entries.
    """

    count: Float[Array, ""]
    mean: Float[Array, " F"]
    squares: Float[Array, " F"]
    clip: float = eqx.field(static=True, default=5.0)

    @classmethod
    def init(cls, size: int, clip: float = 5.0) -> RunningMoments:
        """Moments before the first value: :meth:`normalise` only clips."""
        return cls(jnp.zeros(()), jnp.zeros(size), jnp.zeros(size), clip)

    def update(self, values: Float[Array, "N F"]) -> RunningMoments:
        """The moments after N more values."""
        number = jnp.asarray(values.shape[0], jnp.float32)
        mean = values.mean(0)
        total, shift = self.count + number, mean - self.mean
        squares = (
            self.squares + jnp.square(values - mean[None]).sum(0) + jnp.square(shift) * self.count * number / total
        )
        return RunningMoments(total, self.mean + shift * number / total, squares, self.clip)

    @property
    def std(self) -> Float[Array, " F"]:
        """Standard deviation, at least 1e-4; 1 before the first value. Constant entries are normalised to 0."""
        variance = self.squares / jnp.maximum(self.count, 1.0)
        return jnp.where(self.count > 0, jnp.maximum(jnp.sqrt(variance), 1e-4), 1.0)

    def normalise(self, values: Float[Array, "*batch F"]) -> Float[Array, "*batch F"]:
        """(x - mean) / std, clipped to ± ``clip``."""
        mean, std = (jnp.broadcast_to(x, values.shape) for x in (self.mean, self.std))
        return jnp.clip((values - mean) / std, -self.clip, self.clip)
