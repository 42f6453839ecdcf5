"""Vector observations of the suite's tasks: the suite's lidar vector, and coordinates in the agent's frame."""

from __future__ import annotations

import re
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from prudence.envs.base import EnvError, Selection, entries
from prudence.envs.lidar import closeness, nearness

PLANAR = ("Point", "Car", "Racecar")


def body_names(obstacle: Any) -> list[str]:
    """The names of the MuJoCo bodies of one of the suite's objects, in the suite's fixed order."""
    if obstacle.name == "circle":
        return ["world"]  # The suite reports the origin as its position. Its own body is only for display.
    suffix = "obj" if obstacle.type == "mocaps" else ""
    count = getattr(obstacle, "num", None)
    if count is None:
        return [obstacle.name]
    return [f"{obstacle.name[:-1]}{i}{suffix}" for i in range(count)]


class Ego:
    """Positions of bodies in the agent's frame, in metres.

    They are the first two entries of :math:`R^T (p - x)`, where x and R are the agent's position and rotation.
    """

    def __init__(self, task: Any, names: list[str]) -> None:
        self._task = task
        self._agent = task.model.body("agent").id
        self._ids = np.array([task.model.body(name).id for name in names], int)

    def __call__(self, *, flat: bool) -> Float[np.ndarray, "n 2"]:
        """The positions in the current state. ``flat`` treats the bodies' heights as 0, as the suite's lidar does."""
        data = self._task.data
        positions = data.xpos[self._ids]
        if flat:
            positions[:, 2] = 0.0
        return (positions - data.xpos[self._agent]) @ data.xmat[self._agent].reshape(3, 3)[:, :2]


def camera_direction(task: Any) -> float:
    """The direction of the front camera, as an angle in the agent's frame, in radians.

    For example, a car drives and looks along -y.
    """
    camera, agent = task.model.camera("vision").id, task.model.body("agent").id
    x, y, _ = -task.data.cam_xmat[camera].reshape(3, 3)[:, 2] @ task.data.xmat[agent].reshape(3, 3)
    return float(np.arctan2(y, x))


class Sensors:
    """The agent's sensors in the suite's format: hinges as sine and cosine, ball joints as rotation matrices."""

    def __init__(self, task: Any) -> None:
        self._task = task
        agent, model = task.agent, task.model
        info = agent.sensor_info
        self._ranges = {
            model.sensor(i).name: slice(model.sensor_adr[i], model.sensor_adr[i] + model.sensor_dim[i])
            for i in range(model.nsensor)
        }
        plain = [*agent.sensor_conf.sensors, *info.hinge_vel_names, *info.ballangvel_names]
        self._plain = [*plain, *filter(None, [info.freejoint_qvel_name])]
        self._height = info.freejoint_pos_name
        self._hinges, self._balls = info.hinge_pos_names, info.ballquat_names

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each sensor's value, by name."""
        return {name: value.shape for name, value in self.read().items()}

    def read(self) -> dict[str, np.ndarray]:
        """The values of the sensors, by name."""
        values = self._task.data.sensordata
        read = {name: values[self._ranges[name]] for name in self._plain}
        if self._height is not None:
            read[self._height] = values[self._ranges[self._height]][2:]
        for name in self._hinges:
            angle = values[self._ranges[name]][0]
            read[name] = np.array([np.sin(angle), np.cos(angle)])
        for name in self._balls:
            matrix = np.zeros(9)
            mujoco.mju_quat2Mat(matrix, values[self._ranges[name]])
            read[name] = matrix
        return read


