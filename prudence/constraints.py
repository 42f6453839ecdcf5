"""Constraints: how a violation of the budgets enters the actor's objective.

A constraint is a static configuration with pure functions over its state. It computes the actor's loss from the loss of
the task and from the *violations* ``[C]`` of the budgets (:mod:`prudence.budgets` measures them).
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from prudence.ranges import EitherSign, Natural, NonNegative, Positive, ShareAboveZero, ShareBelowOne, between
from prudence.types import Batch, Observation

SPENT = "spent"
"""The observation that :class:`Saute` needs, ``[C]``: the sum of each cost since the episode began."""


class Constraint(abc.ABC):
    """How costs enter the actor's objective."""

    @abc.abstractmethod
    def init(self, num_costs: int) -> Any:
        """The state before training."""

    @abc.abstractmethod
    def multiplier(self, state: Any) -> Float[Array, " C"]:
        """λ, the price of one unit of violation. 0 for a constraint without a multiplier."""

    @abc.abstractmethod
    def loss(self, state: Any, task: Float[Array, ""], violation: Float[Array, " C"]) -> Float[Array, ""]:
        """The actor's loss, given the loss of the task (−return) and the violation. It is differentiable in both."""

    def weights(self, state: Any, violation: Float[Array, " C"]) -> tuple[Float[Array, ""], Float[Array, " C"]]:
        """The derivatives of :meth:`loss`: the weights of reward and cost advantages in a policy gradient."""
        return jax.grad(lambda inputs: self.loss(state, *inputs))((jnp.zeros(()), violation))

    def update(self, state: Any, violation: Float[Array, " C"], pace: float = 1.0) -> Any:
        """The state after one actor step with this violation. ``pace`` is a factor on the step of a multiplier."""
        return state

    def on_episode(self, state: Any, violation: Float[Array, " C"]) -> Any:
        """The state after a finished training episode with this violation."""
        return state

    def observed(self, observation: Observation, limits: Float[Array, " C"]) -> Observation:
        """The observation that a policy without a world model sees."""
        return observation

    def shaped(self, rows: Batch, limits: Float[Array, " C"]) -> Float[Array, "*batch"]:
        """The rewards that an agent without a world model learns from."""
        return jnp.asarray(rows.reward)


class Lagrangian(Constraint):
    """A constraint whose loss is the loss of the task plus a penalty."""

    @abc.abstractmethod
    def penalty(self, state: Any, violation: Float[Array, " C"]) -> Float[Array, ""]:
        """The penalty, summed over constraints. It is added to the task's loss, and differentiable in the violation."""

    def loss(self, state: Any, task: Float[Array, ""], violation: Float[Array, " C"]) -> Float[Array, ""]:
        return task + self.penalty(state, violation)


class Stateless(Constraint):
    """A constraint without a multiplier."""

    def init(self, num_costs: int) -> Float[Array, " C"]:
        return jnp.zeros(num_costs)

    def multiplier(self, state: Float[Array, " C"]) -> Float[Array, " C"]:
        return state


class Unpriced(Stateless):
    """A constraint that does not change the actor's loss. It needs no cost critic."""

    def loss(self, state: Any, task: Float[Array, ""], violation: Float[Array, " C"]) -> Float[Array, ""]:
        return task


@dataclass(frozen=True)
class Unconstrained(Unpriced):
    """No constraint: costs are ignored."""


class AugmentedLagrangianState(NamedTuple):
    """The state of :class:`AugmentedLagrangian`: ``multiplier`` λ and ``penalty_factor`` μ, both ``[C]``."""

    multiplier: Float[Array, " C"]
    penalty_factor: Float[Array, " C"]


