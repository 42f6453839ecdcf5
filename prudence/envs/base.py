"""How an environment is named and configured, and what it tells about itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import gymnasium as gym
import numpy as np
from jaxtyping import Float, UInt8

from prudence.ranges import Count, Few
from prudence.types import Spaces


class EnvError(Exception):
    """An environment cannot be used as it is configured; the message says what to do."""


class Entry(NamedTuple):
    """A named part of a vector observation: ``observation[start:stop].reshape(shape)``."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]


Layout = dict[str, tuple[Entry, ...]]
"""The entries of every vector observation, by the observation's name."""


def entries(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> tuple[Entry, ...]:
    """Lays named shapes out one after another.

    >>> entries([("goal", (2,)), ("hazards", (8, 2))])[1]
    Entry(name='hazards', start=2, stop=18, shape=(8, 2))
    """
    placed, start = [], 0
    for name, shape in shapes:
        size = 1
        for length in shape:
            size *= length
        placed.append(Entry(name, start, start + size, tuple(shape)))
        start += size
    return tuple(placed)


def goals_of(info: Mapping[str, Any]) -> int | None:
    """The number of goals that a step reached, ``info["goals"]``; None where an environment does not say, or means
    something else by it.

    >>> goals_of({"goals": 2}), goals_of({}), goals_of({"goals": [(0, 1)]})
    (2, None, None)
    """
    goals = info.get("goals")
    return int(goals) if isinstance(goals, int | np.integer) else None


class Selection:
    """A vector observation that holds entries of another one, in an order and by names of its own."""

    def __init__(
        self, source: Callable[[], Float[np.ndarray, " _"]], placed: tuple[Entry, ...], names: Mapping[str, str]
    ) -> None:
        """``placed`` are the entries of ``source``; ``names`` those here, with what they are called there."""
        known = {entry.name: entry for entry in placed}
        chosen = [known[name] for name in names.values()]
        self._source = source
        self._places = np.concatenate([np.arange(entry.start, entry.stop) for entry in chosen])
        self.entries = entries((name, entry.shape) for name, entry in zip(names, chosen, strict=True))
        self.size = len(self._places)

    def __call__(self) -> Float[np.ndarray, " F"]:
        """The observation of the present state."""
        return self._source()[self._places]


class Description(NamedTuple):
    """What an environment is, without having to hold it.

    Attributes:
        spaces: observations, action, costs and the length of episodes.
        layout: named entries of the vector observations, where they are known.
    """

    spaces: Spaces
    layout: Layout


class Outcome(NamedTuple):
    """What N plans of H decisions lead to in a simulator: sums over each decision's raw steps.

    Attributes:
        rewards: ``[N, H]``
        costs: ``[N, H, C]``
    """

    rewards: Float[np.ndarray, "N H"]
    costs: Float[np.ndarray, "N H C"]


class Overhead(NamedTuple):
    """An arena seen straight from above, and where the agent stands in it.

    Attributes:
        picture: the world's x axis points to the right, its y axis up.
        centre: the point of the world that is in the middle of the picture, in metres.
        pixels_per_metre: at the agent's height.
        position: the agent's, in the world, in metres.
        heading: the angle of the agent's x axis in the world, in radians.
        seconds: that a decision lasts.
    """

    picture: UInt8[np.ndarray, "height width 3"]
    centre: Float[np.ndarray, " 2"]
    pixels_per_metre: float
    position: Float[np.ndarray, " 2"]
    heading: float
    seconds: float

    def world(self, points: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "... 2"]:
        """Points of the world that are given in the agent's frame."""
        cosine, sine = np.cos(self.heading), np.sin(self.heading)
        return self.position + points @ np.array([[cosine, sine], [-sine, cosine]])

    def pixels(self, points: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "... 2"]:
        """Columns and rows, counted from the picture's upper left corner, of points of the world."""
        height, width, _ = self.picture.shape
        right_and_down = (points - self.centre) * np.array([1.0, -1.0])
        return np.array([width / 2, height / 2]) + right_and_down * self.pixels_per_metre


class Frozen(Mapping[str, Any]):
    """A dictionary that can be hashed and is not changed: what a configuration keeps of one."""

    def __init__(self, items: Mapping[str, Any]) -> None:
        self._items = dict(items)

    def __getitem__(self, name: str) -> Any:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)


