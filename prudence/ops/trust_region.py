"""Steps within a trust region: natural gradients, line search, and the dual problem of CPO.

They solve the problem of one policy update. θ is the change of the parameters. H is the Hessian of the mean KL
divergence at the old parameters (the Fisher information matrix):

.. math::
    \\max_θ\\; g^\\top θ \\quad\\text{s.t.}\\quad \\tfrac12 θ^\\top H θ ≤ δ,\\quad c + b^\\top θ ≤ 0

CPO (Achiam et al. 2017, section 5) has both constraints; TRPO (Schulman et al. 2015) has only the first.
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
    r"""The function :math:`v ↦ (H + εI) v`, with H the Hessian of ``kl`` at ``at`` and ε the ``damping``.

    Hv is the derivative of the gradient of ``kl`` along v.
    """
    return lambda v: jax.jvp(jax.grad(kl), (at,), (v,))[1] + damping * v


def natural(product: Callable[[Vector], Vector], vector: Vector, iterations: int) -> Vector:
    """H⁻¹ ``vector``, by at most ``iterations`` of conjugate gradients. They stop early when the residual vanishes.

    ``vector`` is first scaled so that its largest entry is 1. The gradient of a nearly deterministic policy is so small
    that its square would underflow to 0.
    """
    size = jnp.abs(vector).max()
    solution = cg(product, vector / jnp.maximum(size, 1e-30), tol=1e-6, maxiter=iterations)[0]
    return jnp.where(size > 1e-30, size * solution, 0.0)


def backtrack(accepts: Callable[[Scalar], Bool[Array, ""]], shrink: float, attempts: int) -> Scalar:
    """Line search: the first of 1, ``shrink``, ``shrink``², ... that ``accepts`` accepts.

    Returns 0 if it accepts none of the first ``attempts``.
    """

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
    r"""The step :math:`θ = α H^{-1} g - β H^{-1} b` of :func:`cpo_step`.

    Attributes:
        case: number of the case, 0 to 4.
        along_reward: α.
        against_cost: β.
    """

    case: Int[Array, ""]
    along_reward: Scalar
    against_cost: Scalar


def cpo_step(q: Scalar, r: Scalar, s: Scalar, c: Scalar, delta: float | Scalar) -> DualStep:
    r"""Solves CPO's problem with one constraint in closed form (Achiam et al. 2017, theorem 2 and appendix 10.2).

    With q = gᵀH⁻¹g, r = gᵀH⁻¹b, s = bᵀH⁻¹b, A = q - r²/s and B = 2δ - c²/s, the cases are

    ====  =======================================  ========================================================
    0     c ≥ 0, B < 0: no point is feasible       recovery, :math:`-\sqrt{2δ/s}\, H^{-1}b`
    1     c ≥ 0, B ≥ 0: infeasible, can recover    solution of the dual
    2     c < 0, B ≥ 0: the border is in reach     solution of the dual
    3     c < 0, B < 0: the whole region is safe   that of TRPO, :math:`\sqrt{2δ/q}\, H^{-1}g`
    4     c ≤ 0, b = 0: costs do not depend on θ   as in case 3
    ====  =======================================  ========================================================

    The multipliers of the dual are λ (trust region) and ν = max(0, (λc + r)/s) (cost), and θ = H⁻¹(g - νb)/λ.
    There are two candidates: :math:`λ_a = \sqrt{A/B}` for ν > 0 and :math:`λ_b = \sqrt{q/2δ}` for ν = 0. Each is
    projected on the interval of λ where its case holds. λ is the candidate of the larger dual function,
    :math:`f_a = -\tfrac12(A/λ + Bλ) + rc/s` or :math:`f_b = -\tfrac12(q/λ + 2δλ)`. (The paper minimises, so its g
    and r have the opposite sign.)
    """
    tiny = 1e-8
    flat = s <= 1e-6  # A gradient as small as this is only rounding error.
    safe_s = jnp.where(flat, 1.0, s)
    # If the gradients of reward and cost are parallel, A and λ are 0. In floating point the step needs λ > 0.
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
    # ν is positive where λc > -r: above this border for c > 0, below it for c < 0.
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