@dataclass(frozen=True)
class AugmentedLagrangian(Lagrangian):
    r"""Proximal relaxation of a Lagrangian (LAMBDA section 3, SafeDreamer eq. 9 and 10, AsymDreamer eq. 22 to 24).

    .. math::
        Ψ(g) = \begin{cases} λg + \fracμ2 g^2 & λ + μg > 0\\ -\frac{λ^2}{2μ} & \text{else}\end{cases}
        \qquad λ ← \max(0, λ + μg),\quad μ ← \mathrm{clip}(μ(1+ν), μ, 1)

    Ψ equals :math:`\max_{λ' ≥ 0} λ'g - (λ'-λ)^2 / 2μ`. (The papers print 1/μ for the last factor, which contradicts
    their own update rules.) The gradient with respect to g is max(0, λ+μg). λ and μ change once per actor step, after
    Ψ was computed with the old values.

    Attributes:
        multiplier_init: λ0. The defaults are the papers' constants.
        penalty_factor_init: μ0.
        growth: ν.
        dual_rate: η in λ ← max(0, λ + ηg). None is the papers' η = μ. In terms of control, μ is the proportional gain
            and η the integral gain. The policy reacts to the multiplier with a delay, so the cost can oscillate; a
            smaller η damps the oscillation. If g is relative (``Lived.relative``), η is the change over a whole run: if
            the cost is twice its budget and η = 1, λ rises by 1 from the beginning to the end of the run, for any
            length of the run.
    """

    multiplier_init: NonNegative = 1e-6
    penalty_factor_init: ShareAboveZero = 5e-9
    growth: NonNegative = 1e-5
    dual_rate: NonNegative | None = None

    def init(self, num_costs: int) -> AugmentedLagrangianState:
        return AugmentedLagrangianState(
            jnp.full(num_costs, self.multiplier_init, jnp.float32),
            jnp.full(num_costs, self.penalty_factor_init, jnp.float32),
        )

    def penalty(self, state: AugmentedLagrangianState, violation: Float[Array, " C"]) -> Float[Array, ""]:
        λ, μ = state
        active = λ * violation + μ / 2 * violation**2
        return jnp.where(λ + μ * violation > 0, active, -(λ**2) / (2 * μ)).sum()

    def multiplier(self, state: AugmentedLagrangianState) -> Float[Array, " C"]:
        return state.multiplier

    def update(
        self, state: AugmentedLagrangianState, violation: Float[Array, " C"], pace: float = 1.0
    ) -> AugmentedLagrangianState:
        λ, μ = state
        rate = μ if self.dual_rate is None else self.dual_rate * pace
        return AugmentedLagrangianState(jnp.maximum(0.0, λ + rate * violation), jnp.clip(μ * (1 + self.growth), μ, 1.0))


class PIDState(NamedTuple):
    """The state of :class:`PIDLagrangian`.

    ``past [D, C]`` has the last D smoothed violations, the oldest first. ``episodes`` is the number of episodes.
    """

    violation: Float[Array, " C"]
    proportional: Float[Array, " C"]
    integral: Float[Array, " C"]
    derivative: Float[Array, " C"]
    past: Float[Array, "D C"]
    multiplier: Float[Array, " C"]
    episodes: Int[Array, ""]


