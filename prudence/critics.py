"""Critics: value functions of rewards or costs, with slow copies (target networks)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from prudence.models.heads import Head, HeadConfig
from prudence.optim import Optimised, OptimiserConfig
from prudence.ranges import Count, NonNegative, Share
from prudence.types import Key, Metrics


@dataclass(frozen=True)
class CriticConfig:
    """Network, optimiser and slow copy of a critic.

    Attributes:
        slow_rate: share of the online weights that each update mixes into the slow copy.
        slow_every: gradient steps between two updates of the slow copy. LAMBDA copies all weights (``slow_rate`` 1)
            every 100 steps.
        slow_target: bootstraps targets from the slow copy (LAMBDA) and not from the online critic.
        slow_regulariser: weight of the loss −log p(prediction of the slow copy). It keeps the online critic near the
            slow copy (DreamerV3, SafeDreamer).
    """

    head: HeadConfig = field(default_factory=HeadConfig)
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(3e-5, eps=1e-5))
    slow_rate: Share = 0.02
    slow_every: Count = 1
    slow_target: bool = False
    slow_regulariser: NonNegative = 1.0


class CriticBatch(NamedTuple):
    """Training data of a critic: features, targets and weights of n states.

    Attributes:
        features: ``[n, F]``.
        targets: ``[n]`` for rewards, ``[n, C]`` for costs.
        weights: ``[n]``, or ``[n, C]`` if each cost has its own weight.
    """

    features: Float[Array, "n F"]
    targets: Float[Array, "n *C"]
    weights: Float[Array, "n *weighted"]

    @classmethod
    def flat(cls, features: Array, targets: Array, weights: Array) -> CriticBatch:
        """Builds a batch from states with two leading axes, which it joins."""
        return cls(*(x.reshape(-1, *x.shape[2:]) for x in (features, targets, weights)))


def together(imagined: CriticBatch, replayed: CriticBatch | None) -> CriticBatch:
    """Joins imagined and replayed states in one batch, whose loss is mean(imagined) + mean(replayed).

    A critic's loss is a mean over its batch, so the weights are scaled to give this sum.
    """
    if replayed is None:
        return imagined
    weighted = max((imagined.weights, replayed.weights), key=lambda weights: weights.ndim)
    total = len(imagined.weights) + len(replayed.weights)

    def even(part: CriticBatch) -> CriticBatch:
        """The part with scaled weights. If one part has a weight for each cost, so does the other."""
        weights = part.weights.reshape(*part.weights.shape, *(1,) * (weighted.ndim - part.weights.ndim))
        weights = jnp.broadcast_to(weights, (len(weights), *weighted.shape[1:]))
        return part._replace(weights=weights * (total / len(weights)))

    return CriticBatch(*(jnp.concatenate(parts) for parts in zip(even(imagined), even(replayed), strict=True)))


class Critic(eqx.Module):
    """Value function: the expected discounted sum of rewards (shape ``()``) or of C costs (shape ``(C,)``)."""

    online: Optimised[Head]
    slow: Head
    config: CriticConfig = eqx.field(static=True)
    updates: Int[Array, ""] | None = None

    @classmethod
    def init(cls, in_size: int, shape: tuple[int, ...], config: CriticConfig, *, key: Key) -> Critic:
        """A fresh critic. Its slow copy has the same weights."""
        head = Head(in_size, shape, config.head, key=key)
        updates = jnp.zeros((), jnp.int32) if config.slow_every > 1 else None
        return cls(Optimised.init(head, config.optimiser), head, config, updates)

    def values(self, features: Float[Array, "*batch F"]) -> Float[Array, "*batch *shape"]:
        """The values from which targets bootstrap."""
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
            name: group of the metrics.
            rate: factor on the learning rate; None is 1.
        """
        features, targets, weights = jax.lax.stop_gradient(batch)
        near = self.config.slow_regulariser
        slow = self.slow.predict(features) if near else None

        def loss_of(head: Head) -> tuple[Array, Array]:
            distribution = head(features)
            loss = -distribution.log_prob(targets)
            if slow is not None:
                loss = loss - near * distribution.log_prob(slow)
            # The loss of a critic of C costs has one axis more than the states, and maybe one more than the weights.
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


def join(features: Float[Array, "*batch F"], actions: Float[Array, "*batch A"]) -> Float[Array, "*batch F+A"]:
    """What a critic of actions sees."""
    return jnp.concatenate([features, actions.astype(features.dtype)], -1)


class ActionCritics(eqx.Module):
    """Q: critics of a state and an action, from different initial weights (twin critics: Fujimoto et al. 2018).

    ``members`` has the critics, stacked on a leading axis N.
    """

    members: Critic

    @classmethod
    def init(
        cls, in_size: int, action_size: int, shape: tuple[int, ...], config: CriticConfig, *, number: int, key: Key
    ) -> ActionCritics:
        """Fresh critics of features ``[in_size]`` and actions ``[action_size]``."""
        make = lambda key: Critic.init(in_size + action_size, shape, config, key=key)
        return cls(eqx.filter_vmap(make)(jax.random.split(key, number)))

    def slow_values(
        self, features: Float[Array, "*batch F"], actions: Float[Array, "*batch A"]
    ) -> Float[Array, "N *batch *shape"]:
        """The values of the slow copies. Callers take the minimum of rewards' and the maximum of costs' values."""
        return _predict_each(self.members.slow, features, actions)

    def values(
        self, features: Float[Array, "*batch F"], actions: Float[Array, "*batch A"]
    ) -> Float[Array, "N *batch *shape"]:
        """The values of the critics that learn, for acting."""
        return _predict_each(self.members.online.module, features, actions)

    def update(
        self, batch: CriticBatch, *, name: str, rate: Float[Array, ""] | None = None
    ) -> tuple[ActionCritics, Metrics]:
        """One step of each critic (:meth:`Critic.update`). ``batch.features`` has features and actions ``[n, F+A]``."""
        members, metrics = eqx.filter_vmap(lambda critic: critic.update(batch, name=name, rate=rate))(self.members)
        return ActionCritics(members), {name: value.mean() for name, value in metrics.items()}


def _predict_each(heads: Head, features: Array, actions: Array) -> Array:
    """The predictions of N heads, stacked on a leading axis."""
    return eqx.filter_vmap(lambda head: head.predict(join(features, actions)))(heads)
