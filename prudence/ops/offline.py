"""Learning from recorded actions: which pairs of steps count, expectiles, weights, reachability, and risk."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.types import Batch


def pair_mask(batch: Batch) -> Float[Array, "B pairs"]:
    """1 where rows t and t+1 (T − 1 pairs) of ``[B, T]`` sequences are consecutive steps of one episode, else 0.

    The row after an episode's last row is the first row of another episode. In a pair, ``prev_action[t+1]`` is the
    action taken at t, and ``reward[t+1]``, ``cost[t+1]`` and ``is_terminal[t+1]`` are its results.
    """
    return 1.0 - jnp.asarray(batch.is_last)[:, :-1].astype(jnp.float32)


def expectile_weights(
    targets: Float[Array, "*shape"], values: Float[Array, "*shape"], expectile: float
) -> Float[Array, "*shape"]:
    r"""The weights :math:`|κ - 1\{q < v\}|` of targets q, given the current values v.

    A weighted maximum-likelihood fit of a mean then converges to the κ-expectile of the targets (Kostrikov et al. 2022
    eq. 5; FOSP eq. 7). κ = .5 is the mean, and κ → 1 is the maximum. The weights carry no gradient.
    """
    below = (targets < values).astype(jnp.float32)
    return jax.lax.stop_gradient(jnp.abs(expectile - below))


def regression_weights(
    advantage: Float[Array, "*batch"],
    cost_advantage: Float[Array, "*batch"],
    feasible: Float[Array, "*batch"],
    action_feasible: Float[Array, "*batch"],
    *,
    temperature: float,
    cost_temperature: float,
    clip: float,
    cost_clip: float,
) -> Float[Array, "*batch"]:
    r"""The weights with which recorded actions are imitated (FOSP eq. 16 to 19, with the action's feasibility).

    .. math::
        w = u f \min(e^{β_1 A_r}, m_r) + (1 - u) \min(e^{-β_2 A_c}, m_c)

    In a feasible state (u = 1), actions with a large reward advantage count. In an infeasible state (u = 0), actions
    that reduce costs count. The factor f is not in the paper. Without it, an action that leads from a feasible state
    into an unsafe one counts as much as its reward promises. The weights carry no gradient.

    Args:
        advantage: A_r of the actions, or what counts instead of it.
        cost_advantage: A_c of the actions, summed over constraints.
        feasible: u in [0, 1], the probability that the state is feasible.
        action_feasible: f in [0, 1], the probability that the action keeps it feasible.
        temperature, cost_temperature: β1 and β2, inverse temperatures.
        clip, cost_clip: the bounds m_r and m_c.
    """
    # The exponent is bounded, not its result, so that no intermediate value overflows.
    reward = jnp.exp(jnp.minimum(temperature * advantage, jnp.log(clip)))
    cost = jnp.exp(jnp.minimum(-cost_temperature * cost_advantage, jnp.log(cost_clip)))
    return jax.lax.stop_gradient(feasible * action_feasible * reward + (1 - feasible) * cost)


def reach_targets(
    violations: Float[Array, "T *batch"], discounts: Float[Array, "T *batch"], last: Float[Array, "*batch"]
) -> Float[Array, "T *batch"]:
    r"""Targets for the probability that a state is unsafe or leads to an unsafe one (FOSP eq. 30, RESPO eq. 8).

    .. math::
        y_t = \max(v_t, γ_{t+1} y_{t+1}),\qquad y_{T-1} = \max(v_{T-1}, p)

    This backup is a contraction with the factor γ. (The paper prints the indicator of the safe set, which contradicts
    its text; docs/algorithms/fosp.md.)

    Args:
        violations: v, the probability that each of T states is unsafe itself.
        discounts: γ_u × probability that the episode goes on at state t − 1, so that state t follows it.
            ``discounts[0]`` is not used.
        last: p, the current estimate at the last state.
    """

    def step(following: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        violation, discounted = inputs
        now = jnp.maximum(violation, discounted * following)
        return now, now

    end = jnp.maximum(violations[-1], last)
    _, targets = jax.lax.scan(step, end, (violations[:-1], discounts[1:]), reverse=True)
    return jnp.concatenate([targets, end[None]])


def risk_targets(
    violations: Float[Array, " n"], continues: Float[Array, " n"], following: Float[Array, " n"], discount: float
) -> Float[Array, " n"]:
    r"""Targets for the risk of actions: the discounted probability that a violation follows (Recovery RL eq. 1).

    .. math::
        y = c + (1 - c)\, γ\, k\, Q(s', a')

    A violation counts in full and ends the sum, even if the episode goes on. So y is in [0, 1].

    Args:
        violations: c, 1 where the action was followed by a violation, else 0.
        continues: k, 0 where the next state is terminal, else 1.
        following: Q(s', a'), the risk of the next action.
        discount: γ. A violation counts if it follows within about 1/(1 − γ) decisions.
    """
    return violations + (1 - violations) * discount * continues * following


def with_share(chosen: Float[Array, " n"], weights: Float[Array, " n"], share: float) -> Float[Array, " n"]:
    """The weights, changed so that at least this share of their sum belongs to chosen elements.

    The sum stays the same. In expectation this equals a batch of which this share is drawn among the chosen elements.
    Weights of which enough are chosen ones', or none, or all, stay as they are.

    Args:
        chosen: 1 for a chosen element, else 0.
        weights: at least 0.
        share: the least share, from 0 to 1.
    """
    total, among = weights.sum(), (chosen * weights).sum()
    others = total - among
    up = share * total / jnp.maximum(among, 1e-8)
    down = (1 - share) * total / jnp.maximum(others, 1e-8)
    raised = weights * jnp.where(chosen > 0, up, down)
    return jnp.where((among > 0) & (others > 0) & (among < share * total), raised, weights)


def feasibility(reach: Float[Array, "*batch C"]) -> Float[Array, "*batch"]:
    r"""u = :math:`1 - \max_j p_j`, given the probabilities p of reaching a violation of each constraint."""
    return 1.0 - reach.max(-1)


def safety_targets(
    heights: Float[Array, "T *batch"], discounts: Float[Array, "T *batch"], last: Float[Array, "*batch"]
) -> Float[Array, "T *batch"]:
    r"""Targets for the value of Hamilton-Jacobi reachability, whose sign says whether a violation follows.

    .. math::
        y_t = (1 - γ_{t+1}) h_t + γ_{t+1} \max(h_t, y_{t+1}),\qquad y_{T-1} = \max(h_{T-1}, v)

    (Fisac et al. 2019 eq. 7, for the largest h; FISOR eq. 4.)

    Args:
        heights: h, positive in unsafe states and negative in safe ones.
        discounts: γ × probability that the episode goes on at state t − 1; ``discounts[0]`` is not used.
        last: v, the current estimate at the last state.
    """

    def step(following: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        height, discounted = inputs
        now = (1 - discounted) * height + discounted * jnp.maximum(height, following)
        return now, now

    end = jnp.maximum(heights[-1], last)
    _, targets = jax.lax.scan(step, end, (heights[:-1], discounts[1:]), reverse=True)
    return jnp.concatenate([targets, end[None]])


def expansion_probabilities(scores: Float[Array, "K *batch"], inverse_temperature: float) -> Float[Array, "K *batch"]:
    """Probabilities with which each of K proposed actions is taken (FOSP eq. 21), P(k) ∝ exp(α·score_k).

    FOSP's text divides by α. With α = 10 the proposals would then be as likely as one another for ever, so α
    multiplies, as in the released code of policy expansion (Zhang, Xu and Yu 2023).
    """
    return jax.nn.softmax(inverse_temperature * scores, axis=0)