@dataclass(frozen=True)
class PIDLagrangian(Lagrangian):
    r"""A multiplier that a PID controller sets (Stooke et al. 2020; SafeDreamer section 4.2 and Table 6).

    The controller's input are the costs of finished training episodes; evaluation episodes never count. Let δ be the
    running mean of the violations (episode cost minus budget), corrected for the bias of its initial value. Then

    .. math::
        P ← αP + (1-α)δ,\quad I ← \mathrm{clip}(I + k_i δ, 0, λ_{max}),\quad D ← \max(0, \bar δ - \bar δ_{-d}),\quad
        λ = \mathrm{clip}(k_p P + I + k_d D, 0, λ_{max})

    where :math:`\bar δ` is δ smoothed with α, and :math:`\bar δ_{-d}` is its value d episodes earlier. The integral
    stops at both bounds of λ. (In the released code it stops only at 0, so it can wind up.)

    Attributes:
        proportional, integral, derivative: k_p, k_i, k_d.
        maximum: λ_max.
        integral_init: initial value of the integral.
        smoothing: α.
        cost_smoothing: share of the old mean in the running mean of violations.
        delay: d, in episodes.
        warmup: number of episodes before the multiplier changes.
    """

    proportional: NonNegative = 0.1
    integral: NonNegative = 0.01
    derivative: NonNegative = 0.01
    maximum: NonNegative = 0.1
    integral_init: NonNegative = 0.001
    smoothing: ShareBelowOne = 0.95
    cost_smoothing: ShareBelowOne = 0.99
    delay: Annotated[int, between(1, 100_000)] = 10
    warmup: Natural = 20

    def init(self, num_costs: int) -> PIDState:
        zeros = jnp.zeros(num_costs)
        start = jnp.full(num_costs, self.integral_init, jnp.float32)
        past = jnp.zeros((self.delay, num_costs))
        return PIDState(zeros, zeros, start, zeros, past, start, jnp.zeros((), jnp.int32))

    def penalty(self, state: PIDState, violation: Float[Array, " C"]) -> Float[Array, ""]:
        return (state.multiplier * violation).sum()

    def multiplier(self, state: PIDState) -> Float[Array, " C"]:
        return state.multiplier

    def on_episode(self, state: PIDState, violation: Float[Array, " C"]) -> PIDState:
        keep, episodes = self.cost_smoothing, state.episodes + 1
        running = keep * state.violation + (1 - keep) * violation
        δ = running / (1 - keep**episodes)
        P = self.smoothing * state.proportional + (1 - self.smoothing) * δ
        I = jnp.clip(state.integral + self.integral * δ, 0.0, self.maximum)  # noqa: E741
        smooth = self.smoothing * state.derivative + (1 - self.smoothing) * δ
        D = jnp.maximum(smooth - state.past[0], 0.0)
        past = jnp.concatenate([state.past[1:], smooth[None]])
        λ = jnp.clip(self.proportional * P + I + self.derivative * D, 0.0, self.maximum)
        moved = PIDState(running, P, I, smooth, past, λ, episodes)
        return jax.tree.map(lambda new, old: jnp.where(episodes > self.warmup, new, old), moved, state)._replace(
            violation=running, episodes=episodes
        )


class DualAscentState(NamedTuple):
    """The state of :class:`DualAscent`: ``multiplier`` λ ``[C]`` and the state of its optimiser."""

    multiplier: Float[Array, " C"]
    optimiser: optax.OptState


@dataclass(frozen=True)
class DualAscent(Lagrangian):
    r"""A multiplier that rises by gradient ascent, :math:`λ ← \mathrm{clip}(λ + \mathrm{Adam}(g), 0, λ_{max})`.

    It is the "Lag" of PPO-Lag and TRPO-Lag (Ray et al. 2019, section 5), with OmniSafe's constants. Adam changes λ by
    about ``learning_rate`` for any size of the violation. Because of its momentum, λ still moves in the old direction
    for about ten steps after the violation has changed its sign.

    Attributes:
        multiplier_init: λ0.
        learning_rate: Adam's learning rate.
        maximum: λ_max. None sets no bound (FOCOPS has 2).
    """

    multiplier_init: NonNegative = 0.001
    learning_rate: ShareAboveZero = 0.035
    maximum: NonNegative | None = None

    def init(self, num_costs: int) -> DualAscentState:
        multiplier = jnp.full(num_costs, self.multiplier_init, jnp.float32)
        return DualAscentState(multiplier, optax.adam(self.learning_rate).init(multiplier))

    def penalty(self, state: DualAscentState, violation: Float[Array, " C"]) -> Float[Array, ""]:
        return (state.multiplier * violation).sum()

    def multiplier(self, state: DualAscentState) -> Float[Array, " C"]:
        return state.multiplier

    def update(self, state: DualAscentState, violation: Float[Array, " C"], pace: float = 1.0) -> DualAscentState:
        step, optimiser = optax.adam(self.learning_rate).update(-violation, state.optimiser)
        return DualAscentState(jnp.clip(state.multiplier + pace * jnp.asarray(step), 0.0, self.maximum), optimiser)


