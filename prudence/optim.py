"""A network together with its optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from prudence.types import Metrics

M = TypeVar("M")
"""Any tree of parameters, mostly an ``equinox.Module``."""


@dataclass(frozen=True)
class OptimiserConfig:
    """Gradient clipping and step rule.

    Attributes:
        kind: ``adam`` with clipping of the global norm to ``clip`` (2023 release), or ``laprop`` with
            adaptive clipping of each unit's gradient to ``clip`` times its weight norm (current
            generation: clip .3, learning rate 4e-5, warm-up 1000).
        warmup: steps over which the learning rate rises linearly from 0.
        cycle: steps of a cycle in which the learning rate falls linearly from ``cycle_peak`` times itself to itself and
            rises back, so that the iterates keep moving over a region of weights (LAMBDA's for SWAG: 400 and 5);
            0 keeps it constant.
    """

    learning_rate: float = 1e-4
    kind: Literal["adam", "laprop"] = "adam"
    clip: float = 100.0
    eps: float = 1e-8
    warmup: int = 0
    cycle: int = 0
    cycle_peak: float = 5.0

    def __post_init__(self) -> None:
        if self.cycle and self.warmup:
            raise ValueError(
                "a learning rate that begins each cycle at its peak cannot rise from 0: give cycle or warmup"
            )

    @property
    def rate(self) -> float | optax.Schedule:
        """The learning rate, as a function of the gradient steps made where it changes."""
        if self.cycle:
            height = lambda step: jnp.abs(1 - 2 * (jnp.asarray(step) / self.cycle % 1))
            return lambda step: self.learning_rate * (1 + (self.cycle_peak - 1) * height(step))
        return optax.linear_schedule(0.0, self.learning_rate, self.warmup) if self.warmup else self.learning_rate

    def build(self) -> optax.GradientTransformation:
        """The Optax transformation."""
        if self.kind == "adam":
            return optax.chain(optax.clip_by_global_norm(self.clip), optax.adam(self.rate, eps=self.eps))
        return optax.chain(
            optax.adaptive_grad_clip(self.clip, eps=1e-3),
            optax.scale_by_rms(decay=0.999, eps=1e-20, bias_correction=True),
            # A mean and not a sum: `optax.trace` would make the steps ten times as large.
            optax.ema(decay=0.9, debias=True),
            optax.scale_by_learning_rate(self.rate),
        )


class Averaged(eqx.Module, Generic[M]):
    r"""The exponential average of a module's weights over its gradient steps, θ̄ ← kθ̄ + (1 − k)θ.

    For the first steps k is smaller, :math:`n / (n + 10)` after n of them, so that the average soon forgets the weights
    that it began with: an average that begins in the middle of a run begins at the weights of its first step.
    """

    module: M
    updates: Int[Array, ""]

    @classmethod
    def init(cls, module: M) -> Averaged[M]:
        """Before any step."""
        return cls(module, jnp.zeros((), jnp.int32))

    def update(self, module: M, keep: float) -> Averaged[M]:
        """After a step that led to ``module``; ``keep`` is the largest k."""
        k = jnp.minimum(keep, self.updates / (self.updates + 10))
        mix = lambda old, new: k * old + (1 - k) * new if eqx.is_inexact_array(old) else old
        return Averaged(jax.tree.map(mix, self.module, module), self.updates + 1)


class Optimised(eqx.Module, Generic[M]):
    """A module and the state of the optimiser that trains it."""

    module: M
    optimiser_state: Any
    config: OptimiserConfig = eqx.field(static=True)

    @classmethod
    def init(cls, module: M, config: OptimiserConfig) -> Optimised[M]:
        """With a fresh optimiser state."""
        return cls(module, config.build().init(eqx.filter(module, eqx.is_inexact_array)), config)

    def descend(
        self, gradient: M, name: str, rate: float | Float[Array, ""] | None = None
    ) -> tuple[Optimised[M], Metrics]:
        """One step against ``gradient``, times the factor ``rate`` if given; metrics are prefixed with ``name``."""
        params = eqx.filter(self.module, eqx.is_inexact_array)
        updates, optimiser_state = self.config.build().update(
            cast(optax.Updates, gradient), self.optimiser_state, params
        )
        if rate is not None:
            updates = jax.tree.map(lambda update: rate * update, updates)
        metrics = {f"{name}/gradient_norm": optax.tree.norm(gradient).astype(jnp.float32)}
        return Optimised(cast(M, eqx.apply_updates(self.module, updates)), optimiser_state, self.config), metrics
