"""Improvement rules: how a policy improves on a rollout. Each rule is a frozen dataclass.

A rule gets the decisions of the policy and their advantages (:class:`Rollout`), and returns the improved policy.
``ClippedSurrogate`` is PPO, and ``PenalisedDivergence`` is FOCOPS. Both use gradient descent on minibatches.
``TrustRegion`` is TRPO, and ``ConstrainedTrustRegion`` is CPO. Both take one natural-gradient step.

Let ρ be the ratio of an action's probabilities under the new and the old policy. All rules maximise
:math:`\\max_π \\mathbb E[ρ A]` and stay near the old policy.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from prudence.actors import Policy
from prudence.ops.trust_region import Vector, backtrack, cpo_step, fisher_product, natural
from prudence.optim import Optimised
from prudence.types import Key, Metrics, tree_index

P = TypeVar("P", bound=eqx.Module)
Scalar = Float[Array, ""]


class Rollout(NamedTuple):
    """N decisions of a rollout, flattened.

    Attributes:
        inputs: the policy's inputs, with leading axis N.
        actions: ``[N, A]`` executed actions.
        old: the policy's distributions when it acted.
        log_probs: ``[N]`` log-probabilities of the actions under ``old``.
        advantages: ``[N]`` advantages of reward, minus the priced advantages of costs.
        cost_advantages: ``[N, C]`` advantages of costs.
        weights: ``[N]`` 1 for a decision, and 0 for a row that is none, because an episode had ended.
        violation: ``[C]`` mean episode cost minus the budget, per decision. If the mean cost advantage falls by this
            amount, the constraint holds.
        rate: factor on learning rates.
    """

    inputs: PyTree
    actions: Float[Array, "N A"]
    old: Policy
    log_probs: Float[Array, " N"]
    advantages: Float[Array, " N"]
    cost_advantages: Float[Array, "N C"]
    weights: Float[Array, " N"]
    violation: Float[Array, " C"]
    rate: Scalar

    def minibatch(self, index: Array) -> Rollout:
        """The decisions with the indices ``index``."""
        of_each = tree_index(self._replace(violation=None, rate=None), index)
        return of_each._replace(violation=self.violation, rate=self.rate)

    @property
    def halves(self) -> tuple[Rollout, Rollout]:
        """The first and the second half of the decisions."""
        middle = len(self.weights) // 2
        return self.minibatch(jnp.arange(middle)), self.minibatch(jnp.arange(middle, 2 * middle))

    def mean(self, values: Float[Array, "N *C"]) -> Float[Array, "*C"]:
        """The weighted mean over the decisions."""
        return jnp.tensordot(self.weights, values, 1) / jnp.maximum(self.weights.sum(), 1.0)

    def ratios(self, policy: Policy) -> Float[Array, " N"]:
        """ρ, the ratios of the actions' probabilities under ``policy`` and under the old policy."""
        return jnp.exp(policy.log_prob(self.actions) - self.log_probs)

    def divergence(self, policy: Policy) -> Scalar:
        """Mean KL(old ‖ new)."""
        return self.mean(self.old.kl(policy))


class Improvement(abc.ABC):
    """An improvement rule; see the docstring of the module."""

    @property
    @abc.abstractmethod
    def values_costs(self) -> bool:
        """Whether the rule itself uses ``cost_advantages``."""

    @abc.abstractmethod
    def improve(self, actor: Optimised[P], rollout: Rollout, *, key: Key) -> tuple[Optimised[P], Metrics]:
        """The improved policy and metrics. The actor's module maps ``rollout.inputs`` to a :class:`Policy`."""


# ---- first order -----------------------------------------------------------------------------


