"""Soft actor-critic: values with entropy, and the temperature that weighs it."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def soft_values(
    values: Float[Array, "*batch"], log_probs: Float[Array, "*batch"], temperature: Float[Array, ""]
) -> Float[Array, "*batch"]:
    r""":math:`Q(s, a) - α \ln π(a|s)`, whose mean over actions is the value of s (Haarnoja et al. 2018b, eq. 3).

    Args:
        values: Q of actions that the policy took.
        log_probs: their log-likelihoods.
        temperature: α, in units of return for each nat.
    """
    return values - temperature * log_probs


def temperature_loss(log_temperature: Float[Array, ""], entropy: Float[Array, ""], target: float) -> Float[Array, ""]:
    r""":math:`J(α) = α (\mathcal H - \bar{\mathcal H})` (Haarnoja et al. 2018b, eq. 18).

    Its slope with respect to ln α is :math:`α(\mathcal H - \bar{\mathcal H})`: α falls while the entropy is above its
    target.

    Args:
        log_temperature: ln α.
        entropy: the mean of −ln π, in nats.
        target: the target entropy, in nats.
    """
    return jnp.exp(log_temperature) * (entropy - target)
