"""The interfaces of models: of what every one has that filters sequences, and of what Dreamer's core needs besides."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float

from prudence.types import Batch, Key, Metrics, Observation, Trajectory


class SequenceModel(eqx.Module):
    """A model that filters sequences of observations into states, learns by a loss, and predicts what follows.

    Its ``states`` are a pytree of arrays with batch axes first.
    """

    @abc.abstractmethod
    def loss(self, batch: Batch, *, key: Key) -> tuple[Float[Array, ""], tuple[Any, Metrics]]:
        """The loss of the model.

        Returns:
            The weighted sum of all losses, and a pair of the filtered sequences (their ``states`` are ``[B, T, ...]``)
            and the metrics.
        """

    @abc.abstractmethod
    def filter_step(
        self,
        state: Any,
        prev_action: Float[Array, "E A"],
        observation: Observation,
        is_first: Bool[Array, " E"],
        *,
        key: Key | None,
    ) -> Any:
        """One filtering step for E environments, for acting. The actor sees the ``features`` of the result.

        Args:
            key: samples the posterior; None takes its mode.
        """

    @abc.abstractmethod
    def open_loop(self, batch: Batch, context: int, *, key: Key) -> dict[str, Array]:
        """Filters the first ``context`` steps of ``[B, T]`` sequences and imagines the rest under recorded actions.

        Returns:
            Predictions by name: the observations ``[B, T, ...]`` (images in [0, 1], vectors in symlog space),
            ``reward [B, T]`` and ``cost [B, T, C]``.
        """


class AbstractWorldModel(SequenceModel):
    """A world model. Actors and critics are trained in its imagination, and it filters observations for the actor.

    For acting, its states are a :class:`~prudence.models.rssm.LatentState`.
    """

    @property
    @abc.abstractmethod
    def actor_size(self) -> int:
        """Number of features that the actor sees."""

    @property
    @abc.abstractmethod
    def critic_size(self) -> int:
        """Number of features that the critics see."""

    @abc.abstractmethod
    def critic_features(self, states: Any) -> Float[Array, "*batch G"]:
        """The features of ``states`` that the critics see."""

    @abc.abstractmethod
    def imagine(
        self,
        policy: Callable[[Float[Array, "B F"], Float[Array, "B A"]], Float[Array, "B A"]],
        start: Any,
        action_noise: Float[Array, "H B A"],
        *,
        key: Key,
        nudge: Float[Array, "H B A"] | None = None,
    ) -> Trajectory:
        """Imagines H steps under ``policy``.

        Args:
            policy: maps features and noise to actions.
            start: states ``[B, ...]``.
            action_noise: noise for ``policy``.
            key: consumed for the noise of the latent states.
            nudge: is added to the actions. The derivative of a trajectory with respect to a nudge of zeros is its
                derivative with respect to the actions, through the dynamics.
        """