@dataclass(frozen=True)
class FirstOrder(Improvement):
    """Gradient descent on a loss over minibatches, until the mean divergence from the old policy is too large.

    Attributes:
        passes: largest number of passes over the rollout.
        batch_size: number of decisions in a minibatch. An incomplete minibatch at the end of a pass is left out.
        kl_limit: passes stop when the mean KL(old ‖ new) exceeds this.
    """

    passes: int = 40
    batch_size: int = 64
    kl_limit: float = 0.02

    @property
    def values_costs(self) -> bool:
        return False

    @abc.abstractmethod
    def loss(self, policy: Policy, rollout: Rollout) -> Scalar:
        """The loss of a minibatch."""

    def improve(self, actor: Optimised[P], rollout: Rollout, *, key: Key) -> tuple[Optimised[P], Metrics]:
        arrays, rest = eqx.partition(actor, eqx.is_array)

        def step(arrays: PyTree, index: Array) -> tuple[PyTree, Scalar]:
            actor, part = eqx.combine(arrays, rest), rollout.minibatch(index)
            value, gradient = eqx.filter_value_and_grad(lambda net: self.loss(net(part.inputs), part))(actor.module)
            actor, _ = actor.descend(gradient, "actor", rollout.rate)
            return eqx.filter(actor, eqx.is_array), value

        def again(state: tuple[Array, PyTree, Scalar, Scalar]) -> tuple[Array, PyTree, Scalar, Scalar]:
            number, arrays, _, _ = state
            order = minibatches(len(rollout.weights), self.batch_size, key=jax.random.fold_in(key, number))
            arrays, losses = jax.lax.scan(step, arrays, order)
            kl = rollout.divergence(eqx.combine(arrays, rest).module(rollout.inputs))
            return number + 1, arrays, losses.mean(), kl

        def goes_on(state: tuple[Array, PyTree, Scalar, Scalar]) -> Bool[Array, ""]:
            number, _, _, kl = state
            return (number < self.passes) & (kl <= self.kl_limit)

        start = (jnp.asarray(0), arrays, jnp.zeros(()), jnp.zeros(()))
        number, arrays, value, kl = jax.lax.while_loop(goes_on, again, start)
        metrics = {"actor/loss": value, "actor/kl": kl, "actor/passes": number.astype(jnp.float32)}
        return eqx.combine(arrays, rest), metrics


@dataclass(frozen=True)
class ClippedSurrogate(FirstOrder):
    r"""Proximal policy optimisation (Schulman et al. 2017, equation 7).

    The loss is :math:`-\min(ρA, \mathrm{clip}(ρ, 1-ε, 1+ε) A)`.

    Attributes:
        clip: ε.
    """

    clip: float = 0.2

    def loss(self, policy: Policy, rollout: Rollout) -> Scalar:
        ratios = rollout.ratios(policy)
        clipped = jnp.clip(ratios, 1 - self.clip, 1 + self.clip)
        return -rollout.mean(jnp.minimum(ratios * rollout.advantages, clipped * rollout.advantages))


@dataclass(frozen=True)
class PenalisedDivergence(FirstOrder):
    r"""First-order constrained optimisation in policy space (FOCOPS: Zhang et al. 2020, equation 12).

    The loss is :math:`\big(\mathrm{KL}(π ‖ π_{old}) - \tfrac1β ρ A\big)\, 1\{\mathrm{KL} ≤ δ\}`.

    Attributes:
        temperature: β, the price of divergence (the paper's λ).
        divergence_limit: δ. Decisions with a larger divergence do not contribute to the loss.
    """

    temperature: float = 1.5
    divergence_limit: float = 0.02

    def loss(self, policy: Policy, rollout: Rollout) -> Scalar:
        divergence = policy.kl(rollout.old)
        near = jax.lax.stop_gradient(divergence) <= self.divergence_limit
        return rollout.mean((divergence - rollout.ratios(policy) * rollout.advantages / self.temperature) * near)


def minibatches(number: int, size: int, *, key: Key) -> Array:
    """The indices 0 ... number - 1 in random order, as ``[M, size]``. An incomplete minibatch is left out."""
    size = min(size, number)
    return jax.random.permutation(key, number)[: number - number % size].reshape(-1, size)


