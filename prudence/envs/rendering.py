"""Renders MuJoCo models with MuJoCo's own renderer. A rendering context is used for many episodes.

A context holds textures and meshes. They are the same in every episode of a task, so only the scene is updated.
"""

from __future__ import annotations

import atexit
import collections
import importlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Bool, Float, UInt8

from prudence.envs.base import EnvError, Overhead
from prudence.envs.sensors import Quality

OVERVIEW_SIZE = 256
MAX_GEOMS = 1000
MAX_RENDERERS = 4  # A context with the suite's sky holds 75 MB of textures.
FAST_TESSELLATION = (20, 10)  # Slices and stacks of round shapes; MuJoCo's own are 28 and 16.

_PLANE = mujoco.mjtGeom.mjGEOM_PLANE.value
_local = threading.local()


def _close_renderers() -> None:
    """Frees this thread's contexts while the libraries for this are still loaded."""
    for renderer in _local.__dict__.pop("renderers", {}).values():
        renderer.close()


class Renderer:
    """Draws any model that has the same textures and meshes as the model that it was made with.

    ``fidelity`` draws as the suite does. ``fast`` leaves out multisampling, shadows, reflections and the (nearly
    black) starry sky. It also draws round shapes with fewer faces and skips what the camera cannot see.
    """

    def __init__(self, model: mujoco.MjModel, size: int, quality: Quality, views: int = 1) -> None:
        """``views`` is the number of pictures that are drawn together, of ``size`` pixels in height and width."""
        model.vis.global_.offwidth, model.vis.global_.offheight = views * size, size
        self._fast = quality == "fast"
        if self._fast:
            visual = model.vis.quality
            visual.offsamples, visual.numslices, visual.numstacks = 0, *FAST_TESSELLATION
        self._gl: Any = _gl_context(views * size, size)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, MAX_GEOMS)
        for name in ("SHADOW", "REFLECTION", "SKYBOX"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{name}")] = not self._fast
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 1  # The suite sorts its objects into groups and shows all.
        self._views = [mujoco.MjrRect(i * size, 0, size, size) for i in range(views)]
        self._whole = mujoco.MjrRect(0, 0, views * size, size)
        self._pixels = np.empty((size, views * size, 3), np.uint8)

    def draw(
        self, model: mujoco.MjModel, data: mujoco.MjData, cameras: Sequence[mujoco.MjvCamera]
    ) -> UInt8[np.ndarray, "size views size 3"]:
        """A row of the picture of each camera, then the next row. The next call overwrites the array.

        The pictures are drawn beside one another and read once, since to read is to wait for the drawing.
        """
        self._gl.make_current()
        alpha = model.geom_rgba[:, 3]
        before = alpha.copy()
        fixed = all(camera.type == mujoco.mjtCamera.mjCAMERA_FIXED.value for camera in cameras)
        cull = self._fast and fixed
        seen = _seen(model, data, [camera.fixedcamid for camera in cameras]) if cull else [True] * len(cameras)
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        for camera, view, visible in zip(cameras, self._views, seen, strict=True):
            np.multiply(before, visible, out=alpha)  # MuJoCo skips transparent geoms.
            mujoco.mjv_updateScene(model, data, self._option, None, camera, everything, self._scene)
            mujoco.mjr_render(view, self._scene, self._context)
        alpha[:] = before
        mujoco.mjr_readPixels(self._pixels, None, self._whole, self._context)
        size = len(self._pixels)
        return self._pixels[::-1].reshape(size, len(cameras), size, 3)  # OpenGL counts rows from below.

    def close(self) -> None:
        """Frees the context. A second call does nothing."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def __del__(self) -> None:
        if hasattr(self, "_context") and not sys.is_finalizing():
            self.close()


class Cameras:
    """The pictures of a model's cameras, stacked along the channels."""

    def __init__(
        self,
        model: mujoco.MjModel,
        names: Sequence[str],
        size: int,
        quality: Quality,
        key: str,
        make_model: Callable[[], mujoco.MjModel],
    ) -> None:
        """
        Args:
            model: the model that has the cameras.
            names: the names of the cameras.
            size: height and width of a picture.
            quality: as in :class:`Renderer`.
            key: objects with the same key share a rendering context.
            make_model: makes the model for that context. It has the textures and meshes of all models of this key.
        """
        self._cameras = [fixed_camera(model, name) for name in names]
        self._key, self._make_model = key, make_model
        self._size: int = size
        self._quality: Quality = quality
        self.shape = (size, size, 3 * len(names))

    def __call__(self, model: mujoco.MjModel, data: mujoco.MjData) -> UInt8[np.ndarray, "size size channels"]:
        """The pictures of a state."""
        size, views = self._size, len(self._cameras)
        key = (self._key, size, self._quality, views)
        drawn = shared_renderer(key, self._make_model, size, self._quality, views).draw(model, data, self._cameras)
        picture = np.empty((size, size, views, 3), np.uint8)
        picture[:] = drawn.swapaxes(1, 2)  # A copy, since the next picture overwrites this one.
        return picture.reshape(self.shape)


class Overview:
    """The arena from above. The camera is high enough to show the agent."""

    def __init__(self, extent: float, key: str, make_model: Callable[[], mujoco.MjModel]) -> None:
        """``extent`` is the distance from the origin to the arena's edge, in metres. The rest is as in
        :class:`Cameras`."""
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._camera.azimuth, self._camera.elevation = 90.0, -90.0
        self._extent, self._key, self._make_model = extent, ("overview", key), make_model

    def __call__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        position: Float[np.ndarray, " 3"],
        heading: float,
        seconds: float,
        radius: float | None = None,
    ) -> Overhead:
        """The picture of a state, with the agent at ``position``. ``radius`` shows so many metres around it."""
        self._camera.lookat[:] = 0.0 if radius is None else position
        seen = max(self._extent, np.abs(position[:2]).max()) + 0.2 if radius is None else radius
        self._camera.distance = 2.6 * seen  # The field of view is 45°: 2 tan⁻¹ 0.41.
        renderer = shared_renderer(self._key, self._make_model, OVERVIEW_SIZE, "fidelity")
        half = np.tan(np.deg2rad(model.vis.global_.fovy) / 2)
        return Overhead(
            picture=renderer.draw(model, data, [self._camera])[:, 0].copy(),
            centre=self._camera.lookat[:2].copy(),
            pixels_per_metre=float(
                OVERVIEW_SIZE / 2 / (half * (self._camera.lookat[2] + self._camera.distance - position[2]))
            ),
            position=position[:2].copy(),
            heading=heading,
            seconds=seconds,
        )


