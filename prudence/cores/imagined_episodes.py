"""What the policy that learns would cost, measured in a world model where nobody acts in an environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from prudence.actors import Actor
from prudence.budgets import RunningMean
from prudence.models.base import AbstractWorldModel
from prudence.types import Key, Metrics, Spaces

NUMBER = 64
"""K, the number of imagined episodes that go on side by side."""
LENGTH = 100
"""The mean number of decisions after which an imagined episode begins anew."""
FORGET = 25
"""Costs of the first decisions do not count: they still depend on where the episode began."""


class ImaginedEpisodes(eqx.Module):
    """Episodes that a world model imagines under the policy that learns. They go on from update to update.

    A trajectory of a few steps from recorded states says what it costs to leave the places where the *data's* policies
    went. Episodes that are long enough to forget where they began say what *this* policy costs. They are an on-policy
    estimate without an environment, and as good as the model. An episode's cost is that of a decision, times the
    decisions until the time limit: imagined terminations do not end one, as for all imagined costs of an episode.

    Attributes:
        states: latent states ``[K, ...]``.
        age: decisions since each episode began; -1 before the first one.
        reward, cost: running means of the reward ``[]`` and of the costs ``[C]`` of a decision.
    """

    states: Any
    age: Int[Array, " K"]
    reward: RunningMean
    cost: RunningMean

    @classmethod
    def init(cls, first_states: Callable[[int], Any], num_costs: int) -> ImaginedEpisodes:
        """The episodes before the first update. ``first_states`` makes K latent states."""

        def mean(*shape: int) -> RunningMean:
            return RunningMean(jnp.zeros(shape), jnp.zeros(()), 0.01)

        return cls(first_states(NUMBER), jnp.full(NUMBER, -1, jnp.int32), mean(), mean(num_costs))

    def metrics(self, spaces: Spaces) -> Metrics:
        """What an episode would return, ``imagined/episode_return``."""
        assert spaces.episode_steps is not None
        return {"imagined/episode_return": spaces.episode_steps * self.reward.mean}

    def instead_of(self, estimate: Float[Array, " C"], spaces: Spaces) -> Float[Array, " C"]:
        """The cost of an episode, with the gradient of ``estimate``, the cost from recorded states.

        Before the first decision that counts it is ``estimate``.
        """
        assert spaces.episode_steps is not None
        cost = jnp.where(self.cost.weight > 0, spaces.episode_steps * self.cost.mean, estimate)
        return jax.lax.stop_gradient(cost) + estimate - jax.lax.stop_gradient(estimate)

    def go_on(
        self,
        model: AbstractWorldModel,
        actor: Actor,
        recorded: Any,
        *,
        steps: int,
        mode: bool,
        key: Key,
    ) -> ImaginedEpisodes:
        """The episodes after some more decisions. Some of them begin anew before.

        Args:
            model: imagines them.
            actor: the policy.
            recorded: posterior states ``[n, ...]``, from which episodes begin.
            steps: number of decisions.
            mode: whether the policy takes its mode, as in evaluation, or a sample.
        """
        begin_key, draw_key, noise_key, dynamics_key = jax.random.split(key, 4)
        number = len(self.age)
        begins = (self.age < 0) | jax.random.bernoulli(begin_key, steps / LENGTH, (number,))
        drawn = jax.random.randint(draw_key, (number,), 0, len(jax.tree.leaves(recorded)[0]))

        def begun(old: Array, new: Array) -> Array:
            return jnp.where(begins.reshape(-1, *(1,) * (old.ndim - 1)), new[drawn].astype(old.dtype), old)

        start = jax.tree.map(begun, self.states, recorded)
        age = jnp.where(begins, 0, self.age)
        policy = lambda features, noise: actor(features).mode() if mode else actor(features).sample(noise)
        found = model.imagine(policy, start, actor.noise(steps, number, key=noise_key), key=dynamics_key)
        counts = (age + 1 + jnp.arange(steps)[:, None] > FORGET).astype(jnp.float32)

        def updated(mean: RunningMean, values: Float[Array, "H K *C"]) -> RunningMean:
            total = jnp.tensordot(counts, values.astype(jnp.float32), 2)
            new = mean.update(total / jnp.maximum(counts.sum(), 1.0))
            return jax.tree.map(lambda new, old: jnp.where(counts.any(), new, old), new, mean)

        reward, cost = updated(self.reward, found.rewards[1:]), updated(self.cost, found.costs[1:])
        states = jax.tree.map(lambda old, new: new[-1].astype(old.dtype), self.states, found.states)
        return ImaginedEpisodes(states, age + steps, reward, cost)
