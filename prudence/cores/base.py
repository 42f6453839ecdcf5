"""The interface between an agent and the program that runs it."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from prudence.types import Batch, EpisodeSummary, Key, Metrics, Observation, Spaces, tree_index

Mode = Literal["train", "explore", "evaluate"]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(*static: str) -> Callable[[F], F]:
    """``jax.jit`` as a decorator that keeps the function's type. ``static`` has the names of static arguments."""
    return lambda function: cast(F, jax.jit(function, static_argnames=static))


def gradient_steps(
    step: Callable[[Any, Batch, Key], tuple[Any, Metrics]], state: Any, batches: Batch, *, key: Key
) -> tuple[Any, Metrics]:
    """Takes U steps, one after the other, on the U batches in ``batches`` (``[U, B, T, ...]``).

    Args:
        step: from a state, a batch ``[B, T, ...]`` and a key to the next state and metrics.

    Returns:
        The last state, and the metrics' means.
    """
    keys = jax.random.split(key, len(batches.reward))
    if len(keys) == 1:  # On a CPU, a loop (even with one iteration) makes convolutions several times slower.
        return step(state, tree_index(batches, 0), keys[0])
    state, metrics = jax.lax.scan(lambda state, inputs: step(state, *inputs), state, (batches, keys))
    return state, jax.tree.map(lambda x: x.mean(0), metrics)


class Outlook(NamedTuple):
    """What an agent predicts for E environments, from all earlier observations of their episodes.

    Attributes:
        value: ``[E]`` discounted return, from the critic.
        cost_value: ``[E, C]`` discounted costs, from the cost critic. None without a cost critic.
        costs: ``[E, H, C]`` costs of the next H decisions in one imagined future under the agent's policy.
    """

    value: Float[Array, " E"]
    cost_value: Float[Array, "E C"] | None
    costs: Float[Array, "E H C"]


@runtime_checkable
class Foreseeing(Protocol):
    """The additional interface of an agent that can predict an :class:`Outlook`."""

    def foresee(self, state: Any, carry: Any, *, key: Key) -> Outlook | None:
        """The outlook from the states in which ``act`` has just acted; ``carry`` is what it returned.

        It is None if the critics use information that the acting networks do not have.
        """
        ...


@runtime_checkable
class Modelling(Protocol):
    """The additional interface of an agent with a world model whose losses can be measured."""

    def model_losses(self, state: Any, batch: Batch, *, key: Key) -> Metrics:
        """The losses of the world model on ``[B, T]`` sequences, ``model/<name>``, without learning from them."""
        ...


@runtime_checkable
class Fitting(Protocol):
    """The additional interface of an agent whose model is fitted to all recorded steps at once, now and then.

    A replay asks for it: first when ``prefill`` decisions have been taken, then after every ``fit_every`` of them.
    """

    @property
    def fit_every(self) -> int:
        """Decisions between two fits."""
        ...

    def fit(self, state: Any, recorded: Batch, *, key: Key) -> Any:
        """The state with a model that is fitted to all recorded steps ``[E, T, ...]``."""
        ...


class Agent(abc.ABC):
    """A static configuration and pure functions over one pytree of state.

    An agent object is hashable and immutable. Everything that changes is in its ``AgentState``, one
    ``equinox.Module``: parameters, optimiser states, slow copies, normalisers, constraint states and step. A
    checkpoint stores this state.

    ``key`` is a typed key (``jax.random.key``), keyword-only, and consumed by the function that receives it.
    """

    spaces: Spaces

    @abc.abstractmethod
    def init(self, *, key: Key) -> Any:
        """A new ``AgentState``."""

    def begin_online(self, state: Any, *, key: Key) -> Any:
        """The state with which a run in an environment goes on from that of an offline run.

        Args:
            state: a fresh state of this agent, with every part that the offline run has, too.
            key: for what is drawn anew.
        """
        return state

    @abc.abstractmethod
    def init_carry(self, num_envs: int) -> Any:
        """The initial carry for E environments: what ``act`` remembers between steps (latents, last action, plans)."""

    @abc.abstractmethod
    def act(
        self,
        state: Any,
        carry: Any,
        observation: Observation,
        is_first: Bool[Array | np.ndarray, " E"],
        *,
        key: Key,
        mode: Mode,
    ) -> tuple[Float[Array, "E A"], Any, Metrics]:
        """Chooses actions for E environments. Where ``is_first``, the carry of the environment is reset.

        Returns:
            Actions (continuous in [-1, 1], discrete one-hot), the next carry, and diagnostics.
        """

    @abc.abstractmethod
    def update(self, state: Any, batches: Batch, *, key: Key) -> tuple[Any, Metrics]:
        """Learns from the U batches in ``batches`` (``[U, B, T, ...]``), in one dispatch.

        An agent that learns from replay takes one gradient step for each batch, and its metrics are means over them.
        An on-policy agent makes all its passes over each rollout; B is then the number of environments.
        """

    def on_episode(self, state: Any, summary: EpisodeSummary) -> Any:
        """The state after a finished *training* episode. It is never called for an evaluation episode.

        By default the state is the same.
        """
        return state

    def report(
        self, state: Any, batch: Batch, *, key: Key, context: int = 25, samples: int = 1
    ) -> dict[str, np.ndarray]:
        """The predictions of the agent's model for recorded ``[B, T]`` sequences, after it has seen ``context`` steps.

        Returns:
            Arrays ``prediction/<name>``, the mean of ``samples`` futures, and ``truth/<name>``, for observations,
            ``reward [B, T]`` and ``cost [B, T, C]``. Empty for an agent without a model of sequences.
        """
        return {}
