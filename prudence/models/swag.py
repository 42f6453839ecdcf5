"""SWAG: a Gaussian over the weights of a network, fitted to the iterates of its optimiser (Maddox et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from prudence.models.posterior import ModelPosterior
from prudence.models.world_model import Filtered, WorldModel
from prudence.ranges import Count, Few, Natural, NonNegative, ShareBelowOne, between
from prudence.types import Batch, Key, Metrics


class Iterates(eqx.Module):
    """Statistics of the iterates of a pytree of parameters. ``mean`` and ``variance`` have the same structure as it.

    Attributes:
        mean, variance: exponentially decaying moments.
        deviations: ``[K, ...]`` the last K snapshots minus the mean at their time, oldest first; zeros if there were
            fewer snapshots.
        snapshots: number of snapshots so far.
    """

    mean: Any
    variance: Any
    deviations: Any
    snapshots: Int[Array, ""]


@dataclass(frozen=True)
class SWAG(ModelPosterior):
    r"""Stochastic weight averaging-Gaussian (SWAG) with decaying moments (LAMBDA section 4.2 and Appendix C).

    With snapshots w, mean m, variance v, decay ρ and deviations :math:`d_k = w_k - m_k` of the last K snapshots,

    .. math::
        v ← ρ v + ρ(1-ρ)(w - m)^2,\qquad m ← m + (1-ρ)(w - m)

        θ = m + \sqrt{s} \left(\sqrt{v/2} ⊙ ξ_1 + \frac{1}{\sqrt{2(K-1)}} \sum_k d_k ξ_{2,k}\right)

    ξ₂ is one vector for all parameters, as in Maddox et al., which keeps correlations between layers. (LAMBDA's code
    draws one for each tensor.) m starts at the first snapshot and v at 0. (In LAMBDA's code m starts at 0, too, which
    gives transients as large as the weights.) With K = 0 the covariance is v alone. The state is K + 2 times as large
    as the parameters.

    Attributes:
        samples: N, number of samples.
        burn_in: gradient steps before the first snapshot.
        period: gradient steps between two snapshots.
        deviations: K, number of deviations kept.
        decay: ρ.
        scale: s, factor on the covariance.
        warm: number of snapshots after the first before sampling begins. The first snapshot has no deviation. Until
            then all samples are copies of the current weights. Sampling begins at gradient step
            ``burn_in + warm * period``.

    Raises:
        ValueError: a number is outside its range.
    """

    samples: Few = 5
    burn_in: Natural = 500
    period: Count = 200
    deviations: Annotated[int, between(0, 1_000)] = 20
    decay: ShareBelowOne = 0.8
    scale: NonNegative = 1.0
    warm: Count = 20

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
        """The statistics before the first snapshot."""

        def zeros(*lead: int) -> Any:
            """Zeros for every parameter, with leading axes ``lead``."""
            return jax.tree.map(lambda w: jnp.zeros((*lead, *w.shape), w.dtype), _params(tree))

        return Iterates(zeros(), zeros(), zeros(self.deviations), jnp.zeros((), jnp.int32))

    def observe(self, state: Iterates, tree: Any, step: int | Int[Array, ""]) -> Iterates:
        """The statistics after gradient step ``step``. Takes a snapshot of ``tree`` if one is due."""
        since = jnp.asarray(step) - self.burn_in
        due = (since >= 0) & (since % self.period == 0)
        return jax.lax.cond(due, self._snapshot, lambda state, _: state, state, _params(tree))

    def _snapshot(self, state: Iterates, params: Any) -> Iterates:
        first, share = state.snapshots == 0, 1 - self.decay
        old = jax.tree.map(lambda m, w: jnp.where(first, w, m), state.mean, params)
        mean = jax.tree.map(lambda m, w: m + share * (w - m), old, params)

        def decayed_variance(v: Array, m: Array, w: Array) -> Array:
            return self.decay * (v + share * jnp.square(w - m))

        def append_deviation(rows: Array, m: Array, w: Array) -> Array:
            """Appends w - m and drops the oldest row."""
            return jnp.concatenate([rows, (w - m)[None]])[1:]

        variance = jax.tree.map(decayed_variance, state.variance, old, params)
        deviations = jax.tree.map(append_deviation, state.deviations, mean, params)
        return Iterates(mean, variance, deviations, state.snapshots + 1)

    def is_warm(self, state: Iterates) -> Bool[Array, ""]:
        """Whether samples differ from the current weights."""
        return state.snapshots > self.warm

    def draw(self, state: Iterates, tree: Any, number: int, *, key: Key) -> Any:
        """Draws ``number`` pytrees of parameters, stacked on a leading axis. Consumes ``key``."""
        low_rank_key, diagonal_key = jax.random.split(key)
        ξ2 = jax.random.normal(low_rank_key, (number, self.deviations))
        # The first snapshot's deviation is 0 and does not count as a row.
        rows = jnp.minimum(state.snapshots - 1, self.deviations)
        ξ2 = ξ2 / jnp.sqrt(2.0 * jnp.maximum(rows - 1, 1))
        # One draw for all parameters: with one for each tensor, XLA would compile as many programs.
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