@dataclass(frozen=True)
class SoftplusAscent(Lagrangian):
    r"""A multiplier :math:`λ = \mathrm{softplus}(p)` with gradient ascent on p (Safe-SLAC's released code).

    After an episode whose violation is g, :math:`p ← p + η\, σ(p)\, g / λ`. So a small λ changes by a share of itself:
    by 2 % for 100 units of cost above the budget, at η = 2e-4.

    Attributes:
        multiplier_init: λ0.
        learning_rate: η.
    """

    multiplier_init: Positive = 0.02
    learning_rate: Positive = 2e-4

    def init(self, num_costs: int) -> Float[Array, " C"]:
        return jnp.full(num_costs, jnp.log(jnp.expm1(self.multiplier_init)), jnp.float32)

    def penalty(self, state: Float[Array, " C"], violation: Float[Array, " C"]) -> Float[Array, ""]:
        return (self.multiplier(state) * violation).sum()

    def multiplier(self, state: Float[Array, " C"]) -> Float[Array, " C"]:
        return jax.nn.softplus(state)

    def on_episode(self, state: Float[Array, " C"], violation: Float[Array, " C"]) -> Float[Array, " C"]:
        return state + self.learning_rate * jax.nn.sigmoid(state) / self.multiplier(state) * violation


@dataclass(frozen=True)
class Switch(Stateless):
    r"""Constraint-rectified policy optimisation (CRPO: Xu et al. 2021, algorithm 1).

    While all budgets hold, a step increases the return. Otherwise it reduces the cost that exceeds its budget the most.

    Attributes:
        tolerance: η, the violation up to which a budget counts as held.
    """

    tolerance: NonNegative = 0.0

    def loss(
        self, state: Float[Array, " C"], task: Float[Array, ""], violation: Float[Array, " C"]
    ) -> Float[Array, ""]:
        # Not max(): its derivative compares the maximum with values that XLA may recompute with other rounding.
        worst = violation[jnp.argmax(violation)]
        return jnp.where(worst <= self.tolerance, task, worst)


@dataclass(frozen=True)
class CostPenalty(Unpriced):
    """Reward shaping: costs times ``weight`` are subtracted from rewards. No budget is used."""

    weight: NonNegative = 0.1

    def shaped(self, rows: Batch, limits: Float[Array, " C"]) -> Float[Array, "*batch"]:
        return jnp.asarray(rows.reward) - self.weight * jnp.asarray(rows.cost).sum(-1)


@dataclass(frozen=True)
class Saute(Unpriced):
    r"""Sautéed environments (Sootla et al. 2022): the policy sees the rest of the budget.

    As soon as the budget is exceeded, ``unsafe_reward`` replaces the reward.

    .. math::
        z_t = \mathrm{clip}\Big(\frac{d - \sum_{k ≤ t} c_k}{\max(d, 1)}, -1, 1\Big),\qquad
        \tilde r_t = \begin{cases} r_t & z_t ≥ 0 \text{ for all constraints}\\ r_{unsafe} & \text{else}\end{cases}

    This is the paper's :math:`z' = (z - c/d)/γ_s` with γ_s = 1. So d bounds the sum of an episode's costs, not only on
    average but with probability (nearly) one. The environment must have the observation :data:`SPENT`.

    Attributes:
        unsafe_reward: r_unsafe.
    """

    unsafe_reward: EitherSign = -0.2

    def observed(self, observation: Observation, limits: Float[Array, " C"]) -> Observation:
        return {**observation, SPENT: jnp.clip(self._left(observation, limits), -1.0, 1.0)}

    def shaped(self, rows: Batch, limits: Float[Array, " C"]) -> Float[Array, "*batch"]:
        within = (self._left(rows.observation, limits) >= 0).all(-1)
        return jnp.where(within, jnp.asarray(rows.reward), self.unsafe_reward)

    @staticmethod
    def _left(observation: Observation, limits: Float[Array, " C"]) -> Float[Array, "*batch C"]:
        return (limits - observation[SPENT]) / jnp.maximum(limits, 1.0)
