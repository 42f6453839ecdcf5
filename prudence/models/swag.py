"""SWAG: a Gaussian over a network's weights, from the iterates of its optimiser (Maddox et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from prudence.models.posterior import ModelPosterior
from prudence.models.world_model import Filtered, WorldModel
from prudence.types import Batch, Key, Metrics


class Iterates(eqx.Module):
    """What SWAG remembers of the iterates of a tree of parameters; every part is a tree like it.

    Attributes:
        mean, variance: exponentially decaying moments.
        deviations: ``[K, ...]`` the last K snapshots less the mean of their time, oldest first; zeros where there have
            been fewer.
        snapshots: how many there have been.
    """

    mean: Any
    variance: Any
    deviations: Any
    snapshots: Int[Array, ""]


@dataclass(frozen=True)
class SWAG(ModelPosterior):
    r"""Stochastic weight averaging, Gaussian, with decaying moments (LAMBDA section 4.2 and Appendix C).

    With snapshots w, mean m, variance v, decay ρ and rows :math:`d_k = w_k - m_k` of the last K snapshots,

    .. math::
        v ← ρ v + ρ(1-ρ)(w - m)^2,\qquad m ← m + (1-ρ)(w - m)

        θ = m + \sqrt{s} \left(\sqrt{v/2} ⊙ ξ_1 + \frac{1}{\sqrt{2(K-1)}} \sum_k d_k ξ_{2,k}\right)

    ξ₂ is one vector for all parameters, as in Maddox et al.: what is correlated between layers stays so (LAMBDA's
    code draws one for each tensor). m starts at the first snapshot and v at 0 (LAMBDA's code: m at 0 as well, whose
    transients are as large as the weights). Without deviations the covariance is v alone. The state has K + 2 times
    the parameters' size.

    Attributes:
        samples: N.
        burn_in, period: gradient steps before the first snapshot, and between two of them.
        deviations: K.
        decay: ρ.
        scale: s, of the covariance.
        warm: snapshots after the first before the samples leave the present weights, of which they are copies until
            then: the first has no deviation. Active from gradient step ``burn_in + warm * period`` on.
    """

    samples: int = 5
    burn_in: int = 500
    period: int = 200
    deviations: int = 20
    decay: float = 0.8
    scale: float = 1.0
    warm: int = 20

    def __post_init__(self) -> None:
        if self.samples < 1 or self.period < 1 or self.warm < 1 or min(self.burn_in, self.deviations) < 0:
            raise ValueError(
                f"samples={self.samples}, period={self.period} and warm={self.warm} must be at least 1, and "
                f"burn_in={self.burn_in} and deviations={self.deviations} at least 0"
            )
        if not 0 <= self.decay < 1 or self.scale < 0:
            raise ValueError(f"decay={self.decay} must be at least 0 and below 1, and scale={self.scale} at least 0")

    # --- any tree of parameters -----------------------------------------------------------------

    def begin(self, tree: Any) -> Iterates:
        """Before the first snapshot."""
        zeros = lambda *lead: jax.tree.map(lambda w: jnp.zeros((*lead, *w.shape), w.dtype), _params(tree))
        return Iterates(zeros(), zeros(), zeros(self.deviations), jnp.zeros((), jnp.int32))

    def observe(self, state: Iterates, tree: Any, step: int | Int[Array, ""]) -> Iterates:
        """The state after gradient step ``step``; takes a snapshot of the tree if it is time."""
        since = jnp.asarray(step) - self.burn_in
        due = (since >= 0) & (since % self.period == 0)
        return jax.lax.cond(due, self._snapshot, lambda state, _: state, state, _params(tree))

    def _snapshot(self, state: Iterates, params: Any) -> Iterates:
        first, share = state.snapshots == 0, 1 - self.decay
        old = jax.tree.map(lambda m, w: jnp.where(first, w, m), state.mean, params)
        mean = jax.tree.map(lambda m, w: m + share * (w - m), old, params)
        spread = lambda v, m, w: self.decay * (v + share * jnp.square(w - m))
        variance = jax.tree.map(spread, state.variance, old, params)
        append = lambda rows, m, w: jnp.concatenate([rows, (w - m)[None]])[1:]
        deviations = jax.tree.map(append, state.deviations, mean, params)
        return Iterates(mean, variance, deviations, state.snapshots + 1)

    def is_warm(self, state: Iterates) -> Bool[Array, ""]:
        """Whether samples differ from the present weights."""
        return state.snapshots > self.warm

    def draw(self, state: Iterates, tree: Any, number: int, *, key: Key) -> Any:
        """``number`` trees of parameters, stacked on a leading axis."""
        low_rank_key, diagonal_key = jax.random.split(key)
        ξ2 = jax.random.normal(low_rank_key, (number, self.deviations))
        # The first snapshot's deviation is 0, and not a row.
        rows = jnp.minimum(state.snapshots - 1, self.deviations)
        ξ2 = ξ2 / jnp.sqrt(2.0 * jnp.maximum(rows - 1, 1))
        # One draw for all parameters: of one for each tensor, a compiler makes as many programs.
        means, structure = jax.tree.flatten(state.mean)
        flat = jax.random.normal(diagonal_key, (number, sum(m.size for m in means)))
        cuts = np.cumsum([m.size for m in means])[:-1].tolist()
        noise = [x.reshape(number, *m.shape) for x, m in zip(jnp.split(flat, cuts, axis=1), means, strict=True)]
        diagonal = 0.5 if self.deviations else 1.0

        def sample(
            m: Array, v: Array, rows: Float[Array, "K *shape"], w: Array, ξ1: Float[Array, "N *shape"]
        ) -> Float[Array, "N *shape"]:
            deviation = jnp.sqrt(diagonal * v) * ξ1 + jnp.tensordot(ξ2, rows, 1)
            return jnp.where(self.is_warm(state), m + jnp.sqrt(self.scale) * deviation, w)

        params, static = eqx.partition(tree, eqx.is_inexact_array)
        noise = jax.tree.unflatten(structure, noise)
        drawn = jax.tree.map(sample, state.mean, state.variance, state.deviations, params, noise)
        return eqx.combine(drawn, static)

    # --- a world model's ------------------------------------------------------------------------

    def init(self, model: WorldModel, *, key: Key) -> Iterates:
        return self.begin(model.predictor)

    def update(
        self, state: Iterates, model: WorldModel, filtered: Filtered, batch: Batch, step: Int[Array, ""], *, key: Key
    ) -> tuple[Iterates, Metrics]:
        state = self.observe(state, model.predictor, step)
        count = sum(v.size for v in jax.tree.leaves(state.variance))
        std = sum(jnp.sqrt(v).sum() for v in jax.tree.leaves(state.variance)) / count
        return state, {"posterior/snapshots": state.snapshots.astype(jnp.float32), "posterior/std": std}

    def sample(self, state: Iterates, model: WorldModel, *, key: Key) -> Any:
        return self.draw(state, model.predictor, self.samples, key=key)


def _params(tree: Any) -> Any:
    return eqx.filter(tree, eqx.is_inexact_array)
