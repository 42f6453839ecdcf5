"""What a dataset holds: tables, and what a learner should know of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from prudence.data.dataset import Dataset
from prudence.data.manifest import DatasetError
from prudence.data.spaces import interface, spaces_in_words
from prudence.datasets.policies import FixedPolicy
from prudence.envs.base import EnvConfig
from prudence.envs.vector import VectorEnv, make_vector

_BORDER = 0.99
"""A continuous action is at the border if its absolute value is at least this."""
_ROLLOUT = 1000
"""Random decisions that a task is compared by."""


class Group(NamedTuple):
    """The N episodes of one source.

    Attributes:
        name: of the source.
        returns: ``[N]``.
        costs: ``[N, C]``.
        lengths: ``[N]`` decisions.
        terminated: ``[N]`` whether they ended by termination.
    """

    name: str
    returns: Float[np.ndarray, " N"]
    costs: Float[np.ndarray, "N C"]
    lengths: np.ndarray
    terminated: np.ndarray


class Range(NamedTuple):
    """The values of one entry of a vector observation."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """What :func:`summarise` finds.

    Attributes:
        groups: by source, then all episodes together if there are several sources.
        borders: share of continuous actions at a border of the action space, or of each discrete action; ``[A]``.
        ranges: of the entries of vector observations.
    """

    cost_names: tuple[str, ...]
    groups: tuple[Group, ...]
    borders: Float[np.ndarray, " A"]
    ranges: tuple[Range, ...]

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Heads and rows, one for each source."""
        costs = [column for name in self.cost_names for column in (name, f"no {name}")]
        heads = ("source", "episodes", "decisions", "return", *costs, "length", "terminated")
        return heads, [_row(group) for group in self.groups]

    def notes(self) -> list[str]:
        """What a learner should know, a line each."""
        constant = [found.name for found in self.ranges if found.low == found.high]
        whole = self.groups[-1]
        lines = ["return and costs: mean (interquartile range; maximum); 'no cost' is the share of episodes without it"]
        lines += [f"actions at a border or chosen, by entry: {', '.join(f'{share:.0%}' for share in self.borders)}"]
        lines += [f"constant entries, from which nothing is learnt: {', '.join(constant)}"] * bool(constant)
        for name, column in zip(self.cost_names, whole.costs.T, strict=True):
            if not column.any():
                lines.append(f"{name} is 0 in every episode: a model of it cannot foresee what it never saw")
        return lines


def summarise(data: Dataset) -> Summary:
    """Reads a dataset once, but for its pictures."""
    sources = np.array([episode.source for episode in data.episodes])
    present = [index for index in range(len(data.sources)) if (sources == index).any()]
    groups = [_group(data, data.sources[index].name, np.flatnonzero(sources == index)) for index in present]
    if len(groups) > 1:
        groups.append(_group(data, "all", np.arange(len(sources))))
    return Summary(data.spaces.costs, tuple(groups), _borders(data), tuple(_ranges_of(data)))


def disjoint(data: Dataset, env: EnvConfig, *, seed: int = 0) -> list[str]:
    """Entries whose ranges in the data and in random episodes of a task do not overlap, in words.

    Their meaning or order is likely another one. None are found if the task's observations mean the same.

    Raises:
        DatasetError: the task has other spaces.
        EnvError: the task cannot be made.
    """
    with contextlib.closing(make_vector(env, 1, seed=seed)) as envs:
        refuse_other_spaces(data, envs)
        task = {found.name: found for found in _ranges(_rollout(envs, seed))}
    pairs = [(found, task[found.name]) for found in _ranges_of(data)]
    return [
        f"{ours.name}: {ours.low:.3g} to {ours.high:.3g} in the data, {its.low:.3g} to {its.high:.3g} in {env.task}"
        for ours, its in pairs
        if ours.high < its.low or its.high < ours.low
    ]


def refuse_other_spaces(data: Dataset, envs: VectorEnv) -> None:
    """Raises DatasetError if the environment's observations, actions or costs are not those of the data."""
    if interface(data.spaces) != interface(envs.spaces):
        raise DatasetError(
            f"{data.directory} has {spaces_in_words(data.spaces)}; {envs.config.task} has "
            f"{spaces_in_words(envs.spaces)}. Name a task, or observations (--obs), like those of the data"
        )


def _group(data: Dataset, name: str, indices: np.ndarray) -> Group:
    chosen = [data.episodes[index] for index in indices]
    return Group(
        name,
        np.array([episode.episode_return for episode in chosen]),
        np.array([episode.costs for episode in chosen], np.float64).reshape(len(chosen), -1),
        np.array([episode.length for episode in chosen]),
        np.array([episode.terminated for episode in chosen]),
    )


def _row(group: Group) -> tuple[str, ...]:
    costs = [cell for column in group.costs.T for cell in (_spread(column), f"{np.mean(column == 0):.0%}")]
    lengths = f"{group.lengths.min()}" if group.lengths.min() == group.lengths.max() else f"{group.lengths.mean():.1f}"
    count, total = f"{len(group.returns)}", f"{group.lengths.sum():,}"
    return group.name, count, total, _spread(group.returns), *costs, lengths, f"{group.terminated.mean():.0%}"


def _spread(values: np.ndarray) -> str:
    low, high = np.quantile(values, [0.25, 0.75])
    return f"{values.mean():.2f} ({low:.1f} to {high:.1f}; {values.max():.1f})"


def _borders(data: Dataset) -> np.ndarray:
    counts = np.zeros(data.spaces.action.size)
    for index in range(len(data.episodes)):
        counts += (np.abs(data.column("prev_action", index)[1:]) >= _BORDER).sum(0)
    return counts / max(data.decisions, 1)


def _ranges_of(data: Dataset) -> list[Range]:
    vectors = [name for name, spec in data.spaces.observation if not spec.is_image]
    ends = lambda rows: np.stack([rows.min(0), rows.max(0)])
    extremes = {
        name: np.concatenate([ends(data.column(f"observation/{name}", i)) for i in range(len(data.episodes))])
        for name in vectors
    }
    return _ranges(extremes)


def _ranges(observations: Mapping[str, np.ndarray]) -> list[Range]:
    """The ranges of the entries of arrays ``[rows, *shape]``."""
    found = []
    for name, rows in observations.items():
        flat = rows.reshape(len(rows), -1)
        for index, (low, high) in enumerate(zip(flat.min(0), flat.max(0), strict=True)):
            found.append(Range(f"{name}[{index}]", float(low), float(high)))
    return found


def _rollout(envs: VectorEnv, seed: int) -> dict[str, np.ndarray]:
    """The vector observations ``[rows, *shape]`` of random decisions."""
    policy, key = FixedPolicy(envs.spaces), jax.random.key(seed)
    vectors = [name for name, spec in envs.spaces.observation if not spec.is_image]
    rows = [envs.reset()]
    for step in range(_ROLLOUT):
        last = rows[-1]
        action, _, _ = policy.act(
            None, 1, last.observation, last.is_first, key=jax.random.fold_in(key, step), mode="evaluate"
        )
        rows.append(envs.step(action))
    return {name: np.concatenate([row.observation[name] for row in rows]) for name in vectors}
