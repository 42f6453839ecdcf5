"""The part of a world model that learns from observations alone: encoder, latent dynamics and decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from prudence.models.codec import Decoder, Encoder
from prudence.models.config import WorldModelConfig
from prudence.models.rssm import RSSM, LatentState
from prudence.ops.distributions import Latent, kl_divergence
from prudence.ops.losses import balanced_kl
from prudence.ops.normalise import symlog
from prudence.types import Batch, Key, Observation, ObservationSpec, Spaces

State = TypeVar("State")


class Filtered(NamedTuple):
    """Filtered sequences: states ``[B, T, ...]`` and the posterior and prior latents at each step."""

    states: LatentState
    posterior: Latent
    prior: Latent


class LatentModel(eqx.Module):
    """Encoder, RSSM and decoder."""

    encoder: Encoder
    rssm: RSSM
    decoder: Decoder
    config: WorldModelConfig = eqx.field(static=True)
    precise: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True, default=())

    @classmethod
    def init(cls, spaces: Spaces, config: WorldModelConfig, keys: Array) -> LatentModel:
        """A fresh model. Consumes three keys.

        Raises:
            ValueError: ``vector_std`` or ``precise_std`` is not usable, or ``spaces`` lacks an observation that
                ``config`` names.
        """
        if config.vector_std is not None and config.vector_std <= 0:
            raise ValueError(f"vector_std is {config.vector_std}: it must be positive, or None for a variance of one")
        if config.precise_std is not None and config.vector_std is None:
            raise ValueError("precise_std bounds a calibrated deviation: give vector_std, or leave precise_std out")
        specs = dict(spaces.observations)
        encoded = _select(specs, config.encoder_keys, list(spaces.unprivileged))
        decoded = _select(specs, config.decoder_keys, list(encoded))
        encoder = Encoder(encoded, config, key=keys[0])
        rssm = RSSM(spaces.action.size, encoder.out_size, config.rssm, key=keys[1])
        decoder = Decoder(config.rssm.feature_size, decoded, config, key=keys[2])
        return cls(encoder, rssm, decoder, config, spaces.precise)

    def seen_by_heads(self, states: LatentState) -> Float[Array, "*batch G"]:
        """The part of ``states`` that the heads for reward, costs and continuation see (``config.heads_see``)."""
        return states.features if self.config.heads_see == "features" else states.deter

    def observe(self, batch: Batch, *, key: Key) -> Filtered:
        """Filters ``[B, T]`` sequences into posterior states."""
        embeds = self.encoder({k: batch.observation[k] for k in self.encoder.keys})
        return Filtered(
            *self.rssm.observe(jnp.asarray(batch.prev_action), embeds, jnp.asarray(batch.is_first), key=key)
        )

    def filter_step(
        self,
        state: LatentState,
        prev_action: Float[Array, "E A"],
        observation: Observation,
        is_first: Bool[Array, " E"],
        *,
        key: Key | None,
    ) -> LatentState:
        """One filtering step for E environments, for acting. Takes the posterior's mode if ``key`` is None."""
        embed = self.encoder({k: observation[k] for k in self.encoder.keys})
        noise = None if key is None else self.rssm.noise(len(is_first), key=key)
        return self.rssm.observe_step(state, prev_action, embed, is_first, noise)[0]

    def open_loop(self, batch: Batch, context: int, *, key: Key) -> LatentState:
        """States of ``[B, T]`` sequences.

        The first ``context`` steps are filtered. The rest is imagined under the recorded actions.
        """
        observe_key, imagine_key = jax.random.split(key)
        past = self.observe(jax.tree.map(lambda x: x[:, :context], batch), key=observe_key).states
        last = jax.tree.map(lambda x: x[:, -1], past)
        future = self.rssm.imagine(last, jnp.asarray(batch.prev_action[:, context:]), key=imagine_key)
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), past, future)

    # --- losses -----------------------------------------------------------------------------------

    def reconstruction_losses(self, features: Float[Array, "B T F"], batch: Batch) -> dict[str, Float[Array, "B T"]]:
        """Negative log-likelihoods of the observations by name, up to constants."""
        seen, decoder = batch.observation, self.decoder
        losses = {name: image.error(features, seen[name]) for name, image in decoder.images.items()}
        for name, mean in decoder.flat_vectors(features).items():
            losses[name] = self._vector_loss(name, mean - symlog(seen[name].reshape(mean.shape))).sum(-1)
        return {f"reconstruct_{name}": loss for name, loss in losses.items()}

    def _vector_loss(self, name: str, error: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        squared, floor, precise = jnp.square(error), self.config.vector_std, self.config.precise_std
        if floor is None:
            return squared
        floors = jnp.full(error.shape[-1], floor)
        places = dict(self.precise).get(name, ())
        if places and precise is not None:
            floors = floors.at[jnp.array(places)].set(precise)
        variance = jax.lax.stop_gradient(squared.mean((0, 1))) + floors**2
        return 0.5 * (squared / variance + jnp.log(variance))

    def kl_losses(self, filtered: Filtered) -> dict[str, Float[Array, "*BT"]]:
        """The balanced KL: ``dynamics`` moves the prior, ``representation`` the posterior."""
        sg = jax.lax.stop_gradient
        posterior, prior = filtered.posterior, filtered.prior
        kls = kl_divergence(sg(posterior), prior), kl_divergence(posterior, sg(prior))
        if self.config.free_nats_of == "mean":
            kls = kls[0].mean(), kls[1].mean()
        dynamics, representation = balanced_kl(*kls, self.config.free_nats)
        return {"dynamics": dynamics, "representation": representation}

    @property
    def scales(self) -> dict[str, float]:
        """Weights of the reconstruction and KL losses, by name."""
        s = self.config.scales
        images = {f"reconstruct_{k}": s.image for k in self.decoder.images}
        vectors = {f"reconstruct_{k}": s.vector for k, _ in self.decoder.sizes}
        return {"dynamics": s.dynamics, "representation": s.representation} | images | vectors


def roll_out(
    step: Callable[[State, Array, Any], State],
    act: Callable[[State, Array], Array],
    start: State,
    action_noise: Float[Array, "H B A"],
    latent_noise: Any,
    nudge: Float[Array, "H B A"] | None,
) -> tuple[State, Float[Array, "H B A"]]:
    """Imagines H steps from states ``[B, ...]``.

    Args:
        step: maps a state, an action and latent noise to the next state.
        act: maps a state and noise to an action.
        latent_noise: ``[H, B, ...]``, a pytree of noise for ``step``.
        nudge: is added to the actions. The derivative of a trajectory with respect to a nudge of zeros is its
            derivative with respect to the actions, through the dynamics.

    Returns:
        The states ``[H+1, B, ...]``, from ``start`` on, and the actions.
    """

    def one(state: State, inputs: tuple) -> tuple[State, tuple]:
        action_noise, latent_noise, offset = inputs
        actions = act(state, action_noise)
        actions = actions if offset is None else actions + offset
        following = step(state, actions, latent_noise)
        return following, (following, actions)

    _, (states, actions) = jax.lax.scan(one, start, (action_noise, latent_noise, nudge))
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, states), actions


def weighted_means(losses: dict[str, Array], scales: dict[str, float]) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The weighted sum of the means of all losses, and the means as metrics ``model/<name>``."""
    assert set(losses) == set(scales)
    means = {name: loss.mean() for name, loss in losses.items()}
    total = sum((scales[name] * mean for name, mean in means.items()), start=jnp.zeros(()))
    return total, {f"model/{name}": mean for name, mean in means.items()} | {"model/loss": total}


def _select(
    specs: dict[str, ObservationSpec], names: tuple[str, ...] | None, default: list[str]
) -> dict[str, ObservationSpec]:
    chosen = default if names is None else list(names)
    missing = [n for n in chosen if n not in specs]
    if missing or not chosen:
        raise ValueError(f"observations {missing or 'to encode'} are missing: the environment offers {sorted(specs)}")
    return {n: specs[n] for n in chosen}
