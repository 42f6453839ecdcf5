"""What agents with a world model share, whatever they learn in it."""

from __future__ import annotations

import abc
from typing import Any

import jax.numpy as jnp
import numpy as np

from prudence.cores.base import Agent, compiled, gradient_steps
from prudence.cores.dreamer.perception import Perception
from prudence.nets import cast
from prudence.types import Batch, Key, Metrics


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
        return gradient_steps(lambda state, batch, key: self._update(state, batch, key=key), state, batches, key=key)

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
