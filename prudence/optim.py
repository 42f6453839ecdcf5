"""Optimisers, and networks together with the state of their optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from prudence.ranges import Natural, ShareAboveZero, between
from prudence.types import Metrics

M = TypeVar("M")
"""Any pytree of parameters, usually an ``equinox.Module``."""


@dataclass(frozen=True)
class OptimiserConfig:
    """Gradient clipping and step rule.

    Attributes:
        learning_rate: the learning rate outside of warm-up, and the lowest one of a cycle.
        kind: ``adam`` clips the global norm to ``clip`` (DreamerV3, 2023 release). ``laprop`` clips each unit's
            gradient to ``clip`` times the norm of its weights (current generation: clip .3, learning rate 4e-5,
            warm-up 1000).
        clip: bound of the gradient clipping; see ``kind``.
        eps: Adam's ε. ``laprop`` does not use it.
        warmup: steps in which the learning rate rises linearly from 0.
        cycle: steps of a learning-rate cycle; 0 keeps the rate constant. In a cycle the rate falls linearly from
            ``cycle_peak * learning_rate`` to ``learning_rate`` and rises back. The iterates then keep moving over a
            region of weights, as SWAG needs (LAMBDA: cycle 400, peak 5).
        cycle_peak: highest learning rate of a cycle, as a multiple of ``learning_rate``.

    Raises:
        ValueError: both ``cycle`` and ``warmup`` are given.
    """

    learning_rate: ShareAboveZero = 1e-4
    kind: Literal["adam", "laprop"] = "adam"
    clip: Annotated[float, between(0, 10**9, open_low=True)] = 100.0
    eps: ShareAboveZero = 1e-8
    warmup: Natural = 0
    cycle: Natural = 0
    cycle_peak: Annotated[float, between(1, 1000)] = 5.0

    def __post_init__(self) -> None:
        if self.cycle and self.warmup:
            raise ValueError(
                "cycle and warmup exclude each other, because a cycle begins at its highest learning rate: give one"
            )

    @property
    def rate(self) -> float | optax.Schedule:
        """The learning rate: a number if it is constant, else a function of the number of gradient steps made."""
        if self.cycle:
            return self._cyclic_rate
        return optax.linear_schedule(0.0, self.learning_rate, self.warmup) if self.warmup else self.learning_rate

    def _cyclic_rate(self, step: Any) -> Array:
        """A triangular wave between ``cycle_peak * learning_rate``, where it begins, and ``learning_rate``."""
        height = jnp.abs(1 - 2 * (jnp.asarray(step) / self.cycle % 1))
        return self.learning_rate * (1 + (self.cycle_peak - 1) * height)

    def build(self) -> optax.GradientTransformation:
        """Builds the Optax transformation.

        It treats all parameters as one vector. As a pytree, they would make up half of the operations of an update.
        """
        if self.kind == "adam":
            adam = optax.adam(self.rate, eps=self.eps)
            return optax.flatten(optax.chain(optax.clip_by_global_norm(self.clip), adam))
        steps = optax.chain(
            optax.scale_by_rms(decay=0.999, eps=1e-20, bias_correction=True),
            # A mean, not a sum: `optax.trace` would make the steps ten times as large.
            optax.ema(decay=0.9, debias=True),
            optax.scale_by_learning_rate(self.rate),
        )
        return optax.chain(optax.adaptive_grad_clip(self.clip, eps=1e-3), optax.flatten(steps))


def cooled(step: Int[Array, ""], updates: int, share: float) -> Float[Array, ""] | None:
    """Factor on learning rates at a gradient step: 1, then a linear decrease to 0 over the last ``share`` of a run.

    It is None, which stands for 1, if ``share`` is 0. ``updates`` is the number of gradient steps of the run.
    """
    last = share * updates
    return jnp.clip((updates - step) / last, 0.0, 1.0) if last else None


class Averaged(eqx.Module, Generic[M]):
    r"""Exponential moving average of a module's weights over its gradient steps, θ̄ ← kθ̄ + (1 − k)θ.

    k is at most :math:`n / (n + 10)` after n steps, so that the average soon forgets its initial weights. After the
    first step it equals the weights of that step, even if the average begins in the middle of a run.
    """

    module: M
    updates: Int[Array, ""]

    @classmethod
    def init(cls, module: M) -> Averaged[M]:
        """The average before the first step."""
        return cls(module, jnp.zeros((), jnp.int32))

    def update(self, module: M, keep: float) -> Averaged[M]:
        """The average after a step that led to ``module``. ``keep`` is the largest k."""
        k = jnp.minimum(keep, self.updates / (self.updates + 10))

        def mix(old: Any, new: Any) -> Any:
            return k * old + (1 - k) * new if eqx.is_inexact_array(old) else old

        return Averaged(jax.tree.map(mix, self.module, module), self.updates + 1)


class Optimised(eqx.Module, Generic[M]):
    """A module and the state of the optimiser that trains it."""

    module: M
    optimiser_state: Any
    config: OptimiserConfig = eqx.field(static=True)

    @classmethod
    def init(cls, module: M, config: OptimiserConfig) -> Optimised[M]:
        """Pairs a module with a fresh optimiser state."""
        return cls(module, config.build().init(eqx.filter(module, eqx.is_inexact_array)), config)

    def descend(
        self, gradient: M, name: str, rate: float | Float[Array, ""] | None = None
    ) -> tuple[Optimised[M], Metrics]:
        """One optimiser step against ``gradient``.

        Args:
            name: group of the metrics, ``<name>/gradient_norm``.
            rate: factor on the step; None is 1.
        """
        params = eqx.filter(self.module, eqx.is_inexact_array)
        updates, optimiser_state = self.config.build().update(
            cast(optax.Updates, gradient), self.optimiser_state, params
        )
        if rate is not None:
            updates = jax.tree.map(lambda update: rate * update, updates)
        metrics = {f"{name}/gradient_norm": jnp.linalg.norm(ravel_pytree(gradient)[0]).astype(jnp.float32)}
        return Optimised(cast(M, eqx.apply_updates(self.module, updates)), optimiser_state, self.config), metrics
