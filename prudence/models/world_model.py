"""The symmetric world model: encoder, dynamics, decoder, and heads for reward, costs and continuation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from prudence.models.base import AbstractWorldModel
from prudence.models.codec import Decoder, Encoder
from prudence.models.config import LossScales, PrivilegedConfig, WorldModelConfig
from prudence.models.heads import Head, HeadConfig, Heads
from prudence.models.latent_model import Filtered, LatentModel, roll_out, weighted_means
from prudence.models.rssm import RSSM, LatentState
from prudence.nets import MLP, Dense, GRUCell
from prudence.ops.distributions import kl_divergence
from prudence.types import Batch, Key, Metrics, Observation, Spaces, Trajectory

__all__ = [
    "Filtered",
    "Head",
    "HeadConfig",
    "LossScales",
    "Predictor",
    "PrivilegedConfig",
    "WorldModel",
    "WorldModelConfig",
]


class Predictor(NamedTuple):
    """The parts of a world model that imagination uses."""

    input: Dense
    cell: GRUCell
    prior_net: MLP
    reward_head: Head
    cost_head: Head
    continue_head: Head


class WorldModel(AbstractWorldModel):
    """Encoder, RSSM, decoder and heads (SafeDreamer section 3; LAMBDA section 4).

    Actor and critics see the same features.
    """

    encoder: Encoder
    rssm: RSSM
    decoder: Decoder
    reward_head: Head
    cost_head: Head
    continue_head: Head
    config: WorldModelConfig = eqx.field(static=True)
    precise: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)

    def __init__(self, spaces: Spaces, config: WorldModelConfig, *, key: Key):
        keys = jax.random.split(key, 6)
        latents = LatentModel.init(spaces, config, keys[:3])
        self.encoder, self.rssm, self.decoder = latents.encoder, latents.rssm, latents.decoder
        heads = Heads.init(config.head_size, spaces.num_costs, config.heads, keys[3:])
        self.reward_head, self.cost_head, self.continue_head = heads
        self.config, self.precise = config, latents.precise

    @property
    def latents(self) -> LatentModel:
        """The part that learns from observations alone."""
        return LatentModel(self.encoder, self.rssm, self.decoder, self.config, self.precise)

    @property
    def heads(self) -> Heads:
        return Heads(self.reward_head, self.cost_head, self.continue_head)

    @property
    def feature_size(self) -> int:
        return self.config.rssm.feature_size

    @property
    def actor_size(self) -> int:
        return self.feature_size

    @property
    def critic_size(self) -> int:
        return self.feature_size

    def critic_features(self, states: LatentState) -> Float[Array, "*batch F"]:
        return states.features

    @property
    def predictor(self) -> Predictor:
        """The part over which model posteriors are defined (prudence/models/posterior.py)."""
        r = self.rssm
        return Predictor(r.input, r.cell, r.prior_net, *self.heads)

    def with_predictor(self, predictor: Predictor) -> WorldModel:
        """This model with the dynamics and heads of ``predictor``."""
        return eqx.tree_at(lambda model: tuple(model.predictor), self, tuple(predictor))

    def fresh_predictor(self, *, key: Key) -> Predictor:
        """A predictor of the same sizes with new weights. Consumes ``key``."""
        keys, c = jax.random.split(key, 4), self.config
        dynamics = RSSM(self.rssm.action_size, 1, c.rssm, key=keys[0])
        heads = Heads.init(c.head_size, self.cost_head.shape[0], c.heads, keys[1:])
        return Predictor(dynamics.input, dynamics.cell, dynamics.prior_net, *heads)

    def observe(self, batch: Batch, *, key: Key) -> Filtered:
        """Filters ``[B, T]`` sequences into posterior states."""
        return self.latents.observe(batch, key=key)

    def loss(self, batch: Batch, *, key: Key) -> tuple[Float[Array, ""], tuple[Filtered, Metrics]]:
        """The weighted sum of all losses, the filtered sequences and metrics (SafeDreamer eq. 3, LAMBDA eq. 5).

        The losses are negative log-likelihoods of observations, reward, costs and continuation, and the balanced KL.
        Every loss is ``[B, T]`` until this method averages it.
        """
        latents = self.latents
        filtered = latents.observe(batch, key=key)
        losses = latents.reconstruction_losses(filtered.states.features, batch)
        losses |= self._head_losses(filtered, batch) | latents.kl_losses(filtered)
        total, metrics = weighted_means(losses, self._scales)
        metrics |= {
            "model/posterior_entropy": filtered.posterior.entropy().mean(),
            "model/prior_entropy": filtered.prior.entropy().mean(),
        }
        return total, (filtered, metrics)

    def prediction_loss(
        self, filtered: Filtered, batch: Batch, weights: Float[Array, "B T"] | float = 1.0
    ) -> Float[Array, ""]:
        """The part of :meth:`loss` that trains the prior and the heads, on states that another model inferred.

        It contains the full KL, without free nats. ``weights`` are the weights of the steps.
        """
        losses = self._head_losses(filtered, batch)
        prior = self.rssm.latent(self.rssm.prior_net(filtered.states.deter))
        losses["dynamics"] = kl_divergence(filtered.posterior, prior)
        scales = self._scales
        return sum((scales[name] * (weights * loss).mean() for name, loss in losses.items()), start=jnp.zeros(()))

    def _head_losses(self, filtered: Filtered, batch: Batch) -> dict[str, Float[Array, "B T"]]:
        return self.heads.losses(self.latents.seen_by_heads(filtered.states), batch, self.config.unsafe_weight)

    @property
    def _scales(self) -> dict[str, float]:
        return self.latents.scales | self.config.scales.of_heads

    def filter_step(
        self,
        state: LatentState,
        prev_action: Float[Array, "E A"],
        observation: Observation,
        is_first: Bool[Array, " E"],
        *,
        key: Key | None,
    ) -> LatentState:
        return self.latents.filter_step(state, prev_action, observation, is_first, key=key)

    def imagine(
        self,
        policy: Callable[[Float[Array, "B F"], Float[Array, "B A"]], Float[Array, "B A"]],
        start: LatentState,
        action_noise: Float[Array, "H B A"],
        *,
        key: Key,
        nudge: Float[Array, "H B A"] | None = None,
        alike: int = 1,
    ) -> Trajectory:
        """As :meth:`AbstractWorldModel.imagine`. ``alike`` consecutive columns share their latent noise."""

        def act(state: LatentState, noise: Array) -> Array:
            return policy(state.features, noise)

        length, columns = action_noise.shape[:2]
        noise = jnp.repeat(self.rssm.noise(length, columns // alike, key=key), alike, axis=1)
        states, actions = roll_out(self.rssm.imagine_step, act, start, action_noise, noise, nudge)
        features = states.features
        return self.heads.trajectory(self.latents.seen_by_heads(states), features, features, actions, states)

    def open_loop(self, batch: Batch, context: int, *, key: Key) -> dict[str, Array]:
        states = self.latents.open_loop(batch, context, key=key)
        return self.decoder(states.features) | self.heads.predict(self.latents.seen_by_heads(states))


def symmetric(model: AbstractWorldModel) -> WorldModel:
    """Returns ``model`` as a :class:`WorldModel`. Planners and posteriors need one.

    Raises:
        TypeError: ``model`` is not a :class:`WorldModel`.
    """
    if not isinstance(model, WorldModel):
        raise TypeError(f"planning and uncertainty need a WorldModel, but this is a {type(model).__name__}")
    return model
