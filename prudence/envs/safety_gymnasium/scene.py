"""The MuJoCo model of a task. It is built once; later episodes only rearrange it.

At each reset the suite writes and parses XML and reads every texture (a quarter of a second). But only positions and
rotations differ between episodes. So later episodes move the bodies of the parsed specification and compile it. This
gives the same model, and so the same trajectories, in a millisecond.
"""

from __future__ import annotations

import contextlib
import functools
import os
import types
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np
import yaml

# Rear cameras of version 1.2.0 of the suite (position, x axis, y axis, fovy). It has none for Doggo and Ant; theirs
# are the front cameras, turned round.
REAR_CAMERAS = {
    "Point": ((0, 0, 0.15), (0, 1, 0), (0, 0, 1), 90),
    "Car": ((0, 0, 0.2), (1, 0, 0), (0, 0, 1), 90),
    "Racecar": ((0.1, 0, 0.1), (0, 1, 0), (0, 0, 1), 90),
    "Doggo": ((-0.0625, 0, 0.1), (0, 1, 0), (-0.2, 0, 0.5), 100),
    "Ant": ((0, -0.05, 0.05), (-1, 0, 0), (0, 0, 1), 45),
}
PLACEHOLDER = {"@type": "skybox", "@builtin": "flat", "@width": "8", "@height": "48", "@name": "skybox"}


class Scene:
    """The parsed specification of one task's world."""

    def __init__(self, world: Any, agent: Any, config: dict[str, Any]) -> None:
        """Builds ``world``, the suite's ``World`` of ``agent``, which was parsed with ``config``."""
        with _placeholder_skybox(world):
            world.build()
        self.spec = mujoco.MjSpec.from_string(world.xml_string)
        self.spec.delete(self.spec.camera("track"))  # Its orientation belongs to the first episode.
        self._agent_height = agent.z_height
        self._bodies = {body.name: body for body in self.spec.worldbody.bodies}
        # Version 1.0.0 puts a mocap's rotation on its geom, 1.2.0 on its body.
        self._rotate_mocap_body = any("geoms" in mocap for mocap in config["mocaps"].values())
        if self.spec.camera("vision_back") is None:
            _add_rear_camera(self._bodies["agent"], type(agent).__name__)

    def arrange(self, config: dict[str, Any]) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """A new model and its state, with the positions and rotations of the suite's world ``config``."""
        agent = self._bodies["agent"]
        agent.pos = np.r_[config["agent_xy"], self._agent_height]
        agent.quat = _about_z(config["agent_rot"])
        for name, part in (*config["geoms"].items(), *config["free_geoms"].items()):
            self._bodies[name].pos = part["pos"]
            self._bodies[name].quat = _about_z(part["rot"])
        for name, part in config["mocaps"].items():
            geom = self._bodies[name].geoms[0]
            geom.pos = part["pos"]
            rotated = self._bodies[name] if self._rotate_mocap_body else geom
            rotated.quat = _about_z(part["rot"])
        model = self.spec.compile()
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        return model, data

    def with_skybox(self) -> mujoco.MjModel:
        """The model with the suite's own sky, for a rendering context."""
        spec = self.spec.copy()
        folder = spec.texturedir
        files = asset_table()["textures"]["skybox"]
        sky = next(texture for texture in spec.textures if texture.type == mujoco.mjtTexture.mjTEXTURE_SKYBOX)
        sky.builtin = mujoco.mjtBuiltin.mjBUILTIN_NONE
        for i, side in enumerate(("right", "left", "up", "down", "front", "back")):
            sky.cubefiles[i] = os.path.join(folder, files[f"@file{side}"])
        return spec.compile()


@functools.cache
def asset_table() -> dict[str, Any]:
    """The suite's table of textures, materials and meshes."""
    from prudence.envs.safety_gymnasium.loader import suite

    path = os.path.join(suite().world.BASE_DIR, "configs", "assets.yaml")
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


@contextlib.contextmanager
def _placeholder_skybox(world: Any) -> Iterator[None]:
    """Gives ``world`` a table of assets whose sky is a small flat texture, instead of 75 MB of stars."""
    from prudence.envs.safety_gymnasium.loader import suite

    table = asset_table()
    table = {**table, "textures": {**table["textures"], "skybox": PLACEHOLDER}}
    module = suite().world
    original = module.yaml
    module.yaml = types.SimpleNamespace(load=lambda *_, **__: table, FullLoader=None)
    try:
        yield
    finally:
        module.yaml = original


def _add_rear_camera(body: Any, agent: str) -> None:
    position, x, y, fovy = REAR_CAMERAS[agent]
    x, y = np.array(x, float) / np.linalg.norm(x), np.array(y, float) / np.linalg.norm(y)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([x, y, np.cross(x, y)], axis=1).ravel())
    body.add_camera(name="vision_back", pos=position, quat=quaternion, fovy=fovy)


def _about_z(angle: float) -> np.ndarray:
    return np.array([np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)])
