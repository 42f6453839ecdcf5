"""Value functions with slow copies, for rewards and for costs."""

from __future__ import annotations

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.models.world_model import Head, HeadConfig
from prudence.optim import Optimised, OptimiserConfig
from prudence.types import Key, Metrics


@dataclass(frozen=True)
class CriticConfig:
    """A critic and its slow copy.

    Attributes:
        slow_rate: share of the online weights that enters the slow copy each step.
        slow_target: bootstrap targets from the slow copy (LAMBDA) rather than from the online critic.
        slow_regulariser: weight of −log p(slow copy's prediction), which holds the online critic
            near its past (DreamerV3, SafeDreamer).
    """

    head: HeadConfig = field(default_factory=HeadConfig)
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(3e-5, eps=1e-5))
    slow_rate: float = 0.02
    slow_target: bool = False
    slow_regulariser: float = 1.0


class Critic(eqx.Module):
    """Expected discounted sums of rewards (shape ``()``) or of C costs (shape ``(C,)``)."""

    online: Optimised[Head]
    slow: Head
    config: CriticConfig = eqx.field(static=True)

    @classmethod
    def init(cls, in_size: int, shape: tuple[int, ...], config: CriticConfig, *, key: Key) -> Critic:
        """A fresh critic whose slow copy equals it."""
        head = Head(in_size, shape, config.head, key=key)
        return cls(Optimised.init(head, config.optimiser), head, config)

    def values(self, features: Float[Array, "*batch F"]) -> Float[Array, "*batch *shape"]:
        """Values from which targets bootstrap."""
        return (self.slow if self.config.slow_target else self.online.module).predict(features)

    def update(
        self,
        features: Float[Array, "*batch F"],
        targets: Float[Array, "*batch *shape"],
        weights: Float[Array, "*batch"],
        *,
        name: str,
    ) -> tuple[Critic, Metrics]:
        """One step of weighted maximum likelihood on ``targets`` (SafeDreamer eq. 8)."""
        features, targets, weights = jax.lax.stop_gradient((features, targets, weights))
        slow = self.slow.predict(features)

        def loss_of(head: Head) -> tuple[Array, Array]:
            distribution = head(features)
            loss = -distribution.log_prob(targets) - self.config.slow_regulariser * distribution.log_prob(slow)
            # A critic of C costs has one more axis than the weights: sum over the constraints.
            loss = loss.reshape(*weights.shape, -1).sum(-1)
            return (weights * loss).mean(), head.predict(features)

        (loss, values), gradient = eqx.filter_value_and_grad(loss_of, has_aux=True)(self.online.module)
        online, metrics = self.online.descend(gradient, name)
        rate = self.config.slow_rate
        slow_copy = jax.tree.map(
            lambda s, o: (1 - rate) * s + rate * o if eqx.is_inexact_array(s) else s, self.slow, online.module
        )
        metrics |= {f"{name}/loss": loss, f"{name}/value": values.mean(), f"{name}/target": jnp.mean(targets)}
        return Critic(online, slow_copy, self.config), metrics
