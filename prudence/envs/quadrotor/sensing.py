"""Vector observations of the quadrotor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from prudence.envs.base import Selection, entries
from prudence.envs.lidar import closeness, nearness
from prudence.types import PRIVILEGED

LIDAR_BINS, LIDAR_REACH = 16, 3.0
PAST_ACTIONS = 3

_MOTION = ("velocimeter", "accelerometer", "gyro")
NEAREST = "hazards_nearest_first"
COORDINATES = (*_MOTION, "rotation", "altitude", "goal", "hazards")
LIDAR = ("velocimeter", "gyro", "up", "altitude", "goal_height", "goal_lidar", "hazards_lidar")
PAPERS = {
    **{name: name for name in ("hazards", *_MOTION, "goal")},
    "robot_m": "rotation",
    **{f"past_{i}_action": f"past_{i}_action" for i in range(1, PAST_ACTIONS + 1)},
    "euler": "euler",
}
"""The entries of AsymDreamer's Table 5, in its order: its names, and our name for each."""


def situation(
    sensors: Float[np.ndarray, "3 3"],
    position: Float[np.ndarray, " 3"],
    rotation: Float[np.ndarray, "3 3"],
    goal: Float[np.ndarray, " 3"],
    hazards: Float[np.ndarray, "n 3"],
    past: Float[np.ndarray, "k 4"],
    arc: float,
    scale: str = "linear",
) -> dict[str, np.ndarray]:
    """All quantities that an observation can contain, by name.

    - In the body's frame: ``velocimeter`` (m/s), ``accelerometer`` (m/s², including the force against gravity),
      ``gyro`` (rad/s), ``goal`` and ``hazards`` (positions of their centres, in metres), ``hazards_nearest_first``,
      and ``up`` (the world's z axis).
    - ``rotation``, whose columns are the body's axes, and ``euler``, roll and pitch (rad).
    - ``altitude``, and ``goal_height``, the height of the goal above the body (both in metres).
    - ``goal_lidar`` and ``hazards_lidar``: rings in the horizontal plane, for any tilt of the body.
      ``goal_nearest`` and ``hazards_nearest``: their largest values.
    - ``past_1_action``, the action of the last decision, and so on.

    Args:
        sensors: velocimeter, accelerometer and gyro.
        position: the body's position in the world, in metres.
        rotation: the body's rotation matrix.
        goal: the goal's position in the world, in metres.
        hazards: the hazards' positions in the world, in metres.
        past: past actions, the latest first.
        arc: the lidar's field of view in degrees. Its middle is straight ahead.
        scale: the scale of the lidar's bins (``SensorOptions.lidar_scale``).
    """
    away = np.concatenate([goal[None], hazards]) - position
    x, y = rotation[:2, 0] / np.hypot(*rotation[:2, 0])
    level = away[:, :2] @ np.array([[x, -y], [y, x]])
    kinds = np.r_[0, np.ones(len(hazards), int)]
    rings = closeness(level, kinds, 2, LIDAR_BINS, LIDAR_REACH, arc)
    rings = nearness(rings) if scale == "inverse" else rings
    body = away @ rotation
    return {
        **dict(zip(_MOTION, sensors, strict=True)),
        "up": rotation[2],
        "rotation": rotation,
        "euler": np.array([np.arctan2(rotation[2, 1], rotation[2, 2]), -np.arcsin(np.clip(rotation[2, 0], -1, 1))]),
        "altitude": position[2:],
        "goal": body[0],
        "goal_height": away[0, 2:],
        "hazards": body[1:],
        NEAREST: body[1:][np.argsort(np.linalg.norm(away[1:], axis=1))],
        "goal_lidar": rings[0],
        "hazards_lidar": rings[1],
        "goal_nearest": rings[0].max(keepdims=True),
        "hazards_nearest": rings[1].max(keepdims=True),
        **{f"past_{i + 1}_action": action for i, action in enumerate(past)},
    }


def selections(
    read: Callable[[], dict[str, np.ndarray]],
    modes: tuple[str, ...],
    *,
    paper: bool,
    nearest_first: bool,
    lidar_nearest: bool = False,
) -> dict[str, Selection]:
    """The vector observations by their keys: those among ``modes`` and, with ``paper``, the privileged one.

    Args:
        read: returns the result of :func:`situation`.
        modes: names of observations. Pictures are ignored.
        paper: adds the privileged observation of the AsymDreamer paper.
        nearest_first: ``coordinates`` sort the hazards by their distance.
        lidar_nearest: ``lidar`` ends with the largest value of each ring.
    """
    placed = entries((name, value.shape) for name, value in read().items())

    def whole() -> Float[np.ndarray, " F"]:
        return np.concatenate([value.ravel() for value in read().values()]).astype(np.float32)

    names = {"coordinates": COORDINATES, "lidar": LIDAR}
    chosen = {mode: {name: name for name in names[mode]} for mode in modes if mode in names}
    if lidar_nearest and "lidar" in chosen:
        chosen["lidar"] |= {name: name for name in ("goal_nearest", "hazards_nearest")}
    if nearest_first and "coordinates" in chosen:
        chosen["coordinates"]["hazards"] = NEAREST
    if paper:
        chosen[PRIVILEGED] = PAPERS
    return {key: Selection(whole, placed, parts) for key, parts in chosen.items()}
