"""The names, configurations and descriptions of environments and suites."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import gymnasium as gym
import numpy as np
from jaxtyping import Float, UInt8

from prudence.envs.interface import Interface
from prudence.ranges import Count, Few, check_ranges
from prudence.types import Spaces


class EnvError(Exception):
    """The environment does not work with this configuration. The message says what to do."""


class Entry(NamedTuple):
    """A named part of a vector observation: ``observation[start:stop].reshape(shape)``."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]


Layout = dict[str, tuple[Entry, ...]]
"""The entries of each vector observation. The keys are the observations' names."""


def entries(shapes: Iterable[tuple[str, tuple[int, ...]]]) -> tuple[Entry, ...]:
    """Entries of the named shapes, one after another.

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
    """The number of goals that a step reached, ``info["goals"]``.

    It is None if the environment does not report it, or if the value is not an integer.

    >>> goals_of({"goals": 2}), goals_of({}), goals_of({"goals": [(0, 1)]})
    (2, None, None)
    """
    goals = info.get("goals")
    return int(goals) if isinstance(goals, int | np.integer) else None


class Selection:
    """A vector observation that consists of entries of another one. It has its own order and its own names."""

    def __init__(
        self, source: Callable[[], Float[np.ndarray, " _"]], placed: tuple[Entry, ...], names: Mapping[str, str]
    ) -> None:
        """``placed`` has the entries of ``source``. ``names`` maps each name here to the name in ``source``."""
        known = {entry.name: entry for entry in placed}
        chosen = [known[name] for name in names.values()]
        self._source = source
        self._places = np.concatenate([np.arange(entry.start, entry.stop) for entry in chosen])
        self.entries = entries((name, entry.shape) for name, entry in zip(names, chosen, strict=True))
        self.size = len(self._places)

    def __call__(self) -> Float[np.ndarray, " F"]:
        """The observation of the current state."""
        return self._source()[self._places]


class Description(NamedTuple):
    """The spaces, layout and interface of an environment, without the environment itself.

    Attributes:
        spaces: observations, action, costs and the length of episodes.
        layout: the named entries of the vector observations, as far as they are known.
        interface: the mapping between its own observations and actions and those of agents.
    """

    spaces: Spaces
    layout: Layout
    interface: Interface


class Outcome(NamedTuple):
    """Rewards and costs of N simulated plans of H decisions. Each value is the sum over a decision's raw steps.

    Attributes:
        rewards: ``[N, H]``.
        costs: ``[N, H, C]``.
    """

    rewards: Float[np.ndarray, "N H"]
    costs: Float[np.ndarray, "N H C"]


class Overhead(NamedTuple):
    """A picture of the arena from straight above, with the pose of the agent.

    Attributes:
        picture: the picture. The world's x axis points to the right, and its y axis points up.
        centre: the world position of the middle of the picture, in metres.
        pixels_per_metre: the scale of the picture at the agent's height.
        position: the agent's position in the world, in metres.
        heading: the angle of the agent's x axis in the world, in radians.
        seconds: the duration of a decision.
    """

    picture: UInt8[np.ndarray, "height width 3"]
    centre: Float[np.ndarray, " 2"]
    pixels_per_metre: float
    position: Float[np.ndarray, " 2"]
    heading: float
    seconds: float

    def world(self, points: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "... 2"]:
        """Converts points from the agent's frame to the world, in metres."""
        cosine, sine = np.cos(self.heading), np.sin(self.heading)
        return self.position + points @ np.array([[cosine, sine], [-sine, cosine]])

    def pixels(self, points: Float[np.ndarray, "... 2"]) -> Float[np.ndarray, "... 2"]:
        """Converts points of the world to columns and rows, counted from the picture's upper left corner."""
        height, width, _ = self.picture.shape
        right_and_down = (points - self.centre) * np.array([1.0, -1.0])
        return np.array([width / 2, height / 2]) + right_and_down * self.pixels_per_metre


class Frozen(Mapping[str, Any]):
    """An immutable, hashable dictionary. Configurations store dictionaries in this form."""

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
    """Makes ``value`` immutable: lists become tuples and dictionaries become :class:`Frozen`, at every depth.

    Args:
        value: a value of JSON's types.
        path: the place of ``value`` in the configuration, for the error message.

    Raises:
        EnvError: ``value`` contains something that is not of JSON's types.
    """
    if isinstance(value, float) and value != value:  # No configuration with NaN equals the one in its config.json.
        raise EnvError(f"EnvConfig: {path} is {value!r}, which equals nothing: give a number.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return tuple(frozen(item, f"{path}[{index}]") for index, item in enumerate(value))
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return Frozen({name: frozen(item, f"{path}[{name!r}]") for name, item in value.items()})
    raise EnvError(
        f"EnvConfig: {path} is {value!r}, a {type(value).__name__}, which config.json cannot hold: give numbers, "
        "strings, lists, and dictionaries whose keys are strings."
    )


def _are_named(pairs: Any) -> bool:
    pair = lambda item: isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str)
    return isinstance(pairs, list | tuple) and all(map(pair, pairs))


