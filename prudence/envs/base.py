"""How an environment is named and configured, and what it tells about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from prudence.types import Spaces

OBSERVATION_MODES = ("lidar", "coordinates", "vision")


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


@dataclass(frozen=True)
class EnvConfig:
    """Names an environment. Hashable, and of JSON's types and tuples only: a run stores it.

    Attributes:
        task: a task of :func:`prudence.envs.registry.task_ids`, any Gymnasium id, or ``module:Class``.
        obs: observations of a suite's or a quadrotor's task, any of ``lidar``, ``coordinates``, ``vision``.
        action_repeat: raw steps that one decision lasts; rewards and costs are summed over them.
        costs: ``total``: one constraint, ``cost``; ``separate``: one for each cost that the task
            reports; or the names of those wanted.
        cameras: pictures of ``vision``: the front camera (3 channels), or front and back (6).
        image_size: height and width of those pictures.
        quality: ``fidelity`` renders as the suite does; ``fast`` without multisampling, shadows and reflections.
        time_limit: raw steps until an episode is truncated; None is the task's own.
        privileged: observations that only training has, by name; they must be among the environment's. ``paper``
            adds one, ``privileged``, with what the AsymDreamer paper lists for the task (Tables 4 to 9).
        lidar_arc: degrees, around where the front camera looks, within which the lidar of such a task sees.
        lidar_scale: what a ring's bins say of the nearest object at distance d. ``linear``: the suite's 1 − d/d_max;
            ``inverse``: about d_max/d − 1 (:func:`prudence.envs.lidar.nearness`), which world models see as a
            logarithm: 5 cm matter beside a hazard, and not at 2 m.
        nearest_first: ``coordinates`` have the objects of a kind in the order of their distance, not in the suite's
            fixed order: what is learned of the nearest hazard holds whichever it is.
        kwargs: for the constructor of a Gymnasium id or class, as pairs.
        spent: adds the observation ``spent`` ``[C]``: what each cost has summed up to in the episode.
    """

    task: str
    obs: tuple[str, ...] = ("lidar",)
    action_repeat: int = 1
    costs: Literal["total", "separate"] | tuple[str, ...] = "total"
    cameras: Literal["front", "both"] = "front"
    image_size: int = 64
    quality: Literal["fidelity", "fast"] = "fast"
    time_limit: int | None = None
    privileged: Literal["paper"] | tuple[str, ...] = ()
    lidar_arc: float = 360.0
    lidar_scale: Literal["linear", "inverse"] = "linear"
    nearest_first: bool = False
    kwargs: tuple[tuple[str, Any], ...] = ()
    spent: bool = False

    def __post_init__(self) -> None:
        _check(bool(self.task), "task is empty; name one of prudence.envs.registry.task_ids()")
        _check(isinstance(self.obs, tuple), f"obs={self.obs!r} must be a tuple, such as ('lidar', 'vision')")
        unknown = [mode for mode in self.obs if mode not in OBSERVATION_MODES]
        _check(bool(self.obs) and not unknown, f"obs={self.obs!r}: choose from {', '.join(OBSERVATION_MODES)}")
        _check(len(set(self.obs)) == len(self.obs), f"obs={self.obs!r} names a mode twice")
        _check(self.action_repeat >= 1, f"action_repeat={self.action_repeat} must be at least 1")
        _check(
            self.costs in ("total", "separate") or (isinstance(self.costs, tuple) and len(self.costs) > 0),
            f"costs={self.costs!r}: give 'total', 'separate' or a tuple of names",
        )
        _check(self.cameras in ("front", "both"), f"cameras={self.cameras!r}: choose 'front' or 'both'")
        _check(self.quality in ("fidelity", "fast"), f"quality={self.quality!r}: choose 'fidelity' or 'fast'")
        _check(self.image_size >= 8, f"image_size={self.image_size} must be at least 8")
        _check(self.time_limit is None or self.time_limit >= 1, f"time_limit={self.time_limit} must be at least 1")
        _check(
            self.privileged == "paper" or isinstance(self.privileged, tuple),
            f"privileged={self.privileged!r}: give 'paper' or a tuple of observations' names",
        )
        _check(
            self.lidar_scale in ("linear", "inverse"),
            f"lidar_scale={self.lidar_scale!r}: choose 'linear' or 'inverse'",
        )
        _check(0 < self.lidar_arc <= 360, f"lidar_arc={self.lidar_arc} must be above 0 and at most 360 degrees")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise EnvError(f"EnvConfig: {message}.")