def _seen(model: mujoco.MjModel, data: mujoco.MjData, cameras: Sequence[int]) -> Bool[np.ndarray, "views geoms"]:
    """Which geoms have a bounding sphere inside the (square) view of each of the cameras. The floor always counts."""
    offsets = data.geom_xpos - data.cam_xpos[cameras][:, None]
    right, up, back = np.moveaxis(offsets @ data.cam_xmat[cameras].reshape(-1, 3, 3), -1, 0)
    slope = np.tan(np.deg2rad(model.cam_fovy[cameras]) / 2)[:, None]
    reach = model.geom_rbound * np.sqrt(1 + slope**2) - back * slope
    return (model.geom_type == _PLANE) | (np.maximum(np.abs(right), np.abs(up)) <= reach)


def fixed_camera(model: mujoco.MjModel, name: str) -> mujoco.MjvCamera:
    """The camera ``name`` of ``model``."""
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    camera.fixedcamid = model.camera(name).id
    return camera


def shared_renderer(
    key: tuple, make_model: Callable[[], mujoco.MjModel], size: int, quality: Quality, views: int = 1
) -> Renderer:
    """The renderer for ``key``, shared by this thread's environments (OpenGL contexts belong to threads)."""
    renderers: collections.OrderedDict[tuple, Renderer] | None = getattr(_local, "renderers", None)
    if renderers is None:
        renderers = _local.renderers = collections.OrderedDict()
    if key not in renderers:
        renderers[key] = Renderer(make_model(), size, quality, views)
        # The OpenGL library has registered its exit function by now, so that ours runs before it.
        atexit.unregister(_close_renderers)
        atexit.register(_close_renderers)
    renderers.move_to_end(key)
    while len(renderers) > MAX_RENDERERS:
        renderers.popitem(last=False)[1].close()
    return renderers[key]


def _gl_context(width: int, height: int) -> Any:
    """An off-screen OpenGL context, from the backend that MUJOCO_GL names, else EGL, else OSMesa.

    Raises:
        EnvError: no backend works.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower()
    if not sys.platform.startswith("linux") or asked == "glfw":
        context = mujoco.GLContext(width, height)
        context.make_current()
        return context
    # Mesa's software renderer distributes even small pictures over threads, which is slower for them.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    reasons = []
    for backend in [asked] if asked in ("egl", "osmesa") else ["egl", "osmesa"]:
        try:
            context = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
            context.make_current()
            return context
        except Exception as error:  # Which exception the bindings raise depends on the missing library.
            reasons.append(f"{backend}: {error}")
            _forget_opengl(backend)
    raise EnvError(
        "Pictures need an off-screen OpenGL library, but none works here "
        f"({'; '.join(reasons)}). Install one: apt-get install libegl1 libgl1-mesa-dri, or libosmesa6."
    )


def _forget_opengl(backend: str) -> None:
    """Unloads PyOpenGL, so that the next backend can try. PyOpenGL chooses its platform when it is first imported."""
    os.environ.pop("PYOPENGL_PLATFORM", None)
    for name in [n for n in sys.modules if n.split(".")[0] == "OpenGL" or n.startswith(f"mujoco.{backend}")]:
        del sys.modules[name]
