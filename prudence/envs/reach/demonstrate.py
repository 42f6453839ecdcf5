"""Scripted demonstrations of SafeReach, instead of the paper's teleoperated ones, for ``prudence dataset record``.

``careful`` goes around the obstacles, or over them where there is no way around, and touches the target. ``careless``
knocks an obstacle over on its way. The ``short`` ones do not touch the target. They see ``coordinates``. Their hand
shakes; the first observation of an episode determines how.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from prudence.envs.reach import task
from prudence.envs.reach.env import CENTIMETRES, STRIDE, entry
from prudence.types import Observation, Spaces

CRUISE, OVER = 12.0, 18.5
"""Heights of the fingertips over the table on a way around obstacles and over them. All lengths are in centimetres."""
TOUCHING, SHORT = 6.3, 10.0
"""Heights over the table at which the target, whose top is at 6, is touched, and at which it is not."""
NEAR = 2.0
"""The hand descends if the target is no further aside than this."""
KEPT, NEEDED = 2.7, 2.2
"""Distances from obstacles: at which the way turns, and which it keeps everywhere. Half a Panda's fingers is 2.1."""
EDGE = 1.0
"""Distance of a way from the edge of the area, where the hand could not give way."""
LAG = 0.08
"""Seconds by which the fingertips follow the command."""
SHAKING = 0.15
"""Standard deviation of what is added to an action."""
HIT = 0.5
"""An obstacle that moved this far was hit."""


def careful(spaces: Spaces) -> Demonstration:
    """Touches the target and no obstacle."""
    return Demonstration(spaces, avoids=True, arrives=True)


def careless(spaces: Spaces) -> Demonstration:
    """Touches an obstacle, then the target."""
    return Demonstration(spaces, avoids=False, arrives=True)


def careful_short(spaces: Spaces) -> Demonstration:
    """Stops above the target, and touches nothing."""
    return Demonstration(spaces, avoids=True, arrives=False)


def careless_short(spaces: Spaces) -> Demonstration:
    """Touches an obstacle and goes back."""
    return Demonstration(spaces, avoids=False, arrives=False)


class Demonstration:
    """A script (:data:`prudence.datasets.policies.Script`) of one environment."""

    def __init__(self, spaces: Spaces, *, avoids: bool, arrives: bool) -> None:
        """
        Args:
            spaces: of the environment. Its actions are poses (6) or positions (3).
            avoids: goes around obstacles, and does not hit one.
            arrives: touches the target.

        Raises:
            ValueError: the environment has no observation ``coordinates``.
        """
        if "coordinates" not in spaces.observations:
            raise ValueError(
                "demonstrations need to know where things are: record them with --obs coordinates, or with "
                "--obs vision coordinates --env privileged=coordinates to learn from pictures"
            )
        self._size, self._avoids, self._arrives = spaces.action.size, avoids, arrives
        self.reset()

    def reset(self) -> None:
        """Begins an episode."""
        self._start: Float[np.ndarray, " 3"] | None = None

    def __call__(self, observation: Observation) -> Float[np.ndarray, " A"]:
        """The action for the named observations of one environment."""
        seen = np.asarray(observation["coordinates"], np.float64)
        pose, velocity = entry(seen, "pose"), entry(seen, "velocimeter")
        tip = pose[:3]
        target, boxes = tip + entry(seen, "target"), (tip + entry(seen, "obstacles"))[entry(seen, "present") > 0]
        if self._start is None:
            self._begin(seen, tip, target, boxes)
        goal = self._avoiding(tip, target, boxes) if self._avoids else self._hitting(tip, target, boxes)
        move = (goal - tip - LAG * velocity) / (CENTIMETRES * STRIDE[:3])
        action = np.concatenate([move / max(1.0, np.linalg.norm(move)), -pose[3:] / STRIDE[3:] / 4])[: self._size]
        return np.clip(action + SHAKING * self._shaking.standard_normal(self._size), -1.0, 1.0)

    def _begin(self, seen: Any, tip: Any, target: Any, boxes: Float[np.ndarray, "n 3"]) -> None:
        self._start = tip
        self._shaking = np.random.default_rng(np.abs(1000 * seen).astype(np.int64))
        self._places, self._hit = boxes, len(boxes) == 0
        direction = (target - tip)[:2] / np.linalg.norm((target - tip)[:2])
        aside = np.abs((boxes - tip)[:, :2] @ np.array([-direction[1], direction[0]]))
        self._victim = int(np.argmin(aside)) if len(boxes) else 0

    def _avoiding(self, tip: Any, target: Any, boxes: Any) -> Float[np.ndarray, " 3"]:
        point = next_corner(tip[:2], target[:2], boxes[:, :2])
        if point is not None:
            return np.append(point, self._height(tip, target))
        high = tip[2] > OVER - 1.0
        return np.append(target[:2] if high else tip[:2], OVER)

    def _hitting(self, tip: Any, target: Any, boxes: Any) -> Float[np.ndarray, " 3"]:
        if not self._hit:
            place = self._places[self._victim]
            self._hit = bool(np.linalg.norm(boxes[self._victim] - place) > HIT)
            return np.append(place[:2], CRUISE)
        assert self._start is not None
        return np.append(target[:2], self._height(tip, target)) if self._arrives else self._start

    def _height(self, tip: Any, target: Any) -> float:
        above = TOUCHING if self._arrives else SHORT
        return above if np.linalg.norm((target - tip)[:2]) < NEAR else CRUISE


def next_corner(
    start: Float[np.ndarray, " 2"], goal: Float[np.ndarray, " 2"], boxes: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, " 2"] | None:
    """Where the shortest way from ``start`` to ``goal`` around obstacles turns first: a corner, or ``goal``.

    The corners are those of squares that are larger than the obstacles by ``KEPT`` on each side. The way leads from one
    to another that can be seen from it (a visibility graph), and stays in the area, ``EDGE`` from its edge.

    Args:
        start, goal: in centimetres, from the middle of the area.
        boxes: middles of the obstacles.

    Returns:
        The point, or None if there is no way.
    """
    half = CENTIMETRES * task.OBSTACLE.size[0] / 2
    signs = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)])
    corners = (boxes[:, None] + (half + KEPT) * signs).reshape(-1, 2)
    area = CENTIMETRES * (task.HIGH - task.LOW)[:2] / 2 - EDGE
    points = np.concatenate([start[None], corners[(np.abs(corners) <= area).all(axis=1)], goal[None]])
    legs = points[None] - points[:, None]
    along = points[:, None, None] + np.linspace(0.0, 1.0, 41)[:, None] * legs[:, :, None]
    blocked = (np.abs(along[..., None, :] - boxes) < half + NEEDED).all(axis=-1).any(axis=-1).any(axis=-1)
    lengths = np.where(blocked, np.inf, np.linalg.norm(legs, axis=-1))
    left = np.where(np.arange(len(points)) == len(points) - 1, 0.0, np.inf)
    for _ in points:
        left = (lengths + left).min(axis=1)
    ways = lengths[0, 1:] + left[1:]
    return points[1 + int(np.argmin(ways))] if np.isfinite(ways).any() else None