class Lidar:
    """The suite's own flattened observation: the agent's sensors, and a ring of bins for each kind of object.

    Args:
        task: the suite's task.
        arc: the lidar's field of view in degrees. Its middle is the direction of the front camera.
        scale: the scale of the bins (``SensorOptions.lidar_scale``).
        nearest: whether the vector ends with the largest value of each ring (``SensorOptions.lidar_nearest``).
        fades: whether the rings of objects whose drawing fades do so too (``SensorOptions.lidar_fades``). The task must
            be one of the suite's Fading tasks.

    Raises:
        EnvError: the task uses a lidar of another type.
    """

    def __init__(
        self, task: Any, arc: float = 360.0, scale: str = "linear", nearest: bool = False, fades: bool = False
    ) -> None:
        conf = task.lidar_conf
        if conf.type != "pseudo" or not conf.alias or conf.max_dist is None:
            raise EnvError(f"The lidar {conf} is not one of Safety-Gymnasium's own tasks.")
        self._task, self._bins, self._range = task, conf.num_bins, float(conf.max_dist)
        self._sensors = Sensors(task)
        seen = [obstacle for obstacle in task._obstacles if obstacle.is_lidar_observed]
        self._ego = Ego(task, [name for obstacle in seen for name in body_names(obstacle)])
        counts = [len(body_names(obstacle)) for obstacle in seen]
        self._kinds = np.repeat(np.arange(len(seen)), counts)
        self._arc, self._front, self._scale = arc, camera_direction(task), scale
        rings = {f"{obstacle.name}_lidar": i for i, obstacle in enumerate(seen)}
        order = list(task.obs_info.obs_space_dict.spaces)  # The suite flattens in this order.
        shapes = self._sensors.shapes() | dict.fromkeys(rings, (self._bins,))
        rings_in_order = [name for name in order if name in rings]
        summaries = [name.replace("_lidar", "_nearest") for name in rings_in_order] if nearest else []
        shapes |= dict.fromkeys(summaries, (1,))
        self.entries = entries((name, shapes[name]) for name in (*order, *summaries))
        self._summaries = dict(zip(summaries, rings_in_order, strict=False))
        self._rings = {entry.name: entry for entry in self.entries if entry.name in rings}
        self._ring_of = rings
        # The suite gives all objects of a kind the same opacity.
        self._fading = {
            rings[f"{obstacle.name}_lidar"]: (task.objects_map_ids[obstacle.name][0], float(obstacle.alpha))
            for obstacle in (task.fadding_objects if fades else ())
        }
        self.size = self.entries[-1].stop

    def __call__(self) -> Float[np.ndarray, " F"]:
        """The observation of the current state. Call ``mj_forward`` first."""
        vector = np.empty(self.size, np.float32)
        values = self._sensors.read()
        rings = self._read_rings()
        for entry in self.entries:
            if entry.name in self._rings:
                vector[entry.start : entry.stop] = rings[self._ring_of[entry.name]]
            elif entry.name in self._summaries:
                vector[entry.start] = rings[self._ring_of[self._summaries[entry.name]]].max()
            else:
                vector[entry.start : entry.stop] = values[entry.name]
        return vector

    def reading(self, distance: float) -> float:
        """What a bin reads if its nearest object is ``distance`` metres away."""
        closeness = np.array([max(0.0, 1 - distance / self._range)])
        return float((nearness(closeness) if self._scale == "inverse" else closeness)[0])

    def _read_rings(self) -> Float[np.ndarray, "kinds bins"]:
        rings = closeness(
            self._ego(flat=True), self._kinds, len(self._ring_of), self._bins, self._range, self._arc, self._front
        )
        if hasattr(self._task, "buttons") and self._task.buttons.timer != 0:
            rings[self._ring_of["buttons_lidar"]] = 0.0  # Buttons are invisible until a new one is the goal.
        rings = nearness(rings) if self._scale == "inverse" else rings
        for ring, (geom, opaque) in self._fading.items():
            rings[ring] *= self._task.model.geom_rgba[geom, 3] / opaque
        return rings


