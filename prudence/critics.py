"""Value functions with slow copies, for rewards and for costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from prudence.models.heads import Head, HeadConfig
from prudence.optim import Optimised, OptimiserConfig
from prudence.types import Key, Metrics


@dataclass(frozen=True)
class CriticConfig:
    """A critic and its slow copy.

    Attributes:
        slow_rate: share of the online weights that enters the slow copy.
        slow_every: gradient steps between two such entries. LAMBDA copies all of them (``slow_rate`` 1) every 100.
        slow_target: bootstrap targets from the slow copy (LAMBDA) rather than from the online critic.
        slow_regulariser: weight of −log p(slow copy's prediction), which holds the online critic
            near its past (DreamerV3, SafeDreamer).
    """

    head: HeadConfig = field(default_factory=HeadConfig)
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(3e-5, eps=1e-5))
    slow_rate: float = 0.02
    slow_every: int = 1
    slow_target: bool = False
    slow_regulariser: float = 1.0


class CriticBatch(NamedTuple):
    """What a critic learns from: features, targets and weights of n states, or weights of each of their C costs."""

    features: Float[Array, "n F"]
    targets: Float[Array, "n *C"]
    weights: Float[Array, "n *weighted"]

    @classmethod
    def flat(cls, features: Array, targets: Array, weights: Array) -> CriticBatch:
        """Of states with two leading axes."""
        return cls(*(x.reshape(-1, *x.shape[2:]) for x in (features, targets, weights)))


def together(imagined: CriticBatch, replayed: CriticBatch | None) -> CriticBatch:
    """A critic's loss is a mean over its batch: the weights make it mean(imagined) + mean(replayed)."""
    if replayed is None:
        return imagined
    weights = replayed.weights.reshape(-1, *(1,) * (imagined.weights.ndim - 1))
    replayed = replayed._replace(weights=jnp.broadcast_to(weights, (len(weights), *imagined.weights.shape[1:])))
    total = len(imagined.weights) + len(replayed.weights)
    even = [part._replace(weights=part.weights * (total / len(part.weights))) for part in (imagined, replayed)]
    return CriticBatch(*(jnp.concatenate(parts) for parts in zip(*even, strict=True)))


class Critic(eqx.Module):
    """Expected discounted sums of rewards (shape ``()``) or of C costs (shape ``(C,)``)."""

    online: Optimised[Head]
    slow: Head
    config: CriticConfig = eqx.field(static=True)
    updates: Int[Array, ""] | None = None

    @classmethod
    def init(cls, in_size: int, shape: tuple[int, ...], config: CriticConfig, *, key: Key) -> Critic:
        """A fresh critic whose slow copy equals it."""
        head = Head(in_size, shape, config.head, key=key)
        updates = jnp.zeros((), jnp.int32) if config.slow_every > 1 else None
        return cls(Optimised.init(head, config.optimiser), head, config, updates)

    def values(self, features: Float[Array, "*batch F"]) -> Float[Array, "*batch *shape"]:
        """Values from which targets bootstrap."""
        return (self.slow if self.config.slow_target else self.online.module).predict(features)

    def update(
        self,
        batch: CriticBatch,
        *,
        name: str,
        rate: Float[Array, ""] | None = None,
    ) -> tuple[Critic, Metrics]:
        """One step of weighted maximum likelihood on the targets (SafeDreamer eq. 8).

        Args:
            rate: factor on the learning rate.
        """
        features, targets, weights = jax.lax.stop_gradient(batch)
        slow = self.slow.predict(features)

        def loss_of(head: Head) -> tuple[Array, Array]:
            distribution = head(features)
            loss = -distribution.log_prob(targets) - self.config.slow_regulariser * distribution.log_prob(slow)
            # A critic of C costs has one more axis than the states, and may have one more than the weights.
            loss = loss * weights.reshape(*weights.shape, *(1,) * (loss.ndim - weights.ndim))
            return loss.sum() / len(features), head.predict(features)

        (loss, values), gradient = eqx.filter_value_and_grad(loss_of, has_aux=True)(self.online.module)
        online, metrics = self.online.descend(gradient, name, rate)
        updates, share = self.updates, self.config.slow_rate
        if updates is not None:
            updates = updates + 1
            share = jnp.where(updates % self.config.slow_every == 0, share, 0.0)
        slow_copy = jax.tree.map(
            lambda s, o: (1 - share) * s + share * o if eqx.is_inexact_array(s) else s, self.slow, online.module
        )
        metrics |= {f"{name}/loss": loss, f"{name}/value": values.mean(), f"{name}/target": jnp.mean(targets)}
        return Critic(online, slow_copy, self.config, updates), metrics
