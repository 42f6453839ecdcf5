"""Probability distributions of latent states, actions and predictions.

Each distribution is a pytree of float32 parameters (``equinox.Module``). It has ``log_prob``, ``mode``, ``mean``,
``sample`` and ``entropy`` where they exist. The event axes come last and are summed.

``sample(noise)`` takes noise of the event's shape: standard normal, or standard Gumbel for :class:`OneHot`. The
attribute ``noise`` of each class draws it. A sequential loop can therefore draw the noise of all its steps before it
starts. Drawing random bits inside the loop would cost more than small networks do.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from prudence.ops.losses import binary_cross_entropy
from prudence.ops.normalise import symexp, symlog


class OneHot(eqx.Module):
    r"""Independent one-hot variables with straight-through samples and uniform mixing.

    Probabilities are :math:`(1-u)\,\mathrm{softmax}(x) + u/K` (DreamerV3's unimix; u = .01). This bounds the KL
    divergence between any two of them. The gradient of a sample is the gradient of the probabilities (Bengio 2013).
    """

    logits: Float[Array, "*batch S K"]

    noise = staticmethod(jax.random.gumbel)

    @classmethod
    def create(cls, logits: Float[Array, "*batch S K"], unimix: float = 0.0) -> OneHot:
        """Builds the distribution from unnormalised logits. ``unimix`` is the share of the uniform distribution."""
        logits = logits.astype(jnp.float32)
        if unimix:
            probs = (1 - unimix) * jax.nn.softmax(logits) + unimix / logits.shape[-1]
            return cls(jnp.log(probs))
        return cls(jax.nn.log_softmax(logits))

    @property
    def probs(self) -> Float[Array, "*batch S K"]:
        return jnp.exp(self.logits)

    def sample(self, noise: Float[Array, "*batch S K"]) -> Float[Array, "*batch S K"]:
        """Samples with the Gumbel-max trick. The gradient is the gradient of the probabilities."""
        return self._straight_through(self.logits + noise)

    def mode(self) -> Float[Array, "*batch S K"]:
        return self._straight_through(self.logits)

    def _straight_through(self, scores: Array) -> Array:
        hard = jax.nn.one_hot(jnp.argmax(scores, -1), scores.shape[-1])
        probs = self.probs
        # In this order the value is exactly one-hot: x - x is 0, but 1 + x - x need not be 1.
        return hard + (probs - jax.lax.stop_gradient(probs))

    def log_prob(self, value: Float[Array, "*batch S K"]) -> Float[Array, "*batch"]:
        return (value * self.logits).sum((-2, -1))

    def entropy(self) -> Float[Array, "*batch"]:
        return -(self.probs * self.logits).sum((-2, -1))

    def kl(self, other: OneHot) -> Float[Array, "*batch"]:
        r""":math:`\mathrm{KL}(self ‖ other) = \sum_{s,k} p (\ln p - \ln q)`, summed over latents."""
        return (self.probs * (self.logits - other.logits)).sum((-2, -1))


class Normal(eqx.Module):
    """Diagonal Gaussian over the last axis."""

    mean: Float[Array, "*batch F"]
    std: Float[Array, "*batch F"]

    noise = staticmethod(jax.random.normal)

    def sample(self, noise: Float[Array, "*batch F"]) -> Float[Array, "*batch F"]:
        """Reparametrised sample: mean + std · noise."""
        return self.mean + self.std * noise

    def mode(self) -> Float[Array, "*batch F"]:
        return self.mean

    def log_prob(self, value: Float[Array, "*batch F"]) -> Float[Array, "*batch"]:
        z = (value - self.mean) / self.std
        return (-0.5 * z**2 - jnp.log(self.std) - 0.5 * jnp.log(2 * jnp.pi)).sum(-1)

    def entropy(self) -> Float[Array, "*batch"]:
        return (jnp.log(self.std) + 0.5 * jnp.log(2 * jnp.pi * jnp.e)).sum(-1)

    def kl(self, other: Normal) -> Float[Array, "*batch"]:
        r""":math:`\sum \ln(σ_q/σ_p) + (σ_p^2 + (μ_p-μ_q)^2)/(2σ_q^2) - \tfrac12`."""
        ratio = (self.std**2 + (self.mean - other.mean) ** 2) / (2 * other.std**2)
        return (jnp.log(other.std) - jnp.log(self.std) + ratio - 0.5).sum(-1)


class ClippedNormal(eqx.Module):
    r"""clip(x, -1, 1) of a diagonal Gaussian: the distribution of executed actions if the environment clips them.

    Inside (-1, 1) it has the density of the Gaussian. Each border has the probability of the tail beyond it, e.g.
    :math:`Φ((μ-1)/σ)` at 1. The likelihood of an *executed* action is therefore exact, and its gradient has less
    variance than the gradient for the unclipped sample (Fujita and Maeda 2018, clipped action policy gradient,
    equation 5). ``entropy`` and ``kl`` are those of the Gaussian; this ``kl`` is an upper bound, because clipping
    loses information.
    """

    normal: Normal

    noise = staticmethod(jax.random.normal)

    def sample(self, noise: Float[Array, "*batch A"]) -> Float[Array, "*batch A"]:
        return jnp.clip(self.normal.sample(noise), -1, 1)

    def mode(self) -> Float[Array, "*batch A"]:
        return jnp.clip(self.normal.mean, -1, 1)

    def log_prob(self, value: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
        mean, std = self.normal.mean, self.normal.std
        inside = jax.scipy.stats.norm.logpdf(value, mean, std)
        above, below = (jax.scipy.special.log_ndtr((sign * mean - 1) / std) for sign in (1.0, -1.0))
        return jnp.where(value >= 1, above, jnp.where(value <= -1, below, inside)).sum(-1)

    def entropy(self) -> Float[Array, "*batch"]:
        return self.normal.entropy()

    def kl(self, other: ClippedNormal) -> Float[Array, "*batch"]:
        """KL divergence of the Gaussians before clipping."""
        return self.normal.kl(other.normal)


Latent = OneHot | Normal
"""Distribution of a stochastic latent state."""


def kl_divergence(p: Latent | ClippedNormal, q: Latent | ClippedNormal) -> Float[Array, "*batch"]:
    """KL(p ‖ q) in nats, of two distributions of the same class.

    Raises:
        TypeError: p and q are of different classes.
    """
    if isinstance(p, OneHot) and isinstance(q, OneHot):
        return p.kl(q)
    if isinstance(p, Normal) and isinstance(q, Normal):
        return p.kl(q)
    if isinstance(p, ClippedNormal) and isinstance(q, ClippedNormal):
        return p.kl(q)
    raise TypeError(f"no KL divergence between {type(p).__name__} and {type(q).__name__}")


class TanhNormal(eqx.Module):
    r"""tanh of a diagonal Gaussian: actions in (-1, 1)^A (LAMBDA section 4, SAC).

    ``log_prob`` uses :math:`\ln(1-\tanh^2 x) = 2(\ln 2 - x - \mathrm{softplus}(-2x))`. It has to invert tanh, which no
    float can near ±1; ``sample_with_log_prob`` need not. The entropy has no closed form.
    ``entropy`` approximates it by the entropy of the Gaussian before tanh plus the log-Jacobian at its mean.
    """

    normal: Normal

    noise = staticmethod(jax.random.normal)

    def sample(self, noise: Float[Array, "*batch A"]) -> Float[Array, "*batch A"]:
        return jnp.tanh(self.normal.sample(noise))

    def sample_with_log_prob(
        self, noise: Float[Array, "*batch A"]
    ) -> tuple[Float[Array, "*batch A"], Float[Array, "*batch"]]:
        """A sample and its log-likelihood (Haarnoja et al. 2018b, appendix C). Both are differentiable."""
        x = self.normal.sample(noise)
        return jnp.tanh(x), self.normal.log_prob(x) - _log_tanh_slope(x).sum(-1)

    def mode(self) -> Float[Array, "*batch A"]:
        return jnp.tanh(self.normal.mean)

    def log_prob(self, value: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
        x = jnp.arctanh(jnp.clip(value, -1 + 1e-6, 1 - 1e-6))
        return self.normal.log_prob(x) - _log_tanh_slope(x).sum(-1)

    def entropy(self) -> Float[Array, "*batch"]:
        return self.normal.entropy() + _log_tanh_slope(self.normal.mean).sum(-1)


def _log_tanh_slope(x: Array) -> Array:
    return 2 * (jnp.log(2.0) - x - jax.nn.softplus(-2 * x))


class TwoHot(eqx.Module):
    r"""Categorical over fixed bins that represents one real number (DreamerV3 eqs. 8 to 10).

    The two bins around a target encode it. Their weights are such that their mean is the target. There are two
    variants, one for each generation of DreamerV3:

    * ``symlog`` (2023 release, SafeDreamer): bins are uniform in symlog space, and
      :math:`\hat x = \mathrm{symexp}(\sum_i p_i b_i)`.
    * ``symexp`` (current): bins are at :math:`\mathrm{symexp}(b_i)`, and
      :math:`\hat x = \sum_i p_i\,\mathrm{symexp}(b_i)`. This is unbiased for noisy targets, e.g. returns. The sum
      runs from both ends inwards, so that symmetric probabilities give exactly zero.

    Attributes:
        limit: position of the outermost bin in symlog space.
        symexp_bins: selects the ``symexp`` variant.
    """

    logits: Float[Array, "*batch bins"]
    limit: float = eqx.field(static=True)
    symexp_bins: bool = eqx.field(static=True)

    @property
    def bins(self) -> Float[Array, " bins"]:
        """Positions of the bins, in symlog space for ``symlog`` and in the space of the targets for ``symexp``."""
        bins = np.linspace(-self.limit, self.limit, self.logits.shape[-1], dtype=np.float32)
        return jnp.asarray(np.sign(bins) * np.expm1(np.abs(bins)) if self.symexp_bins else bins)

    @property
    def mean(self) -> Float[Array, "*batch"]:
        probs = jax.nn.softmax(self.logits.astype(jnp.float32))
        if not self.symexp_bins:
            return symexp((probs * self.bins).sum(-1))
        weighted = probs * self.bins
        half = weighted.shape[-1] // 2
        middle = weighted[..., half : weighted.shape[-1] - half].sum(-1)
        return middle + (weighted[..., :half] + weighted[..., ::-1][..., :half]).sum(-1)

    def mode(self) -> Float[Array, "*batch"]:
        return self.mean

    def log_prob(self, value: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        target = two_hot(value if self.symexp_bins else symlog(value), self.bins)
        return (target * jax.nn.log_softmax(self.logits.astype(jnp.float32))).sum(-1)


def two_hot(value: Float[Array, "*batch"], bins: Float[Array, " bins"]) -> Float[Array, "*batch bins"]:
    """Weights of the bins, such that their mean is ``value``. Only the two bins around ``value`` have weight.

    Values beyond the outermost bins are clipped to them.
    """
    value = jnp.clip(value.astype(jnp.float32), bins[0], bins[-1])
    above = jnp.clip(jnp.searchsorted(bins, value, side="right", method="compare_all"), 1, bins.size - 1)
    low, high = bins[above - 1], bins[above]
    weight = (value - low) / (high - low)
    classes = bins.size
    return (
        jax.nn.one_hot(above - 1, classes) * (1 - weight)[..., None]
        + jax.nn.one_hot(above, classes) * weight[..., None]
    )


class Bernoulli(eqx.Module):
    """Bernoulli variable. ``log_prob`` accepts soft targets in [0, 1]."""

    logit: Float[Array, "*batch"]

    @property
    def mean(self) -> Float[Array, "*batch"]:
        return jax.nn.sigmoid(self.logit.astype(jnp.float32))

    def mode(self) -> Float[Array, "*batch"]:
        return (self.logit > 0).astype(jnp.float32)

    def log_prob(self, value: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
        return -binary_cross_entropy(self.logit.astype(jnp.float32), value)


class SymlogMSE(eqx.Module):
    """Squared error against the symlog of the target (DreamerV3 eq. 9). ``mean`` is in the space of the targets."""

    prediction: Float[Array, "*shape"]

    @property
    def mean(self) -> Float[Array, "*shape"]:
        return symexp(self.prediction.astype(jnp.float32))

    def mode(self) -> Float[Array, "*shape"]:
        return self.mean

    def log_prob(self, value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """``-(prediction - symlog(value))²`` of each element, not summed."""
        return -jnp.square(self.prediction.astype(jnp.float32) - symlog(value))


class UnitNormal(eqx.Module):
    """Normal variable of variance 1. LAMBDA models rewards and values by it."""

    mean: Float[Array, "*shape"]

    def mode(self) -> Float[Array, "*shape"]:
        return self.mean

    def log_prob(self, value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """``-(mean - value)² / 2`` of each element, not summed and without the constant."""
        return -0.5 * jnp.square(self.mean.astype(jnp.float32) - value)