class Coordinates:
    """Positions of the objects in the agent's frame, and the agent's motion.

    The entries, in order:

    - the sensors: ``velocimeter`` xy, ``accelerometer`` x and ``gyro`` z of planar agents; all sensors of others;
    - ``rotation``, the first two entries of the agent's rotation matrix;
    - each kind of object, ``[n, 2]`` in metres, with the suite's name. Objects have the suite's fixed order, or the
      order of their distance with ``nearest_first``. In Button tasks ``goal`` is the goal button;
    - for the box, ``push_box_rotation`` (the first two entries of its rotation matrix) and ``push_box_velocity``
      (its linear velocity in the agent's frame);
    - ``boundary``, the distances to the walls that the agent must not cross, positive inside.
    """

    def __init__(self, task: Any, agent: str, nearest_first: bool = False) -> None:
        self._task, self._nearest_first = task, nearest_first
        self._agent = task.model.body("agent").id
        self._sensors = Sensors(task)
        self._planar = agent in PLANAR
        objects = [obstacle for obstacle in task._obstacles if obstacle.name != "sigwalls"]
        self._ego = Ego(task, [name for obstacle in objects for name in body_names(obstacle)])
        self._box = task.model.body("push_box").id if hasattr(task, "push_box") else None
        self._box_dof = None if self._box is None else task.model.jnt_dofadr[task.model.body_jntadr[self._box]]
        self._walls = getattr(task, "sigwalls", None)
        shapes = [(name, np.shape(value)) for name, value in self._motion().items()]
        counts = [getattr(obstacle, "num", None) for obstacle in objects]
        self._kinds = np.repeat(np.arange(len(objects)), [1 if count is None else count for count in counts])
        for obstacle, count in zip(objects, counts, strict=True):
            shapes.append((obstacle.name, (2,) if count is None else (count, 2)))
        shapes += [(name, np.shape(value)) for name, value in self._extras().items()]
        self.entries = entries(shapes)
        self.size = self.entries[-1].stop

    def __call__(self) -> Float[np.ndarray, " F"]:
        """The observation of the current state. Call ``mj_forward`` first."""
        positions = self._ego(flat=False)
        if self._nearest_first:
            positions = positions[np.lexsort((np.hypot(*positions.T), self._kinds))]
        parts = [*self._motion().values(), positions, *self._extras().values()]
        return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)

    def _motion(self) -> dict[str, np.ndarray]:
        values = self._sensors.read()
        if self._planar:
            values = {
                "velocimeter": values["velocimeter"][:2],
                "accelerometer": values["accelerometer"][:1],
                "gyro": values["gyro"][2:],
            }
        return {**values, "rotation": self._task.data.xmat[self._agent, :2]}

    def _extras(self) -> dict[str, np.ndarray]:
        data, extras = self._task.data, {}
        if self._box is not None:
            assert self._box_dof is not None
            velocity = data.qvel[self._box_dof : self._box_dof + 3]
            extras["push_box_rotation"] = data.xmat[self._box, :2]
            extras["push_box_velocity"] = velocity @ data.xmat[self._agent].reshape(3, 3)[:, :2]
        if self._walls is not None:
            x, y = data.xpos[self._agent, :2]
            at = self._walls.locate_factor
            extras["boundary"] = np.array([at - x, at + x, at - y, at + y][: self._walls.num])
        return extras


_MOTION = ("velocimeter", "accelerometer", "gyro")
PAPERS: dict[str, tuple[str, ...]] = {
    "Goal": ("hazards", "vases", *_MOTION, "goal"),
    "Push": ("hazards", *_MOTION, "goal", "robot_m", "push_box", "push_box_mat", "push_box_vel"),
    "Button": ("hazards", *_MOTION, "goal", "gremlins", "buttons"),
}
"""The entries of the AsymDreamer paper's privileged observations, by kind of task (Tables 4 and 6 to 9)."""
_OURS = {"robot_m": "rotation", "push_box_mat": "push_box_rotation", "push_box_vel": "push_box_velocity"}


def papers_privileged(task: Any, task_id: str, agent: str) -> Selection:
    """The AsymDreamer paper's privileged observation: entries of :class:`Coordinates` in the paper's order.

    The entries have the paper's names. Entries of objects that a level does not have are left out.

    Raises:
        EnvError: the paper has no table for this kind of task or robot.
    """
    kind = next((kind for kind in PAPERS if re.search(rf"{kind}\d", task_id)), None)
    if kind is None or agent not in PLANAR:
        raise EnvError(
            f"{task_id}: the AsymDreamer paper lists privileged observations for {', '.join(PLANAR)} on "
            f"{', '.join(PAPERS)}. Name others, such as obs=('lidar', 'coordinates') with privileged=('coordinates',)."
        )
    coordinates = Coordinates(task, agent)
    ours = {entry.name for entry in coordinates.entries}
    chosen = {name: _OURS.get(name, name) for name in PAPERS[kind]}
    present = {name: own for name, own in chosen.items() if own in ours}
    return Selection(coordinates, coordinates.entries, present)
