"""Beliefs about which world model is the true one, of which imagination can draw several.

A posterior is over a model's *predictor*: the dynamics and heads that imagination uses. Encoder and decoder are left
out, since no imagined trajectory passes through them: sampling them would change nothing, and storing them for
every deviation or member would cost most of the memory of a model of images.
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
    """Static configuration plus pure functions over a state, like a constraint.

    Attributes:
        samples: N, models drawn for each update or decision.
    """

    samples: int

    @abc.abstractmethod
    def init(self, model: WorldModel, *, key: Key) -> Any:
        """The state before training."""

    @abc.abstractmethod
    def update(
        self, state: Any, model: WorldModel, filtered: Filtered, batch: Batch, step: Int[Array, ""], *, key: Key
    ) -> tuple[Any, Metrics]:
        """The state after the model's gradient step number ``step``, 1 for the first, on ``batch``; ``filtered`` is
        what the model made of it. No gradient reaches the model."""

    @abc.abstractmethod
    def sample(self, state: Any, model: WorldModel, *, key: Key) -> Any:
        """N predictors (:attr:`WorldModel.predictor`), their arrays stacked on a leading axis ``[N, ...]``."""


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
    """Trajectories under each of N predictors (LAMBDA Algorithm 1, lines 2 to 4), as one of ``B = N·S`` columns.

    Columns, of which ``start`` and the noise have as many, are ordered by predictor: column nS + s is the n-th's s-th.

    Args:
        model: what encodes, and whose predictor is replaced.
        predictors: from :meth:`ModelPosterior.sample`.
        common_noise: gives every predictor the same latent noise, so that equal predictors imagine the same.
        alike: of each predictor, so many consecutive columns share their noise (:meth:`WorldModel.imagine`).
    """
    number = len(jax.tree.leaves(predictors)[0])
    apart = lambda x: x.reshape(*x.shape[:1], number, -1, *x.shape[2:])
    starts = jax.tree.map(lambda x: apart(x[None])[0], start)
    noise, nudges = jax.tree.map(apart, (action_noise, nudge))

    def one(predictor: Any, start: LatentState, noise: Array, nudge: Array | None, key: Key) -> Trajectory:
        return model.with_predictor(predictor).imagine(policy, start, noise, key=key, nudge=nudge, alike=alike)

    in_axes = (eqx.if_array(0), 0, 1, 1, None if common_noise else 0)
    keys = key if common_noise else jax.random.split(key, number)
    each = eqx.filter_vmap(one, in_axes=in_axes, out_axes=1)(predictors, starts, noise, nudges, keys)
    return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), each)


def open_loop_each(
    model: WorldModel, predictors: Any, batch: Batch, context: int, *, key: Key, common_noise: bool = False
) -> tuple[Float[Array, "N B L"], Float[Array, "N B L C"]]:
    """Rewards and costs that each of N predictors foresees of ``[B, T]`` sequences, under the recorded actions, in the
    ``L = T - context`` steps after those that the model sees."""
    number = len(jax.tree.leaves(predictors)[0])
    observe_key, imagine_key = jax.random.split(key)
    seen = model.observe(jax.tree.map(lambda x: x[:, :context], batch), key=observe_key).states
    start = jax.tree.map(lambda x: jnp.tile(x[:, -1], (number, 1)), seen)
    actions = jnp.swapaxes(jnp.asarray(batch.prev_action[:, context:]), 0, 1)
    follow = lambda _, action: action
    dream = imagine_each(
        model, predictors, follow, start, jnp.tile(actions, (1, number, 1)), key=imagine_key, common_noise=common_noise
    )
    by_model = lambda x: jnp.moveaxis(x[1:].reshape(len(actions), number, -1, *x.shape[2:]), 0, 2)
    return by_model(dream.rewards), by_model(dream.costs)
