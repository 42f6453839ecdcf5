"""Posteriors over world models. Imagination can use several samples of them.

A posterior is a distribution over a model's *predictor*: the dynamics and heads that imagination uses. It leaves out
encoder and decoder, because imagined trajectories do not pass through them. Samples of them would change nothing, and
storing them for every deviation or member would take most of the memory of a model of images.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from prudence.models.rssm import LatentState
from prudence.models.world_model import Filtered, WorldModel
from prudence.types import Batch, Key, Metrics, Trajectory


class ModelPosterior(abc.ABC):
    """A posterior over world models: static configuration plus pure functions over a state, like a constraint.

    Attributes:
        samples: N, number of models drawn for each update or decision.
    """

    samples: int

    @abc.abstractmethod
    def init(self, model: WorldModel, *, key: Key) -> Any:
        """The state before training."""

    @abc.abstractmethod
    def update(
        self, state: Any, model: WorldModel, filtered: Filtered, batch: Batch, step: Int[Array, ""], *, key: Key
    ) -> tuple[Any, Metrics]:
        """The state after a gradient step of the model. No gradient reaches the model.

        Args:
            filtered: the sequences of ``batch``, filtered by ``model``.
            batch: the batch of the gradient step.
            step: number of the gradient step, 1 for the first.
        """

    @abc.abstractmethod
    def sample(self, state: Any, model: WorldModel, *, key: Key) -> Any:
        """Samples N predictors (:attr:`WorldModel.predictor`), with arrays stacked on a leading axis ``[N, ...]``."""


def imagine_each(
    model: WorldModel,
    predictors: Any,
    policy: Callable[[Float[Array, "S F"], Float[Array, "S A"]], Float[Array, "S A"]],
    start: LatentState,
    action_noise: Float[Array, "H NS A"],
    *,
    key: Key,
    common_noise: bool = False,
    nudge: Float[Array, "H NS A"] | None = None,
    alike: int = 1,
) -> Trajectory:
    """Imagines trajectories under each of N predictors (LAMBDA Algorithm 1, lines 2 to 4).

    The result is one ``Trajectory`` of ``B = N·S`` columns. ``start`` and ``action_noise`` have the same columns. They
    are ordered by predictor: column nS + s is trajectory s of predictor n.

    Args:
        model: its encoder is used, and its predictor is replaced.
        predictors: from :meth:`ModelPosterior.sample`.
        common_noise: gives every predictor the same latent noise, so that equal predictors imagine the same.
        alike: number of consecutive columns of a predictor that share their noise (:meth:`WorldModel.imagine`).
    """
    number = len(jax.tree.leaves(predictors)[0])

    def split_columns(x: Array) -> Array:
        """``[H, NS, ...]`` as ``[H, N, S, ...]``."""
        return x.reshape(*x.shape[:1], number, -1, *x.shape[2:])

    starts = jax.tree.map(lambda x: split_columns(x[None])[0], start)
    noise, nudges = jax.tree.map(split_columns, (action_noise, nudge))

    def one(predictor: Any, start: LatentState, noise: Array, nudge: Array | None, key: Key) -> Trajectory:
        return model.with_predictor(predictor).imagine(policy, start, noise, key=key, nudge=nudge, alike=alike)

    in_axes = (eqx.if_array(0), 0, 1, 1, None if common_noise else 0)
    keys = key if common_noise else jax.random.split(key, number)
    each = eqx.filter_vmap(one, in_axes=in_axes, out_axes=1)(predictors, starts, noise, nudges, keys)
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), each)


def open_loop_each(
    model: WorldModel, predictors: Any, batch: Batch, context: int, *, key: Key, common_noise: bool = False
) -> tuple[Float[Array, "N B L"], Float[Array, "N B L C"]]:
    """Rewards and costs that each of N predictors predicts for ``[B, T]`` sequences under the recorded actions.

    The model filters the first ``context`` steps. The predictions are for the ``L = T - context`` steps after them.
    """
    number = len(jax.tree.leaves(predictors)[0])
    observe_key, imagine_key = jax.random.split(key)
    seen = model.observe(jax.tree.map(lambda x: x[:, :context], batch), key=observe_key).states
    start = jax.tree.map(lambda x: jnp.tile(x[:, -1], (number, 1)), seen)
    actions = jnp.swapaxes(jnp.asarray(batch.prev_action[:, context:]), 0, 1)

    def recorded_action(features: Array, action: Array) -> Array:
        """A policy whose "noise" is the recorded action."""
        return action

    recorded = jnp.tile(actions, (1, number, 1))
    imagined = imagine_each(
        model, predictors, recorded_action, start, recorded, key=imagine_key, common_noise=common_noise
    )

    def by_predictor(x: Array) -> Array:
        """``[L+1, NB, ...]`` as ``[N, B, L, ...]``, without the start."""
        return jnp.moveaxis(x[1:].reshape(len(actions), number, -1, *x.shape[2:]), 0, 2)

    return by_predictor(imagined.rewards), by_predictor(imagined.costs)
