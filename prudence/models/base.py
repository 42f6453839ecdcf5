"""What Dreamer's core asks of a world model."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float

from prudence.models.rssm import LatentState
from prudence.types import Batch, Key, Metrics, Observation, Trajectory


class AbstractWorldModel(eqx.Module):
    """A model in which an actor and critics can be trained, and by which the actor can see.

    Its ``states`` are a tree of arrays with the batch's axes in front; what acts needs a :class:`LatentState`.
    """

    @property
    @abc.abstractmethod
    def actor_size(self) -> int:
        """Length of what the actor sees."""

    @property
    @abc.abstractmethod
    def critic_size(self) -> int:
        """Length of what the critics see."""

    @abc.abstractmethod
    def critic_features(self, states: Any) -> Float[Array, "*batch G"]:
        """What of ``states`` the critics see."""

    @abc.abstractmethod
    def loss(self, batch: Batch, *, key: Key) -> tuple[Float[Array, ""], tuple[Any, Metrics]]:
        """The scaled sum of all losses, the filtered sequences (their ``states`` are ``[B, T, ...]``) and metrics."""

    @abc.abstractmethod
    def filter_step(
        self,
        state: LatentState,
        prev_action: Float[Array, "E A"],
        observation: Observation,
        is_first: Bool[Array, " E"],
        *,
        key: Key | None,
    ) -> LatentState:
        """One filtering step for E environments (acting), whose ``features`` the actor sees; the posterior's mode if
        ``key`` is None."""

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
        """Rolls ``policy``, of features and noise, out for H steps from states ``[B, ...]``.

        ``nudge`` is added to the actions: a trajectory's derivative by a nudge of zeros is that by its actions, through
        the dynamics.
        """

    @abc.abstractmethod
    def open_loop(self, batch: Batch, context: int, *, key: Key) -> dict[str, Array]:
        """Filters the first ``context`` steps and imagines the rest under the recorded actions.

        Returns, for ``[B, T]`` sequences, the predicted observations by name (images in [0, 1],
        vectors in symlog space), and ``reward [B, T]``, ``cost [B, T, C]``.
        """
