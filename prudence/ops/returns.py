"""Returns of imagined and of real trajectories."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def lambda_returns(
    rewards: Float[Array, "T *batch"],
    values: Float[Array, "T *batch"],
    discounts: Float[Array, "T *batch"],
    lambda_: float | Float[Array, "T *batch"],
) -> Float[Array, "T-1 *batch"]:
    r"""TD(λ) returns of states 0 … T-2 in a trajectory of T states, in forward order.

    .. math::
        R^λ_t = r_{t+1} + γ_{t+1} \left[(1-λ) V_{t+1} + λ R^λ_{t+1}\right],\quad R^λ_{T-1} = V_{T-1}

    (SafeDreamer eq. 6; LAMBDA section 4; DreamerV3.) Use it for rewards and for costs.

    Args:
        rewards: ``rewards[t]`` arrived *with* state t, so ``rewards[0]`` is not used.
        values: value estimates of the states.
        discounts: γ × probability that the episode goes on at state t; ``discounts[0]`` is not used.
        lambda_: λ in [0, 1]. 0 gives one-step targets; 1 gives the Monte-Carlo return, bootstrapped at the last state.
            An array gives each state its own λ: 0 at state t bootstraps from the value of state t. The last state of
            a truncated episode needs this.

    Returns:
        ``[T-1, *batch]`` returns; entry t belongs to state t.
    """

    def step(following: Array, inputs: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        reward, value, discount, share = inputs
        now = reward + discount * ((1 - share) * value + share * following)
        return now, now

    shares = jnp.broadcast_to(lambda_, values.shape)
    _, returns = jax.lax.scan(step, values[-1], (rewards[1:], values[1:], discounts[1:], shares[1:]), reverse=True)
    return returns


def one_step_returns(
    rewards: Float[Array, "n *C"], continues: Float[Array, " n"], following: Float[Array, "n *C"], discount: float
) -> Float[Array, "n *C"]:
    r"""The targets of critics of actions, :math:`y = r + γ k v`, for rewards or for C costs.

    Args:
        rewards: r, what followed the actions.
        continues: k, 0 where the next state is terminal, else 1. It is 1 where an episode was truncated.
        following: v, the values of the next states.
        discount: γ.
    """
    return rewards + discount * continues.reshape(-1, *(1,) * (following.ndim - 1)) * following


def cumulative_discount(discounts: Float[Array, "T *batch"]) -> Float[Array, "T *batch"]:
    """Weight of each state t in a discounted objective: ``Π_{k=1..t} discounts[k]``, and 1 for state 0."""
    return jnp.cumprod(jnp.concatenate([jnp.ones_like(discounts[:1]), discounts[1:]]), axis=0)
