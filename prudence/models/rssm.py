"""Recurrent state-space model (RSSM): a deterministic state and a stochastic latent, discrete or Gaussian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from prudence.nets import MLP, Activation, Dense, GRUCell, NormKind, Style
from prudence.ops.distributions import Latent, Normal, OneHot
from prudence.ranges import NonNegative, ShareBelowOne, Size
from prudence.types import Key


@dataclass(frozen=True)
class RSSMConfig:
    """Sizes and choices of the dynamics.

    Attributes:
        deter: D, size of the recurrent state.
        units: width of the input, prior and posterior layers.
        latent: ``discrete`` (S categorical variables of K classes; DreamerV2/3, SafeDreamer) or
            ``gaussian`` (S normal variables; Dreamer-V1, LAMBDA).
        stoch: S, number of stochastic latents.
        classes: K, classes of a discrete latent.
        unimix: share of the uniform distribution in discrete latents.
        min_std: lower bound of a Gaussian latent's standard deviation.
        blocks: number of blocks of the recurrent weights; 1 is dense.
    """

    deter: Size = 512
    units: Size = 512
    latent: Literal["discrete", "gaussian"] = "discrete"
    stoch: Size = 32
    classes: Size = 32
    unimix: ShareBelowOne = 0.01
    min_std: NonNegative = 0.1
    blocks: Size = 1
    norm: NormKind = "layer"
    activation: Activation = "silu"

    @property
    def stoch_size(self) -> int:
        """Length of the flattened stochastic part."""
        return self.stoch * self.classes if self.latent == "discrete" else self.stoch

    @property
    def feature_size(self) -> int:
        """Length of :attr:`LatentState.features`."""
        return self.deter + self.stoch_size


class LatentState(NamedTuple):
    """Latent state of the model: deterministic ``deter [..., D]`` and flattened stochastic ``stoch [..., S*K]``."""

    deter: Float[Array, "... D"]
    stoch: Float[Array, "... SK"]

    @property
    def features(self) -> Float[Array, "... F"]:
        return jnp.concatenate([self.deter, self.stoch], -1)


class RSSM(eqx.Module):
    r"""Recurrent state-space model (Hafner et al. 2019; SafeDreamer eq. 1; LAMBDA eq. 3).

    .. math::
        h_t = f(h_{t-1}, z_{t-1}, a_{t-1}),\quad z_t \sim q(z_t | h_t, x_t),\quad \hat z_t \sim p(\hat z_t | h_t)
    """

    input: Dense
    cell: GRUCell
    prior_net: MLP
    posterior_net: MLP
    config: RSSMConfig = eqx.field(static=True)

    def __init__(self, action_size: int, embed_size: int, config: RSSMConfig, *, key: Key):
        c = config
        keys = jax.random.split(key, 4)
        latent_size = c.stoch_size if c.latent == "discrete" else 2 * c.stoch
        style: Style = {"norm": c.norm, "activation": c.activation}
        self.input = Dense(c.stoch_size + action_size, c.units, **style, key=keys[0])
        self.cell = GRUCell(c.units, c.deter, blocks=c.blocks, norm=c.norm, key=keys[1])
        self.prior_net = MLP(c.deter, c.units, 1, latent_size, **style, key=keys[2])
        self.posterior_net = MLP(c.deter + embed_size, c.units, 1, latent_size, **style, key=keys[3])
        self.config = config

    @property
    def action_size(self) -> int:
        """A, size of an action."""
        return self.input.linear.weight.shape[0] - self.config.stoch_size

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of computations. It is the dtype of the parameters."""
        return self.input.linear.weight.dtype

    def initial(self, *batch: int) -> LatentState:
        """The state before an episode: zeros, with the given batch axes."""
        c = self.config
        return LatentState(jnp.zeros((*batch, c.deter), self.dtype), jnp.zeros((*batch, c.stoch_size), self.dtype))

    def latent(self, params: Float[Array, "*batch P"]) -> Latent:
        """The float32 distribution whose parameters are the output of a prior or posterior network."""
        c = self.config
        params = params.astype(jnp.float32)
        if c.latent == "discrete":
            return OneHot.create(params.reshape(*params.shape[:-1], c.stoch, c.classes), c.unimix)
        mean, std = jnp.split(params, 2, -1)
        return Normal(mean, jax.nn.softplus(std) + c.min_std)

    def log_prior(self, prior_net: MLP, state: LatentState) -> Float[Array, "*batch"]:
        """log p(z | h) of latent states, under a prior network that may be another model's."""
        prior = self.latent(prior_net(state.deter))
        return prior.log_prob(state.stoch.astype(jnp.float32).reshape(prior.mode().shape))

    def noise(self, *batch: int, key: Key) -> Float[Array, "*batch SK"]:
        """Draws noise for samples of latents, with the given batch axes, flattened like ``stoch``. Consumes ``key``."""
        draw = OneHot.noise if self.config.latent == "discrete" else Normal.noise
        return draw(key, (*batch, self.config.stoch_size))

    def _sample(self, latent: Latent, noise: Float[Array, "*batch SK"] | None) -> Float[Array, "*batch SK"]:
        shape = latent.mode().shape
        value = latent.mode() if noise is None else latent.sample(noise.reshape(shape))
        return value.reshape(*shape[: -2 if self.config.latent == "discrete" else -1], -1).astype(self.dtype)

    def advance(self, state: LatentState, action: Float[Array, "*batch A"]) -> Float[Array, "*batch D"]:
        """The next deterministic state."""
        return self.cell(self.input(jnp.concatenate([state.stoch, action.astype(self.dtype)], -1)), state.deter)

    def imagine_step(
        self, state: LatentState, action: Float[Array, "*batch A"], noise: Float[Array, "*batch SK"] | None
    ) -> LatentState:
        """One step without an observation. Takes the prior's mode if ``noise`` is None."""
        deter = self.advance(state, action)
        return LatentState(deter, self._sample(self.latent(self.prior_net(deter)), noise))

    def observe_step(
        self,
        state: LatentState,
        prev_action: Float[Array, "*batch A"],
        embed: Float[Array, "*batch F"],
        is_first: Bool[Array, "*batch"],
        noise: Float[Array, "*batch SK"] | None,
    ) -> tuple[LatentState, Float[Array, "*batch P"]]:
        """One step with an observation. Returns the posterior state and the output of the posterior network.

        ``is_first`` resets state and action to zero before the step. ``noise`` of None takes the posterior's mode.
        """
        keep = 1 - is_first.astype(self.dtype)[..., None]
        deter = self.advance(LatentState(state.deter * keep, state.stoch * keep), prev_action * keep)
        params = self.posterior_net(jnp.concatenate([deter, embed], -1))
        return LatentState(deter, self._sample(self.latent(params), noise)), params

    def observe(
        self,
        prev_actions: Float[Array, "B T A"],
        embeds: Float[Array, "B T F"],
        is_first: Bool[Array, "B T"],
        *,
        key: Key,
    ) -> tuple[LatentState, Latent, Latent]:
        """Filters sequences. Returns posterior states ``[B, T, ...]``, posteriors and priors.

        Every sequence begins from the initial state, even if its first step is not ``is_first``. The state before the
        sequence is unknown, so the model treats the sequence as the start of an episode.
        """
        is_first = is_first.at[:, 0].set(True)

        def step(state: LatentState, inputs: tuple) -> tuple[LatentState, tuple]:
            state, params = self.observe_step(state, *inputs)
            return state, (state, params)

        time_major = [jnp.swapaxes(x, 0, 1) for x in (prev_actions, embeds, is_first)]
        inputs = (*time_major, self.noise(*is_first.shape[::-1], key=key))
        _, outputs = jax.lax.scan(step, self.initial(len(is_first)), inputs)
        states, params = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), outputs)
        # The prior needs only the deterministic states, so it leaves the sequential loop.
        return states, self.latent(params), self.latent(self.prior_net(states.deter))

    def imagine(self, start: LatentState, actions: Float[Array, "B T A"], *, key: Key) -> LatentState:
        """Imagines the given actions without observations. Returns the states after them, ``[B, T, ...]``."""

        def step(state: LatentState, inputs: tuple) -> tuple[LatentState, LatentState]:
            state = self.imagine_step(state, *inputs)
            return state, state

        inputs = (jnp.swapaxes(actions, 0, 1), self.noise(actions.shape[1], len(actions), key=key))
        return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), jax.lax.scan(step, start, inputs)[1])
