"""Pictures of the suite's tasks, drawn by MuJoCo's own renderer into a context that outlives episodes.

A context holds textures and meshes, which are the same in every episode; only the scene is updated.
"""

from __future__ import annotations

import collections
import importlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal

import mujoco
import numpy as np
from jaxtyping import UInt8

from prudence.envs.base import EnvError

Quality = Literal["fidelity", "fast"]
OVERVIEW_SIZE = 256
MAX_GEOMS = 1000
MAX_RENDERERS = 4  # A context with the suite's sky holds 75 MB of textures.

_local = threading.local()


class Renderer:
    """Draws any model with the textures and meshes of the one that it was made with.

    ``fidelity`` draws as the suite does; ``fast`` without multisampling, shadows and reflections.
    """

    def __init__(self, model: mujoco.MjModel, size: int, quality: Quality) -> None:
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        if quality == "fast":
            model.vis.quality.offsamples = 0
        self._gl = _gl_context(size)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, MAX_GEOMS)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = quality == "fidelity"
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 1  # The suite sorts its objects into groups and shows all.
        self._view = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)

    def draw(
        self, model: mujoco.MjModel, data: mujoco.MjData, camera: mujoco.MjvCamera
    ) -> UInt8[np.ndarray, "size size 3"]:
        """What ``camera`` sees. The array is used again by the next call."""
        self._gl.make_current()
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(model, data, self._option, None, camera, everything, self._scene)
        mujoco.mjr_render(self._view, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._view, self._context)
        return self._pixels[::-1]  # OpenGL counts rows from below.

    def close(self) -> None:
        """Frees the context."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()


class Vision:
    """First-person pictures, front and (``cameras="both"``) back, stacked along the channels."""

    def __init__(self, task: Any, key: str, cameras: str, size: int, quality: Quality) -> None:
        self._task, self._key, self._size, self._quality = task, key, size, quality
        names = ("vision",) if cameras == "front" else ("vision", "vision_back")
        self._cameras = [_fixed_camera(task.model, name) for name in names]
        self.shape = (size, size, 3 * len(names))

    def __call__(self) -> UInt8[np.ndarray, "size size channels"]:
        """The pictures of the present state."""
        scene = self._task.scene
        renderer = _renderer(
            ("sky", self._key, self._size, self._quality), scene.with_skybox, self._size, self._quality
        )
        picture = np.empty(self.shape, np.uint8)
        for i, camera in enumerate(self._cameras):
            picture[:, :, 3 * i : 3 * i + 3] = renderer.draw(self._task.model, self._task.data, camera)
        return picture


class Overview:
    """The arena from above, following the agent where the arena is larger than a picture."""

    def __init__(self, task: Any) -> None:
        self._task = task
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._camera.azimuth, self._camera.elevation = 90.0, -90.0
        extent = max(np.abs(task.placements_conf.extents).max(), getattr(getattr(task, "circle", None), "radius", 0.0))
        self._camera.distance = 2.6 * (extent + 0.2)  # Half the default field of view of 45° is tan⁻¹ 0.41.
        self._follows = task.floor_conf.size[0] > 5.0

    def __call__(self) -> UInt8[np.ndarray, "256 256 3"]:
        """The picture of the present state."""
        task = self._task
        if self._follows:
            self._camera.lookat[:] = task.agent.pos
        # Without the sky, which is not seen from here, so that the context is made in no time.
        name = f"{type(task).__name__}/{type(task.agent).__name__}"
        renderer = _renderer(("overview", name), task.scene.spec.compile, OVERVIEW_SIZE, "fidelity")
        return renderer.draw(task.model, task.data, self._camera).copy()


def _fixed_camera(model: mujoco.MjModel, name: str) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    camera.fixedcamid = model.camera(name).id
    return camera


def _renderer(key: tuple, make_model: Callable[[], mujoco.MjModel], size: int, quality: Quality) -> Renderer:
    """The renderer for ``key``, shared by this thread's environments (OpenGL contexts belong to threads)."""
    renderers: collections.OrderedDict[tuple, Renderer] = _local.__dict__.setdefault(
        "renderers", collections.OrderedDict()
    )
    if key not in renderers:
        renderers[key] = Renderer(make_model(), size, quality)
    renderers.move_to_end(key)
    while len(renderers) > MAX_RENDERERS:
        renderers.popitem(last=False)[1].close()
    return renderers[key]


def _gl_context(size: int) -> Any:
    """An off-screen OpenGL context: of the backend that MUJOCO_GL names, else EGL, else OSMesa."""
    asked = os.environ.get("MUJOCO_GL", "").lower()
    if not sys.platform.startswith("linux") or asked == "glfw":
        return mujoco.GLContext(size, size)
    reasons = []
    for backend in [asked] if asked in ("egl", "osmesa") else ["egl", "osmesa"]:
        try:
            context = importlib.import_module(f"mujoco.{backend}").GLContext(size, size)
            context.make_current()
            return context
        except Exception as error:  # The bindings raise whatever the missing library makes them raise.
            reasons.append(f"{backend}: {error}")
            _forget_opengl(backend)
    raise EnvError(
        "Pictures need an off-screen OpenGL library, and none works here "
        f"({'; '.join(reasons)}). Install one: apt-get install libegl1 libgl1-mesa-dri, or libosmesa6."
    )


def _forget_opengl(backend: str) -> None:
    """PyOpenGL binds to one platform when it is first imported; lets the next backend try."""
    os.environ.pop("PYOPENGL_PLATFORM", None)
    for name in [n for n in sys.modules if n.split(".")[0] == "OpenGL" or n.startswith(f"mujoco.{backend}")]:
        del sys.modules[name]
