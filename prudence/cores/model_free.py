"""What agents without a memory and without a world model share: a constraint that lived episodes move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from prudence.budgets import LivedCosts
from prudence.cores.base import Agent, compiled
from prudence.types import EpisodeSummary, Metrics


class ModelFreeAgent(Agent):
    """An agent whose state has ``lived`` and ``constraint``, and whose ``config`` has ``budget`` and ``constraint``."""

    config: Any

    def init_carry(self, num_envs: int) -> tuple[()]:
        """Empty: the agent remembers nothing between decisions."""
        return ()

    def on_episode(self, state: Any, summary: EpisodeSummary) -> Any:
        """As :meth:`prudence.cores.base.Agent.on_episode`: the mean cost of episodes, and the multiplier.

        The multiplier stays as it is until costs count.
        """
        cost = jnp.asarray(summary.episode_cost, jnp.float32)
        lived, constraint = self._on_episode(state.lived, state.constraint, state.step, cost)
        return replace(state, lived=lived, constraint=constraint)

    @compiled("self")
    def _on_episode(
        self, lived: LivedCosts, constraint: Any, step: Int[Array, ""], cost: Float[Array, " C"]
    ) -> tuple[LivedCosts, Any]:
        violation = self.config.budget.exceeded(lived, cost)
        moved = self.config.constraint.on_episode(constraint, violation)
        return lived.update(cost), optax.tree.where(step >= self.config.budget.start, moved, constraint)

    def multiplier_metrics(self, constraint: Any) -> Metrics:
        """``constraint/multiplier`` of a constraint's state, with the cost's name where there are several."""
        return self.spaces.by_cost("constraint/multiplier", self.config.constraint.multiplier(constraint))
