"""What agents with a world model share, whatever they learn in it."""

from __future__ import annotations

import abc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prudence.cores.base import Agent, compiled
from prudence.cores.dreamer.perception import Perception
from prudence.nets import cast
from prudence.types import Batch, Key, Metrics, tree_index


class WorldModelAgent(Agent):
    """An agent whose state has a ``world_model``, and whose update is a chain of gradient steps."""

    @property
    @abc.abstractmethod
    def perception(self) -> Perception:
        """The world model's functions."""

    @abc.abstractmethod
    def _update(self, state: Any, batch: Batch, *, key: Key) -> tuple[Any, Metrics]:
        """One gradient step of every part on ``[B, T]`` sequences."""

    def compute(self, tree: Any) -> Any:
        """Casts ``tree`` to the type of activations."""
        return cast(tree, jnp.dtype(self.perception.compute_dtype))

    @compiled("self")
    def update(self, state: Any, batches: Batch, *, key: Key) -> tuple[Any, Metrics]:
        def step(carry: Any, inputs: tuple[Batch, Key]) -> tuple[Any, Metrics]:
            return self._update(carry, inputs[0], key=inputs[1])

        keys = jax.random.split(key, len(batches.reward))
        if len(keys) == 1:  # On a CPU, a loop (even with one iteration) makes convolutions several times slower.
            return self._update(state, tree_index(batches, 0), key=keys[0])
        state, metrics = jax.lax.scan(step, state, (batches, keys))
        return state, jax.tree.map(lambda x: x.mean(0), metrics)

    def model_losses(self, state: Any, batch: Batch, *, key: Key) -> Metrics:
        """As :meth:`prudence.cores.base.Modelling.model_losses`."""
        return self.perception.losses(state.world_model.module, batch, key=key)

    def report(
        self, state: Any, batch: Batch, *, key: Key, context: int = 25, samples: int = 1
    ) -> dict[str, np.ndarray]:
        """Open-loop predictions of ``[B, T]`` sequences after ``context`` steps, averaged over ``samples`` futures.

        ``prediction/<name>`` and ``truth/<name>`` for the decoded observations (vectors in symlog space), ``reward``
        ``[B, T]`` and ``cost`` ``[B, T, C]``.
        """
        model = state.world_model.module
        return self.perception.report(model, batch, key=key, context=context, samples=samples)
