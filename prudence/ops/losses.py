"""Losses and divergences, not reduced over batch axes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def balanced_kl(
    kl_dynamics: Float[Array, "*batch"], kl_representation: Float[Array, "*batch"], free_nats: float
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    r"""KL losses with free bits: :math:`\max(\mathrm{KL}, \text{free})` (DreamerV3 eq. 5; SafeDreamer eq. 3).

    A KL divergence below ``free_nats`` gives no gradient. The maximum is taken entry by entry: of each latent state,
    or of the mean over the batch if the caller passes means.

    Args:
        kl_dynamics: KL(sg(posterior) ‖ prior), summed over latents.
        kl_representation: KL(posterior ‖ sg(prior)), summed over latents.
        free_nats: the free bits, in nats.
    """
    return jnp.maximum(kl_dynamics, free_nats), jnp.maximum(kl_representation, free_nats)


def binary_cross_entropy(logit: Float[Array, "*shape"], target: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r""":math:`-y \log σ(x) - (1-y) \log(1-σ(x))` of each element, for targets y in [0, 1]."""
    return jax.nn.softplus(logit) - target * logit


def soft_bounds(
    value: Float[Array, "*shape"], low: Float[Array, "*shape"], high: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    r"""``value`` between ``low`` and ``high``, with a gradient everywhere (PETS: Chua et al. 2018, appendix A.1).

    .. math::
        u = h - \mathrm{softplus}(h - x), \qquad l + \mathrm{softplus}(u - l)
    """
    below = high - jax.nn.softplus(high - value)
    return low + jax.nn.softplus(below - low)


def gaussian_loss(
    mean: Float[Array, "*shape"], log_variance: Float[Array, "*shape"], target: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    r""":math:`(y - μ)^2 e^{-s} + s` of each element, with s = ln σ².

    It is twice the negative log-likelihood of a Gaussian, without its constant (PETS: Chua et al. 2018, equation 1).
    """
    return jnp.square(mean - target) * jnp.exp(-log_variance) + log_variance
