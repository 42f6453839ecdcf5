"""The types that the parts of Prudence exchange.

Axis legend (docs/shapes.md). Every field and every public function states its shape in these letters:

======  ==========================================================
``E``   parallel environments
``B``   sequences in a batch
``T``   steps of a sequence
``H``   imagined steps
``N``   posterior samples, or candidate plans
``C``   constraints
``A``   action size
``D``   deterministic (recurrent) size of a latent state
``S``   stochastic latents
``K``   classes of a discrete latent
``F``   features
======  ==========================================================

A leading ``...`` (or ``*batch``) stands for any batch axes.

Time index: ``observation``, ``reward``, ``cost`` and the flags at *t* arrived together, after
``prev_action`` at *t*. The action chosen in answer to them is ``prev_action`` at *t + 1*.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

Observation = dict[str, Any]
"""Named observations: ``image`` ``uint8 [..., height, width, channels]``, others ``float32 [..., F]``."""

Metrics = dict[str, Any]
"""Scalars by name. A name has the form ``group/name``."""

Key = PRNGKeyArray

PRIVILEGED = "privileged"
"""Default name of privileged observations."""


class ObservationSpec(NamedTuple):
    """Shape and dtype of one named observation, without batch axes."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_image(self) -> bool:
        return self.dtype == "uint8" and len(self.shape) == 3


class ActionSpec(NamedTuple):
    """Kind and size A of actions. Continuous actions lie in [-1, 1]^A; discrete ones are one-hot vectors of size A."""

    kind: Literal["continuous", "discrete"]
    size: int


@dataclass(frozen=True)
class CostFunction:
    """A function that computes costs from an observation, with its keyword arguments.

    It is hashable and stored in checkpoints, so it holds the function's name and not the function.

    Attributes:
        path: ``module:function``. The function takes named observations ``[*batch, *shape]`` and returns the costs of a
            decision ``[*batch, C]``. It is written in JAX. A world model decodes the observations, so they need not
            be possible in the environment.
        arguments: keyword arguments, as pairs.
    """

    path: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def resolve(self) -> Callable[..., Any]:
        """Imports the function.

        Raises:
            ImportError, AttributeError, ValueError: ``path`` does not name a function.
        """
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)

    def __call__(self, observation: Observation) -> Float[Array, "*batch C"]:
        return self.resolve()(observation, **dict(self.arguments))


@dataclass(frozen=True)
class Spaces:
    """The observations, actions and costs of an environment. Hashable, and stored in every checkpoint.

    Attributes:
        observation: named observations and their shapes.
        action: kind and size A of actions.
        costs: names of the C constraints, in the order of the last axis of every cost vector.
        episode_steps: decisions until the time limit, or None without a time limit. It converts an expected cost per
            decision into an expected cost per episode.
        cost_function: computes the costs from an observation; None if the task has no such function.
        privileged: names of the observations that exist only in training. The actor does not see them.
        precise: entries of vector observations in which small errors matter, because rewards or costs depend on them:
            the observation's name, and the entries' indices.
    """

    observation: tuple[tuple[str, ObservationSpec], ...]
    action: ActionSpec
    costs: tuple[str, ...] = ("cost",)
    episode_steps: int | None = None
    cost_function: CostFunction | None = None
    privileged: tuple[str, ...] = ()
    precise: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def observations(self) -> Mapping[str, ObservationSpec]:
        return dict(self.observation)

    @property
    def unprivileged(self) -> Mapping[str, ObservationSpec]:
        """The observations that the actor may see."""
        return {name: spec for name, spec in self.observation if name not in self.privileged}

    @property
    def num_costs(self) -> int:
        return len(self.costs)

    def by_cost(self, metric: str, values: Float[Array, " C"]) -> Metrics:
        """``metric`` of each cost. Where there are several, the cost's name follows: ``metric_name``."""
        names = [metric] if self.num_costs == 1 else [f"{metric}_{name}" for name in self.costs]
        return {name: values[i] for i, name in enumerate(names)}


class Transition(NamedTuple):
    """One step of the environments (NumPy, axes ``[E, ...]``), or a batch of sequences of steps (``[B, T, ...]``).

    Attributes:
        observation: named observations.
        prev_action: ``[..., A]`` the action that led to the observation; zeros where ``is_first``.
        reward: ``[...]`` sum over repeated raw steps; 0 where ``is_first``.
        cost: ``[..., C]`` sum over repeated raw steps, one column for each constraint; 0 where ``is_first``.
        is_first: ``[...]`` the observation is the first of an episode.
        is_last: ``[...]`` the episode ended here, by termination or by truncation.
        is_terminal: ``[...]`` the episode *terminated* here: there is no future value.
            Truncation (a time limit, a crashed worker) is ``is_last`` without ``is_terminal``.
    """

    observation: Observation
    prev_action: Float[Array | np.ndarray, "... A"]
    reward: Float[Array | np.ndarray, "..."]
    cost: Float[Array | np.ndarray, "... C"]
    is_first: Bool[Array | np.ndarray, "..."]
    is_last: Bool[Array | np.ndarray, "..."]
    is_terminal: Bool[Array | np.ndarray, "..."]


Batch = Transition
"""Sequences ``[B, T, ...]`` of transitions. Several batches are stacked on a leading axis."""


class Trajectory(NamedTuple):
    """Trajectories that a world model imagines under a policy: the start state and H steps after it.

    ``actor_features`` and ``critic_features`` are the same array for a symmetric model. They differ for a paired
    (privileged) model. The same actor-critic code therefore serves both.

    Attributes:
        actor_features: ``[H+1, B, F]`` input of the actor.
        critic_features: ``[H+1, B, G]`` input of the critics.
        actions: ``[H, B, A]``, where ``actions[t]`` is taken at state t.
        rewards: ``[H+1, B]``, where ``rewards[t]`` is predicted to arrive with state t.
        costs: ``[H+1, B, C]``, where ``costs[t]`` is predicted to arrive with state t.
        continues: ``[H+1, B]`` probability that the episode goes on at state t. It carries no gradient.
        states: the latent states ``[H+1, B, ...]``, from which imagination can go on.
    """

    actor_features: Float[Array, "H+1 B F"]
    critic_features: Float[Array, "H+1 B G"]
    actions: Float[Array, "H B A"]
    rewards: Float[Array, "H+1 B"]
    costs: Float[Array, "H+1 B C"]
    continues: Float[Array, "H+1 B"]
    states: Any = None


class EpisodeSummary(NamedTuple):
    """Summary of a finished training episode, for ``Agent.on_episode``.

    Attributes:
        episode_return: sum of rewards over the episode.
        episode_cost: ``[C]`` sum of costs over the episode.
        length: number of decisions.
    """

    episode_return: float
    episode_cost: np.ndarray
    length: int


def tree_index(tree: Any, index: Any) -> Any:
    """``leaf[index]`` for every array of ``tree``."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
