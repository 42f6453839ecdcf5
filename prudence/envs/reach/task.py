"""Layouts, distances and reward of SafeReach (FOSP, section 5.3; docs/environments/reach.md)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

Kind = Literal["box", "cylinder", "wedge"]


class Solid(NamedTuple):
    """A thing's length, width and height in metres, and its mass in kg."""

    size: tuple[float, float, float]
    mass: float


TABLE = 0.1
"""Height of the table's top. All lengths are in metres; x is forward from the robot's base, y to the left, z up."""
LOW, HIGH = np.array([0.375, -0.125, 0.13]), np.array([0.625, 0.125, 0.3])
"""Where commands may lead the fingertips: an area of 25 cm × 25 cm, as in the paper, and heights above the table."""
START = np.array([0.39, 0.0, 0.22])
JITTER = 0.01
"""The fingertips start within ``JITTER`` of ``START``, forward and sideways."""

TARGETS = ((0.6, -0.08), (0.6, 0.0), (0.6, 0.08))
PLACES = tuple(itertools.product((0.45, 0.52), (-0.07, 0.0, 0.07)))
"""The target's three places and the obstacles' six (x and y)."""
TARGET_RADIUS, TARGET_HEIGHT = 0.02, 0.06
OBSTACLE = Solid((0.05, 0.05, 0.15), 0.3)
MOST_OBSTACLES = 4

TOUCH = 0.01
"""The target is touched if the fingertips are this near to its surface."""
MOVES, TURNS = 1e-3, 2e-2
"""An obstacle moves if it is faster than 1 mm/s, or turns faster than .02 rad/s."""
PROGRESS = 10.0
"""Dense reward for a metre nearer to the target."""


@dataclass(frozen=True)
class Variant:
    """What a task has on its table.

    Attributes:
        obstacles: the kind of every obstacle.
        target: the kind of the target, ``cylinder`` or ``box``.
    """

    obstacles: tuple[Kind, ...] = ("box", "box")
    target: Kind = "cylinder"


VARIANTS = {
    "SafeReach0-v0": Variant(obstacles=()),
    "SafeReach-v0": Variant(),
    "SafeReachShapes-v0": Variant(obstacles=("cylinder", "wedge")),
    "SafeReachTarget-v0": Variant(target="box"),
    "SafeReachMore-v0": Variant(obstacles=("box",) * 4),
}


class Layout(NamedTuple):
    """Where things are when an episode begins.

    Attributes:
        target: a number of ``TARGETS``.
        obstacles: numbers of ``PLACES``, one for each obstacle, without repetition.
        offset: ``[2]`` of the fingertips from ``START``, forward and sideways, in metres.
    """

    target: int
    obstacles: tuple[int, ...]
    offset: tuple[float, float] = (0.0, 0.0)


def draw_layout(variant: Variant, rng: np.random.Generator) -> Layout:
    """Draws a target's place, different places for the obstacles, and where the fingertips start."""
    target = int(rng.integers(len(TARGETS)))
    places = rng.permutation(len(PLACES))[: len(variant.obstacles)]
    x, y = rng.uniform(-JITTER, JITTER, 2)
    return Layout(target, tuple(places.tolist()), (float(x), float(y)))


def target_distance(away: Float[np.ndarray, " 3"], kind: Kind) -> float:
    """The distance of a point from the target's surface, in metres. 0 inside.

    Args:
        away: from the point to the target's middle, in metres.
        kind: ``cylinder`` or ``box``, both upright.
    """
    x, y, z = np.abs(away)
    aside = [x - TARGET_RADIUS, y - TARGET_RADIUS] if kind == "box" else [np.hypot(x, y) - TARGET_RADIUS]
    return float(np.linalg.norm(np.maximum([*aside, z - TARGET_HEIGHT / 2], 0.0)))


def reward(before: float, now: float, *, dense: bool) -> float:
    r"""The reward of a raw step: 1 while the target is touched, and with ``dense`` :math:`10 (d_{t-1} - d_t)` more.

    Args:
        before, now: :math:`d_{t-1}` and :math:`d_t`, distances from the target's surface in metres.
        dense: adds the progress.
    """
    return float(now <= TOUCH) + (PROGRESS * (before - now) if dense else 0.0)


def moving(velocities: Float[np.ndarray, "n 6"]) -> bool:
    """Whether an obstacle moves. A row is its linear velocity in m/s, then its angular velocity in rad/s."""
    return bool(
        (np.linalg.norm(velocities[:, :3], axis=1) > MOVES).any()
        or (np.linalg.norm(velocities[:, 3:], axis=1) > TURNS).any()
    )
