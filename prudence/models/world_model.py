"""A world model: encoder, dynamics, decoder, and heads for reward, costs and continuation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from prudence.models.rssm import RSSM, LatentState, RSSMConfig
from prudence.nets import MLP, Activation, ConvDecoder, ConvEncoder, Dense, GRUCell, NormKind, Style
from prudence.ops.distributions import Bernoulli, Latent, SymlogMSE, TwoHot, UnitNormal, kl_divergence
from prudence.ops.losses import balanced_kl
from prudence.ops.normalise import symlog
from prudence.types import Batch, Key, Metrics, Observation, ObservationSpec, Spaces, Trajectory

HeadKind = Literal["twohot", "symexp_twohot", "symlog_mse", "normal", "bernoulli"]


@dataclass(frozen=True)
class HeadConfig:
    """A head that maps features to a distribution over one number.

    Attributes:
        kind: ``twohot`` (bins uniform in symlog space, 2023 release), ``symexp_twohot`` (current
            generation), ``symlog_mse``, ``normal`` (of variance 1; LAMBDA), or ``bernoulli`` (the probability that
            the target is > 0; its mean times ``bernoulli_scale`` is the prediction, LAMBDA).
        limit: outermost bin in symlog space.
        out_scale: variance of the last layer's initial weights; 0 starts at the constant 0.
    """

    kind: HeadKind = "twohot"
    layers: int = 2
    units: int = 512
    bins: int = 255
    limit: float = 20.0
    out_scale: float = 0.0
    bernoulli_scale: float = 1.0
    norm: NormKind = "layer"
    activation: Activation = "silu"


class Head(eqx.Module):
    """Features ``[F]`` to distributions over ``shape`` numbers (``()`` or ``(C,)``)."""

    net: MLP
    shape: tuple[int, ...] = eqx.field(static=True)
    config: HeadConfig = eqx.field(static=True)

    def __init__(self, in_size: int, shape: tuple[int, ...], config: HeadConfig, *, key: Key):
        c = config
        numbers = 1 if not shape else shape[0]
        out_size = numbers * (c.bins if "twohot" in c.kind else 1)
        style: Style = {"norm": c.norm, "activation": c.activation}
        self.net = MLP(in_size, c.units, c.layers, out_size, **style, out_scale=c.out_scale, key=key)
        self.shape = shape
        self.config = config

    def __call__(self, features: Float[Array, "*batch F"]) -> TwoHot | SymlogMSE | UnitNormal | Bernoulli:
        """A distribution whose ``mean`` and ``log_prob`` have shape ``[*batch, *shape]``."""
        c = self.config
        out = self.net(features)
        if "twohot" in c.kind:
            return TwoHot(out.reshape(*out.shape[:-1], *self.shape, c.bins), c.limit, c.kind == "symexp_twohot")
        out = out.reshape(*out.shape[:-1], *self.shape)
        return {"bernoulli": Bernoulli, "normal": UnitNormal, "symlog_mse": SymlogMSE}[c.kind](out)

    def predict(self, features: Float[Array, "*batch F"]) -> Float[Array, "*batch *shape"]:
        """The expected number."""
        mean = self(features).mean
        return mean * self.config.bernoulli_scale if self.config.kind == "bernoulli" else mean

    def negative_log_likelihood(
        self, features: Float[Array, "*batch F"], target: Float[Array, "*batch *shape"]
    ) -> Float[Array, "*batch *shape"]:
        """Elementwise over ``shape``; a Bernoulli head's target is whether the number is positive."""
        if self.config.kind == "bernoulli":
            target = (target > 0).astype(jnp.float32)
        return -self(features).log_prob(target)


@dataclass(frozen=True)
class LossScales:
    """Weights of the world model's losses (DreamerV3's defaults; 2023 release: dynamics .5)."""

    image: float = 1.0
    vector: float = 1.0
    reward: float = 1.0
    cost: float = 1.0
    continue_: float = 1.0
    dynamics: float = 0.5
    representation: float = 0.1


