"""Gradient steps on sampled windows, the common part of learning from a replay and from a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from prudence.cores.base import Agent
from prudence.data.windows import Windows
from prudence.training.progress import UPDATE, Keys
from prudence.types import Batch, Metrics


class Devices:
    """The devices that share the sequences of each batch: data parallelism. The first one alone acts.

    Every device has a copy of the agent's state and the same number of sequences. XLA adds their gradients up before
    the optimisers see them. So the update is that of a single device, with its random numbers, but for the order of
    sums.

    Args:
        number: how many devices, of those that JAX sees.

    Raises:
        ValueError: JAX sees fewer.
    """

    def __init__(self, number: int):
        seen = jax.devices()
        if number > len(seen):
            raise ValueError(
                f"loop.devices={number}, but JAX sees {len(seen)} ({seen[0].platform}): give --loop.devices {len(seen)}"
                "; `prudence doctor` names the devices, and why a GPU is not used"
            )
        mesh = Mesh(np.array(seen[:number]), ("batch",))
        self._number = number
        self._copied, self._divided = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), (None, "batch")))

    def place(self, state: Any, batches: Batch) -> tuple[Any, Batch]:
        """A copy of the state on each device, and ``[U, B, ...]`` batches with B divided among them."""
        if self._number == 1:
            return state, jax.device_put(batches)
        return jax.device_put(state, self._copied), jax.device_put(batches, self._divided)

    def first(self, state: Any) -> Any:
        """The first device's copy of the state."""
        if self._number == 1:
            return state
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), jax.device_put(state, self._copied))


def learn(
    agent: Agent,
    state: Any,
    windows: Sequence[Windows],
    gather: Callable[[Windows], Batch],
    keys: Keys,
    updates: int,
    devices: Devices,
) -> tuple[Any, Metrics]:
    """Updates the agent on the windows, one dispatch for each.

    Args:
        agent: the agent.
        state: its state.
        windows: each with batch axes ``[U, B]`` for U gradient steps.
        gather: reads windows as a batch.
        keys: the keys of the run. Each dispatch has the key of its first gradient step.
        updates: gradient steps before these.
        devices: what shares each batch.

    Returns:
        The agent's state and mean metrics. Both are finished when the function returns.
    """
    history = []
    for chosen in windows:
        state, metrics = agent.update(*devices.place(state, gather(chosen)), key=keys(UPDATE, updates))
        updates += chosen.shape[0]
        history.append(metrics)
    means = jax.tree.map(lambda *values: float(np.mean([np.asarray(v) for v in values])), *history)
    return jax.block_until_ready(devices.first(state)), means
