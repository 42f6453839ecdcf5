"""Ensembles of predictors on the latent states of one world model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from prudence.models.posterior import ModelPosterior
from prudence.models.rssm import LatentState
from prudence.models.world_model import Filtered, Predictor, WorldModel
from prudence.optim import Optimised, OptimiserConfig
from prudence.ranges import ShareAboveZero, between
from prudence.types import Batch, Key, Metrics


@dataclass(frozen=True)
class Ensemble(ModelPosterior):
    """An ensemble of N members. A member is a prior with heads for reward, costs and continuation.

    Each member has its own initial weights. It learns the same as the model's own prior and heads, on the states that
    the model infers. The members share the model's recurrent cell, encoder and decoder, so that one actor and one
    critic serve all of them. Unlike SWAG's samples, the members differ from the start, and most where there is no data
    (Lakshminarayanan et al. 2017; ActSafe's posterior). With little data they differ only if each member learns from
    its own sample of the data (``share``). Otherwise all members memorise the same data.

    Attributes:
        samples: N, number of members.
        optimiser: optimiser of the members.
        share: share of the recorded steps from which a member learns. The steps are drawn separately for each member
            (the bootstrap of Osband et al. 2016, Appendix D). 1 means all steps.

    Raises:
        ValueError: there are fewer than 2 members, ``share`` is not in (0, 1], or the optimiser is not ``adam``.
    """

    samples: Annotated[int, between(2, 1_000)] = 5
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(1e-3, clip=1000.0))
    share: ShareAboveZero = 1.0

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"samples={self.samples}: an ensemble has at least 2 members")
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share} of the steps for each member must be above 0 and at most 1")
        if self.optimiser.kind != "adam":
            raise ValueError("the members are stacked, and laprop's clipping by unit would mix them: use adam")

    def init(self, model: WorldModel, *, key: Key) -> Optimised[Predictor]:
        """Fresh members, stacked on a leading axis ``[N, ...]``."""
        members = eqx.filter_vmap(lambda key: model.fresh_predictor(key=key))(jax.random.split(key, self.samples))
        return Optimised.init(members, self.optimiser)

    def update(
        self,
        state: Optimised[Predictor],
        model: WorldModel,
        filtered: Filtered,
        batch: Batch,
        step: Int[Array, ""],
        *,
        key: Key,
    ) -> tuple[Optimised[Predictor], Metrics]:
        filtered = jax.lax.stop_gradient(filtered)
        weights = bootstrap_weights(batch, self.samples, self.share)

        def loss(members: Predictor) -> Float[Array, ""]:
            def member_loss(member: Predictor, weights: Array) -> Array:
                return self._on_memory_of(model, member).prediction_loss(filtered, batch, weights)

            return eqx.filter_vmap(member_loss)(members, weights).sum()

        total, gradient = eqx.filter_value_and_grad(loss)(state.module)
        state, metrics = state.descend(gradient, "posterior")
        return state, metrics | {"posterior/loss": total / self.samples}

    def sample(self, state: Optimised[Predictor], model: WorldModel, *, key: Key) -> Predictor:
        own, members = model.predictor, state.module

        def repeat(x: Any) -> Any:
            """Stacks ``samples`` copies of an array."""
            return jnp.broadcast_to(x, (self.samples, *x.shape)) if eqx.is_array(x) else x

        shared = jax.tree.map(repeat, (own.input, own.cell))
        return members._replace(input=shared[0], cell=shared[1])

    def disagreement(
        self, state: Optimised[Predictor], model: WorldModel, features: Float[Array, "*batch F"]
    ) -> Float[Array, "*batch"]:
        """The standard deviation over the members of log p(z | h), at states with these features.

        It is large where no data said what follows (LOMPO: Rafailov et al. 2021, equation 6).
        """
        latent = LatentState(*jnp.split(features, [model.config.rssm.deter], -1))
        return eqx.filter_vmap(lambda net: model.rssm.log_prior(net, latent))(state.module.prior_net).std(0)

    def _on_memory_of(self, model: WorldModel, member: Predictor) -> WorldModel:
        """The model that predicts by ``member`` and keeps its own recurrent cell."""
        own = model.predictor
        return model.with_predictor(member._replace(input=own.input, cell=own.cell))


def bootstrap_weights(batch: Batch, members: int, share: float) -> Float[Array, "N B T"]:
    """Weight of each step for each of N ``members``: 1/p with probability p = ``share``, else 0.

    These are the Bernoulli masks of Osband et al. 2016; p = 1/2 is the double-or-nothing bootstrap. A weight depends
    only on the recorded step and on the member. It is therefore the same in every batch, and a member never learns from
    a step that its sample leaves out. Steps with equal records, bit for bit, have equal weights.
    """
    if share == 1:
        return jnp.ones((members, *batch.reward.shape))
    digests = step_digests(batch)

    def draw(digest: Array) -> Array:
        return jax.random.bernoulli(jax.random.fold_in(jax.random.key(0), digest), share, (members,))

    drawn = jax.vmap(draw)(digests.reshape(-1)).reshape(*digests.shape, members)
    return jnp.moveaxis(drawn, -1, 0) / share


def step_digests(batch: Batch) -> UInt32[Array, "B T"]:
    """Hash of each step, from the bits of its observation, action, reward and costs (multilinear hashing)."""
    recorded = [*batch.observation.values(), batch.prev_action, batch.reward, batch.cost]
    words = jnp.concatenate([_words(x).reshape(*batch.reward.shape, -1) for x in recorded], -1)
    factors = jax.random.bits(jax.random.key(0), words.shape[-1:], jnp.uint32)
    return (words * factors).sum(-1, dtype=jnp.uint32)


def _words(x: Array | np.ndarray) -> UInt32[Array, "*shape"]:
    """Numbers as 32-bit words for hashing.

    Bytes keep their value. Other numbers become their float32 bits, with the upper bits mixed into the lower bits.
    Round numbers differ only in the upper bits, and a 32-bit product would drop most of these.
    """
    if x.dtype == jnp.uint8:
        return jnp.asarray(x).astype(jnp.uint32)
    bits = jax.lax.bitcast_convert_type(jnp.asarray(x, jnp.float32), jnp.uint32)
    return bits ^ (bits >> 16)
