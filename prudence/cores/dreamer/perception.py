"""An agent's world model: initialisation, filtering, learning, and open-loop predictions of recorded sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from prudence.cores import model_learning
from prudence.models.base import AbstractWorldModel
from prudence.models.config import PrivilegedConfig, WorldModelConfig
from prudence.models.paired import PairedModel, PairedState
from prudence.models.rssm import LatentState, RSSMConfig
from prudence.models.world_model import WorldModel
from prudence.nets import cast
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

        dtype = jnp.dtype(self.compute_dtype)
        return model_learning.learn(world_model, batch, key=key, dtype=dtype, rate=rate)

    def losses(self, model: AbstractWorldModel, batch: Batch, *, key: Key) -> Metrics:
        """The losses of the model on ``[B, T]`` sequences."""
        return model_learning.losses(self.compute(model), batch, key=key)

    def report(
        self, model: AbstractWorldModel, batch: Batch, *, key: Key, context: int, samples: int
    ) -> dict[str, np.ndarray]:
        """As :func:`prudence.cores.model_learning.report`."""
        return model_learning.report(self.compute(model), batch, key=key, context=context, samples=samples)
