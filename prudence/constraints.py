"""Constraints: how a violation of the budgets enters the actor's objective.

A constraint is static configuration with pure functions over its state. It forms the actor's loss from the task's and
from the *violations* ``[C]`` of the budgets (:mod:`prudence.budgets` says how they are measured).
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from prudence.ranges import EitherSign, Natural, NonNegative, ShareAboveZero, ShareBelowOne, between
from prudence.types import Batch, Observation

SPENT = "spent"
"""The observation that :class:`Saute` needs: what each cost has summed up to in the episode, ``[C]``."""


class Constraint(abc.ABC):
    """How costs enter what an actor learns."""

    @abc.abstractmethod
    def init(self, num_costs: int) -> Any:
        """The state before training."""

    @abc.abstractmethod
    def multiplier(self, state: Any) -> Float[Array, " C"]:
        """λ, the price of one unit of violation; 0 where a constraint has none."""

    @abc.abstractmethod
    def loss(self, state: Any, task: Float[Array, ""], violation: Float[Array, " C"]) -> Float[Array, ""]:
        """The actor's loss, given that of the task alone (−return); differentiable in both."""

    def weights(self, state: Any, violation: Float[Array, " C"]) -> tuple[Float[Array, ""], Float[Array, " C"]]:
        """The derivatives of :meth:`loss`: the weights of reward and of cost advantages in a policy gradient."""
        return jax.grad(lambda inputs: self.loss(state, *inputs))((jnp.zeros(()), violation))

    def update(self, state: Any, violation: Float[Array, " C"], pace: float = 1.0) -> Any:
        """The state after one actor step with this violation; ``pace`` is a factor on how far a multiplier moves."""
        return state

    def on_episode(self, state: Any, violation: Float[Array, " C"]) -> Any:
        """The state after a finished training episode with this violation."""
        return state

    def observed(self, observation: Observation, limits: Float[Array, " C"]) -> Observation:
        """What a policy without a world model sees of ``observation``."""
        return observation

    def shaped(self, rows: Batch, limits: Float[Array, " C"]) -> Float[Array, "*batch"]:
        """The rewards that an agent without a world model learns from."""
        return jnp.asarray(rows.reward)


class Lagrangian(Constraint):
    """A constraint whose loss is the task's and a penalty."""

    @abc.abstractmethod
    def penalty(self, state: Any, violation: Float[Array, " C"]) -> Float[Array, ""]:
        """What is added to the task's loss, summed over constraints; differentiable in the violation."""

    def loss(self, state: Any, task: Float[Array, ""], violation: Float[Array, " C"]) -> Float[Array, ""]:
        return task + self.penalty(state, violation)


class Stateless(Constraint):
    """A constraint without a multiplier."""

    def init(self, num_costs: int) -> Float[Array, " C"]:
        return jnp.zeros(num_costs)

    def multiplier(self, state: Float[Array, " C"]) -> Float[Array, " C"]:
        return state


class Unpriced(Stateless):
    """A constraint that leaves the actor's loss as it is: it needs no values of costs."""

    def loss(self, state: Any, task: Float[Array, ""], violation: Float[Array, " C"]) -> Float[Array, ""]:
        return task


@dataclass(frozen=True)
class Unconstrained(Unpriced):
    """Costs are ignored."""


class AugmentedLagrangianState(NamedTuple):
    """``multiplier`` λ and ``penalty_factor`` μ, both ``[C]``."""

    multiplier: Float[Array, " C"]
    penalty_factor: Float[Array, " C"]


