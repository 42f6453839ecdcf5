"""Soft actor-critic on the states of a latent variable model, which learns beside it (Lee et al. 2020).

An update takes a gradient step of the model (:mod:`prudence.models.slac`). Then :class:`~prudence.cores.sac.SAC` takes
one on the states that the model inferred, as if they were observations.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from prudence.actors import ActorConfig
from prudence.budgets import Budget
from prudence.constraints import AugmentedLagrangian, DualAscent, PIDLagrangian, SoftplusAscent
from prudence.cores import model_learning
from prudence.cores.base import Agent, Mode, compiled, gradient_steps
from prudence.cores.sac import RUN_UPDATES, SAC, SACConfig, SACState, TemperatureConfig
from prudence.critics import CriticConfig
from prudence.models.slac import Slac, SlacConfig, SlacState
from prudence.optim import Optimised, OptimiserConfig
from prudence.ranges import Count, Natural, Share
from prudence.types import Batch, EpisodeSummary, Key, Metrics, Observation, ObservationSpec, Spaces

_LATENT = "latent"


@dataclass(frozen=True)
class LatentSACConfig:
    """The configuration of a soft actor-critic agent on latent states.

    Attributes:
        model: the latent variable model.
        model_optimiser: its optimiser.
        pretraining: gradient steps of the model alone, at first. Until they are made, the initial policy acts.
        pairs: number of last pairs of each sequence from which actor and critics learn. The first states of a sequence
            are inferred from few observations.
        constraint, actor, critic, cost_critic, actor_optimiser, temperature, discount, budget, evaluation: as in
            :class:`~prudence.cores.sac.SACConfig`. The budget's ``start`` counts from the end of ``pretraining``.
    """

    model: SlacConfig = field(default_factory=SlacConfig)
    model_optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(1e-4))
    pretraining: Natural = 30_000
    pairs: Count = 2
    constraint: DualAscent | AugmentedLagrangian | PIDLagrangian | SoftplusAscent = field(default_factory=DualAscent)
    actor: ActorConfig = field(default_factory=lambda: SACConfig().actor)
    critic: CriticConfig = field(default_factory=lambda: SACConfig().critic)
    cost_critic: CriticConfig = field(default_factory=lambda: SACConfig().cost_critic)
    actor_optimiser: OptimiserConfig = field(default_factory=lambda: SACConfig().actor_optimiser)
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)
    discount: Share = 0.99
    budget: Budget = field(default_factory=lambda: SACConfig().budget)
    evaluation: Literal["mode", "sample"] = "sample"

    @property
    def sac(self) -> SACConfig:
        """The agent that learns from the states."""
        return SACConfig(**{f.name: getattr(self, f.name) for f in dataclasses.fields(SACConfig)})

    def with_sac(self, config: SACConfig) -> LatentSACConfig:
        """This configuration with another agent that learns from the states."""
        return dataclasses.replace(self, **{f.name: getattr(config, f.name) for f in dataclasses.fields(SACConfig)})


class LatentSACState(eqx.Module):
    """The state of the agent. ``step`` is the number of gradient steps of the model."""

    world_model: Optimised[Slac]
    sac: SACState
    step: Int[Array, ""]


class LatentSACCarry(NamedTuple):
    """What acting remembers: the latents, and the last actions."""

    latent: SlacState
    prev_action: Float[Array, "E A"]


@dataclass(frozen=True)
class LatentSAC(Agent):
    """Soft actor-critic on latent states, with continuous actions.

    Attributes:
        spaces: the environment's spaces.
        config: the configuration.
        run_updates: number of gradient steps of the whole run.

    Raises:
        ValueError: the configuration does not suit the spaces.
    """

    spaces: Spaces
    config: LatentSACConfig
    run_updates: int = RUN_UPDATES

    def __post_init__(self) -> None:
        _ = self.sac  # It checks the spaces.

    @property
    def sac(self) -> SAC:
        """The agent that learns from the states. To it they are observations."""
        states = ((_LATENT, ObservationSpec((self.config.model.state_size,), "float32")),)
        spaces = dataclasses.replace(self.spaces, observation=states, privileged=(), precise=())
        return SAC(spaces, self.config.sac, max(1, self.run_updates - self.config.pretraining))

    @property
    def cost_limits(self) -> Float[Array, " C"]:
        """The budgets d."""
        return self.sac.cost_limits

    def init(self, *, key: Key) -> LatentSACState:
        model_key, sac_key = jax.random.split(key)
        model = Optimised.init(Slac(self.spaces, self.config.model, key=model_key), self.config.model_optimiser)
        return LatentSACState(model, self.sac.init(key=sac_key), jnp.zeros((), jnp.int32))

    # --- acting -------------------------------------------------------------------------------

    def init_carry(self, num_envs: int) -> LatentSACCarry:
        c = self.config.model
        latent = SlacState(jnp.zeros((num_envs, c.z1)), jnp.zeros((num_envs, c.z2)))
        return LatentSACCarry(latent, jnp.zeros((num_envs, self.spaces.action.size)))

    @compiled("self", "mode")
    def act(
        self,
        state: LatentSACState,
        carry: LatentSACCarry,
        observation: Observation,
        is_first: Bool[Array | np.ndarray, " E"],
        *,
        key: Key,
        mode: Mode,
    ) -> tuple[Float[Array, "E A"], LatentSACCarry, Metrics]:
        """Samples the latents, and then as :meth:`prudence.cores.sac.SAC.act`."""
        filter_key, action_key = jax.random.split(key)
        model, is_first = state.world_model.module, jnp.asarray(is_first)
        latent = model.filter_step(carry.latent, carry.prev_action, observation, is_first, key=filter_key)
        seen = {_LATENT: latent.features}
        action, _, metrics = self.sac.act(state.sac, (), seen, is_first, key=action_key, mode=mode)
        return action, LatentSACCarry(latent, action), metrics

    # --- learning -----------------------------------------------------------------------------

    @compiled("self")
    def update(self, state: LatentSACState, batches: Batch, *, key: Key) -> tuple[LatentSACState, Metrics]:
        """Takes U gradient steps of the model on ``[U, B, T, ...]``, and of SAC on the last pairs of its states.

        Raises:
            ValueError: T rows have fewer pairs than the agent learns from.
        """
        pairs, rows = self.config.pairs, batches.reward.shape[-1]
        if rows <= pairs:
            raise ValueError(
                f"pairs={pairs} pairs are of {pairs + 1} rows, but sequences have {rows}: give --loop.batch-length "
                f"{pairs + 1} or more, or fewer --agent.pairs"
            )
        return gradient_steps(lambda state, batch, key: self._update(state, batch, key=key), state, batches, key=key)

    def _update(self, state: LatentSACState, batch: Batch, *, key: Key) -> tuple[LatentSACState, Metrics]:
        """One gradient step of every network on ``[B, T]`` sequences."""
        model_key, sac_key = jax.random.split(key)
        model, filtered, metrics = model_learning.learn(state.world_model, batch, key=model_key)
        states = batch._replace(observation={_LATENT: filtered.states.features})
        last = jax.tree.map(lambda x: x[:, -self.config.pairs - 1 :], states)
        learned, more = self.sac.gradient_step(state.sac, last, key=sac_key)
        ready = state.step >= self.config.pretraining
        sac = jax.tree.map(lambda new, old: jnp.where(ready, new, old), learned, state.sac)
        return LatentSACState(model, sac, state.step + 1), metrics | more

    def on_episode(self, state: LatentSACState, summary: EpisodeSummary) -> LatentSACState:
        """As :meth:`SAC.on_episode`. The multiplier stays as it is during ``pretraining``."""
        moved = self.sac.on_episode(state.sac, summary)
        constraint = optax.tree.where(state.step >= self.config.pretraining, moved.constraint, state.sac.constraint)
        return LatentSACState(state.world_model, dataclasses.replace(moved, constraint=constraint), state.step)

    def model_losses(self, state: LatentSACState, batch: Batch, *, key: Key) -> Metrics:
        """As :meth:`prudence.cores.base.Modelling.model_losses`."""
        return model_learning.losses(state.world_model.module, batch, key=key)

    def report(
        self, state: Any, batch: Batch, *, key: Key, context: int = 25, samples: int = 1
    ) -> dict[str, np.ndarray]:
        """As :func:`prudence.cores.model_learning.report`."""
        return model_learning.report(state.world_model.module, batch, key=key, context=context, samples=samples)
