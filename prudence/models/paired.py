"""Paired world models: one of the observations that a robot has, one of those that only training has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from prudence.models.base import AbstractWorldModel
from prudence.models.config import PrivilegedConfig, WorldModelConfig
from prudence.models.heads import Heads
from prudence.models.latent_model import Filtered, LatentModel, roll_out, weighted_means
from prudence.models.rssm import LatentState
from prudence.types import Batch, Key, Metrics, Observation, Spaces, Trajectory


class PairedState(NamedTuple):
    """Latent states of both halves: s^o and s^p."""

    observation: LatentState
    privileged: LatentState


class PairedPosterior(NamedTuple):
    """The same sequences, filtered by both halves."""

    observation: Filtered
    privileged: Filtered

    @property
    def states(self) -> PairedState:
        return PairedState(self.observation.states, self.privileged.states)


class PairedModel(AbstractWorldModel):
    r"""An observation model and a privileged model under the same actions (the AsymDreamer paper, section 5).

    .. math::
        s^o_t &= (h^o_t, z^o_t),\quad z^o_t \sim q(z | h^o_t, o_t) \\
        s^p_t &= (h^p_t, z^p_t),\quad z^p_t \sim q(z | h^p_t, p_t)

    Each half has its own encoder, dynamics and decoder. The heads predict reward, costs and continuation from
    :math:`[s^o, s^p]`. In training they see :math:`[sg(s^o), s^p]`, so that their gradient does not reach the
    observation model (eq. 10). The actor sees only states of the observation model, so acting needs no privileged
    observation.
    """

    observation: LatentModel
    privileged: LatentModel
    heads: Heads
    critics_see: Literal["union", "privileged"] = eqx.field(static=True)

    def __init__(self, spaces: Spaces, config: WorldModelConfig, privileged: PrivilegedConfig, *, key: Key):
        keys = jax.random.split(key, 9)
        other = replace(
            config,
            rssm=privileged.rssm,
            mlp_layers=privileged.mlp_layers,
            mlp_units=privileged.mlp_units,
            encoder_keys=spaces.privileged,
            decoder_keys=spaces.privileged,
        )
        self.observation = LatentModel.init(spaces, config, keys[:3])
        self.privileged = LatentModel.init(spaces, other, keys[3:6])
        self.heads = Heads.init(config.head_size + other.head_size, spaces.num_costs, config.heads, keys[6:])
        self.critics_see = privileged.critics_see

    @property
    def actor_size(self) -> int:
        return self.observation.config.rssm.feature_size

    @property
    def critic_size(self) -> int:
        own = self.privileged.config.rssm.feature_size
        return own if self.critics_see == "privileged" else self.actor_size + own

    def critic_features(self, states: PairedState) -> Float[Array, "*batch G"]:
        own = states.privileged.features
        return own if self.critics_see == "privileged" else jnp.concatenate([states.observation.features, own], -1)

    def seen_by_heads(self, states: PairedState) -> Float[Array, "*batch G"]:
        """[s^o, s^p], or only the deterministic parts of both (``WorldModelConfig.heads_see``)."""
        seen = self.observation.seen_by_heads(states.observation), self.privileged.seen_by_heads(states.privileged)
        return jnp.concatenate(seen, -1)

    def observe(self, batch: Batch, *, key: Key) -> PairedPosterior:
        """Filters ``[B, T]`` sequences into posterior states of both halves."""
        keys = jax.random.split(key)
        return PairedPosterior(
            self.observation.observe(batch, key=keys[0]), self.privileged.observe(batch, key=keys[1])
        )

    def loss(self, batch: Batch, *, key: Key) -> tuple[Float[Array, ""], tuple[PairedPosterior, Metrics]]:
        """The loss of both halves and the heads (eqs. 9 and 10).

        Each half has reconstruction losses and a balanced KL. The heads have likelihoods, whose gradient does not reach
        the observation model. Losses of the privileged half are called ``privileged_<name>``.
        """
        filtered = self.observe(batch, key=key)
        config, states = self.observation.config, filtered.states
        blind = states._replace(observation=jax.lax.stop_gradient(states.observation))
        losses = self.heads.losses(self.seen_by_heads(blind), batch, config.unsafe_weight)
        scales, metrics = config.scales.of_heads, {}
        for prefix, half, seen in (
            ("", self.observation, filtered.observation),
            ("privileged_", self.privileged, filtered.privileged),
        ):
            own = half.reconstruction_losses(seen.states.features, batch) | half.kl_losses(seen)
            losses |= {f"{prefix}{name}": loss for name, loss in own.items()}
            scales |= {f"{prefix}{name}": scale for name, scale in half.scales.items()}
            metrics[f"model/{prefix}posterior_entropy"] = seen.posterior.entropy().mean()
            metrics[f"model/{prefix}prior_entropy"] = seen.prior.entropy().mean()
        total, means = weighted_means(losses, scales)
        return total, (filtered, metrics | means)

    def filter_step(
        self,
        state: LatentState,
        prev_action: Float[Array, "E A"],
        observation: Observation,
        is_first: Bool[Array, " E"],
        *,
        key: Key | None,
    ) -> LatentState:
        return self.observation.filter_step(state, prev_action, observation, is_first, key=key)

    def imagine(
        self,
        policy: Callable[[Float[Array, "B F"], Float[Array, "B A"]], Float[Array, "B A"]],
        start: PairedState,
        action_noise: Float[Array, "H B A"],
        *,
        key: Key,
        nudge: Float[Array, "H B A"] | None = None,
    ) -> Trajectory:
        """Synchronous imagination (section 5.2).

        The policy chooses each action from s^o, and both halves take it. The derivative with respect to ``nudge`` goes
        through both halves.
        """
        halves, keys = (self.observation.rssm, self.privileged.rssm), jax.random.split(key)
        noise = tuple(rssm.noise(*action_noise.shape[:2], key=k) for rssm, k in zip(halves, keys, strict=True))

        def step(state: PairedState, actions: Array, noise: tuple[Array, Array]) -> PairedState:
            parts = zip(halves, state, noise, strict=True)
            return PairedState(*(rssm.imagine_step(own, actions, n) for rssm, own, n in parts))

        def act(state: PairedState, noise: Array) -> Array:
            return policy(state.observation.features, noise)

        states, actions = roll_out(step, act, start, action_noise, noise, nudge)
        actor_features, critic_features = states.observation.features, self.critic_features(states)
        return self.heads.trajectory(self.seen_by_heads(states), actor_features, critic_features, actions, states)

    def open_loop(self, batch: Batch, context: int, *, key: Key) -> dict[str, Array]:
        """As :meth:`AbstractWorldModel.open_loop`, with the observations of both halves."""
        keys = jax.random.split(key)
        observation = self.observation.open_loop(batch, context, key=keys[0])
        privileged = self.privileged.open_loop(batch, context, key=keys[1])
        decoded = self.observation.decoder(observation.features) | self.privileged.decoder(privileged.features)
        return decoded | self.heads.predict(self.seen_by_heads(PairedState(observation, privileged)))