@dataclass(frozen=True)
class AugmentedLagrangian(Lagrangian):
    r"""Proximal relaxation of a Lagrangian (LAMBDA section 3, SafeDreamer eq. 9 and 10, AsymDreamer eq. 22 to 24).

    .. math::
        Ψ(g) = \begin{cases} λg + \fracμ2 g^2 & λ + μg > 0\\ -\frac{λ^2}{2μ} & \text{else}\end{cases}
        \qquad λ ← \max(0, λ + μg),\quad μ ← \mathrm{clip}(μ(1+ν), μ, 1)

    It equals :math:`\max_{λ' ≥ 0} λ'g - (λ'-λ)^2 / 2μ` (the papers print 1/μ for the last factor, which
    their own update rules contradict). The gradient through g is max(0, λ+μg). λ and μ move once per
    actor step, after Ψ was formed with the old ones.

    Attributes:
        multiplier_init: λ0. The defaults are the papers' constants.
        penalty_factor_init: μ0.
        growth: ν.
        dual_rate: η, the step of λ ← max(0, λ + ηg); None is the papers' η = μ. As a controller of the cost,
            μ is the proportional gain and η the integral one: a smaller η damps the oscillation that a
            multiplier makes when the policy answers late. Where g is lived and relative (``Lived.relative``), the step
            is that of a whole run: η = 1 and a cost of twice its budget raise λ by 1 from its beginning to its end,
            however long the run is.
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
    """Everything that a :class:`PIDLagrangian` remembers; ``past [D, C]`` has the last D smoothed violations, oldest
    first, and ``episodes`` counts."""

    violation: Float[Array, " C"]
    proportional: Float[Array, " C"]
    integral: Float[Array, " C"]
    derivative: Float[Array, " C"]
    past: Float[Array, "D C"]
    multiplier: Float[Array, " C"]
    episodes: Int[Array, ""]


@dataclass(frozen=True)
class PIDLagrangian(Lagrangian):
    r"""A multiplier that a PID controller sets from the costs of finished training episodes (Stooke et al. 2020;
    SafeDreamer section 4.2 and Table 6).

    With δ the running mean of the violations (episode cost minus budget), freed from the bias of its start,

    .. math::
        P ← αP + (1-α)δ,\quad I ← \mathrm{clip}(I + k_i δ, 0, λ_{max}),\quad D ← \max(0, \bar δ - \bar δ_{-d}),\quad
        λ = \mathrm{clip}(k_p P + I + k_d D, 0, λ_{max})

    where :math:`\bar δ` is δ smoothed by α and :math:`\bar δ_{-d}` the same d episodes earlier. The integral stops at
    the bounds of λ (released code: only at 0, so it winds up); evaluation episodes never enter.

    Attributes:
        proportional, integral, derivative: k_p, k_i, k_d.
        maximum: λ_max.
        integral_init: the integral's start.
        smoothing: α. cost_smoothing: share of the old mean in the running mean of violations.
        delay: d, episodes. warmup: episodes before the multiplier moves.
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
    """``multiplier`` λ ``[C]`` and the state of the optimiser that moves it."""

    multiplier: Float[Array, " C"]
    optimiser: optax.OptState


@dataclass(frozen=True)
class DualAscent(Lagrangian):
    r"""A multiplier that ascends on the violation, :math:`λ ← \mathrm{clip}(λ + \mathrm{Adam}(g), 0, λ_{max})` (the
    "Lag" of PPO-Lag and TRPO-Lag: Ray et al. 2019, section 5; constants as in OmniSafe).

    Adam moves λ by about ``learning_rate`` whatever the size of the violation, and its momentum carries on for some
    ten steps after the violation has changed sign.

    Attributes:
        maximum: λ_max; None is no bound (FOCOPS has 2).
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
class Switch(Stateless):
    r"""Constraint-rectified policy optimisation (CRPO: Xu et al. 2021, algorithm 1): a step increases the return while
    all budgets hold, else it reduces the cost that exceeds its budget the most.

    Attributes:
        tolerance: η, how far a budget may be exceeded before that, in the unit of violations.
    """

    tolerance: NonNegative = 0.0

    def loss(
        self, state: Float[Array, " C"], task: Float[Array, ""], violation: Float[Array, " C"]
    ) -> Float[Array, ""]:
        # Not max(): its derivative compares the maximum with values that XLA may have computed again, and rounded.
        worst = violation[jnp.argmax(violation)]
        return jnp.where(worst <= self.tolerance, task, worst)


@dataclass(frozen=True)
class CostPenalty(Unpriced):
    """Costs are subtracted from rewards, ``weight`` each (reward shaping). No budget enters."""

    weight: NonNegative = 0.1

    def shaped(self, rows: Batch, limits: Float[Array, " C"]) -> Float[Array, "*batch"]:
        return jnp.asarray(rows.reward) - self.weight * jnp.asarray(rows.cost).sum(-1)


@dataclass(frozen=True)
class Saute(Unpriced):
    r"""Sautéed environments (Sootla et al. 2022): the policy sees how much of the budget is left, and is paid
    ``unsafe_reward`` instead of what it earns as soon as the budget is exceeded.

    .. math::
        z_t = \mathrm{clip}\Big(\frac{d - \sum_{k ≤ t} c_k}{\max(d, 1)}, -1, 1\Big),\qquad
        \tilde r_t = \begin{cases} r_t & z_t ≥ 0 \text{ for all constraints}\\ r_{unsafe} & \text{else}\end{cases}

    It is the paper's :math:`z' = (z - c/d)/γ_s` with γ_s = 1, so that the sum of an episode's costs is what is held
    against d, with probability (nearly) one rather than on average. The environment has to show :data:`SPENT`.
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