def frozen(value: Any, path: str) -> Any:
    """``value`` with tuples for its lists and :class:`Frozen` for its dictionaries, as deep as it goes.

    Raises:
        EnvError: ``path`` leads to something that is of none of JSON's types.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return tuple(frozen(item, f"{path}[{index}]") for index, item in enumerate(value))
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return Frozen({name: frozen(item, f"{path}[{name!r}]") for name, item in value.items()})
    raise EnvError(
        f"EnvConfig: {path} is {value!r}, a {type(value).__name__}, which config.json cannot hold: give numbers, "
        "strings, lists, and dictionaries with names for keys."
    )


def thawed(value: Any) -> Any:
    """``value`` with dictionaries again for what :func:`frozen` made of them; its lists stay tuples."""
    if isinstance(value, Mapping):
        return {name: thawed(item) for name, item in value.items()}
    return tuple(thawed(item) for item in value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class SuiteOptions:
    """What a suite lets one choose of its tasks, beyond what every environment has (:class:`EnvConfig`).

    A suite derives a frozen dataclass of its own from this one. Its fields have defaults, are hashable and of JSON's
    types and tuples only, and no name of :class:`EnvConfig`'s fields.
    """


@dataclass(frozen=True)
class EnvConfig:
    """Names an environment. Hashable, and of JSON's types only: a run stores it.

    What a task's suite adds, such as its default options, comes with :func:`prudence.envs.registry.complete`.

    Attributes:
        task: a task of :func:`prudence.envs.registry.task_ids`, any Gymnasium id, or ``module:Class``.
        obs: observations of a task whose suite offers several; by default the first of them.
        action_repeat: raw steps that one decision lasts; rewards and costs are summed over them.
        costs: ``total``: one constraint, ``cost``; ``separate``: one for each cost that the task
            reports; or the names of those wanted.
        time_limit: raw steps until an episode is truncated; None is the task's own.
        privileged: observations that only training has, by name; they must be among the environment's. A word alone is
            a set that the suite defines and adds: ``paper``, what the AsymDreamer paper lists for the task (Tables 4 to
            9), as the observation ``privileged``.
        kwargs: arguments for the environment's constructor, a dictionary of JSON's types; kept as sorted pairs.
        spent: adds the observation ``spent`` ``[C]``: what each cost has summed up to in the episode.
        options: the suite's own; None for a suite without options, and for the suite's defaults.
    """

    task: str
    obs: tuple[str, ...] = ()
    action_repeat: Few = 1
    costs: Literal["total", "separate"] | tuple[str, ...] = "total"
    time_limit: Count | None = None
    privileged: str | tuple[str, ...] = ()
    kwargs: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    spent: bool = False
    options: SuiteOptions | None = None

    def __post_init__(self) -> None:
        require = functools.partial(check, "EnvConfig")
        require(bool(self.task), "task is empty; name one of prudence.envs.registry.task_ids()")
        require(isinstance(self.obs, tuple), f"obs={self.obs!r} must be a tuple, such as ('lidar', 'vision')")
        require(len(set(self.obs)) == len(self.obs), f"obs={self.obs!r} names an observation twice")
        require(self.action_repeat >= 1, f"action_repeat={self.action_repeat} must be at least 1")
        require(
            self.costs in ("total", "separate") or (isinstance(self.costs, tuple) and len(self.costs) > 0),
            f"costs={self.costs!r}: give 'total', 'separate' or a tuple of names",
        )
        require(self.time_limit is None or self.time_limit >= 1, f"time_limit={self.time_limit} must be at least 1")
        require(
            isinstance(self.privileged, str | tuple),
            f"privileged={self.privileged!r}: give a tuple of observations' names, or a word that the suite defines",
        )
        pairs = list(self.kwargs.items() if isinstance(self.kwargs, Mapping) else self.kwargs)
        names = [name for name, _ in pairs]
        require(len(set(names)) == len(names), f"kwargs={self.kwargs!r} gives an argument twice")
        kept = sorted((name, frozen(value, f"kwargs[{name!r}]")) for name, value in pairs)
        object.__setattr__(self, "kwargs", tuple(kept))

    @property
    def arguments(self) -> dict[str, Any]:
        """``kwargs`` as the constructor takes them."""
        return {name: thawed(value) for name, value in cast(tuple[tuple[str, Any], ...], self.kwargs)}


def check(where: str, condition: bool, message: str) -> None:
    """Raises an :class:`EnvError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise EnvError(f"{where}: {message}.")


@dataclass(frozen=True)
class Suite:
    """What a suite of tasks says about itself. Its package exports it as ``SUITE``, and the registry lists it.

    Attributes:
        name: as people call it.
        summary: what its tasks are, in a line.
        tasks: names for :class:`EnvConfig`, which no other suite has.
        example: one of them.
        make: the task that a completed configuration names, in the shape that :func:`prudence.envs.registry.make`
            promises, but for ``spent``. Simulators are imported when it is called. Raises :class:`EnvError`.
        observations: what ``EnvConfig.obs`` chooses from, the default first; empty where a task has its own.
        options: the class of the suite's own options.
        privileged: words that ``EnvConfig.privileged`` may be, for observations that the suite adds; an asymmetric
            system takes the first by itself.
        arguments: names that ``EnvConfig.kwargs`` may have; None where the tasks' constructors say so themselves.
        robots: that act in its tasks, where there are several.
        package: the distribution that its tasks need, on the Python package index.
        install: the line that installs this.
    """

    name: str
    summary: str
    tasks: tuple[str, ...]
    example: str
    make: Callable[[EnvConfig], gym.Env]
    observations: tuple[str, ...] = ()
    options: type[SuiteOptions] | None = None
    privileged: tuple[str, ...] = ()
    arguments: tuple[str, ...] | None = None
    robots: tuple[str, ...] = ()
    package: str = ""
    install: str = ""
