"""Budgets: what episodes may cost, and by how much they exceed it.

A *violation* ``[C]`` is a cost minus its target. :class:`Imagined` measures it on imagined trajectories, as the papers
do. :class:`Lived` measures it on finished training episodes, which an agent that learns offline does not have. A
constraint (:mod:`prudence.constraints`) adds it to the
actor's objective.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.ranges import Natural, Positive, Share, ShareAboveZero, ShareBelowOne, between, check_ranges
from prudence.types import Spaces


class RunningMean(eqx.Module):
    """An exponential mean, corrected for its initial bias: of the costs ``[C]`` of finished episodes, or of others.

    Attributes:
        total: weighted sum of the values.
        weight: sum of the weights.
        rate: weight of the newest value.
    """

    total: Float[Array, "*C"]
    weight: Float[Array, ""]
    rate: float = eqx.field(static=True, default=0.1)

    def update(self, value: Float[Array, "*C"]) -> RunningMean:
        """The mean with one more value."""
        keep = 1 - self.rate
        return RunningMean(keep * self.total + self.rate * value, keep * self.weight + self.rate, self.rate)

    @property
    def mean(self) -> Float[Array, "*C"]:
        """The mean. It is 0 before the first value."""
        return self.total / jnp.maximum(self.weight, 1e-8)


class CostScale(eqx.Module):
    """The units by which costs and violations are divided, for each of C costs.

    The *peak* is the largest usual cost so far (a running mean over about 50 episodes). It is about the cost before the
    constraint had an effect. With λ = 1, the peak weighs as much as the range of returns, for any unit of costs. A
    violation is counted in targets. A target close to 0 counts as ``share`` of the peak, because episodes cannot
    measure a cost more precisely.

    Attributes:
        peak: ``[C]`` the peak.
        share: smallest unit of violations, as a share of the peak.
    """

    peak: Float[Array, " C"]
    share: float = eqx.field(static=True, default=0.02)

    def update(self, usual: RunningMean) -> CostScale:
        """The scale after an episode. The running mean counts with its weight, so the first episodes count little."""
        return CostScale(jnp.maximum(self.peak, usual.total), self.share)

    def of_costs(self, limits: Float[Array, " C"]) -> Float[Array, " C"]:
        """The unit of costs: the peak, or the budget if that is larger."""
        return jnp.maximum(jnp.maximum(self.peak, limits), 1e-6)

    def of_violations(self, targets: Float[Array, " C"]) -> Float[Array, " C"]:
        """The unit of violations: the target, but at least ``share`` of the peak."""
        return jnp.maximum(jnp.maximum(targets, self.share * self.peak), 1e-6)


class LivedCosts(eqx.Module):
    """The costs of training episodes.

    Attributes:
        recent: their running mean.
        usual: a slower running mean.
        scale: the units that follow from ``usual``.
    """

    recent: RunningMean
    usual: RunningMean
    scale: CostScale

    def update(self, cost: Float[Array, " C"]) -> LivedCosts:
        """The costs after another finished training episode with ``cost``."""
        usual = self.usual.update(cost)
        return LivedCosts(self.recent.update(cost), usual, self.scale.update(usual))


@dataclass(frozen=True)
class Imagined:
    """The violation is the imagined cost minus the target (the papers).

    Attributes:
        estimate: the imagined cost that is compared with the target. ``sum``: the sum of cost returns over the horizon
            (SafeDreamer's pessimistic variant). ``mean``: their mean (LAMBDA). ``episode``: the mean, rescaled to the
            expected undiscounted cost of an episode, (1−γ_c)·T·mean.
        relative: as :class:`Lived`; imagined costs also set the peak, as episodes do there. False (the papers) counts
            violations in the unit of costs.
        bound: as :class:`Lived`.
        on_policy: whether the cost is measured in imagined episodes of the policy that learns, which go on from update
            to update (:class:`prudence.cores.imagined_episodes.ImaginedEpisodes`). False (the papers) measures a few
            imagined steps from recorded states. In an environment these states are the policy's own. In a data set
            they are those of other policies, whose costs no policy that learns from it can lower.

    Raises:
        ValueError: a value is not allowed.
    """

    estimate: Literal["sum", "mean", "episode"] = "sum"
    relative: bool = False
    bound: Positive | None = None
    on_policy: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, "agent.budget.violation")
        _check_bound(self.bound, self.relative)
        if self.on_policy and self.estimate != "episode":
            raise ValueError(
                f"on_policy measures the cost of an episode, but estimate={self.estimate!r} compares another cost with "
                "the budget: choose estimate='episode'"
            )


@dataclass(frozen=True)
class Lived:
    """The violation is that of finished training episodes. Imagined costs only give its gradient.

    Attributes:
        memory: weight of the newest episode in the running mean of costs.
        relative: whether violations are counted in targets, and costs in their peak (:class:`CostScale`). Then the same
            gains work for every budget, and the length of the run sets the pace of the multiplier. Otherwise both have
            the unit of costs.
        bound: violations are clipped to ± this many targets. None does not clip. A cost can be far above its target,
            but only one target below it. So without clipping, a multiplier rises much faster than it falls.
        approach: while costs are high, the target is this share of the usual cost (a mean over about 50 episodes). The
            multiplier does not rise while costs fall at that pace. None uses the budget as the target from the
            beginning.

    Raises:
        ValueError: a value is not allowed.
    """

    memory: ShareAboveZero = 0.05
    relative: bool = True
    bound: Positive | None = None
    approach: ShareBelowOne | None = None

    def __post_init__(self) -> None:
        check_ranges(self, "agent.budget.violation")
        _check_bound(self.bound, self.relative)


def _check_bound(bound: float | None, relative: bool) -> None:
    if bound is not None and not relative:
        raise ValueError("bound is in targets, but relative=False counts in costs: leave one of them out")


@dataclass(frozen=True)
class Budget:
    """What an episode may cost in expectation, and how a violation is measured.

    Attributes:
        limit: d, the budget per episode: ``(C,)``, or one number for all constraints.
        discount: γ_c of cost returns.
        margin: share of the budget by which training aims below it. A mean cost that settles at the budget exceeds it
            half of the time, so no evaluation could show that it holds. 0 (the papers) aims at the budget.
        start: number of updates before costs count (0 in the papers). An agent that pays for costs before it has found
            any reward learns to stand still.
        violation: how a violation is measured.

    Raises:
        ValueError: a value is not allowed.
    """

    limit: Annotated[float | tuple[float, ...], between(0, 10**9)] = 2.0
    discount: Share = 1 - 1 / 333
    margin: ShareBelowOne = 0.0
    start: Natural = 0
    violation: Imagined | Lived = field(default_factory=Imagined)

    def __post_init__(self) -> None:
        check_ranges(self, "agent.budget")

    def check(self, spaces: Spaces, *, constrained: bool) -> None:
        """Checks the budget against the environment. ``constrained``: whether the actor has a constraint.

        Raises:
            ValueError: the budget does not suit the environment.
        """
        if isinstance(self.limit, tuple) and len(self.limit) != spaces.num_costs:
            several = ". To hold each of the costs that it reports to one of them, give --env.costs separate"
            raise ValueError(
                f"budget.limit names {len(self.limit)} budgets, but the environment reports {spaces.num_costs} costs: "
                f"{', '.join(spaces.costs)}{several if spaces.num_costs == 1 else ''}"
            )
        if constrained and self.estimate == "episode" and spaces.episode_steps is None:
            raise ValueError(
                "the expected cost of an episode needs its length, but the environment has no time limit: set one "
                "(EnvConfig.time_limit), or compare imagined costs with the budget (budget.violation=Imagined('mean'))"
            )

    @property
    def estimate(self) -> Literal["sum", "mean", "episode"]:
        """The unit of imagined costs."""
        return self.violation.estimate if isinstance(self.violation, Imagined) else "episode"

    @property
    def on_policy(self) -> bool:
        """Whether imagined episodes of the policy measure its costs."""
        return isinstance(self.violation, Imagined) and self.violation.on_policy

    @property
    def relative(self) -> bool:
        """Whether violations are counted in targets."""
        return self.violation.relative

    def cost_unit(self, spaces: Spaces, horizon: int) -> float:
        """The factor that converts the mean of imagined cost returns to the unit of :attr:`estimate`.

        ``horizon`` is the number of imagined steps.
        """
        if self.estimate == "episode" and spaces.episode_steps is not None:
            return (1 - self.discount) * spaces.episode_steps
        return float(horizon) if self.estimate == "sum" else 1.0

    def limits(self, num_costs: int) -> Float[Array, " C"]:
        """The budgets d, one for each constraint."""
        return jnp.broadcast_to(jnp.asarray(self.limit, jnp.float32), (num_costs,))

    def init(self, num_costs: int) -> LivedCosts:
        """The costs before the first episode."""
        memory = self.violation.memory if isinstance(self.violation, Lived) else 0.05

        def fresh(rate: float) -> RunningMean:
            return RunningMean(jnp.zeros(num_costs), jnp.zeros(()), rate)

        return LivedCosts(fresh(memory), fresh(0.02), CostScale(jnp.zeros(num_costs)))

    def targets(self, lived: LivedCosts) -> Float[Array, " C"]:
        """The current targets: the budgets minus their margin, or, with ``approach``, a share of larger usual costs."""
        aims = (1 - self.margin) * self.limits(len(lived.scale.peak))
        share = self.violation.approach if isinstance(self.violation, Lived) else None
        return aims if share is None else jnp.maximum(aims, share * lived.usual.mean)

    def exceeded(self, lived: LivedCosts, cost: Float[Array, " C"]) -> Float[Array, " C"]:
        """The violation of episodes with ``cost``. It is counted in targets if ``relative``, else in costs."""
        targets = self.targets(lived)
        excess = cost - targets
        return excess / lived.scale.of_violations(targets) if self.relative else excess

    def measure(self, lived: LivedCosts, imagined: Float[Array, " C"]) -> Float[Array, " C"]:
        """The violation of the current policy. Its gradient is always that of the imagined cost."""
        if isinstance(self.violation, Imagined) and not self.relative:
            return imagined - self.targets(lived)
        cost = imagined if isinstance(self.violation, Imagined) else lived.recent.mean
        value, scaled = self.exceeded(lived, cost), imagined / self.unit_of_costs(lived)
        if self.violation.bound is not None:
            # Only the mean's violation is clipped. Single costs are rare and large, so clipping them changes the mean.
            value = jnp.clip(value, -self.violation.bound, self.violation.bound)
        return jax.lax.stop_gradient(value) + scaled - jax.lax.stop_gradient(scaled)

    def rehearsed(self, lived: LivedCosts, imagined: Float[Array, " C"]) -> LivedCosts:
        """The costs after a gradient step with imagined costs. They set the units if no episode does."""
        return lived.update(imagined) if isinstance(self.violation, Imagined) and self.relative else lived

    def unit_of_costs(self, lived: LivedCosts) -> Float[Array, " C"]:
        """The unit by which the actor's objective divides costs, as it divides returns by their scale."""
        limits = self.limits(len(lived.scale.peak))
        return lived.scale.of_costs(limits) if self.relative else jnp.ones_like(limits)
