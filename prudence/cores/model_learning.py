"""Gradient steps, losses and predictions of a model that filters sequences, whatever it is."""

from __future__ import annotations

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from prudence.models.base import SequenceModel
from prudence.nets import cast
from prudence.ops.normalise import symlog
from prudence.optim import Optimised
from prudence.types import Batch, Key, Metrics

M = TypeVar("M", bound=SequenceModel)


def learn(
    model: Optimised[M],
    batch: Batch,
    *,
    key: Key,
    dtype: jnp.dtype | None = None,
    rate: Float[Array, ""] | None = None,
) -> tuple[Optimised[M], Any, Metrics]:
    """Takes one gradient step on ``[B, T]`` sequences. Consumes ``key``.

    Args:
        model: the model and its optimiser.
        batch: the sequences.
        dtype: type of activations; None is that of the parameters.
        rate: factor on the learning rate; None is 1.

    Returns:
        The model after the step, the filtered sequences without a gradient, and metrics.
    """

    def loss(module: M) -> Any:
        return (module if dtype is None else cast(module, dtype)).loss(batch, key=key)

    (_, (filtered, metrics)), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(model.module)
    model, more = model.descend(gradient, "model", rate)
    return model, jax.lax.stop_gradient(filtered), metrics | more


@eqx.filter_jit
def losses(model: SequenceModel, batch: Batch, *, key: Key) -> Metrics:
    """The losses of the model on ``[B, T]`` sequences."""
    return model.loss(batch, key=key)[1][1]


def report(model: SequenceModel, batch: Batch, *, key: Key, context: int, samples: int) -> dict[str, np.ndarray]:
    """Open-loop predictions of ``[B, T]`` sequences after ``context`` steps, averaged over ``samples`` futures.

    ``prediction/<name>`` and ``truth/<name>`` for the decoded observations (vectors in symlog space), ``reward``
    ``[B, T]`` and ``cost`` ``[B, T, C]``.
    """
    predicted = _mean_open_loop(model, batch, context, jax.random.split(key, samples))
    truth = {k: v if v.dtype == np.uint8 else symlog(jnp.asarray(v)) for k, v in batch.observation.items()}
    truth |= {"reward": batch.reward, "cost": batch.cost}
    out = {f"prediction/{k}": np.asarray(v) for k, v in predicted.items()}
    return out | {f"truth/{k}": np.asarray(truth[k]).reshape(v.shape) for k, v in predicted.items()}


@eqx.filter_jit
def _mean_open_loop(model: SequenceModel, batch: Batch, context: int, keys: Array) -> dict[str, Array]:
    def add(total: dict[str, Array], key: Array) -> tuple[dict[str, Array], None]:
        return jax.tree.map(jnp.add, total, model.open_loop(batch, context, key=key)), None

    # One future after the other, because the images of all futures together need too much memory.
    total, _ = jax.lax.scan(add, model.open_loop(batch, context, key=keys[0]), keys[1:])
    return jax.tree.map(lambda x: x / len(keys), total)
