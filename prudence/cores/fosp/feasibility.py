"""Feasibility of states (FOSP section 4.2): whether a violation can still be avoided."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.critics import Critic, CriticBatch, CriticConfig
from prudence.models.heads import HeadConfig
from prudence.ops.offline import feasibility, reach_targets, safety_targets
from prudence.optim import OptimiserConfig
from prudence.ranges import Positive, ShareBelowOne
from prudence.types import Batch, Key, Metrics, Trajectory

_HEIGHT, _DEPTH = 25.0, -1.0
"""h of unsafe and of safe states in Hamilton-Jacobi reachability (FISOR)."""


def _small() -> CriticConfig:
    """It starts at a small probability. Where nothing is unsafe, the estimate decays only with γ_u."""
    head = HeadConfig("bernoulli", init_logit=-4.0)
    return CriticConfig(head, OptimiserConfig(5e-5, eps=1e-5), slow_regulariser=0.0)


@dataclass(frozen=True)
class FeasibilityConfig:
    """How the feasibility u of states is estimated.

    Attributes:
        kind: ``reach``: one minus the probability of reaching a violation (FOSP eq. 5, with its sign corrected).
            ``hj``: 1 if the value of Hamilton-Jacobi reachability is at most 0, else 0 (Fisac et al. 2019; FOSP's
            ablation without a Lagrangian).
        critic: its network. ``reach`` needs a ``bernoulli`` head, ``hj`` needs one without bounds, such as ``normal``.
        of: the policy whose violations count: ``policy`` (along imagination, as in the paper), or ``behaviour`` (along
            the data).
        discount: γ_u. A violation counts as reachable within about 1/(1 − γ_u) decisions.
        violation_unit: the predicted cost of a decision that counts as a certain violation.
    """

    kind: Literal["reach", "hj"] = "reach"
    critic: CriticConfig = field(default_factory=_small)
    of: Literal["policy", "behaviour"] = "policy"
    discount: ShareBelowOne = 0.99
    violation_unit: Positive = 1.0

    def check(self) -> None:
        """Raises ValueError if the critic's head does not suit ``kind``."""
        head = self.critic.head.kind
        if (self.kind == "reach") != (head == "bernoulli"):
            raise ValueError(
                f"feasibility.kind={self.kind!r} does not suit feasibility.critic.head.kind={head!r}: 'reach' is a "
                "probability and needs 'bernoulli'; 'hj' is a value of either sign and needs 'normal'"
            )


class Feasibility(eqx.Module):
    """The critic from which the feasibility of states follows."""

    critic: Critic
    config: FeasibilityConfig = eqx.field(static=True)

    @classmethod
    def init(cls, in_size: int, num_costs: int, config: FeasibilityConfig, *, key: Key) -> Feasibility:
        """A fresh critic of features ``[in_size]`` and C costs."""
        return cls(Critic.init(in_size, (num_costs,), config.critic, key=key), config)

    def __call__(self, features: Float[Array, "*batch F"]) -> Float[Array, "*batch"]:
        """u in [0, 1] of states with these features."""
        values = self.critic.online.module.predict(features)
        return feasibility(values if self.config.kind == "reach" else (values > 0).astype(jnp.float32))

    def update(
        self,
        trajectory: Trajectory,
        start_costs: Float[Array, "B C"],
        alive: Float[Array, " B"],
        features: Float[Array, "B_ T F"],
        batch: Batch,
        rate: Float[Array, ""] | None,
    ) -> tuple[Feasibility, Metrics]:
        """One gradient step.

        Args:
            trajectory: B imagined trajectories.
            start_costs: the real costs that arrived with their start states.
            alive: 0 where a start state is terminal, else 1.
            features: of the recorded sequences ``batch``.
            batch: the recorded sequences.
            rate: factor on the learning rate; None is 1.
        """
        if self.config.of == "policy":
            lesson = self._along_imagination(trajectory, start_costs, alive)
        else:
            lesson = self._along_data(features, batch)
        critic, metrics = self.critic.update(lesson, name=self.config.kind, rate=rate)
        return Feasibility(critic, self.config), metrics

    def _along_imagination(
        self, trajectory: Trajectory, start_costs: Float[Array, "B C"], alive: Float[Array, " B"]
    ) -> CriticBatch:
        imagined = jnp.clip(trajectory.costs[1:] / self.config.violation_unit, 0.0, 1.0)
        violations = jnp.concatenate([(start_costs > 0).astype(jnp.float32)[None], imagined])
        # A state's own violation counts even if the episode ends there, as its cost does.
        continues = jnp.concatenate([jnp.ones_like(alive)[None], alive[None], trajectory.continues[1:-1]])
        features = trajectory.critic_features
        targets = self._targets(violations, continues, self.critic.slow.predict(features[-1]))
        return CriticBatch.flat(features[:-1], targets[:-1], jnp.ones(targets.shape[:1] + targets.shape[1:2])[:-1])

    def _along_data(self, features: Float[Array, "B T F"], batch: Batch) -> CriticBatch:
        """One-step targets at recorded states.

        The last row of an episode has no next state. Its target is 1 if it is unsafe, 0 if it is terminal and safe, and
        otherwise unknown.
        """
        violations = (jnp.asarray(batch.cost) > 0).astype(jnp.float32)
        last, terminal = (jnp.asarray(x, jnp.float32) for x in (batch.is_last, batch.is_terminal))
        following = self.critic.slow.predict(features[:, 1:])
        stack = lambda now, then: jnp.stack([now[:, :-1], then])
        continues = stack(jnp.ones_like(last), 1 - last[:, :-1])
        targets = self._targets(stack(violations, jnp.zeros_like(following)), continues, following)[0]
        unknown = last[:, :-1] * (1 - terminal[:, :-1])
        weights = jnp.maximum(1 - unknown[..., None], violations[:, :-1])
        return CriticBatch.flat(features[:, :-1], targets, weights)

    def _targets(
        self,
        violations: Float[Array, "T *batch C"],
        continues: Float[Array, "T *batch"],
        last: Float[Array, "*batch C"],
    ) -> Float[Array, "T *batch C"]:
        discounts = jnp.broadcast_to(self.config.discount * continues[..., None], violations.shape)
        if self.config.kind == "reach":
            return reach_targets(violations, discounts, last)
        heights = _DEPTH + (_HEIGHT - _DEPTH) * violations
        return safety_targets(heights, discounts, last)
