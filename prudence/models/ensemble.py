"""An ensemble of predictions on one model's latent states."""

from __future__ import annotations

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from prudence.models.posterior import ModelPosterior
from prudence.models.world_model import Posterior, Predictor, WorldModel
from prudence.optim import Optimised, OptimiserConfig
from prudence.types import Batch, Key, Metrics


@dataclass(frozen=True)
class Ensemble(ModelPosterior):
    """N priors with heads for reward, costs and continuation, each from initial weights of its own.

    They learn what the model's own do, on the states that it infers: its memory (the recurrent cell), encoder and
    decoder are shared, so that one actor and one critic serve all of them. Unlike SWAG's samples they differ from the
    start, most where there is no data (Lakshminarayanan et al. 2017; ActSafe's posterior).

    Attributes:
        samples: N.
        optimiser: of the members.
    """

    samples: int = 5
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(1e-3, clip=1000.0))

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"samples={self.samples}: an ensemble has at least 2 members")
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
        filtered: Posterior,
        batch: Batch,
        step: Int[Array, ""],
        *,
        key: Key,
    ) -> tuple[Optimised[Predictor], Metrics]:
        filtered = jax.lax.stop_gradient(filtered)

        def loss(members: Predictor) -> Float[Array, ""]:
            one = lambda member: self._on_memory_of(model, member).prediction_loss(filtered, batch)
            return eqx.filter_vmap(one)(members).sum()

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
