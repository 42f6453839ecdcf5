"""Pictures of the suite's tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8

from prudence.envs.base import Overhead
from prudence.envs.rendering import Cameras, Overview
from prudence.envs.sensors import Quality


class Vision:
    """First-person pictures, front and (``cameras="both"``) back, stacked along the channels."""

    def __init__(self, task: Any, key: str, cameras: str, size: int, quality: Quality) -> None:
        names = ("vision",) if cameras == "front" else ("vision", "vision_back")
        make_model = task.scene.with_skybox if quality == "fidelity" else task.scene.spec.compile
        self._task, self._cameras = task, Cameras(task.model, names, size, quality, key, make_model)
        self.shape = self._cameras.shape

    def __call__(self) -> UInt8[np.ndarray, "size size channels"]:
        """The pictures of the present state."""
        return self._cameras(self._task.model, self._task.data)


class FromAbove:
    """The arena from above; the camera follows the agent where the floor is long (Run)."""

    def __init__(self, task: Any, decision: float) -> None:
        """``decision``: seconds that one lasts."""
        circle = getattr(getattr(task, "circle", None), "radius", 0.0)
        extent = float(max(np.abs(task.placements_conf.extents).max(), circle))
        self._task, self._decision = task, decision
        self._usual_radius = extent + 0.2 if task.floor_conf.size[0] > 5.0 else None
        # Without the sky, which is not seen from here, so that the context is made in no time.
        name = f"{type(task).__name__}/{type(task.agent).__name__}"
        self._overview = Overview(extent, name, task.scene.spec.compile)

    def __call__(self, radius: float | None = None) -> Overhead:
        """The present state; with a ``radius`` in metres, what is around the agent."""
        task, radius = self._task, self._usual_radius if radius is None else radius
        x, y, _ = task.agent.mat[:, 0]
        return self._overview(task.model, task.data, task.agent.pos, float(np.arctan2(y, x)), self._decision, radius)
