"""Observations and sensor options that Safety-Gymnasium's robots and the quadrotor share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from prudence.envs.base import Layout, SuiteOptions, check
from prudence.ranges import between

OBSERVATIONS = ("lidar", "coordinates", "vision")
"""``lidar``: a vector of the robot's own sensors and rings of bins. ``coordinates``: positions in the robot's frame.
``vision``: pictures."""

Quality = Literal["fidelity", "fast"]


def nearest_entries(layout: Layout) -> dict[str, tuple[str, ...]]:
    """The entries of ``lidar`` that :attr:`SensorOptions.lidar_nearest` adds, as environments declare what is precise.

    They tell distances that decide costs and goals, so a few centimetres matter.
    """
    names = tuple(entry.name for entry in layout.get("lidar", ()) if entry.name.endswith("_nearest"))
    return {"lidar": names} if names else {}


@dataclass(frozen=True)
class SensorOptions(SuiteOptions):
    """Options of a robot's sensors.

    Attributes:
        cameras: the pictures of ``vision``: the front camera (3 channels), or the front and back cameras (6).
        image_size: height and width of the pictures.
        quality: ``fidelity`` renders as the suite does. ``fast`` leaves out multisampling, shadows and reflections.
        lidar_arc: the lidar's field of view in degrees. Its middle is the direction of the front camera.
        lidar_scale: the value of a bin whose nearest object is at distance d. ``linear``: Safety-Gymnasium's
            1 − d/d_max. ``inverse``: about d_max/d − 1 (:func:`prudence.envs.lidar.nearness`). World models apply
            symlog to it and so see log d: 5 cm matter next to a hazard, but not at 2 m.
        lidar_nearest: ``lidar`` ends with an entry ``<kind>_nearest`` for each kind of object: the largest value of its
            ring, which tells the distance of the nearest object. Costs depend on that distance, and a network that has
            to find the maximum of a ring itself learns it poorly from the few costs that it sees.
        lidar_fades: the rings of objects that fade (in Safety-Gymnasium's Fading tasks) are multiplied by the share of
            their opacity that is left, from 1 to 0. Otherwise they fade in pictures only.
        nearest_first: ``coordinates`` sort the objects of a kind by their distance, not in the suite's fixed order.
            What a network learns about the nearest hazard then holds for every hazard.

    Raises:
        EnvError: a value is not allowed.
    """

    cameras: Literal["front", "both"] = "front"
    image_size: Annotated[int, between(8, 4096)] = 64
    quality: Quality = "fast"
    lidar_arc: Annotated[float, between(0, 360, open_low=True)] = 360.0
    lidar_scale: Literal["linear", "inverse"] = "linear"
    lidar_nearest: bool = False
    lidar_fades: bool = False
    nearest_first: bool = False

    def __post_init__(self) -> None:
        chosen = {
            "cameras": (self.cameras, ("front", "both")),
            "quality": (self.quality, get_args(Quality)),
            "lidar_scale": (self.lidar_scale, ("linear", "inverse")),
        }
        for name, (value, choices) in chosen.items():
            check("SensorOptions", value in choices, f"{name}={value!r}: choose '{choices[0]}' or '{choices[1]}'")
        check("SensorOptions", self.image_size >= 8, f"image_size={self.image_size} must be at least 8")
        check(
            "SensorOptions",
            0 < self.lidar_arc <= 360,
            f"lidar_arc={self.lidar_arc} must be above 0 and at most 360 degrees",
        )

    def check_task(self, task: str) -> None:
        """Raises EnvError if the lidar is to fade, but nothing does in this task."""
        check(
            "SensorOptions",
            not self.lidar_fades or "Fading" in task,
            f"lidar_fades=True, but nothing fades in {task}: leave it out, or choose a task such as "
            "SafetyPointFadingEasy1-v0",
        )
