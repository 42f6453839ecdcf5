"""Policies: features to distributions over actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.nets import MLP, Activation, NormKind, Style
from prudence.ops.distributions import ClippedNormal, Normal, OneHot, TanhNormal, kl_divergence
from prudence.types import ActionSpec, Key


@dataclass(frozen=True)
class ActorConfig:
    """Sizes and distribution of a policy.

    Attributes:
        continuous: ``normal`` (mean tanh(x), std in [min_std, max_std]; DreamerV3, SafeDreamer; samples
            are clipped to [-1, 1]), ``tanh_normal`` (mean 5·tanh(x/5) before tanh; LAMBDA) or ``clipped_normal``
            (mean x, and a std that does not depend on the state and starts at 1; the custom of PPO and its kin, with
            the likelihood of the clipped action).
        unimix: share of the uniform distribution in discrete policies.
        out_scale: variance of the last layer's initial weights.
    """

    layers: int = 2
    units: int = 512
    continuous: Literal["normal", "tanh_normal", "clipped_normal"] = "normal"
    min_std: float = 0.1
    max_std: float = 1.0
    unimix: float = 0.01
    out_scale: float = 0.01
    norm: NormKind = "layer"
    activation: Activation = "silu"


class Policy(eqx.Module):
    """An action distribution with actions as the world expects them."""

    distribution: OneHot | Normal | TanhNormal | ClippedNormal

    def sample(self, noise: Float[Array, "*batch A"]) -> Float[Array, "*batch A"]:
        """A reparametrised (continuous) or straight-through (discrete) sample; see :meth:`Actor.noise`."""
        discrete = isinstance(self.distribution, OneHot)
        return self._executed(self.distribution.sample(noise[..., None, :] if discrete else noise))

    def mode(self) -> Float[Array, "*batch A"]:
        return self._executed(self.distribution.mode())

    def _executed(self, action: Array) -> Array:
        if isinstance(self.distribution, OneHot):
            return action.squeeze(-2)
        # The world clips actions, so the model must see clipped ones; the gradient passes unclipped,
        # since half of a policy's samples lie outside when its mean is at the border.
        return action + jax.lax.stop_gradient(jnp.clip(action, -1, 1) - action)

    def log_prob(self, action: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
        """Of executed actions: a Gaussian's sample is clipped before it acts, so that its likelihood at the border is
        that of the tail beyond (:class:`ClippedNormal`)."""
        if isinstance(self.distribution, OneHot):
            return self.distribution.log_prob(action[..., None, :])
        if isinstance(self.distribution, Normal):
            return ClippedNormal(self.distribution).log_prob(action)
        return self.distribution.log_prob(action)

    def entropy(self) -> Float[Array, "*batch"]:
        return self.distribution.entropy()

    def kl(self, other: Policy) -> Float[Array, "*batch"]:
        """KL(self ‖ other), where it has a closed form. Raises TypeError for tanh-Gaussian policies."""
        return kl_divergence(self._closed_form(), other._closed_form())

    def _closed_form(self) -> OneHot | Normal | ClippedNormal:
        if isinstance(self.distribution, TanhNormal):
            raise TypeError("tanh-Gaussian policies have no KL divergence in closed form: choose another `continuous`")
        return self.distribution


class Actor(eqx.Module):
    """A perceptron from features to a :class:`Policy`."""

    net: MLP
    log_std: Float[Array, " A"] | None
    action: ActionSpec = eqx.field(static=True)
    config: ActorConfig = eqx.field(static=True)

    def __init__(self, in_size: int, action: ActionSpec, config: ActorConfig, *, key: Key):
        c = config
        one_std = action.kind == "continuous" and c.continuous == "clipped_normal"
        out_size = action.size if action.kind == "discrete" or one_std else 2 * action.size
        style: Style = {"norm": c.norm, "activation": c.activation}
        self.net = MLP(in_size, c.units, c.layers, out_size, **style, out_scale=c.out_scale, key=key)
        self.log_std = jnp.zeros(action.size) if one_std else None
        self.action = action
        self.config = c

    def noise(self, *batch: int, key: Key) -> Float[Array, "*batch A"]:
        """What :meth:`Policy.sample` needs, for the given batch axes."""
        draw = OneHot.noise if self.action.kind == "discrete" else Normal.noise
        return draw(key, (*batch, self.action.size))

    def __call__(self, features: Float[Array, "*batch F"]) -> Policy:
        c = self.config
        out = self.net(features).astype(jnp.float32)
        if self.action.kind == "discrete":
            return Policy(OneHot.create(out[..., None, :], c.unimix))
        if self.log_std is not None:
            return Policy(ClippedNormal(Normal(out, jnp.broadcast_to(jnp.exp(self.log_std), out.shape))))
        mean, std = jnp.split(out, 2, -1)
        if c.continuous == "normal":
            std = c.min_std + (c.max_std - c.min_std) * jax.nn.sigmoid(std + 2)
            return Policy(Normal(jnp.tanh(mean), std))
        # softplus^-1(5): the initial standard deviation is 5 before tanh (LAMBDA).
        std = jax.nn.softplus(std + jnp.log(jnp.expm1(5.0))) + 1e-4
        return Policy(TanhNormal(Normal(5 * jnp.tanh(mean / 5), std)))
