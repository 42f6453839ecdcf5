"""The table, the target and the obstacles, as additions to a robot's MuJoCo model."""

from __future__ import annotations

import mujoco
import numpy as np

from prudence.envs.reach.task import OBSTACLE, TABLE, TARGET_HEIGHT, TARGET_RADIUS, Kind, Variant

GREEN, RED = (0.2, 0.62, 0.28, 1.0), (0.85, 0.16, 0.14, 1.0)
ROBOT, THINGS = 1, 2
"""Bits of MuJoCo's contact masks. The robot meets the table and the obstacles, but not itself."""
CAMERA = "third_person"
STEP = 0.002
"""Seconds of a physics step."""


def furnish(spec: mujoco.MjSpec, variant: Variant) -> None:
    """Adds everything but the robot to ``spec``, the robot's model, and makes the robot's geoms meet it.

    The target is a mocap body, so it can be moved. The obstacles have free joints and the names ``obstacle0``, ...
    """
    for geom in spec.geoms:
        geom.contype, geom.conaffinity, geom.margin = ROBOT, 0, 0.0
    spec.option.timestep, spec.option.integrator = STEP, mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.visual.headlight.ambient[:] = 0.4
    spec.visual.headlight.diffuse[:] = 0.3
    spec.visual.headlight.specular[:] = 0.0
    spec.visual.map.znear, spec.visual.map.zfar = 0.01, 10.0
    spec.stat.extent = 1.0
    world = spec.worldbody
    world.add_light(
        pos=[0.6, -0.5, 2.0], dir=[-0.1, 0.25, -1.0], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, diffuse=[0.5] * 3
    )
    world.add_camera(name=CAMERA, **_looking(eye=(1.0, -0.27, 0.68), at=(0.46, 0.0, 0.2)), fovy=34.0)
    _add_room(spec)
    _add_target(spec, variant.target)
    for index, kind in enumerate(variant.obstacles):
        _add_obstacle(spec, index, kind)


def _add_room(spec: mujoco.MjSpec) -> None:
    floor = spec.add_texture(
        name="floor", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.5, 0.52, 0.55], rgb2=[0.44, 0.46, 0.5], width=64, height=64,
    )  # fmt: skip
    material = spec.add_material(name="floor", texrepeat=[2, 2], texuniform=True, reflectance=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = floor.name
    meets = {"contype": THINGS, "conaffinity": ROBOT | THINGS}
    world = spec.worldbody
    world.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[4, 4, 0.1], material="floor", **meets)
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, pos=[0.55, 0, TABLE / 2], size=[0.3, 0.4, TABLE / 2],
        rgba=[0.8, 0.74, 0.64, 1], **meets,
    )  # fmt: skip


def _add_target(spec: mujoco.MjSpec, kind: Kind) -> None:
    body = spec.worldbody.add_body(name="target", mocap=True)
    size = [TARGET_RADIUS, TARGET_RADIUS, TARGET_HEIGHT / 2] if kind == "box" else [TARGET_RADIUS, TARGET_HEIGHT / 2, 0]
    shape = mujoco.mjtGeom.mjGEOM_BOX if kind == "box" else mujoco.mjtGeom.mjGEOM_CYLINDER
    body.add_geom(name="target", type=shape, size=size, rgba=RED, contype=0, conaffinity=0)


def _add_obstacle(spec: mujoco.MjSpec, index: int, kind: Kind) -> None:
    body = spec.worldbody.add_body(name=f"obstacle{index}")
    body.add_freejoint(name=f"obstacle{index}")
    x, y, z = (side / 2 for side in OBSTACLE.size)
    shapes = {
        "box": (mujoco.mjtGeom.mjGEOM_BOX, [x, y, z]),
        "cylinder": (mujoco.mjtGeom.mjGEOM_CYLINDER, [x, z, 0]),
        "wedge": (mujoco.mjtGeom.mjGEOM_MESH, [0, 0, 0]),
    }
    shape, size = shapes[kind]
    looks = {"type": shape, "size": size, "mass": OBSTACLE.mass, "rgba": GREEN}
    if kind == "wedge":
        mesh = spec.add_mesh(name=f"wedge{index}", uservert=_wedge(x, y, z).ravel())
        looks["meshname"] = mesh.name
    # Rolling friction, without which a fallen cylinder would roll off the table.
    body.add_geom(
        name=f"obstacle{index}", contype=THINGS, conaffinity=ROBOT | THINGS, condim=6, friction=[0.8, 0.005, 0.002],
        **looks,
    )  # fmt: skip


def _wedge(x: float, y: float, z: float) -> np.ndarray:
    """``[6, 3]`` corners of an upright prism: a triangle with its edge towards the robot, as large as the box."""
    triangle = [(-x, 0.0), (x, -y), (x, y)]
    return np.array([(*corner, height) for height in (-z, z) for corner in triangle])


def _looking(eye: tuple[float, float, float], at: tuple[float, float, float]) -> dict[str, list[float]]:
    """Position and axes of a camera at ``eye`` that looks at ``at``, upright. Both are in metres."""
    back = np.subtract(eye, at) / np.linalg.norm(np.subtract(eye, at))
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([right, np.cross(back, right), back], axis=1).ravel())
    return {"pos": list(eye), "quat": quaternion.tolist()}
