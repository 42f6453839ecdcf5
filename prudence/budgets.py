"""Budgets: what episodes may cost, and how far they exceed it.

A *violation* ``[C]`` is a cost less what is allowed. :class:`Imagined` measures it on imagined trajectories, as the
papers do; :class:`Lived` on finished training episodes. A constraint (:mod:`prudence.constraints`) makes it part of the
actor's objective.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.ranges import LARGE, Natural, Positive, Share, ShareAboveZero, ShareBelowOne, between
from prudence.types import Spaces


class EpisodeCost(eqx.Module):
    """Running mean of finished training episodes' costs, ``[C]``, without the bias of its start."""

    total: Float[Array, " C"]
    weight: Float[Array, ""]
    rate: float = eqx.field(static=True, default=0.1)

    def update(self, cost: Float[Array, " C"]) -> EpisodeCost:
        keep = 1 - self.rate
        return EpisodeCost(keep * self.total + self.rate * cost, keep * self.weight + self.rate, self.rate)

    @property
    def mean(self) -> Float[Array, " C"]:
        """0 before the first episode."""
        return self.total / jnp.maximum(self.weight, 1e-8)


class CostScale(eqx.Module):
    """Units by which costs and violations are divided, for each of C costs.

    The *peak* is the largest running mean of episode costs so far (over the last 50 or so). It is about what episodes
    cost before the constraint took hold. A price λ of 1 makes that cost as heavy as the range of returns, whatever the
    unit of costs is. A violation is counted in budgets. A budget close to 0 counts as ``share`` of the peak, since no
    number of episodes can show a finer precision.
    """

    peak: Float[Array, " C"]
    share: float = eqx.field(static=True, default=0.02)

    def update(self, usual: EpisodeCost) -> CostScale:
        """After an episode. The running mean counts with its weight: a first episode is not yet usual."""
        return CostScale(jnp.maximum(self.peak, usual.total), self.share)

    def of_costs(self, limits: Float[Array, " C"]) -> Float[Array, " C"]:
        """The unit of costs: the peak, or the budget where costs never came near it."""
        return jnp.maximum(jnp.maximum(self.peak, limits), 1e-6)

    def of_violations(self, targets: Float[Array, " C"]) -> Float[Array, " C"]:
        """The unit of violations: what costs are held against, at least ``share`` of the peak."""
        return jnp.maximum(jnp.maximum(targets, self.share * self.peak), 1e-6)


class LivedCosts(eqx.Module):
    """What training episodes have cost: their running mean, a slower one, and the units that follow from it."""

    recent: EpisodeCost
    usual: EpisodeCost
    scale: CostScale

    def update(self, cost: Float[Array, " C"]) -> LivedCosts:
        """After a finished training episode that cost ``cost``."""
        usual = self.usual.update(cost)
        return LivedCosts(self.recent.update(cost), usual, self.scale.update(usual))


@dataclass(frozen=True)
class Imagined:
    """The violation is the imagined cost less the budget, in the unit of costs (the papers).

    Attributes:
        estimate: the imagined cost that is held against the budget. ``sum``: Σ over the horizon of cost returns
            (SafeDreamer's pessimistic variant); ``mean``: their mean (LAMBDA); ``episode``: the mean rescaled to the
            expected undiscounted cost of an episode, (1−γ_c)·T·mean.
    """

    estimate: Literal["sum", "mean", "episode"] = "sum"


@dataclass(frozen=True)
class Lived:
    """The violation is that of finished training episodes. Imagination gives its gradient only.

    Attributes:
        memory: share of the newest episode in the running mean of costs.
        relative: whether violations are counted in budgets and costs in their peak (:class:`CostScale`), so that the
            same gains hold any budget, and a multiplier moves at the pace of the run. Otherwise both have the unit of
            costs.
        bound: violations are clipped to ± this many budgets. A cost can exceed its budget far more than it can fall
            short of it: unclipped, a multiplier rises much faster than it falls. None clips nothing.
        approach: what is asked of costs on the way to the budget: no more than this share of what episodes usually
            cost (the mean of the last 50 or so). While costs fall at that pace the multiplier waits. None asks for the
            budget from the beginning.
    """

    memory: ShareAboveZero = 0.05
    relative: bool = True
    bound: Positive | None = None
    approach: ShareBelowOne | None = None

    def __post_init__(self) -> None:
        if not 0 < self.memory <= 1:
            raise ValueError(f"memory={self.memory} is the share of the newest episode: choose from above 0 to 1")
        if self.bound is not None and self.bound <= 0:
            raise ValueError(f"bound={self.bound} must be above 0 (2 clips violations to ± 2 budgets), or None")
        if self.bound is not None and not self.relative:
            raise ValueError("bound counts in budgets, and relative=False counts in costs: leave one of them out")
        if self.approach is not None and not 0 <= self.approach < 1:
            raise ValueError(
                f"approach={self.approach} is the share of their usual costs that episodes are asked for on the way to "
                "the budget: choose a number from 0 to below 1 (.6 lets costs halve in 75 episodes), or None"
            )


