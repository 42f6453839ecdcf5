"""An ensemble of predictions on one model's latent states."""

from __future__ import annotations

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from prudence.models.posterior import ModelPosterior
from prudence.models.world_model import Filtered, Predictor, WorldModel
from prudence.optim import Optimised, OptimiserConfig
from prudence.types import Batch, Key, Metrics


@dataclass(frozen=True)
class Ensemble(ModelPosterior):
    """N priors with heads for reward, costs and continuation, each from initial weights of its own.

    They learn what the model's own do, on the states that it infers: its memory (the recurrent cell), encoder and
    decoder are shared, so that one actor and one critic serve all of them. Unlike SWAG's samples they differ from the
    start, most where there is no data (Lakshminarayanan et al. 2017; ActSafe's posterior). Where data are few they
    differ only if each learns from a sample of its own (``share``): else all of them learn the same few by heart.

    Attributes:
        samples: N.
        optimiser: of the members.
        share: of the recorded steps, drawn for each member by itself, from which it learns (the bootstrap of Osband et
            al. 2016, Appendix D); 1: all.
    """

    samples: int = 5
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(1e-3, clip=1000.0))
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"samples={self.samples}: an ensemble has at least 2 members")
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share} of the steps is what a member learns from: above 0, and 1 at most")
        if self.optimiser.kind != "adam":
            raise ValueError("the members are trained as one stack, whose units laprop's clipping would mix: use adam")

    def init(self, model: WorldModel, *, key: Key) -> Optimised[Predictor]:
        """All members, stacked."""
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
            one = lambda member, weights: self._on_memory_of(model, member).prediction_loss(filtered, batch, weights)
            return eqx.filter_vmap(one)(members, weights).sum()

        total, gradient = eqx.filter_value_and_grad(loss)(state.module)
        state, metrics = state.descend(gradient, "posterior")
        return state, metrics | {"posterior/loss": total / self.samples}

    def sample(self, state: Optimised[Predictor], model: WorldModel, *, key: Key) -> Predictor:
        own, members = model.predictor, state.module
        repeat = lambda x: jnp.broadcast_to(x, (self.samples, *x.shape)) if eqx.is_array(x) else x
        shared = jax.tree.map(repeat, (own.input, own.cell))
        return members._replace(input=shared[0], cell=shared[1])

    def _on_memory_of(self, model: WorldModel, member: Predictor) -> WorldModel:
        own = model.predictor
        return model.with_predictor(member._replace(input=own.input, cell=own.cell))


def bootstrap_weights(batch: Batch, members: int, share: float) -> Float[Array, "N B T"]:
    """What each step counts for each of N ``members``: 1/p with probability p = ``share``, else 0 (Bernoulli masks of
    Osband et al. 2016; for p = 1/2 the double-or-nothing bootstrap).

    They depend on the step and on the member alone, and so are the same in every batch: a member never sees the
    steps that it leaves out. Steps that were recorded alike, bit for bit, count alike.
    """
    if share == 1:
        return jnp.ones((members, *batch.reward.shape))
    digests = step_digests(batch)
    draw = lambda digest: jax.random.bernoulli(jax.random.fold_in(jax.random.key(0), digest), share, (members,))
    drawn = jax.vmap(draw)(digests.reshape(-1)).reshape(*digests.shape, members)
    return jnp.moveaxis(drawn, -1, 0) / share


def step_digests(batch: Batch) -> UInt32[Array, "B T"]:
    """A number for each step, from the bits of its observation, action, reward and costs (multilinear hashing)."""
    recorded = [*batch.observation.values(), batch.prev_action, batch.reward, batch.cost]
    words = jnp.concatenate([_words(x).reshape(*batch.reward.shape, -1) for x in recorded], -1)
    factors = jax.random.bits(jax.random.key(0), words.shape[-1:], jnp.uint32)
    return (words * factors).sum(-1, dtype=jnp.uint32)


def _words(x: Array | np.ndarray) -> UInt32[Array, "*shape"]:
    """Bytes as they are; of other numbers the bits, the upper ones, in which round numbers differ, among the lower
    ones as well: a product keeps nothing of the upper bits above the 32nd."""
    if x.dtype == jnp.uint8:
        return jnp.asarray(x).astype(jnp.uint32)
    bits = jax.lax.bitcast_convert_type(jnp.asarray(x, jnp.float32), jnp.uint32)
    return bits ^ (bits >> 16)