@dataclass(frozen=True)
class WorldModelConfig:
    """Sizes and losses of a world model.

    Attributes:
        encoder_keys: observations that the encoder sees; None means all that are not privileged.
        decoder_keys: observations that are reconstructed; None means those that the encoder sees.
        heads_see: what reward, costs and continuation are predicted from: ``features``, (h_t, z_t), as in the papers,
            or ``deter``, h_t alone: what could be foreseen before x_t. From features they may be read off what x_t
            gives away: that a reached goal has moved, as an imagined z_t hardly does (docs/algorithms/safedreamer.md).
        unsafe_weight: factor on the cost loss where the real cost is positive (SafeDreamer 10,
            LAMBDA 100): unsafe samples are rare.
        free_nats: free bits of the summed KL.
        free_nats_of: below which a latent ``state``'s KL counts for nothing (DreamerV3, SafeDreamer), or the KL's
            ``mean`` over the batch (Dreamer-V1, LAMBDA).
        vector_std: None gives vectors a likelihood of unit variance (the papers), so that ``scales.vector``
            alone says how exact they are to be. A number calibrates instead (Rybkin et al. 2021, optimal σ):
            each entry has the variance of its own error in the batch, with this standard deviation (in
            symlog space) as its floor. Noisy sensors then cost no capacity, and exact ones are predicted
            as exactly as the model can.
    """

    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    encoder_keys: tuple[str, ...] | None = None
    decoder_keys: tuple[str, ...] | None = None
    heads_see: Literal["features", "deter"] = "features"
    mlp_layers: int = 2
    mlp_units: int = 512
    cnn_depth: int = 32
    reward: HeadConfig = field(default_factory=HeadConfig)
    cost: HeadConfig = field(default_factory=lambda: HeadConfig(out_scale=1.0))
    continue_: HeadConfig = field(default_factory=lambda: HeadConfig(kind="bernoulli", out_scale=1.0))
    scales: LossScales = field(default_factory=LossScales)
    unsafe_weight: float = 10.0
    free_nats: float = 1.0
    free_nats_of: Literal["state", "mean"] = "state"
    vector_std: float | None = None
    norm: NormKind = "layer"
    activation: Activation = "silu"

    @property
    def head_size(self) -> int:
        """Length of what the heads for reward, costs and continuation see."""
        return self.rssm.feature_size if self.heads_see == "features" else self.rssm.deter


class Encoder(eqx.Module):
    """Dict of observations to one embedding: convolutions for images, one MLP for all vectors."""

    images: dict[str, ConvEncoder]
    vectors: MLP | None
    ranks: dict[str, int] = eqx.field(static=True)
    out_size: int = eqx.field(static=True)

    def __init__(self, specs: dict[str, ObservationSpec], config: WorldModelConfig, *, key: Key):
        c = config
        keys = iter(jax.random.split(key, len(specs) + 1))
        self.ranks = {k: len(specs[k].shape) for k in sorted(specs)}
        self.images = {
            k: ConvEncoder(specs[k].shape, c.cnn_depth, norm=c.norm, key=next(keys))
            for k in self.keys
            if specs[k].is_image
        }
        size = sum(math.prod(specs[k].shape) for k in self.keys if k not in self.images)
        style: Style = {"norm": c.norm, "activation": c.activation}
        self.vectors = MLP(size, c.mlp_units, c.mlp_layers, **style, key=next(keys)) if size else None
        self.out_size = sum(e.out_size for e in self.images.values()) + (c.mlp_units if size else 0)

    @property
    def keys(self) -> tuple[str, ...]:
        """The observations that are encoded."""
        return tuple(self.ranks)

    def __call__(self, observation: Observation) -> Float[Array, "*batch F"]:
        parts = [net(observation[k]) for k, net in self.images.items()]
        if self.vectors is not None:
            flat = [flatten(observation[k], self.ranks[k]) for k in self.keys if k not in self.images]
            x = symlog(jnp.concatenate(flat, -1).astype(jnp.float32))
            parts.append(self.vectors(x.astype(self.vectors.layers[0].linear.weight.dtype)))
        return jnp.concatenate(parts, -1)


def flatten(x: Array, rank: int) -> Array:
    """Joins the last ``rank`` axes into one (a new one if ``rank`` is 0)."""
    return x.reshape(*x.shape[: x.ndim - rank], -1)


