"""How a policy improves on a rollout: one frozen dataclass for each rule.

A rule is given what the policy did and how much better than expected each decision turned out (:class:`Rollout`), and
returns the policy after it. ``ClippedSurrogate`` is PPO, ``PenalisedDivergence`` FOCOPS; they descend on minibatches.
``TrustRegion`` is TRPO and ``ConstrainedTrustRegion`` CPO; they take one natural-gradient step.

With ρ the ratio of an action's probabilities under the new and the old policy, all want
:math:`\\max_π \\mathbb E[ρ A]` without going far from the old policy.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from prudence.actors import Policy
from prudence.ops.trust_region import Vector, backtrack, cpo_step, fisher_product, natural
from prudence.optim import Optimised
from prudence.ranges import Few, NonNegative, Positive, ShareAboveZero, Size, between
from prudence.types import Key, Metrics, tree_index

P = TypeVar("P", bound=eqx.Module)
Scalar = Float[Array, ""]


class Rollout(NamedTuple):
    """N decisions of a rollout, flattened.

    Attributes:
        inputs: what the policy saw, leading axis N.
        actions: ``[N, A]`` as they were executed.
        old: the policy's distributions when it acted, and their log-probabilities of the actions, ``[N]``.
        advantages: ``[N]`` of reward, less the priced advantages of costs.
        cost_advantages: ``[N, C]``.
        weights: ``[N]`` 1, and 0 where nothing was decided (an episode had ended).
        violation: ``[C]`` the mean episode cost minus the budget, per decision: a change of the mean cost advantage
            by as much mends it.
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
        """The decisions with these numbers."""
        of_each = tree_index(self._replace(violation=None, rate=None), index)
        return of_each._replace(violation=self.violation, rate=self.rate)

    @property
    def halves(self) -> tuple[Rollout, Rollout]:
        """The earlier decisions and the later ones."""
        middle = len(self.weights) // 2
        return self.minibatch(jnp.arange(middle)), self.minibatch(jnp.arange(middle, 2 * middle))

    def mean(self, values: Float[Array, "N *C"]) -> Float[Array, "*C"]:
        """Over the decisions that count."""
        return jnp.tensordot(self.weights, values, 1) / jnp.maximum(self.weights.sum(), 1.0)

    def ratios(self, policy: Policy) -> Float[Array, " N"]:
        """ρ."""
        return jnp.exp(policy.log_prob(self.actions) - self.log_probs)

    def divergence(self, policy: Policy) -> Scalar:
        """Mean KL(old ‖ new)."""
        return self.mean(self.old.kl(policy))


class Improvement(abc.ABC):
    """A rule of improvement; see the module's docstring."""

    @property
    @abc.abstractmethod
    def values_costs(self) -> bool:
        """Whether it looks at ``cost_advantages`` itself."""

    @abc.abstractmethod
    def improve(self, actor: Optimised[P], rollout: Rollout, *, key: Key) -> tuple[Optimised[P], Metrics]:
        """The policy after one rollout. The module maps ``rollout.inputs`` to a :class:`Policy`."""


# ---- first order -----------------------------------------------------------------------------


@dataclass(frozen=True)
class FirstOrder(Improvement):
    """Passes of gradient descent on a loss over minibatches, until the mean divergence from the old policy is too
    large.

    Attributes:
        passes: over the rollout, at the most.
        batch_size: decisions of a minibatch; what is left over in a pass is another one's turn in the next.
        kl_limit: no further pass once the mean KL(old ‖ new) exceeds this.
    """

    passes: Few = 40
    batch_size: Size = 64
    kl_limit: Positive = 0.02

    @property
    def values_costs(self) -> bool:
        return False

    @abc.abstractmethod
    def loss(self, policy: Policy, rollout: Rollout) -> Scalar:
        """Of a minibatch."""

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

        goes_on = lambda state: (state[0] < self.passes) & (state[3] <= self.kl_limit)
        start = (jnp.asarray(0), arrays, jnp.zeros(()), jnp.zeros(()))
        number, arrays, value, kl = jax.lax.while_loop(goes_on, again, start)
        metrics = {"actor/loss": value, "actor/kl": kl, "actor/passes": number.astype(jnp.float32)}
        return eqx.combine(arrays, rest), metrics


@dataclass(frozen=True)
class ClippedSurrogate(FirstOrder):
    r"""Proximal policy optimisation (Schulman et al. 2017, equation 7), descending on
    :math:`-\min(ρA, \mathrm{clip}(ρ, 1-ε, 1+ε) A)`.

    Attributes:
        clip: ε.
    """

    clip: ShareAboveZero = 0.2

    def loss(self, policy: Policy, rollout: Rollout) -> Scalar:
        ratios = rollout.ratios(policy)
        clipped = jnp.clip(ratios, 1 - self.clip, 1 + self.clip)
        return -rollout.mean(jnp.minimum(ratios * rollout.advantages, clipped * rollout.advantages))


