"""Gradient steps of an actor on imagined trajectories: pathwise (through the model) or with the score function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from prudence.actors import Actor
from prudence.optim import Optimised
from prudence.types import Key, Metrics, Trajectory


@runtime_checkable
class Dreamed(Protocol):
    """The second value of an objective, after its loss: the trajectories and their weights."""

    @property
    def trajectory(self) -> Trajectory: ...

    @property
    def weights(self) -> Float[Array, "H B"]:
        """The weights of the states in which the policy acted."""
        ...

    @property
    def advantage(self) -> Float[Array, "H B"]:
        """The advantages of the actions, for the score-function gradient."""
        ...


D = TypeVar("D", bound=Dreamed)


def improve(
    actor: Optimised[Actor],
    compute: Callable[[Any], Any],
    roll: Callable[..., Trajectory],
    objective: Callable[[Trajectory], tuple[Float[Array, ""], D]],
    noise: Float[Array, "H B A"],
    *,
    pathwise: bool,
    entropy: float,
    rate: Float[Array, ""] | None,
) -> tuple[D, Optimised[Actor], Metrics]:
    """Takes one gradient step of the actor on the objective (a loss) minus an entropy bonus.

    It is :func:`rehearse` and :func:`climb`, one after the other.

    Returns:
        What the objective computed, the actor after the step, and metrics.
    """
    dream, action_gradient = rehearse(roll, objective, noise, pathwise=pathwise)
    actor, metrics = climb(actor, compute, dream, noise, action_gradient, entropy=entropy, rate=rate)
    return dream, actor, metrics


def rehearse(
    roll: Callable[..., Trajectory],
    objective: Callable[[Trajectory], tuple[Float[Array, ""], D]],
    noise: Float[Array, "H B A"],
    *,
    pathwise: bool,
) -> tuple[D, Float[Array, "H B A"] | None]:
    """Imagines trajectories and computes the objective, with its derivatives with respect to the actions.

    Args:
        roll: imagines trajectories under the current policy. ``roll(nudge=n)`` adds ``n [H, B, A]`` to the actions.
        objective: the loss of a trajectory, and what was computed for it.
        noise: the policy's noise along the trajectory.
        pathwise: whether the gradient goes through the dynamics. Otherwise it is the score-function gradient
            (REINFORCE), and there are no derivatives.
    """
    if not pathwise:
        return objective(roll())[1], None
    by_action = jax.grad(lambda nudge: objective(roll(nudge=nudge)), has_aux=True)
    action_gradient, dream = by_action(jnp.zeros(noise.shape))
    return dream, action_gradient


def climb(
    actor: Optimised[Actor],
    compute: Callable[[Any], Any],
    dream: Dreamed,
    noise: Float[Array, "H B A"],
    action_gradient: Float[Array, "H B A"] | None,
    *,
    entropy: float,
    rate: Float[Array, ""] | None,
    also: Callable[[Actor], tuple[Float[Array, ""], Metrics]] | None = None,
) -> tuple[Optimised[Actor], Metrics]:
    """Takes one gradient step of the actor on what :func:`rehearse` computed, minus an entropy bonus.

    The pathwise gradient has two parts: the derivatives of the objective with respect to every imagined action, and
    those of the action with respect to the policy's parameters, at the state where it acted. No gradient flows through
    the policy's input. So their product is the derivative with respect to the parameters, and it needs one pass through
    the policy instead of one for each step.

    Args:
        actor: the actor and its optimiser.
        compute: casts networks to the type of activations.
        dream: the trajectories, and the weights of their states.
        noise: the policy's noise along the trajectory.
        action_gradient: the derivatives of the objective. None takes the score-function gradient with
            ``dream.advantage``.
        entropy: weight of the policy's entropy.
        rate: factor on the learning rate; None is 1.
        also: a further loss of the policy, with its metrics.
    """

    def loss(module: Actor) -> tuple[Float[Array, ""], Metrics]:
        policies = compute(module)(dream.trajectory.actor_features[:-1])
        entropies = policies.entropy()
        metrics = {"policy/entropy": entropies.mean()}
        bonus = entropy * (dream.weights * entropies).mean()
        if action_gradient is None:
            log_prob = policies.log_prob(dream.trajectory.actions)
            total = -(dream.weights * dream.advantage * log_prob).mean() - bonus
        else:
            total = (action_gradient * policies.sample(noise)).sum() - bonus
        if also is None:
            return total, metrics
        more, more_metrics = also(compute(module))
        return total + more, metrics | more_metrics

    gradient, metrics = eqx.filter_grad(loss, has_aux=True)(actor.module)
    actor, more = actor.descend(gradient, "actor", rate)
    return actor, metrics | more


def draw_starts(
    states: Any, alive: Float[Array, " n"], count: int | None, *, key: Key
) -> tuple[Any, Float[Array, " S"], Int[Array, " S"]]:
    """Draws ``count`` of n posterior states, without replacement, from which trajectories are imagined.

    Args:
        states: a pytree of arrays ``[n, ...]``.
        alive: 1, or 0 for terminal states.
        count: number of states. None, or a number that is not below n, takes all.

    Returns:
        The start states, whether they are alive, and their indices.
    """
    if count is None or count >= len(alive):
        return states, alive, jnp.arange(len(alive))
    chosen = jax.random.choice(key, len(alive), (count,), replace=False)
    return jax.tree.map(lambda x: x[chosen], states), alive[chosen], chosen