class Decoder(eqx.Module):
    """Features to every observation's mean; the mirror of :class:`Encoder`."""

    images: dict[str, ConvDecoder]
    vectors: MLP | None
    sizes: tuple[tuple[str, int], ...] = eqx.field(static=True)

    def __init__(self, in_size: int, specs: dict[str, ObservationSpec], config: WorldModelConfig, *, key: Key):
        c = config
        keys = iter(jax.random.split(key, len(specs) + 1))
        names = sorted(specs)
        self.images = {
            k: ConvDecoder(in_size, specs[k].shape, c.cnn_depth, norm=c.norm, key=next(keys))
            for k in names
            if specs[k].is_image
        }
        self.sizes = tuple((k, math.prod(specs[k].shape)) for k in names if k not in self.images)
        size = sum(n for _, n in self.sizes)
        style: Style = {"norm": c.norm, "activation": c.activation}
        self.vectors = MLP(in_size, c.mlp_units, c.mlp_layers, size, **style, key=next(keys)) if size else None

    def __call__(self, features: Float[Array, "*batch F"]) -> dict[str, Array]:
        """Images in [0, 1] as ``[height, width, channels]``; vectors, flat, in symlog space. float32."""
        out: dict[str, Array] = {k: net(features).astype(jnp.float32) for k, net in self.images.items()}
        if self.vectors is not None:
            flat, start = self.vectors(features).astype(jnp.float32), 0
            for name, size in self.sizes:
                out[name] = flat[..., start : start + size]
                start += size
        return out


class Posterior(NamedTuple):
    """Filtered sequences: states ``[B, T, ...]`` and the posterior and prior latents at each step."""

    states: LatentState
    posterior: Latent
    prior: Latent


class Predictor(NamedTuple):
    """The parts of a world model that imagination uses."""

    input: Dense
    cell: GRUCell
    prior_net: MLP
    reward_head: Head
    cost_head: Head
    continue_head: Head


