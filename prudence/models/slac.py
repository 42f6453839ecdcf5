"""The latent variable model of SLAC (Lee et al. 2020) and Safe-SLAC (Hogewind et al. 2022).

A state has two latents. The first one has what an observation adds, and the second one what is known of the past.
Both are random. No policy is trained in its imagination: its states are what a model-free agent learns from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from prudence.models.base import SequenceModel
from prudence.models.codec import Decoder, Encoder
from prudence.models.heads import Head, HeadConfig
from prudence.models.latent_model import weighted_means
from prudence.models.pictures import Patches
from prudence.nets import MLP, Activation, Dense, NormKind
from prudence.ops.distributions import Normal, kl_divergence
from prudence.ops.normalise import symlog
from prudence.ranges import Depth, Deviation, NonNegative, Size
from prudence.types import Batch, Key, Metrics, Observation, Spaces


def _cost() -> HeadConfig:
    return HeadConfig("bernoulli", layers=2, units=256, out_scale=1.0, norm="none", activation="elu")


@dataclass(frozen=True)
class SlacConfig:
    """Sizes and losses of the model. Defaults are those of Safe-SLAC's released code.

    Attributes:
        z1: size of the first latent.
        z2: size of the second latent.
        layers, units: depth and width of the networks of latents and of the reward's.
        features: size of an encoded observation.
        min_std: lower bound of the standard deviation of latents and of the reward.
        image_std: standard deviation of pictures in [0, 1].
        vector_std: standard deviation of vectors in symlog space, of which the paper has none.
        cost: the network for the probability that a step costs anything.
        cost_scale: weight of the costs' loss.
        unsafe_weight: factor on the costs' loss where the real cost is positive.
        mlp_layers, mlp_units, cnn_depth, patches, norm, activation: encoder and decoder, as in
            :class:`~prudence.models.config.WorldModelConfig`.
    """

    z1: Size = 32
    z2: Size = 200
    layers: Depth = 2
    units: Size = 256
    features: Size = 200
    min_std: Deviation = 1e-5
    image_std: Deviation = 0.4**0.5
    vector_std: Deviation = 0.1
    cost: HeadConfig = field(default_factory=_cost)
    cost_scale: NonNegative = 30.0
    unsafe_weight: NonNegative = 100.0
    mlp_layers: Depth = 2
    mlp_units: Size = 256
    cnn_depth: Size = 32
    patches: Patches | None = None
    norm: NormKind = "none"
    activation: Activation = "elu"

    @property
    def state_size(self) -> int:
        """F, length of :attr:`SlacState.features`."""
        return self.z1 + self.z2


class SlacState(NamedTuple):
    """The latents of a step: ``z1 [..., Z1]`` and ``z2 [..., Z2]``."""

    z1: Float[Array, "... Z1"]
    z2: Float[Array, "... Z2"]

    @property
    def features(self) -> Float[Array, "... F"]:
        return jnp.concatenate(self, -1)


class SlacFiltered(NamedTuple):
    """Filtered sequences: states ``[B, T, ...]``, and the posterior and prior of z1 at each step."""

    states: SlacState
    posterior: Normal
    prior: Normal


class Conditional(eqx.Module):
    """A diagonal Gaussian that depends on several inputs. Its standard deviation is softplus(x) + ``min_std``."""

    net: MLP
    min_std: float = eqx.field(static=True)

    def __init__(self, in_size: int, out_size: int, config: SlacConfig, *, key: Key):
        c = config
        self.net = MLP(in_size, c.units, c.layers, 2 * out_size, norm=c.norm, activation=c.activation, key=key)
        self.min_std = c.min_std

    def __call__(self, *inputs: Float[Array, "*batch _"]) -> Normal:
        mean, std = jnp.split(self.net(jnp.concatenate(inputs, -1)), 2, -1)
        return Normal(mean, jax.nn.softplus(std) + self.min_std)


def _where(flag: Bool[Array, "*batch"], one: Normal, other: Normal) -> Normal:
    return jax.tree.map(lambda a, b: jnp.where(flag[..., None], a, b), one, other)


class Slac(SequenceModel):
    r"""SLAC's model with the rewards and costs of Safe-SLAC.

    .. math::
        z^1_t &\sim q(z^1 | x_t, z^2_{t-1}, a_{t-1}), \quad \hat z^1_t \sim p(z^1 | z^2_{t-1}, a_{t-1}) \\
        z^2_t &\sim p(z^2 | z^1_t, z^2_{t-1}, a_{t-1})

    The first step has networks of its own, :math:`q(z^1|x)` and :math:`p(z^2|z^1)`, and the prior N(0, 1). The second
    latent's posterior is its prior, so only the first one has a KL divergence.
    """

    encoder: Encoder
    embed: Dense
    first_posterior: Conditional
    posterior: Conditional
    prior: Conditional
    first_second: Conditional
    second: Conditional
    decoder: Decoder
    reward: Conditional
    cost: Head
    config: SlacConfig = eqx.field(static=True)

    def __init__(self, spaces: Spaces, config: SlacConfig, *, key: Key):
        """A fresh model of the observations that the actor may see. Consumes ``key``.

        Raises:
            ValueError: pictures are not square, or their side is not 2^n pixels.
        """
        c, actions, seen = config, spaces.action.size, dict(spaces.unprivileged)
        keys = iter(jax.random.split(key, 10))
        self.encoder = Encoder(seen, c, key=next(keys))
        self.embed = Dense(self.encoder.out_size, c.features, norm=c.norm, activation=c.activation, key=next(keys))
        self.first_posterior = Conditional(c.features, c.z1, c, key=next(keys))
        self.posterior = Conditional(c.features + c.z2 + actions, c.z1, c, key=next(keys))
        self.prior = Conditional(c.z2 + actions, c.z1, c, key=next(keys))
        self.first_second = Conditional(c.z1, c.z2, c, key=next(keys))
        self.second = Conditional(c.z1 + c.z2 + actions, c.z2, c, key=next(keys))
        self.decoder = Decoder(c.state_size, seen, c, key=next(keys))
        pair = 2 * c.state_size + actions
        self.reward = Conditional(pair, 1, c, key=next(keys))
        self.cost = Head(pair, (spaces.num_costs,), c.cost, key=next(keys))
        self.config = c

    def initial(self, *batch: int) -> SlacState:
        """The state before an episode, with the given batch axes. The first step does not depend on it."""
        return SlacState(jnp.zeros((*batch, self.config.z1)), jnp.zeros((*batch, self.config.z2)))

    def noise(self, *batch: int, key: Key) -> SlacState:
        """Draws noise for the samples of both latents, with the given batch axes. Consumes ``key``."""
        noise = Normal.noise(key, (*batch, self.config.state_size))
        return SlacState(noise[..., : self.config.z1], noise[..., self.config.z1 :])

    # --- one step ---------------------------------------------------------------------------------

    def observe_step(
        self,
        state: SlacState,
        prev_action: Float[Array, "*batch A"],
        features: Float[Array, "*batch G"],
        is_first: Bool[Array, "*batch"],
        noise: SlacState,
    ) -> tuple[SlacState, Normal]:
        """One step with an encoded observation. Returns the state and the posterior of its z1.

        Where ``is_first``, nothing is taken from ``state`` and ``prev_action``.
        """
        later = self.posterior(features, state.z2, prev_action)
        posterior = _where(is_first, self.first_posterior(features), later)
        z1 = posterior.sample(noise.z1)
        second = _where(is_first, self.first_second(z1), self.second(z1, state.z2, prev_action))
        return SlacState(z1, second.sample(noise.z2)), posterior

    def imagine_step(self, state: SlacState, action: Float[Array, "*batch A"], noise: SlacState) -> SlacState:
        """One step without an observation."""
        z1 = self.prior(state.z2, action).sample(noise.z1)
        return SlacState(z1, self.second(z1, state.z2, action).sample(noise.z2))

    def filter_step(
        self,
        state: SlacState,
        prev_action: Float[Array, "E A"],
        observation: Observation,
        is_first: Bool[Array, " E"],
        *,
        key: Key | None,
    ) -> SlacState:
        noise = self.initial(len(is_first)) if key is None else self.noise(len(is_first), key=key)
        return self.observe_step(state, prev_action, self._encode(observation), is_first, noise)[0]

    def _encode(self, observation: Observation) -> Float[Array, "*batch G"]:
        return self.embed(self.encoder({name: observation[name] for name in self.encoder.keys}))

    # --- sequences --------------------------------------------------------------------------------

    def observe(self, batch: Batch, *, key: Key) -> SlacFiltered:
        """Filters ``[B, T]`` sequences. Each begins as an episode does, since what came before is unknown."""
        is_first, actions = _starts(batch), jnp.asarray(batch.prev_action)

        def step(state: SlacState, inputs: tuple) -> tuple[SlacState, tuple[SlacState, Normal]]:
            state, posterior = self.observe_step(state, *inputs)
            return state, (state, posterior)

        rows = (actions, self._encode(batch.observation), is_first)
        inputs = (*(jnp.swapaxes(x, 0, 1) for x in rows), self.noise(*is_first.shape[::-1], key=key))
        _, outputs = jax.lax.scan(step, self.initial(len(is_first)), inputs)
        states, posterior = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), outputs)
        # The prior needs only states that are known by now, so it leaves the sequential loop.
        prior = self.prior(self._before(states).z2, actions)
        first = Normal(jnp.zeros_like(prior.mean), jnp.ones_like(prior.std))
        return SlacFiltered(states, posterior, _where(is_first, first, prior))

    def _before(self, states: SlacState) -> SlacState:
        """The states before ``[B, T]`` states. Before a sequence that is :meth:`initial`."""
        start = self.initial(len(states.z1), 1)
        return jax.tree.map(lambda first, rest: jnp.concatenate([first, rest[:, :-1]], 1), start, states)

    def _pairs(self, states: SlacState, batch: Batch) -> Float[Array, "B T _"]:
        """What reward and costs are predicted from: the state before, the action, the state."""
        actions = jnp.asarray(batch.prev_action)
        return jnp.concatenate([self._before(states).features, actions, states.features], -1)

    def open_loop(self, batch: Batch, context: int, *, key: Key) -> dict[str, Array]:
        observe_key, imagine_key = jax.random.split(key)
        past = self.observe(jax.tree.map(lambda x: x[:, :context], batch), key=observe_key).states
        actions = jnp.swapaxes(jnp.asarray(batch.prev_action)[:, context:], 0, 1)

        def step(state: SlacState, inputs: tuple) -> tuple[SlacState, SlacState]:
            state = self.imagine_step(state, *inputs)
            return state, state

        last = jax.tree.map(lambda x: x[:, -1], past)
        _, future = jax.lax.scan(step, last, (actions, self.noise(*actions.shape[:2], key=imagine_key)))
        states = jax.tree.map(lambda a, b: jnp.concatenate([a, jnp.swapaxes(b, 0, 1)], 1), past, future)
        pairs = self._pairs(states, batch)
        heads = {"reward": self.reward(pairs).mean[..., 0], "cost": self.cost.predict(pairs)}
        return self.decoder(states.features) | heads

    # --- learning ---------------------------------------------------------------------------------

    def loss(self, batch: Batch, *, key: Key) -> tuple[Float[Array, ""], tuple[SlacFiltered, Metrics]]:
        """The negative evidence lower bound (Lee et al. 2020), with costs that are weighted (Hogewind et al. 2022).

        Observations, rewards and costs have negative log-likelihoods, up to constants. The KL divergence of z1 is not
        balanced and has no free nats. Every loss is ``[B, T]`` until this method averages it.
        """
        filtered = self.observe(batch, key=key)
        losses = self._reconstruction_losses(filtered.states.features, batch.observation)
        losses |= self._pair_losses(self._pairs(filtered.states, batch), batch)
        losses["dynamics"] = kl_divergence(filtered.posterior, filtered.prior)
        total, metrics = weighted_means(losses, dict.fromkeys(losses, 1.0) | {"cost": self.config.cost_scale})
        metrics |= {
            "model/posterior_entropy": filtered.posterior.entropy().mean(),
            "model/prior_entropy": filtered.prior.entropy().mean(),
        }
        return total, (filtered, metrics)

    def _reconstruction_losses(
        self, features: Float[Array, "B T F"], seen: Observation
    ) -> dict[str, Float[Array, "B T"]]:
        c, decoder = self.config, self.decoder
        losses = {name: image.error(features, seen[name]) / c.image_std**2 for name, image in decoder.images.items()}
        for name, mean in decoder.flat_vectors(features).items():
            target = symlog(jnp.asarray(seen[name]).reshape(mean.shape))
            losses[name] = jnp.square(mean - target).sum(-1) / c.vector_std**2
        return {f"reconstruct_{name}": loss / 2 for name, loss in losses.items()}

    def _pair_losses(self, pairs: Float[Array, "B T _"], batch: Batch) -> dict[str, Float[Array, "B T"]]:
        """Negative log-likelihoods of rewards and costs. They are 0 at the first step of an episode or sequence."""
        reward, cost = jnp.asarray(batch.reward), jnp.asarray(batch.cost)
        unsafe = jnp.where(cost > 0, self.config.unsafe_weight, 1.0)
        losses = {
            "reward": -self.reward(pairs).log_prob(reward[..., None]),
            "cost": (unsafe * self.cost.negative_log_likelihood(pairs, cost)).sum(-1),
        }
        return {name: jnp.where(_starts(batch), 0.0, loss) for name, loss in losses.items()}


def _starts(batch: Batch) -> Bool[Array, "B T"]:
    """Where ``[B, T]`` sequences begin to be filtered anew: at their own first step, and at episodes'."""
    return jnp.asarray(batch.is_first).at[:, 0].set(True)
