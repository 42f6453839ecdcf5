"""What the parts of Prudence exchange.

Axis legend (docs/shapes.md). Every field and every public function states its shape in it:

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
"""Scalars by name, ``group/name``."""

Key = PRNGKeyArray

PRIVILEGED = "privileged"
"""What an observation is called that is privileged where nobody says which are."""


class ObservationSpec(NamedTuple):
    """Shape and type of one named observation, without batch axes."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def is_image(self) -> bool:
        return self.dtype == "uint8" and len(self.shape) == 3


class ActionSpec(NamedTuple):
    """Continuous actions lie in [-1, 1]^A; discrete ones are one-hot vectors of size A."""

    kind: Literal["continuous", "discrete"]
    size: int


@dataclass(frozen=True)
class CostFunction:
    """Costs that can be read off what is observed: a function and its keyword arguments. Hashable, and stored in
    checkpoints, which is why the function is named and not held.

    Attributes:
        path: ``module:function``. It is given observations by name, ``[*batch, *shape]``, as a model decodes them (not
            necessarily possible ones), and returns the costs of a decision ``[*batch, C]``; in JAX.
        arguments: keyword arguments, as pairs.
    """

    path: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def resolve(self) -> Callable[..., Any]:
        """The function. Raises ImportError, AttributeError or ValueError where ``path`` names none."""
        module, _, name = self.path.partition(":")
        return getattr(importlib.import_module(module), name)

    def __call__(self, observation: Observation) -> Float[Array, "*batch C"]:
        return self.resolve()(observation, **dict(self.arguments))


@dataclass(frozen=True)
class Spaces:
    """What an environment exchanges with an agent. Hashable, and stored in every checkpoint.

    Attributes:
        observation: named observations and their shapes.
        action: kind and size A.
        costs: names of the C constraints, in the order of every cost vector's last axis.
        episode_steps: decisions until the time limit, if the task has one: what turns an expected cost
            per decision into an expected cost per episode.
        cost_function: how the task's costs can be read off an observation, if it says so.
        privileged: names of the observations that only training has, and the robot will not: what acts does not
            see them.
    """

    observation: tuple[tuple[str, ObservationSpec], ...]
    action: ActionSpec
    costs: tuple[str, ...] = ("cost",)
    episode_steps: int | None = None
    cost_function: CostFunction | None = None
    privileged: tuple[str, ...] = ()

    @property
    def observations(self) -> Mapping[str, ObservationSpec]:
        return dict(self.observation)

    @property
    def unprivileged(self) -> Mapping[str, ObservationSpec]:
        """The observations that acting may rest on."""
        return {name: spec for name, spec in self.observation if name not in self.privileged}

    @property
    def num_costs(self) -> int:
        return len(self.costs)


class Transition(NamedTuple):
    """What arrived from the environments at one step (NumPy, axes ``[E, ...]``), or a batch of
    sequences of it as replay returns them (``[B, T, ...]``; then it is called a batch).

    Attributes:
        observation: named observations.
        prev_action: ``[..., A]`` the action that led here; zeros where ``is_first``.
        reward: ``[...]`` summed over repeated raw steps; 0 where ``is_first``.
        cost: ``[..., C]`` likewise, one column a constraint.
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
"""Sequences ``[B, T, ...]`` of transitions; with a leading axis when several are given at once."""


class Trajectory(NamedTuple):
    """Imagined by a world model under a policy: the start state and H steps after it.

    ``actor_features`` and ``critic_features`` are the same array for a symmetric model and differ
    for paired (privileged) ones, which is why one actor-critic serves both.

    Attributes:
        actor_features: ``[H+1, B, F]``.
        critic_features: ``[H+1, B, F']``.
        actions: ``[H, B, A]``, ``actions[t]`` taken at state t.
        rewards: ``[H+1, B]`` predicted to arrive with state t.
        costs: ``[H+1, B, C]`` likewise.
        continues: ``[H+1, B]`` probability that the episode goes on at state t; carries no gradient.
    """

    actor_features: Float[Array, "H+1 B F"]
    critic_features: Float[Array, "H+1 B G"]
    actions: Float[Array, "H B A"]
    rewards: Float[Array, "H+1 B"]
    costs: Float[Array, "H+1 B C"]
    continues: Float[Array, "H+1 B"]


class EpisodeSummary(NamedTuple):
    """A finished training episode, as ``Agent.on_episode`` receives it.

    Attributes:
        episode_return: sum of rewards.
        episode_cost: ``[C]`` sum of costs over the episode.
        length: decisions.
    """

    episode_return: float
    episode_cost: np.ndarray
    length: int


def tree_index(tree: Any, index: Any) -> Any:
    """``leaf[index]`` for every array of ``tree``."""
    return jax.tree.map(lambda leaf: leaf[index], tree)