class WorldModel(eqx.Module):
    """Encoder, RSSM, decoder and heads (SafeDreamer section 3; LAMBDA section 4)."""

    encoder: Encoder
    rssm: RSSM
    decoder: Decoder
    reward_head: Head
    cost_head: Head
    continue_head: Head
    config: WorldModelConfig = eqx.field(static=True)

    def __init__(self, spaces: Spaces, config: WorldModelConfig, *, key: Key):
        if config.vector_std is not None and config.vector_std <= 0:
            raise ValueError(f"vector_std is {config.vector_std}: it must be positive, or None for a variance of one")
        k = jax.random.split(key, 6)
        specs = dict(spaces.observations)
        encoded = _select(specs, config.encoder_keys, list(spaces.unprivileged))
        decoded = _select(specs, config.decoder_keys, list(encoded))
        features = config.rssm.feature_size
        self.encoder = Encoder(encoded, config, key=k[0])
        self.rssm = RSSM(spaces.action.size, self.encoder.out_size, config.rssm, key=k[1])
        self.decoder = Decoder(features, decoded, config, key=k[2])
        self.reward_head = Head(config.head_size, (), config.reward, key=k[3])
        self.cost_head = Head(config.head_size, (spaces.num_costs,), config.cost, key=k[4])
        self.continue_head = Head(config.head_size, (), config.continue_, key=k[5])
        self.config = config

    @property
    def feature_size(self) -> int:
        return self.config.rssm.feature_size

    @property
    def predictor(self) -> Predictor:
        """What a posterior over models is about (prudence/models/posterior.py)."""
        r = self.rssm
        return Predictor(r.input, r.cell, r.prior_net, self.reward_head, self.cost_head, self.continue_head)

    def with_predictor(self, predictor: Predictor) -> WorldModel:
        """This model with other dynamics and heads."""
        return eqx.tree_at(lambda model: tuple(model.predictor), self, tuple(predictor))

    def fresh_predictor(self, *, key: Key) -> Predictor:
        """One of the same sizes with new weights."""
        k, c = jax.random.split(key, 4), self.config
        dynamics = RSSM(self.rssm.action_size, 1, c.rssm, key=k[0])
        return Predictor(
            dynamics.input,
            dynamics.cell,
            dynamics.prior_net,
            Head(c.head_size, self.reward_head.shape, c.reward, key=k[1]),
            Head(c.head_size, self.cost_head.shape, c.cost, key=k[2]),
            Head(c.head_size, self.continue_head.shape, c.continue_, key=k[3]),
        )

    def head_features(self, states: LatentState) -> Float[Array, "*batch G"]:
        """What of ``states`` the heads for reward, costs and continuation see: ``config.heads_see``."""
        return states.features if self.config.heads_see == "features" else states.deter

    def observe(self, batch: Batch, *, key: Key) -> Posterior:
        """Filters ``[B, T]`` sequences into posterior states."""
        embeds = self.encoder({k: batch.observation[k] for k in self.encoder.keys})
        return Posterior(
            *self.rssm.observe(jnp.asarray(batch.prev_action), embeds, jnp.asarray(batch.is_first), key=key)
        )

    def loss(self, batch: Batch, *, key: Key) -> tuple[Float[Array, ""], tuple[Posterior, Metrics]]:
        """The scaled sum of all losses, the filtered sequences and metrics.

        SafeDreamer eq. 3, LAMBDA eq. 5: negative log-likelihoods of observations, reward, costs and
        continuation, and the balanced KL. Every loss is ``[B, T]`` until it is averaged here.
        """
        filtered = self.observe(batch, key=key)
        losses = self._reconstruction_losses(filtered.states.features, batch)
        losses.update(self._head_losses(self.head_features(filtered.states), batch))
        sg = jax.lax.stop_gradient
        posterior, prior = filtered.posterior, filtered.prior
        kls = kl_divergence(sg(posterior), prior), kl_divergence(posterior, sg(prior))
        if self.config.free_nats_of == "mean":
            kls = kls[0].mean(), kls[1].mean()
        dynamics, representation = balanced_kl(*kls, self.config.free_nats)
        losses["dynamics"], losses["representation"] = dynamics, representation
        scales = self._scales(losses)
        assert set(losses) == set(scales)
        means = {name: loss.mean() for name, loss in losses.items()}
        total = sum((scales[name] * mean for name, mean in means.items()), start=jnp.zeros(()))
        metrics = {f"model/{name}": mean for name, mean in means.items()}
        metrics |= {
            "model/loss": total,
            "model/posterior_entropy": filtered.posterior.entropy().mean(),
            "model/prior_entropy": filtered.prior.entropy().mean(),
        }
        return total, (filtered, metrics)

    def prediction_loss(self, filtered: Posterior, batch: Batch) -> Float[Array, ""]:
        """The part of :meth:`loss` that teaches the prior and the heads, on states that another model inferred; all of
        the KL, without free nats."""
        losses = self._head_losses(self.head_features(filtered.states), batch)
        prior = self.rssm.latent(self.rssm.prior_net(filtered.states.deter))
        losses["dynamics"] = kl_divergence(filtered.posterior, prior)
        scales = self._scales(losses)
        return sum((scales[name] * loss.mean() for name, loss in losses.items()), start=jnp.zeros(()))

    def _reconstruction_losses(self, features: Array, batch: Batch) -> dict[str, Float[Array, "B T"]]:
        losses = {}
        for name, mean in self.decoder(features).items():
            target = batch.observation[name]
            if name in self.decoder.images:
                error = jnp.square(mean - target.astype(jnp.float32) / 255).sum((-3, -2, -1))
            else:
                error = self._vector_loss(mean - symlog(target.reshape(mean.shape))).sum(-1)
            losses[f"reconstruct_{name}"] = error
        return losses

    def _vector_loss(self, error: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        squared, floor = jnp.square(error), self.config.vector_std
        if floor is None:
            return squared
        variance = jax.lax.stop_gradient(squared.mean((0, 1))) + floor**2
        return 0.5 * (squared / variance + jnp.log(variance))

    def _head_losses(self, features: Array, batch: Batch) -> dict[str, Float[Array, "B T"]]:
        reward, cost, terminal = (jnp.asarray(x) for x in (batch.reward, batch.cost, batch.is_terminal))
        unsafe = jnp.where(cost > 0, self.config.unsafe_weight, 1.0)
        return {
            "reward": self.reward_head.negative_log_likelihood(features, reward),
            "cost": (unsafe * self.cost_head.negative_log_likelihood(features, cost)).sum(-1),
            "continue": self.continue_head.negative_log_likelihood(features, 1 - terminal.astype(jnp.float32)),
        }

    def _scales(self, losses: dict[str, Array]) -> dict[str, float]:
        s = self.config.scales
        fixed = {
            "reward": s.reward,
            "cost": s.cost,
            "continue": s.continue_,
            "dynamics": s.dynamics,
            "representation": s.representation,
        }
        images = {f"reconstruct_{k}": s.image for k in self.decoder.images}
        vectors = {f"reconstruct_{k}": s.vector for k, _ in self.decoder.sizes}
        return fixed | images | vectors

    def filter_step(
        self,
        state: LatentState,
        prev_action: Float[Array, "E A"],
        observation: Observation,
        is_first: Bool[Array, " E"],
        *,
        key: Key | None,
    ) -> LatentState:
        """One filtering step for E environments (acting); the posterior's mode if ``key`` is None."""
        embed = self.encoder({k: observation[k] for k in self.encoder.keys})
        noise = None if key is None else self.rssm.noise(len(is_first), key=key)
        return self.rssm.observe_step(state, prev_action, embed, is_first, noise)[0]

    def imagine(
        self,
        policy: Callable[[Float[Array, "B F"], Float[Array, "B A"]], Float[Array, "B A"]],
        start: LatentState,
        action_noise: Float[Array, "H B A"],
        *,
        key: Key,
        nudge: Float[Array, "H B A"] | None = None,
    ) -> Trajectory:
        """Rolls ``policy``, of features and noise, out for H steps from states ``[B, ...]``.

        ``nudge`` is added to the actions: a trajectory's derivative by a nudge of zeros is that by its
        actions, through the dynamics.
        """

        def step(state: LatentState, inputs: tuple) -> tuple[LatentState, tuple]:
            step_noise, latent_noise, offset = inputs
            actions = policy(state.features, step_noise)
            actions = actions if offset is None else actions + offset
            following = self.rssm.imagine_step(state, actions, latent_noise)
            return following, (following, actions)

        inputs = (action_noise, self.rssm.noise(*action_noise.shape[:2], key=key), nudge)
        _, (states, actions) = jax.lax.scan(step, start, inputs)
        states = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, states)
        features, seen = states.features, self.head_features(states)
        return Trajectory(
            actor_features=features,
            critic_features=features,
            actions=actions,
            rewards=self.reward_head.predict(seen),
            costs=self.cost_head.predict(seen),
            continues=jax.lax.stop_gradient(self.continue_head.predict(seen)),
        )

    def open_loop(self, batch: Batch, context: int, *, key: Key) -> dict[str, Array]:
        """Filters the first ``context`` steps and imagines the rest under the recorded actions.

        Returns, for ``[B, T]`` sequences, the predicted observations by name (images in [0, 1],
        vectors in symlog space), and ``reward [B, T]``, ``cost [B, T, C]``.
        """
        observe_key, imagine_key = jax.random.split(key)
        past = self.observe(jax.tree.map(lambda x: x[:, :context], batch), key=observe_key).states
        last = jax.tree.map(lambda x: x[:, -1], past)
        future = self.rssm.imagine(last, jnp.asarray(batch.prev_action[:, context:]), key=imagine_key)
        states = jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), past, future)
        seen = self.head_features(states)
        return self.decoder(states.features) | {
            "reward": self.reward_head.predict(seen),
            "cost": self.cost_head.predict(seen),
        }


def _select(specs: dict, names: tuple[str, ...] | None, default: list[str]) -> dict:
    chosen = default if names is None else list(names)
    missing = [n for n in chosen if n not in specs]
    if missing or not chosen:
        raise ValueError(f"observations {missing or 'to encode'} are missing: the environment offers {sorted(specs)}")
    return {n: specs[n] for n in chosen}
