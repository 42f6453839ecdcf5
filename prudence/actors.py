"""Actors and policies: they map features to distributions over actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.nets import MLP, Activation, NormKind, Style
from prudence.ops.distributions import ClippedNormal, Normal, OneHot, TanhNormal, kl_divergence
from prudence.ranges import Depth, Deviation, NonNegative, ShareBelowOne, Size
from prudence.types import ActionSpec, Key


@dataclass(frozen=True)
class ActorConfig:
    """Sizes and distribution of a policy.

    Attributes:
        layers, units: depth and width of the network.
        continuous: the distribution of continuous actions. ``normal`` has the mean tanh(x) and a std in [min_std,
            max_std], and samples are clipped to [-1, 1] (DreamerV3, SafeDreamer). ``tanh_normal`` has the mean
            5·tanh(x/5) before tanh (LAMBDA). ``squashed_normal`` has the mean x and a std exp(x) in [min_std, max_std]
            before tanh (SAC). ``clipped_normal`` has the mean x and a std that starts at 1 and does
            not depend on the state; its likelihood is that of the clipped action (usual for PPO and related methods).
        min_std, max_std: bounds of the std of ``normal`` and ``squashed_normal``.
        unimix: share of the uniform distribution in discrete policies.
        out_scale: variance of the last layer's initial weights.

    Raises:
        ValueError: ``min_std`` is above ``max_std``.
    """

    layers: Depth = 2
    units: Size = 512
    continuous: Literal["normal", "tanh_normal", "squashed_normal", "clipped_normal"] = "normal"
    min_std: Deviation = 0.1
    max_std: Deviation = 1.0
    unimix: ShareBelowOne = 0.01
    out_scale: NonNegative = 0.01
    norm: NormKind = "layer"
    activation: Activation = "silu"

    def __post_init__(self) -> None:
        if self.min_std > self.max_std:
            raise ValueError(
                f"min_std={self.min_std} is above max_std={self.max_std}: raise the one or lower the other"
            )


class Policy(eqx.Module):
    """A distribution over actions. Its actions have the form that the environment expects."""

    distribution: OneHot | Normal | TanhNormal | ClippedNormal

    def sample(self, noise: Float[Array, "*batch A"]) -> Float[Array, "*batch A"]:
        """A reparametrised (continuous) or straight-through (discrete) sample. :meth:`Actor.noise` draws ``noise``."""
        discrete = isinstance(self.distribution, OneHot)
        return self._executed(self.distribution.sample(noise[..., None, :] if discrete else noise))

    def sample_with_log_prob(
        self, noise: Float[Array, "*batch A"]
    ) -> tuple[Float[Array, "*batch A"], Float[Array, "*batch"]]:
        """A sample, as :meth:`sample` gives it, and its log-likelihood. It is exact where tanh is close to ±1, too."""
        if isinstance(self.distribution, TanhNormal):
            return self.distribution.sample_with_log_prob(noise)
        action = self.sample(noise)
        return action, self.log_prob(action)

    def mode(self) -> Float[Array, "*batch A"]:
        return self._executed(self.distribution.mode())

    def _executed(self, action: Array) -> Array:
        if isinstance(self.distribution, OneHot):
            return action.squeeze(-2)
        # The environment clips actions, so the model must see clipped ones. The gradient passes as if unclipped:
        # when the mean is at the border, half of the samples lie outside and would give no gradient.
        return action + jax.lax.stop_gradient(jnp.clip(action, -1, 1) - action)

    def log_prob(self, action: Float[Array, "*batch A"]) -> Float[Array, "*batch"]:
        """Log-likelihood of executed actions.

        A Gaussian's sample is clipped before it is executed. An action at the border therefore has the probability of
        the tail beyond it (:class:`ClippedNormal`).
        """
        if isinstance(self.distribution, OneHot):
            return self.distribution.log_prob(action[..., None, :])
        if isinstance(self.distribution, Normal):
            return ClippedNormal(self.distribution).log_prob(action)
        return self.distribution.log_prob(action)

    def entropy(self) -> Float[Array, "*batch"]:
        return self.distribution.entropy()

    def kl(self, other: Policy) -> Float[Array, "*batch"]:
        """KL(self ‖ other) in nats.

        Raises:
            TypeError: a policy is tanh-Gaussian, for which KL has no closed form.
        """
        return kl_divergence(self._closed_form(), other._closed_form())

    def _closed_form(self) -> OneHot | Normal | ClippedNormal:
        if isinstance(self.distribution, TanhNormal):
            raise TypeError("tanh-Gaussian policies have no KL divergence in closed form: choose another `continuous`")
        return self.distribution


class Actor(eqx.Module):
    """A multilayer perceptron that maps features to a :class:`Policy`."""

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
        """Draws the noise for :meth:`Policy.sample`, with the given batch axes. Consumes ``key``."""
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
        if c.continuous == "squashed_normal":
            return Policy(TanhNormal(Normal(mean, jnp.exp(jnp.clip(std, jnp.log(c.min_std), jnp.log(c.max_std))))))
        # softplus^-1(5): the initial standard deviation is 5 before tanh (LAMBDA).
        std = jax.nn.softplus(std + jnp.log(jnp.expm1(5.0))) + 1e-4
        return Policy(TanhNormal(Normal(5 * jnp.tanh(mean / 5), std)))
