"""The sensors that Safety-Gymnasium's robots and the quadrotor share, and what there is to choose of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from prudence.envs.base import SuiteOptions, check
from prudence.ranges import between

OBSERVATIONS = ("lidar", "coordinates", "vision")
"""A vector of the robot's own sensors and rings of bins; positions in the robot's frame; pictures."""

Quality = Literal["fidelity", "fast"]


@dataclass(frozen=True)
class SensorOptions(SuiteOptions):
    """How a robot sees.

    Attributes:
        cameras: pictures of ``vision``: the front camera (3 channels), or front and back (6).
        image_size: height and width of those pictures.
        quality: ``fidelity`` renders as the suite does; ``fast`` without multisampling, shadows and reflections.
        lidar_arc: degrees, around where the front camera looks, within which the lidar sees.
        lidar_scale: what a ring's bins say of the nearest object at distance d. ``linear``: Safety-Gymnasium's
            1 − d/d_max; ``inverse``: about d_max/d − 1 (:func:`prudence.envs.lidar.nearness`), which world models see
            as a logarithm: 5 cm matter beside a hazard, and not at 2 m.
        nearest_first: ``coordinates`` have the objects of a kind in the order of their distance, not in the suite's
            fixed order: what is learned of the nearest hazard holds whichever it is.
    """

    cameras: Literal["front", "both"] = "front"
    image_size: Annotated[int, between(8, 4096)] = 64
    quality: Quality = "fast"
    lidar_arc: Annotated[float, between(0, 360, open_low=True)] = 360.0
    lidar_scale: Literal["linear", "inverse"] = "linear"
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