# ---- second order ----------------------------------------------------------------------------


class _Flat(Generic[P]):
    """A policy as a function of one parameter vector, with the functions that the trust-region step needs."""

    def __init__(self, actor: Optimised[P], rollout: Rollout):
        params, rest = eqx.partition(actor.module, eqx.is_inexact_array)
        self.at, unravel = ravel_pytree(params)
        self._actor, self._rollout, self._rest, self._unravel = actor, rollout, rest, unravel

    def module(self, vector: Vector) -> Any:
        return eqx.combine(self._unravel(vector), self._rest)

    def policy(self, vector: Vector) -> Policy:
        return self.module(vector)(self._rollout.inputs)

    def divergence(self, vector: Vector) -> Scalar:
        return self._rollout.divergence(self.policy(vector))

    def surrogate(self, vector: Vector) -> Scalar:
        """The mean of ρA."""
        return self._rollout.mean(self._rollout.ratios(self.policy(vector)) * self._rollout.advantages)

    def costs(self, vector: Vector) -> Float[Array, " C"]:
        """The mean of ρA for each cost."""
        ratios = self._rollout.ratios(self.policy(vector))
        return self._rollout.mean(ratios[:, None] * self._rollout.cost_advantages)

    def moved(self, step: Vector) -> Optimised[P]:
        return eqx.tree_at(lambda actor: actor.module, self._actor, self.module(self.at + step))


@dataclass(frozen=True)
class SecondOrder(Improvement):
    """One natural-gradient step within a trust region. A line search shortens it if necessary.

    Attributes:
        kl_limit: δ, the largest mean KL divergence of a step.
        damping: number that is added to the diagonal of the Fisher matrix.
        iterations: number of conjugate-gradient iterations.
        shrink, attempts: the line search tries the fractions 1, ``shrink``, ``shrink``², ... of the step, at most
            ``attempts`` of them.
    """

    kl_limit: float = 0.01
    damping: float = 0.1
    iterations: int = 15
    shrink: float = 0.8
    attempts: int = 15


@dataclass(frozen=True)
class TrustRegion(SecondOrder):
    r"""Trust-region policy optimisation (Schulman et al. 2015, appendix C).

    The step is :math:`\sqrt{2δ / g^\top H^{-1} g}\, H^{-1} g`. The line search shortens it until the surrogate improves
    and the mean KL is within δ.
    """

    @property
    def values_costs(self) -> bool:
        return False

    def improve(self, actor: Optimised[P], rollout: Rollout, *, key: Key) -> tuple[Optimised[P], Metrics]:
        flat = _Flat(actor, rollout)
        before, gradient = jax.value_and_grad(flat.surrogate)(flat.at)
        direction = natural(fisher_product(flat.divergence, flat.at, self.damping), gradient, self.iterations)
        step = jnp.sqrt(2 * self.kl_limit / jnp.maximum(gradient @ direction, 1e-8)) * direction

        def accepts(fraction: Scalar) -> Bool[Array, ""]:
            there = flat.at + fraction * step
            return (flat.surrogate(there) > before) & (flat.divergence(there) <= self.kl_limit)

        fraction = backtrack(accepts, self.shrink, self.attempts)
        return flat.moved(fraction * step), _step_metrics(flat, fraction, step, gradient)


