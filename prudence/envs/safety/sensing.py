"""Vector observations of the suite's tasks: its own lidar vector, and ego-frame coordinates."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from prudence.envs.base import EnvError, entries

PLANAR = ("Point", "Car", "Racecar")


def body_names(obstacle: Any) -> list[str]:
    """The MuJoCo bodies of one of the suite's objects, in its own (fixed) order."""
    if obstacle.name == "circle":
        return ["world"]  # The suite states its position as the origin; its body is only drawn there.
    suffix = "obj" if obstacle.type == "mocaps" else ""
    count = getattr(obstacle, "num", None)
    if count is None:
        return [obstacle.name]
    return [f"{obstacle.name[:-1]}{i}{suffix}" for i in range(count)]


class Ego:
    """Positions of bodies in the agent's frame: the first two of :math:`R^T (p - x)`, with x and R the
    agent's position and rotation."""

    def __init__(self, task: Any, names: list[str]) -> None:
        self._task = task
        self._agent = task.model.body("agent").id
        self._ids = np.array([task.model.body(name).id for name in names], int)

    def __call__(self, *, flat: bool) -> Float[np.ndarray, "n 2"]:
        """``flat`` takes the bodies' heights as 0, as the suite's lidar does."""
        data = self._task.data
        positions = data.xpos[self._ids]
        if flat:
            positions[:, 2] = 0.0
        return (positions - data.xpos[self._agent]) @ data.xmat[self._agent].reshape(3, 3)[:, :2]


class Sensors:
    """The agent's sensors as the suite presents them: hinges as sine and cosine, balls as rotation matrices."""

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
        """The shape of each."""
        return {name: value.shape for name, value in self.read().items()}

    def read(self) -> dict[str, np.ndarray]:
        """Their values, by name."""
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
    r"""The suite's own flattened observation: the agent's sensors and, for each kind of object, a ring of bins.

    An object at distance d and angle :math:`\theta` in the agent's frame gives its bin the closeness
    :math:`s = \max(0, 1 - d / d_{max})`, and the two beside it :math:`\alpha s` and :math:`(1-\alpha) s`, with
    :math:`\alpha` its place within the bin; a bin keeps the largest. All objects are done at once.
    """

    def __init__(self, task: Any) -> None:
        conf = task.lidar_conf
        if conf.type != "pseudo" or not conf.alias or conf.max_dist is None:
            raise EnvError(f"The lidar {conf} is not one of Safety-Gymnasium's own tasks.")
        self._task, self._bins, self._range = task, conf.num_bins, float(conf.max_dist)
        self._sensors = Sensors(task)
        seen = [obstacle for obstacle in task._obstacles if obstacle.is_lidar_observed]
        self._ego = Ego(task, [name for obstacle in seen for name in body_names(obstacle)])
        counts = [len(body_names(obstacle)) for obstacle in seen]
        self._first_bin = np.repeat(np.arange(len(seen)), counts) * self._bins
        rings = {f"{obstacle.name}_lidar": i for i, obstacle in enumerate(seen)}
        order = list(task.obs_info.obs_space_dict.spaces)  # The suite flattens in this order.
        shapes = self._sensors.shapes() | dict.fromkeys(rings, (self._bins,))
        self.entries = entries((name, shapes[name]) for name in order)
        self._rings = {entry.name: entry for entry in self.entries if entry.name in rings}
        self._ring_of = rings
        self.size = self.entries[-1].stop

    def __call__(self) -> Float[np.ndarray, " F"]:
        """The observation of the present state. ``mj_forward`` must have been called on it."""
        vector = np.empty(self.size, np.float32)
        values = self._sensors.read()
        rings = self._closeness()
        for entry in self.entries:
            if entry.name in self._rings:
                vector[entry.start : entry.stop] = rings[self._ring_of[entry.name]]
            else:
                vector[entry.start : entry.stop] = values[entry.name]
        return vector

    def _closeness(self) -> Float[np.ndarray, "kinds bins"]:
        x, y = self._ego(flat=True).T
        place = np.arctan2(y, x) % (2 * np.pi) / (2 * np.pi / self._bins)
        index = place.astype(int)
        within = place - index
        index %= self._bins  # An angle just below 0 is rounded to 2π.
        near = np.maximum(0.0, self._range - np.hypot(x, y)) / self._range
        rings = np.zeros((len(self._ring_of), self._bins))
        flat = rings.reshape(-1)
        np.maximum.at(flat, self._first_bin + index, near)
        np.maximum.at(flat, self._first_bin + (index + 1) % self._bins, within * near)
        np.maximum.at(flat, self._first_bin + (index - 1) % self._bins, (1 - within) * near)
        if hasattr(self._task, "buttons") and self._task.buttons.timer != 0:
            rings[self._ring_of["buttons_lidar"]] = 0.0  # No button shows until a new one is the goal.
        return rings


class Coordinates:
    """Ego-frame positions of the objects, and the agent's motion.

    Entries, in order: ``velocimeter`` xy, ``accelerometer`` x and ``gyro`` z of planar agents, all sensors of
    the others; ``rotation``, the first two entries of the agent's rotation matrix; each kind of object, ``[n, 2]``
    in the suite's fixed order, by the suite's name (``goal`` is the target button in Button tasks); for the box
    its ``push_box_rotation`` (first two entries of its rotation matrix) and ``push_box_velocity`` (linear, turned
    into the agent's frame); ``boundary``, the distances to the walls that may not be crossed, positive inside.
    """

    def __init__(self, task: Any, agent: str) -> None:
        self._task = task
        self._agent = task.model.body("agent").id
        self._sensors = Sensors(task)
        self._planar = agent in PLANAR
        objects = [obstacle for obstacle in task._obstacles if obstacle.name != "sigwalls"]
        self._ego = Ego(task, [name for obstacle in objects for name in body_names(obstacle)])
        self._box = task.model.body("push_box").id if hasattr(task, "push_box") else None
        self._box_dof = None if self._box is None else task.model.jnt_dofadr[task.model.body_jntadr[self._box]]
        self._walls = getattr(task, "sigwalls", None)
        shapes = [(name, np.shape(value)) for name, value in self._motion().items()]
        for obstacle in objects:
            count = getattr(obstacle, "num", None)
            shapes.append((obstacle.name, (2,) if count is None else (count, 2)))
        shapes += [(name, np.shape(value)) for name, value in self._extras().items()]
        self.entries = entries(shapes)
        self.size = self.entries[-1].stop

    def __call__(self) -> Float[np.ndarray, " F"]:
        """The observation of the present state. ``mj_forward`` must have been called on it."""
        parts = [*self._motion().values(), self._ego(flat=False), *self._extras().values()]
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