@dataclass(frozen=True)
class Budget:
    """What an episode may cost in expectation, and how a violation is measured.

    Attributes:
        limit: d, the budget per episode: ``(C,)``, or one number for all constraints.
        discount: γ_c of cost returns.
        margin: share of the budget that is aimed below it. A mean that comes to rest at a budget exceeds it half of the
            time and can never be shown to hold it. 0 (the papers) aims at the budget.
        start: updates before costs count (0 in the papers). An agent that is punished before it has found any reward
            learns to stand still.
        violation: how a violation is measured.
    """

    limit: Annotated[float | tuple[float, ...], between(0, LARGE)] = 2.0
    discount: Share = 1 - 1 / 333
    margin: ShareBelowOne = 0.0
    start: Natural = 0
    violation: Imagined | Lived = field(default_factory=Imagined)

    def __post_init__(self) -> None:
        limits = self.limit if isinstance(self.limit, tuple) else (self.limit,)
        if not all(limit >= 0 for limit in limits):
            raise ValueError(f"limit={self.limit}: what an episode may cost is 0 or more")
        if not 0 <= self.discount <= 1:
            raise ValueError(f"discount={self.discount} must be between 0 and 1")
        if not 0 <= self.margin < 1:
            raise ValueError(f"margin={self.margin} is a share of the budget: choose a number from 0 to below 1")
        if self.start < 0:
            raise ValueError(f"start={self.start} is a number of updates: choose 0 or more")

    def check(self, spaces: Spaces, *, constrained: bool) -> None:
        """Raises ValueError where the budget does not suit the environment."""
        if isinstance(self.limit, tuple) and len(self.limit) != spaces.num_costs:
            raise ValueError(
                f"budget.limit names {len(self.limit)} budgets, but the environment reports {spaces.num_costs} costs: "
                f"{', '.join(spaces.costs)}"
            )
        if constrained and self.estimate == "episode" and spaces.episode_steps is None:
            raise ValueError(
                "the expected cost of an episode needs its length, but the environment has no time limit: set one "
                "(EnvConfig.time_limit), or hold imagined costs to the budget (budget.violation=Imagined('mean'))"
            )

    @property
    def estimate(self) -> Literal["sum", "mean", "episode"]:
        """The unit of imagined costs."""
        return self.violation.estimate if isinstance(self.violation, Imagined) else "episode"

    @property
    def relative(self) -> bool:
        """Whether violations are counted in budgets."""
        return isinstance(self.violation, Lived) and self.violation.relative

    def limits(self, num_costs: int) -> Float[Array, " C"]:
        """d, for each constraint."""
        return jnp.broadcast_to(jnp.asarray(self.limit, jnp.float32), (num_costs,))

    def init(self, num_costs: int) -> LivedCosts:
        """Before the first episode."""
        memory = self.violation.memory if isinstance(self.violation, Lived) else 0.05
        fresh = lambda rate: EpisodeCost(jnp.zeros(num_costs), jnp.zeros(()), rate)
        return LivedCosts(fresh(memory), fresh(0.02), CostScale(jnp.zeros(num_costs)))

    def targets(self, lived: LivedCosts) -> Float[Array, " C"]:
        """What costs are held against at present: the budgets less their margin, or what is asked on the way."""
        aims = (1 - self.margin) * self.limits(len(lived.scale.peak))
        share = self.violation.approach if isinstance(self.violation, Lived) else None
        return aims if share is None else jnp.maximum(aims, share * lived.usual.mean)

    def exceeded(self, lived: LivedCosts, cost: Float[Array, " C"]) -> Float[Array, " C"]:
        """The violation of episodes that cost ``cost``: in budgets if ``relative``, else in costs."""
        targets = self.targets(lived)
        excess = cost - targets
        return excess / lived.scale.of_violations(targets) if self.relative else excess

    def measure(self, lived: LivedCosts, imagined: Float[Array, " C"]) -> Float[Array, " C"]:
        """The violation of the present policy. Its gradient is always that of the imagined cost."""
        if isinstance(self.violation, Imagined):
            return imagined - self.targets(lived)
        value, scaled = self.exceeded(lived, lived.recent.mean), imagined / self.unit_of_costs(lived)
        if self.violation.bound is not None:
            # The mean's, never a single episode's: costs are rare and large, and clipped ones have another mean.
            value = jnp.clip(value, -self.violation.bound, self.violation.bound)
        return jax.lax.stop_gradient(value) + scaled - jax.lax.stop_gradient(scaled)

    def unit_of_costs(self, lived: LivedCosts) -> Float[Array, " C"]:
        """By which costs are divided in the actor's objective, as returns are by their scale."""
        limits = self.limits(len(lived.scale.peak))
        return lived.scale.of_costs(limits) if self.relative else jnp.ones_like(limits)
