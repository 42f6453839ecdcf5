"""Steps within a trust region: natural gradients, line search, and CPO's dual.

All are about the problem of one policy update, with θ the change of the parameters and H the Hessian of the mean
KL divergence at the old ones (the Fisher information):

.. math::
    \\max_θ\\; g^\\top θ \\quad\\text{s.t.}\\quad \\tfrac12 θ^\\top H θ ≤ δ,\\quad c + b^\\top θ ≤ 0

where TRPO (Schulman et al. 2015) lacks the second constraint and CPO (Achiam et al. 2017, section 5) has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array, Bool, Float, Int

Vector = Float[Array, " P"]
Scalar = Float[Array, ""]


def fisher_product(kl: Callable[[Vector], Scalar], at: Vector, damping: float) -> Callable[[Vector], Vector]:
    r""":math:`v ↦ (H + εI) v`, with H the Hessian of ``kl`` at ``at``: the derivative of its gradient along v."""
    return lambda v: jax.jvp(jax.grad(kl), (at,), (v,))[1] + damping * v


def natural(product: Callable[[Vector], Vector], vector: Vector, iterations: int) -> Vector:
    """H⁻¹ ``vector`` by so many iterations of conjugate gradients; fewer where the residual vanishes before.

    Solved for a vector whose largest entry is 1: that of a policy without chance left is so small that its square is 0.
    """
    size = jnp.abs(vector).max()
    solution = cg(product, vector / jnp.maximum(size, 1e-30), tol=1e-6, maxiter=iterations)[0]
    return jnp.where(size > 1e-30, size * solution, 0.0)


def backtrack(accepts: Callable[[Scalar], Bool[Array, ""]], shrink: float, attempts: int) -> Scalar:
    """The first of 1, ``shrink``, ``shrink``², ... that is accepted; 0 if none of so many ``attempts`` is."""

    def fraction(attempt: Int[Array, ""]) -> Scalar:
        return shrink ** attempt.astype(jnp.float32)

    def fails(state: tuple[Int[Array, ""], Bool[Array, ""]]) -> Bool[Array, ""]:
        attempt, accepted = state
        return ~accepted & (attempt + 1 < attempts)

    def again(state: tuple[Int[Array, ""], Bool[Array, ""]]) -> tuple[Int[Array, ""], Bool[Array, ""]]:
        return state[0] + 1, accepts(fraction(state[0] + 1))

    attempt, accepted = jax.lax.while_loop(fails, again, (jnp.asarray(0), accepts(jnp.asarray(1.0, jnp.float32))))
    return jnp.where(accepted, fraction(attempt), 0.0)


class DualStep(NamedTuple):
    r"""The step :math:`θ = α H^{-1} g - β H^{-1} b`, and which case it is of (:func:`cpo_step`)."""

    case: Int[Array, ""]
    along_reward: Scalar
    against_cost: Scalar


def cpo_step(q: Scalar, r: Scalar, s: Scalar, c: Scalar, delta: float | Scalar) -> DualStep:
    r"""Solves the problem of one constraint in closed form (Achiam et al. 2017, theorem 2 and appendix 10.2).

    With q = gᵀH⁻¹g, r = gᵀH⁻¹b, s = bᵀH⁻¹b, A = q - r²/s and B = 2δ - c²/s, the cases are

    ====  =======================================  ========================================================
    0     c ≥ 0, B < 0: no feasible point          recovery, :math:`-\sqrt{2δ/s}\, H^{-1}b`
    1     c ≥ 0, B ≥ 0: infeasible now, can be     the dual's solution
    2     c < 0, B ≥ 0: the border is near         the dual's solution
    3     c < 0, B < 0: all of the region is safe  TRPO's, :math:`\sqrt{2δ/q}\, H^{-1}g`
    4     c ≤ 0, b = 0: costs do not depend on θ   as 3
    ====  =======================================  ========================================================

    The dual has λ (of the trust region) and ν = max(0, (λc + r)/s), and θ = H⁻¹(g - νb)/λ. λ is the better of
    :math:`λ_a = \sqrt{A/B}` where ν > 0 and :math:`λ_b = \sqrt{q/2δ}` where ν = 0, each projected on the interval of
    λ where its case holds, by the dual function :math:`f_a = -\tfrac12(A/λ + Bλ) + rc/s` and
    :math:`f_b = -\tfrac12(q/λ + 2δλ)`. (The paper minimises, so that its g and r have the other sign.)
    """
    tiny = 1e-8
    flat = s <= 1e-6  # Of a gradient as small as this nothing is left but rounding.
    safe_s = jnp.where(flat, 1.0, s)
    # Where reward and cost have one direction, A is 0, and so would λ be: in floating point the step needs λ > 0.
    a, b = jnp.maximum(q - r**2 / safe_s, 1e-6 * q), 2 * delta - c**2 / safe_s
    inside = flat | (b < 0)
    case = jnp.where(c < 0, jnp.where(inside, 3, 2), jnp.where(inside, 0, 1))
    case = jnp.where(flat & (c <= tiny), 4, case)
    lagrange = _multiplier(q, r, safe_s, c, delta, a, jnp.maximum(b, tiny))
    price = jnp.maximum(0.0, (lagrange * c + r) / safe_s)
    free = jnp.sqrt(2 * delta / jnp.maximum(q, tiny))
    recovery = jnp.where(flat, 0.0, jnp.sqrt(2 * delta / safe_s))
    along = jnp.select([case == 0, case >= 3], [0.0, free], 1 / lagrange)
    against = jnp.select([case == 0, case >= 3], [recovery, 0.0], price / lagrange)
    return DualStep(case, along, against)


def _multiplier(
    q: Scalar, r: Scalar, s: Scalar, c: Scalar, delta: float | Scalar, a: Scalar, b: Scalar
) -> Float[Array, ""]:
    """λ of :func:`cpo_step` in its cases 1 and 2."""
    tiny = 1e-8
    # The price ν is positive where λc > -r: above this border for c > 0, below it for c < 0.
    border = -r / jnp.where(jnp.abs(c) < tiny, tiny, c)
    priced_low, priced_high = jnp.where(c < 0, 0.0, jnp.maximum(border, 0.0)), jnp.where(c < 0, border, jnp.inf)
    free_low, free_high = jnp.where(c < 0, jnp.maximum(border, 0.0), 0.0), jnp.where(c < 0, jnp.inf, border)
    priced = jnp.clip(jnp.sqrt(a / b), priced_low, jnp.maximum(priced_high, priced_low))
    free = jnp.clip(jnp.sqrt(q / (2 * delta)), free_low, jnp.maximum(free_high, free_low))
    priced, free = jnp.maximum(priced, tiny), jnp.maximum(free, tiny)
    value_priced = -0.5 * (a / priced + b * priced) + r * c / s
    value_free = -0.5 * (q / free + 2 * delta * free)
    value_priced = jnp.where(priced_high < priced_low, -jnp.inf, value_priced)
    value_free = jnp.where(free_high < free_low, -jnp.inf, value_free)
    return jnp.where(value_priced >= value_free, priced, free)
