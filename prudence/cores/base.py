"""The contract between an agent and the program that runs it."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from prudence.types import Batch, EpisodeSummary, Key, Metrics, Observation, Spaces

Mode = Literal["train", "explore", "evaluate"]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(*static: str) -> Callable[[F], F]:
    """``jax.jit`` as a decorator that keeps the function's type; ``static`` names static arguments."""
    return lambda function: cast(F, jax.jit(function, static_argnames=static))


class Outlook(NamedTuple):
    """What an agent expects of E environments, from all that it has seen of their episodes.

    Attributes:
        value: ``[E]`` its critic's discounted return.
        cost_value: ``[E, C]`` likewise of costs; None without such a critic.
        costs: ``[E, H, C]`` that one imagined future under its policy brings with each of the next H decisions.
    """

    value: Float[Array, " E"]
    cost_value: Float[Array, "E C"] | None
    costs: Float[Array, "E H C"]


@runtime_checkable
class Foreseeing(Protocol):
    """What an agent has besides being one, if it can say what it expects."""

    def foresee(self, state: Any, carry: Any, *, key: Key) -> Outlook | None:
        """The outlook from where ``act`` has just acted, with the carry that it returned; None where what acts does not
        hold all that the critics see."""
        ...


class Agent(abc.ABC):
    """Static configuration plus pure functions over one pytree of state.

    An agent object is hashable and immutable; everything that changes lives in its ``AgentState``
    (one ``equinox.Module``: parameters, optimiser states, slow copies, normalisers, constraint
    states, step), which is all that a checkpoint stores.

    ``key`` is a typed key (``jax.random.key``), keyword-only, and consumed by the callee.
    """

    spaces: Spaces

    @abc.abstractmethod
    def init(self, *, key: Key) -> Any:
        """A fresh ``AgentState``."""

    @abc.abstractmethod
    def init_carry(self, num_envs: int) -> Any:
        """What ``act`` remembers between steps (latents, last action, warm starts), for E environments."""

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
        """Chooses actions for E environments; the carry of an environment resets on ``is_first``.

        Returns actions (continuous in [-1, 1], discrete one-hot), the next carry, and diagnostics.
        """

    @abc.abstractmethod
    def update(self, state: Any, batches: Batch, *, key: Key) -> tuple[Any, Metrics]:
        """Learns from each of the U batches in ``batches`` (``[U, B, T, ...]``), in one dispatch: one gradient step for
        each, with metrics that are averages over them; or all passes over a rollout, for an agent that learns on-policy
        (then B are its environments)."""

    @abc.abstractmethod
    def on_episode(self, state: Any, summary: EpisodeSummary) -> Any:
        """Called after each finished *training* episode (never after an evaluation episode)."""

    @abc.abstractmethod
    def report(
        self, state: Any, batch: Batch, *, key: Key, context: int = 25, samples: int = 1
    ) -> dict[str, np.ndarray]:
        """What the agent's model foresees of recorded ``[B, T]`` sequences of which it sees ``context`` steps.

        Arrays ``prediction/<name>`` (the mean of ``samples`` futures) beside ``truth/<name>``, for observations,
        ``reward [B, T]`` and ``cost [B, T, C]``; empty for an agent without a model.
        """
