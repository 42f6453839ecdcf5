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
