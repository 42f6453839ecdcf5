"""Losses and divergences, unreduced over batch axes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def balanced_kl(
    kl_dynamics: Float[Array, "*batch"], kl_representation: Float[Array, "*batch"], free_nats: float
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    r"""Free bits on the summed KL of each latent state: :math:`\max(\mathrm{KL}, \text{free})`.

    ``kl_dynamics`` is KL(sg(posterior) ‖ prior), ``kl_representation`` KL(posterior ‖ sg(prior)).
    The maximum acts on each (batch, time) entry after summing over latents (DreamerV3 eq. 5;
    SafeDreamer eq. 3), so a latent state below ``free_nats`` gives no gradient; or on their mean, if given that.
    """
    return jnp.maximum(kl_dynamics, free_nats), jnp.maximum(kl_representation, free_nats)


def binary_cross_entropy(logit: Float[Array, "*shape"], target: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r""":math:`-y \log σ(x) - (1-y) \log(1-σ(x))` elementwise, for targets y in [0, 1]."""
    return jax.nn.softplus(logit) - target * logit