def thawed(value: Any) -> Any:
    """Reverses :func:`frozen` for dictionaries. Lists stay tuples."""
    if isinstance(value, Mapping):
        return {name: thawed(item) for name, item in value.items()}
    return tuple(thawed(item) for item in value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class SuiteOptions:
    """The options of a suite, in addition to those of every environment (:class:`EnvConfig`).

    A suite derives its own frozen dataclass from this one. Every field has a default and a hashable value of JSON's
    types or tuples. No field has the name of a field of :class:`EnvConfig`.
    """


@dataclass(frozen=True)
class EnvConfig:
    """The configuration of an environment. It is hashable and has only JSON's types, because a run stores it.

    :func:`prudence.envs.registry.complete` adds the defaults of the task's suite, such as its options.

    Attributes:
        task: a task of :func:`prudence.envs.registry.task_ids`, any Gymnasium id, or ``module:Class``.
        obs: the observations, if the task's suite offers several. The default is the first of them.
        action_repeat: number of raw steps in one decision. Rewards and costs are summed over them.
        costs: ``total``: one constraint, ``cost``; ``separate``: one constraint for each cost that the task reports;
            or a tuple of the names of the costs to use.
        time_limit: number of raw steps until an episode is truncated. None keeps the task's own limit.
        privileged: names of the observations that only training uses. They must be observations of the environment. A
            single word stands for a set that the suite defines and adds. ``paper`` adds the observation
            ``privileged``, with what the AsymDreamer paper lists for the task (Tables 4 to 9).
        kwargs: arguments of the environment's constructor: a dictionary of JSON's types, stored as sorted pairs.
        spent: adds the observation ``spent`` ``[C]``: the sum of each cost since the episode began.
        options: the suite's own options. None if the suite has no options, or for the suite's defaults.
        seeds: the environment takes only the seeds from 0 to ``seeds`` - 1. None for any.

    Raises:
        EnvError: a value is not allowed.
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
    seeds: Count | None = None

    def __post_init__(self) -> None:
        try:
            check_ranges(self, "env")
        except ValueError as error:
            raise EnvError(f"{error}.") from error
        require = functools.partial(check, "EnvConfig")
        require(bool(self.task), "task is empty; name one of prudence.envs.registry.task_ids()")
        require(isinstance(self.obs, tuple), f"obs={self.obs!r} must be a tuple, such as ('lidar', 'vision')")
        require(len(set(self.obs)) == len(self.obs), f"obs={self.obs!r} names an observation twice")
        require(
            self.costs in ("total", "separate") or (isinstance(self.costs, tuple) and len(self.costs) > 0),
            f"costs={self.costs!r}: give 'total', 'separate' or a tuple of names",
        )
        require(
            isinstance(self.privileged, str | tuple),
            f"privileged={self.privileged!r}: give a tuple of observations' names, or a word that the suite defines",
        )
        pairs = list(self.kwargs.items()) if isinstance(self.kwargs, Mapping) else self.kwargs
        require(_are_named(pairs), f"kwargs={self.kwargs!r} must be a dictionary, with names of arguments as its keys")
        names = [name for name, _ in pairs]
        require(len(set(names)) == len(names), f"kwargs={self.kwargs!r} gives an argument twice")
        kept = sorted((name, frozen(value, f"kwargs[{name!r}]")) for name, value in pairs)
        object.__setattr__(self, "kwargs", tuple(kept))

    @property
    def arguments(self) -> dict[str, Any]:
        """``kwargs`` as a dictionary for the constructor."""
        return {name: thawed(value) for name, value in cast(tuple[tuple[str, Any], ...], self.kwargs)}


def check(where: str, condition: bool, message: str) -> None:
    """Raises an :class:`EnvError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise EnvError(f"{where}: {message}.")


@dataclass(frozen=True)
class Suite:
    """The description of a suite of tasks. The suite's package exports it as ``SUITE``, and the registry lists it.

    Attributes:
        name: the name of the suite for readers.
        summary: a description of its tasks in one line.
        tasks: task names for :class:`EnvConfig`. No other suite has them.
        example: one of the tasks.
        make: makes the environment of a completed configuration, in the format of
            :func:`prudence.envs.registry.make`, but without ``spent``. It imports the simulator when it is called. It
            raises :class:`EnvError`.
        observations: the choices for ``EnvConfig.obs``. The default comes first. Empty if each task has fixed
            observations.
        options: the class of the suite's own options.
        privileged: the words that ``EnvConfig.privileged`` accepts, each for observations that the suite adds. An
            asymmetric system uses the first one by default.
        arguments: the names that ``EnvConfig.kwargs`` accepts. None if the tasks' constructors define them.
        robots: the robots of its tasks, if there are several. The name of a task has that of its robot.
        package: the distribution on the Python package index that its tasks need.
        install: the command that installs the package.
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

    def robot(self, task: str) -> str | None:
        """The robot of a task. None if the suite has no choice of robots."""
        return next((robot for robot in self.robots if robot in task), None)
