"""How an actor learns from imagined trajectories: by derivatives through the model, or by its actions' score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.actors import Actor
from prudence.optim import Optimised
from prudence.types import Metrics, Trajectory


@runtime_checkable
class Dreamed(Protocol):
    """What an objective returns beside its loss: the trajectories, and what weighs them."""

    @property
    def trajectory(self) -> Trajectory: ...

    @property
    def weights(self) -> Float[Array, "H B"]:
        """Of the states in which the policy acted."""
        ...

    @property
    def advantage(self) -> Float[Array, "H B"]:
        """Of the actions, for the score-function gradient."""
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
    """One gradient step of the actor on the objective (a loss) less a bonus for entropy.

    Pathwise: the objective is differentiated by every imagined action, and the action by the policy's parameters at the
    state where it acted. The policy's input carries no gradient, so this is the derivative by the parameters, with one
    pass through the policy instead of one a step.

    Args:
        compute: casts networks to the type of activations.
        roll: imagines under the present policy; ``roll(nudge=n)`` adds ``n [H, B, A]`` to the actions.
        objective: of a trajectory.
        noise: of the policy along the trajectory.
        pathwise: whether the gradient goes through the dynamics; else it is that of the score (REINFORCE).
        entropy: weight of the policy's entropy.
        rate: factor on the learning rate.
    """
    if pathwise:
        by_action = jax.grad(lambda nudge: objective(roll(nudge=nudge)), has_aux=True)
        action_gradient, dream = by_action(jnp.zeros(noise.shape))
    else:
        dream, action_gradient = objective(roll())[1], None

    def loss(module: Actor) -> tuple[Float[Array, ""], Metrics]:
        policies = compute(module)(dream.trajectory.actor_features[:-1])
        entropies = policies.entropy()
        metrics = {"policy/entropy": entropies.mean()}
        bonus = entropy * (dream.weights * entropies).mean()
        if action_gradient is None:
            log_prob = policies.log_prob(dream.trajectory.actions)
            return -(dream.weights * dream.advantage * log_prob).mean() - bonus, metrics
        return (action_gradient * policies.sample(noise)).sum() - bonus, metrics

    gradient, metrics = eqx.filter_grad(loss, has_aux=True)(actor.module)
    actor, more = actor.descend(gradient, "actor", rate)
    return dream, actor, metrics | more