@dataclass(frozen=True)
class ConstrainedTrustRegion(SecondOrder):
    r"""Constrained policy optimisation (Achiam et al. 2017, algorithm 1).

    The step is :func:`prudence.ops.trust_region.cpo_step`. In the line search, the surrogate of a cost may rise by at
    most the rest of its budget.

    The closed form has one constraint. If several budgets are exceeded, their constraints are combined into one, with
    their violations as weights; steps for one at a time would undo each other. If none is exceeded, the closed form
    gets the constraint that is nearest to its budget. The line search checks all constraints.

    The closed form predicts that a step θ changes the mean cost advantage by bᵀθ. If a rollout has no more decisions
    than the policy has parameters, most of the predicted change is noise and does not occur. With
    ``discount_promises``, the violation is divided by the share of the predicted change that also occurs in independent
    data. The share is estimated by :math:`b_1^\top H^{-1} b_2 / b^\top H^{-1} b`, where b₁ and b₂ are the gradients of
    the two halves of the rollout. The smaller the share, the larger the predicted change has to be.

    Attributes:
        discount_promises: whether the predicted change is corrected as described above. The paper does not correct it.
    """

    attempts: int = 20
    discount_promises: bool = False

    @property
    def values_costs(self) -> bool:
        return True

    def improve(self, actor: Optimised[P], rollout: Rollout, *, key: Key) -> tuple[Optimised[P], Metrics]:
        flat, shares = _Flat(actor, rollout), _shares(rollout.violation)
        violation = shares @ rollout.violation
        before, gradient = jax.value_and_grad(flat.surrogate)(flat.at)
        costs = flat.costs(flat.at)
        cost_gradient = _cost_gradient(flat, shares)
        product = fisher_product(flat.divergence, flat.at, self.damping)
        for_reward, for_cost = (natural(product, vector, self.iterations) for vector in (gradient, cost_gradient))
        squared, kept = cost_gradient @ for_cost, jnp.ones(())
        if self.discount_promises:
            left, right = (_cost_gradient(_Flat(actor, half), shares) for half in rollout.halves)
            shared = left @ natural(product, right, self.iterations)
            kept = jnp.clip(shared / jnp.maximum(squared, 1e-12), 1e-3, 1.0)
        dual = cpo_step(gradient @ for_reward, gradient @ for_cost, squared, violation / kept, self.kl_limit)
        step = dual.along_reward * for_reward - dual.against_cost * for_cost

        def accepts(fraction: Scalar) -> Bool[Array, ""]:
            there = flat.at + fraction * step
            rise = flat.costs(there) - costs
            within = (shares @ rise <= jnp.maximum(-violation, 0.0)) & (
                (rise <= -rollout.violation) | (rollout.violation > 0)
            ).all()
            # If no feasible policy is near, or the current one is infeasible, the step may reduce the return.
            improves = (flat.surrogate(there) > before) | (dual.case <= 1)
            return within & improves & (flat.divergence(there) <= self.kl_limit)

        fraction = backtrack(accepts, self.shrink, self.attempts)
        metrics = _step_metrics(flat, fraction, step, gradient)
        return flat.moved(fraction * step), metrics | {"cpo/case": dual.case.astype(jnp.float32), "cpo/kept": kept}


def _cost_gradient(flat: _Flat[Any], shares: Float[Array, " C"]) -> Vector:
    """b, the gradient of the costs' surrogates, combined with the weights ``shares``."""
    return jax.grad(lambda at: shares @ flat.costs(at))(flat.at)


def _shares(violation: Float[Array, " C"]) -> Float[Array, " C"]:
    """Weights of the exceeded constraints, with sum 1. If there is none, the one nearest to its budget has weight 1."""
    exceeded = jnp.maximum(violation, 0.0)
    nearest = jax.nn.one_hot(jnp.argmax(violation), len(violation))
    return jnp.where(exceeded.sum() > 0, exceeded / jnp.maximum(exceeded.sum(), 1e-12), nearest)


def _step_metrics(flat: _Flat[Any], fraction: Scalar, step: Vector, gradient: Vector) -> Metrics:
    return {
        "actor/loss": -flat.surrogate(flat.at + fraction * step),
        "actor/kl": flat.divergence(flat.at + fraction * step),
        "actor/step_fraction": fraction,
        "actor/gradient_norm": jnp.linalg.norm(gradient),
    }
