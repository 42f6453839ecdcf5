"""An agent's world model: initialisation, filtering, learning, and open-loop predictions of recorded sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from prudence.models.base import AbstractWorldModel
from prudence.models.config import PrivilegedConfig, WorldModelConfig
from prudence.models.paired import PairedModel, PairedState
from prudence.models.rssm import LatentState, RSSMConfig
from prudence.models.world_model import WorldModel
from prudence.nets import cast
from prudence.ops.normalise import symlog
from prudence.optim import Optimised, OptimiserConfig
from prudence.types import Batch, Key, Metrics, Observation, Spaces


@dataclass(frozen=True)
class Perception:
    """The functions that every agent with a latent world model needs.

    Attributes:
        spaces: the environment's spaces.
        world_model: sizes and losses of the model of the observations that the policy sees.
        privileged: a second model, of the observations that only training uses. None if there is none.
        optimiser: the model's optimiser.
        compute_dtype: type of activations.
    """

    spaces: Spaces
    world_model: WorldModelConfig
    privileged: PrivilegedConfig | None
    optimiser: OptimiserConfig
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    def init(self, *, key: Key) -> AbstractWorldModel:
        """A new model. No other code decides which kind of world model an agent has."""
        if self.privileged is None:
            return WorldModel(self.spaces, self.world_model, key=key)
        return PairedModel(self.spaces, self.world_model, self.privileged, key=key)

    def compute(self, tree: Any) -> Any:
        """Casts ``tree`` to the type of activations."""
        return cast(tree, jnp.dtype(self.compute_dtype))

    def first_latent(self, num_envs: int) -> LatentState:
        """The latent states of E environments before an episode."""
        return self._zeros(self.world_model.rssm, num_envs)

    def first_states(self, number: int) -> LatentState | PairedState:
        """The states of the whole model before an episode, with those of its privileged half if it has one."""
        states = self.first_latent(number)
        return states if self.privileged is None else PairedState(states, self._zeros(self.privileged.rssm, number))

    def _zeros(self, rssm: RSSMConfig, number: int) -> LatentState:
        dtype = jnp.dtype(self.compute_dtype)
        return LatentState(jnp.zeros((number, rssm.deter), dtype), jnp.zeros((number, rssm.stoch_size), dtype))

    def filter(
        self,
        model: AbstractWorldModel,
        latent: LatentState,
        prev_action: Float[Array, "E A"],
        observation: Observation,
        is_first: Bool[Array, " E"],
        *,
        key: Key,
    ) -> tuple[LatentState, Key]:
        """The latent states after these observations, and a key for choosing actions."""
        filter_key, action_key = jax.random.split(key)
        return model.filter_step(latent, prev_action, observation, is_first, key=filter_key), action_key

    def learn(
        self, world_model: Optimised[AbstractWorldModel], batch: Batch, rate: Float[Array, ""] | None, *, key: Key
    ) -> tuple[Optimised[AbstractWorldModel], Any, Metrics]:
        """Takes one gradient step on ``[B, T]`` sequences.

        Args:
            world_model: the model and its optimiser.
            batch: the sequences.
            rate: factor on the learning rate; None is 1.

        Returns:
            The model after the step, the filtered sequences, and metrics.
        """

        def loss(model: AbstractWorldModel) -> Any:
            return self.compute(model).loss(batch, key=key)

        (_, (filtered, metrics)), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(world_model.module)
        world_model, more = world_model.descend(gradient, "model", rate)
        return world_model, jax.lax.stop_gradient(filtered), metrics | more

    def losses(self, model: AbstractWorldModel, batch: Batch, *, key: Key) -> Metrics:
        """The losses of the model on ``[B, T]`` sequences."""
        return _losses(self.compute(model), batch, key)

    def report(
        self, model: AbstractWorldModel, batch: Batch, *, key: Key, context: int, samples: int
    ) -> dict[str, np.ndarray]:
        """Open-loop predictions of ``[B, T]`` sequences after ``context`` steps, averaged over ``samples`` futures.

        ``prediction/<name>`` and ``truth/<name>`` for the decoded observations (vectors in symlog space), ``reward``
        ``[B, T]`` and ``cost`` ``[B, T, C]``.
        """
        predicted = _mean_open_loop(self.compute(model), batch, context, jax.random.split(key, samples))
        truth = {k: v if v.dtype == np.uint8 else symlog(jnp.asarray(v)) for k, v in batch.observation.items()}
        truth |= {"reward": batch.reward, "cost": batch.cost}
        out = {f"prediction/{k}": np.asarray(v) for k, v in predicted.items()}
        return out | {f"truth/{k}": np.asarray(truth[k]).reshape(v.shape) for k, v in predicted.items()}


@eqx.filter_jit
def _losses(model: AbstractWorldModel, batch: Batch, key: Key) -> Metrics:
    return model.loss(batch, key=key)[1][1]


@eqx.filter_jit
def _mean_open_loop(model: AbstractWorldModel, batch: Batch, context: int, keys: Array) -> dict[str, Array]:
    def add(total: dict[str, Array], key: Array) -> tuple[dict[str, Array], None]:
        return jax.tree.map(jnp.add, total, model.open_loop(batch, context, key=key)), None

    # One future after the other, because the images of all futures together need too much memory.
    total, _ = jax.lax.scan(add, model.open_loop(batch, context, key=keys[0]), keys[1:])
    return jax.tree.map(lambda x: x / len(keys), total)
