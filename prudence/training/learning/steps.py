"""Gradient steps on sampled windows, the common part of learning from a replay and from a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from prudence.cores.base import Agent
from prudence.data.windows import Windows
from prudence.training.progress import UPDATE, Keys
from prudence.types import Batch, Metrics


def learn(
    agent: Agent,
    state: Any,
    windows: Sequence[Windows],
    gather: Callable[[Windows], Batch],
    keys: Keys,
    updates: int,
) -> tuple[Any, Metrics]:
    """Updates the agent on the windows, one dispatch for each.

    Args:
        agent: the agent.
        state: its state.
        windows: each with batch axes ``[U, B]`` for U gradient steps.
        gather: reads windows as a batch.
        keys: the keys of the run. Each dispatch has the key of its first gradient step.
        updates: gradient steps before these.

    Returns:
        The agent's state and mean metrics. Both are finished when the function returns.
    """
    history = []
    for chosen in windows:
        state, metrics = agent.update(state, jax.device_put(gather(chosen)), key=keys(UPDATE, updates))
        updates += chosen.shape[0]
        history.append(metrics)
    means = jax.tree.map(lambda *values: float(np.mean([np.asarray(v) for v in values])), *history)
    return jax.block_until_ready(state), means