@dataclass(frozen=True)
class PenalisedDivergence(FirstOrder):
    r"""First-order constrained optimisation in policy space (FOCOPS: Zhang et al. 2020, equation 12), descending on
    :math:`\big(\mathrm{KL}(π ‖ π_{old}) - \tfrac1β ρ A\big)\, 1\{\mathrm{KL} ≤ δ\}`.

    Attributes:
        temperature: β, the price of divergence (the paper's λ).
        divergence_limit: δ: decisions at which the policy has gone farther teach nothing.
    """

    temperature: Positive = 1.5
    divergence_limit: Positive = 0.02

    def loss(self, policy: Policy, rollout: Rollout) -> Scalar:
        divergence = policy.kl(rollout.old)
        near = jax.lax.stop_gradient(divergence) <= self.divergence_limit
        return rollout.mean((divergence - rollout.ratios(policy) * rollout.advantages / self.temperature) * near)


def minibatches(number: int, size: int, *, key: Key) -> Array:
    """The numbers 0 ... number - 1 in random order, as ``[M, size]``; less than a minibatch is left out."""
    size = min(size, number)
    return jax.random.permutation(key, number)[: number - number % size].reshape(-1, size)


# ---- second order ----------------------------------------------------------------------------


class _Flat(Generic[P]):
    """A policy as a function of one vector of parameters, and the problem of :mod:`prudence.ops.trust_region`."""

    def __init__(self, actor: Optimised[P], rollout: Rollout):
        params, rest = eqx.partition(actor.module, eqx.is_inexact_array)
        self.at, unravel = ravel_pytree(params)
        self._actor, self._lesson, self._rest, self._unravel = actor, rollout, rest, unravel

    def module(self, vector: Vector) -> Any:
        return eqx.combine(self._unravel(vector), self._rest)

    def policy(self, vector: Vector) -> Policy:
        return self.module(vector)(self._lesson.inputs)

    def divergence(self, vector: Vector) -> Scalar:
        return self._lesson.divergence(self.policy(vector))

    def surrogate(self, vector: Vector) -> Scalar:
        """Mean of ρA."""
        return self._lesson.mean(self._lesson.ratios(self.policy(vector)) * self._lesson.advantages)

    def costs(self, vector: Vector) -> Float[Array, " C"]:
        """Mean of ρA for each cost."""
        ratios = self._lesson.ratios(self.policy(vector))
        return self._lesson.mean(ratios[:, None] * self._lesson.cost_advantages)

    def moved(self, step: Vector) -> Optimised[P]:
        return eqx.tree_at(lambda actor: actor.module, self._actor, self.module(self.at + step))


@dataclass(frozen=True)
class SecondOrder(Improvement):
    """One natural-gradient step within a trust region, cut back by a line search.

    Attributes:
        kl_limit: δ.
        damping: added to the Fisher matrix's diagonal.
        iterations: of conjugate gradients.
        shrink, attempts: the line search tries 1, ``shrink``, ``shrink``² ... of the step.
    """

    kl_limit: Positive = 0.01
    damping: NonNegative = 0.1
    iterations: Few = 15
    shrink: Annotated[float, between(0, 1, open_low=True, open_high=True)] = 0.8
    attempts: Few = 15


@dataclass(frozen=True)
class TrustRegion(SecondOrder):
    r"""Trust-region policy optimisation (Schulman et al. 2015, appendix C): the step
    :math:`\sqrt{2δ / g^\top H^{-1} g}\, H^{-1} g`, cut back until the surrogate improves and the mean KL is within δ.
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
    r"""Constrained policy optimisation (Achiam et al. 2017, algorithm 1): :func:`prudence.ops.trust_region.cpo_step`,
    then a line search in which the costs' surrogates may not rise by more than their budgets have left.

    The closed form has one constraint. Of several it is given those that are exceeded together, weighted by their
    violations (one by one they would undo each other's steps), or else the one that is the nearest to being exceeded;
    the line search looks at the rest.

    The closed form believes that a step changes the mean cost advantage by bᵀθ. Of a rollout with no more decisions
    than the policy has parameters most of that is noise: it is promised, and does not come. With ``discount_promises``
    the violation is divided by the share of the promise that also comes in data apart, estimated by
    :math:`b_1^\top H^{-1} b_2 / b^\top H^{-1} b` with the gradients of the rollout's two halves: where little comes,
    more has to be promised.

    Attributes:
        discount_promises: see above; the paper believes them.
    """

    attempts: Few = 20
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
            # Where nothing feasible is near, or first has to be reached, reward may be given up.
            improves = (flat.surrogate(there) > before) | (dual.case <= 1)
            return within & improves & (flat.divergence(there) <= self.kl_limit)

        fraction = backtrack(accepts, self.shrink, self.attempts)
        metrics = _step_metrics(flat, fraction, step, gradient)
        return flat.moved(fraction * step), metrics | {"cpo/case": dual.case.astype(jnp.float32), "cpo/kept": kept}


def _cost_gradient(flat: _Flat[Any], shares: Float[Array, " C"]) -> Vector:
    """b, of the constraints in these shares."""
    return jax.grad(lambda at: shares @ flat.costs(at))(flat.at)


def _shares(violation: Float[Array, " C"]) -> Float[Array, " C"]:
    """Weights, summing to 1, of the constraints that are exceeded; of the nearest to it alone if none is."""
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
