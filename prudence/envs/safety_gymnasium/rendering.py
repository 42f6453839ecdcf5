"""Pictures of the suite's tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8

from prudence.envs.base import Overhead
from prudence.envs.rendering import Cameras, Overview
from prudence.envs.sensors import Quality


class Vision:
    """First-person pictures of the front camera and, with ``cameras="both"``, the back camera.

    They are stacked along the channels.
    """

    def __init__(self, task: Any, key: str, cameras: str, size: int, quality: Quality) -> None:
        names = ("vision",) if cameras == "front" else ("vision", "vision_back")
        make_model = task.scene.with_skybox if quality == "fidelity" else task.scene.spec.compile
        self._task, self._cameras = task, Cameras(task.model, names, size, quality, key, make_model)
        self.shape = self._cameras.shape

    def __call__(self) -> UInt8[np.ndarray, "size size channels"]:
        """The pictures of the current state."""
        return self._cameras(self._task.model, self._task.data)


class FromAbove:
    """The arena from above. If the floor is long (Run), the camera follows the agent."""

    def __init__(self, task: Any, decision: float) -> None:
        """``decision`` is the duration of a decision in seconds."""
        circle = getattr(getattr(task, "circle", None), "radius", 0.0)
        extent = float(max(np.abs(task.placements_conf.extents).max(), circle))
        self._task, self._decision = task, decision
        self._usual_radius = extent + 0.2 if task.floor_conf.size[0] > 5.0 else None
        # The sky is not visible from above. Without it the context is made much faster.
        name = f"{type(task).__name__}/{type(task.agent).__name__}"
        self._overview = Overview(extent, name, task.scene.spec.compile)

    def __call__(self, radius: float | None = None) -> Overhead:
        """The picture of the current state. ``radius`` shows so many metres around the agent."""
        task, radius = self._task, self._usual_radius if radius is None else radius
        x, y, _ = task.agent.mat[:, 0]
        return self._overview(task.model, task.data, task.agent.pos, float(np.arctan2(y, x)), self._decision, radius)
