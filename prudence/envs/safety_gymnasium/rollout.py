"""Simulates plans in the simulator itself, and computes their rewards and costs from the current state on.

``mujoco.rollout`` simulates many copies of the state on all cores. The plans use a copy of the model with additional
sensors. These measure, in every state, the positions of the agent and of the objects that it moves, and the contacts of
the agent. A few array expressions then give the rewards and costs of all plans and steps. They equal the environment's:
tests/envs/test_rollout.py compares both.

Nearly all the time of a decision is spent in MuJoCo. In simple models, such as those of the Point's tasks, physics is
the smaller part of a step. So the copy leaves out everything that cannot affect a plan, and MuJoCo's profiling is off.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Bool, Float
from mujoco.rollout import Rollout

from prudence.envs.base import EnvError, Outcome
from prudence.envs.safety_gymnasium.sensing import body_names
from prudence.envs.safety_gymnasium.task import gremlin_position

ANT_FALLS = 0.08
"""The episode ends if the Ant's torso is at this height or lower, in metres."""

_STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS
_CONTROLS = int(mujoco.mjtState.mjSTATE_CTRL) | int(mujoco.mjtState.mjSTATE_MOCAP_POS)
_SENSOR, _OBJECT = mujoco.mjtSensor, mujoco.mjtObj
_TOUCHED = ("buttons", "gremlins", "pillars", "vases")

Seen = dict[str, Float[np.ndarray, "N R n d"]]
"""The sensor values, by group of n bodies, after each of R raw steps of N plans."""


class Rollouts:
    """Simulates plans from a task's current state. The task and its random stream do not change.

    Nobody can know the place of the next goal. So after the first goal that a plan reaches, its rewards are 0, and in
    Button tasks every button counts as a wrong one. Steps after the end of the episode, by the time limit or the fall
    of an Ant, have reward and cost 0.

    Args:
        builder: the suite's environment. Other code resets it and takes its steps.
        control: converts actions in [-1, 1] to the actuators' unit.
        cost_keys: the suite's names of the C costs to return.
        action_repeat: number of raw steps in a decision.
        sleeping: objects at rest are not simulated until something touches them. If there are many, this is several
            times faster. Results are equal until an object is touched; after that, positions agree within about 5 mm.

    Raises:
        EnvError: the rewards of the task are not implemented here.
    """

    def __init__(
        self,
        builder: Any,
        control: Callable[[np.ndarray], np.ndarray],
        cost_keys: tuple[str, ...],
        action_repeat: int,
        *,
        sleeping: bool = True,
    ) -> None:
        self._builder, self._task = builder, builder.task
        self._control, self._cost_keys, self._repeat = control, cost_keys, action_repeat
        kinds = [name for name in (cls.__name__ for cls in type(self._task).__mro__) if name in _REWARDS]
        if not kinds:
            raise EnvError(
                f"{builder.task_id} cannot be rolled out: its rewards are not computed from simulated states here. "
                f"Known are {', '.join(name.removesuffix('Level0') for name in _REWARDS)}."
            )
        self._rewards = _REWARDS[kinds[0]]
        self._groups = _sensor_groups(self._task)
        self._sleeping = sleeping
        self._threads = _cores()
        self._data: list[mujoco.MjData] = []
        self._pool = Rollout(nthread=self._threads if self._threads > 1 else 0)
        self._original: mujoco.MjModel | None = None

    def __call__(self, plans: Float[np.ndarray, "N H A"]) -> Outcome:
        """Simulates N plans of H decisions.

        Args:
            plans: ``[N, H, A]`` actions in [-1, 1].

        Returns:
            The rewards and costs of each decision.

        Raises:
            ValueError: the episode is over.
        """
        if self._builder.done:
            raise ValueError("the episode is over: reset the environment before you roll out plans")
        task = self._task
        self._follow_model()
        seen = self._simulate(np.asarray(plans, np.float64))
        rewards, met = self._rewards(task, seen)
        met_before = _earlier(met)
        going_on = self._going_on(seen)
        clip = task.reward_conf.reward_clip
        rewards = np.clip(rewards, -clip, clip) if clip else rewards
        costs = _costs(task, seen, met_before)
        columns = [costs[key] & going_on for key in self._cost_keys]
        by_decision = (*plans.shape[:2], self._repeat)
        return Outcome(
            np.where(going_on & ~met_before, rewards, 0.0).reshape(by_decision).sum(-1),
            np.stack([column.reshape(by_decision).sum(-1) for column in columns], -1).astype(np.float64),
        )

    def close(self) -> None:
        """Stops the threads."""
        self._pool.close()

    def _follow_model(self) -> None:
        """Updates the copy of the model: a new copy for each episode, and new body positions within an episode."""
        model = self._task.model
        if self._original is not model:
            self._original = model
            self._model = _model_for_plans(self._task.scene.spec, self._groups)
            if self._sleeping:
                self._model.opt.enableflags |= int(mujoco.mjtEnableBit.mjENBL_SLEEP)
            names = {self._model.body(i).name for i in range(self._model.nbody)}
            self._bodies = [i for i in range(model.nbody) if model.body(i).name in names]
            self._data = []
        places = model.body_pos[self._bodies]
        if not self._data or (self._model.body_pos != places).any():
            self._model.body_pos[:] = places
            # With sleep, MuJoCo computes the places of static bodies once for each MjData.
            self._data = [mujoco.MjData(self._model) for _ in range(self._threads)]

    def _simulate(self, plans: Float[np.ndarray, "N H A"]) -> Seen:
        """Simulates the plans and reads the sensors.

        The sensors of a physics step measure the state before it. So one step more than the plans have is taken.
        """
        model, data = self._task.model, self._task.data
        number, length, _ = plans.shape
        substeps = int(self._task.sim_conf.frameskip_binom_n)
        steps = length * self._repeat * substeps + 1
        state = np.empty(mujoco.mj_stateSize(model, _STATE))
        mujoco.mj_getState(model, data, state, _STATE)
        sensors = np.empty((number, steps, self._model.nsensordata))
        with _still_clock():
            self._pool.rollout(
                [self._model] * number,
                self._data,
                initial_state=np.tile(state, (number, 1)),
                control=self._controls(plans, steps),
                control_spec=_CONTROLS,
                skip_checks=True,  # With checks, MuJoCo also writes the states, which take a hundred megabytes.
                nstep=steps,
                initial_warmstart=np.tile(data.qacc_warmstart, (number, 1)),
                sensordata=sensors,
            )
        return self._by_group(sensors[:, substeps::substeps])

    def _controls(self, plans: Float[np.ndarray, "N H A"], steps: int) -> Float[np.ndarray, "N steps K"]:
        """Controls of the actuators, then positions of the gremlins' guides, which are a function of time."""
        space, data = self._task.action_space, self._task.data
        actuators = np.clip(self._control(plans), space.low, space.high)
        each = (steps - 1) // plans.shape[1]
        actuators = np.repeat(actuators, each, axis=1)
        actuators = np.concatenate([actuators, actuators[:, -1:]], axis=1)
        guides = data.mocap_pos.size // 3
        if not guides:
            return actuators
        time = np.cumsum(np.r_[data.time, np.full(steps - 1, self._model.opt.timestep)])
        path = np.tile(gremlin_position(self._task.gremlins, time), guides)
        return np.concatenate([actuators, np.broadcast_to(path, (len(plans), *path.shape))], axis=2)

    def _by_group(self, values: Float[np.ndarray, "N R S"]) -> Seen:
        seen, start = {}, 0
        for name, (kind, bodies) in self._groups.items():
            size = len(bodies) * _DIMENSION[kind]
            seen[name] = values[..., start : start + size].reshape(*values.shape[:2], len(bodies), _DIMENSION[kind])
            start += size
        return seen

    def _going_on(self, seen: Seen) -> Bool[np.ndarray, "N R"]:
        """Whether the episode is not over yet, at each raw step."""
        height = seen["agent"][..., 0, 2]
        remaining = self._task.num_steps - self._builder.steps
        lasts = np.broadcast_to(np.arange(height.shape[1]) < remaining, height.shape)
        if type(self._task.agent).__name__ != "Ant":
            return lasts
        return lasts & ~_earlier(height <= ANT_FALLS)


# --- sensors ----------------------------------------------------------------------------------

_DIMENSION = {_SENSOR.mjSENS_FRAMEPOS: 3, _SENSOR.mjSENS_FRAMELINVEL: 3, _SENSOR.mjSENS_CONTACT: 1}


def _sensor_groups(task: Any) -> dict[str, tuple[Any, list[str]]]:
    """The groups of sensors by name. A group is a kind of sensor, and the bodies that have one."""
    groups = {"agent": (_SENSOR.mjSENS_FRAMEPOS, ["agent"])}
    for obstacle in task._obstacles:
        if obstacle.name == "circle":
            groups["velocity"] = (_SENSOR.mjSENS_FRAMELINVEL, ["agent"])
        if obstacle.name == "push_box":
            groups["push_box"] = (_SENSOR.mjSENS_FRAMEPOS, ["push_box"])
        # Touching the goal button gives a reward, so buttons always need sensors.
        if obstacle.name in _TOUCHED and (obstacle.is_constrained or obstacle.name == "buttons"):
            groups[obstacle.name] = (_SENSOR.mjSENS_CONTACT, body_names(obstacle))
            if obstacle.name == "vases":
                groups["vases_velocity"] = (_SENSOR.mjSENS_FRAMELINVEL, body_names(obstacle))
    return groups


def _model_for_plans(spec: mujoco.MjSpec, groups: dict[str, tuple[Any, list[str]]]) -> mujoco.MjModel:
    """The model of ``spec`` with other sensors, in the order of ``groups``. Its motion is the same.

    Hazards, goals, cameras and lights are left out. Every step would compute their places, but plans do not need them.
    """
    spec = spec.copy()
    marks = [body for body in spec.worldbody.bodies if _only_marks_a_place(body)]
    for part in (*marks, *spec.sensors, *spec.cameras, *spec.lights):
        spec.delete(part)
    for kind, bodies in groups.values():
        for body in bodies:
            if kind == _SENSOR.mjSENS_CONTACT:
                # XBODY is the agent with all its limbs. intprm selects the number of contacts, without other data.
                pair = {"objname": "agent", "reftype": _OBJECT.mjOBJ_BODY, "refname": body, "intprm": [1, 0, 1]}
            else:
                pair = {"objname": body}
            spec.add_sensor(type=kind, objtype=_OBJECT.mjOBJ_XBODY, **pair)
    # Bounding-box trees within a body are only useful for bodies of many geoms. The contacts are the same without.
    spec.option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_MIDPHASE)
    return spec.compile()


def _only_marks_a_place(body: mujoco.MjsBody) -> bool:
    """Whether a body cannot move or touch anything, such as a hazard or a goal. Their places are read from the task."""
    moves = body.mocap or body.joints or body.bodies
    return not moves and not any(geom.contype or geom.conaffinity for geom in body.geoms)


@contextlib.contextmanager
def _still_clock() -> Iterator[None]:
    """Replaces MuJoCo's clock by a C function that returns a constant.

    MuJoCo reads the clock about 24 times in a step for ``MjData.timer``, which is not used here. That takes a fifth of
    the time of a small model's step.
    """
    clock = mujoco.get_mjcb_time()
    mujoco.set_mjcb_time(ctypes.pythonapi.PyFloat_GetMax)
    try:
        yield
    finally:
        mujoco.set_mjcb_time(clock)


# --- rewards ----------------------------------------------------------------------------------
# Each function returns the rewards [N, R] of the suite's calculate_reward, and whether the goal is reached [N, R].

Reward = tuple[Float[np.ndarray, "N R"], Bool[np.ndarray, "N R"]]


def _goal_reward(task: Any, seen: Seen) -> Reward:
    distance = _distance_xy(seen["agent"], task.data.body("goal").xpos)[..., 0]
    met = distance <= task.goal.size
    return _approach(task.last_dist_goal, distance) * task.goal.reward_distance + met * task.goal.reward_goal, met


def _button_reward(task: Any, seen: Seen) -> Reward:
    buttons = task.buttons
    distance = _distance_xy(seen["agent"], task.data.body("goal").xpos)[..., 0]
    pressed = seen["buttons"][:, :, buttons.goal_button, 0] > 0
    return _approach(task.last_dist_goal, distance) * buttons.reward_distance + pressed * buttons.reward_goal, pressed


def _push_reward(task: Any, seen: Seen) -> Reward:
    box = seen["push_box"][:, :, 0]
    to_box = np.sqrt(np.square(box - seen["agent"][:, :, 0]).sum(-1))
    to_goal = np.sqrt(np.square(box - task.data.body("goal").xpos).sum(-1))
    met = to_goal <= task.goal.size
    before = np.concatenate([np.full_like(to_box[:, :1], task.last_dist_box), to_box[:, :-1]], axis=1)
    counts = before > task.push_box.null_dist * task.push_box.size
    pushed = _approach(task.last_dist_box, to_box) * task.push_box.reward_box_dist * counts
    carried = _approach(task.last_box_goal, to_goal) * task.push_box.reward_box_goal
    return pushed + carried + met * task.goal.reward_goal, met


def _circle_reward(task: Any, seen: Seen) -> Reward:
    x, y, _ = np.moveaxis(seen["agent"][:, :, 0], -1, 0)
    u, v, _ = np.moveaxis(seen["velocity"][:, :, 0], -1, 0)
    radius = np.sqrt(x**2 + y**2)
    reward = ((-u * y + v * x) / radius) / (1 + np.abs(radius - task.circle.radius)) * task.reward_factor
    return reward, np.zeros(reward.shape, bool)


def _run_reward(task: Any, seen: Seen) -> Reward:
    potential = np.linalg.norm(seen["agent"][:, :, 0, :2] - np.array(task.goal_pos), axis=-1) * task.reward_factor
    reward = _approach(-float(np.ravel(task.old_potential)[0]), potential)
    return reward, np.zeros(reward.shape, bool)


_REWARDS: dict[str, Callable[[Any, Seen], Reward]] = {
    "GoalLevel0": _goal_reward,  # Also for Fading, which differs only in its observations.
    "ButtonLevel0": _button_reward,
    "PushLevel0": _push_reward,
    "CircleLevel0": _circle_reward,
    "RunLevel0": _run_reward,
}


def _approach(before: float, distance: Float[np.ndarray, "N R"]) -> Float[np.ndarray, "N R"]:
    """The decrease of a distance at each raw step."""
    return -np.diff(distance, axis=1, prepend=before)


def _distance_xy(
    agent: Float[np.ndarray, "N R 1 3"], places: Float[np.ndarray, "*n 3"]
) -> Float[np.ndarray, "N R places"]:
    x, y, _ = np.moveaxis(places - agent, -1, 0)
    return np.sqrt(x * x + y * y)


# --- costs ------------------------------------------------------------------------------------


def _costs(task: Any, seen: Seen, met_before: Bool[np.ndarray, "N R"]) -> dict[str, Bool[np.ndarray, "N R"]]:
    """Whether each of the suite's costs occurs, and in ``cost_sum`` whether any of them does."""
    costs: dict[str, Any] = {}
    for obstacle in task._obstacles:
        name = obstacle.name
        if not getattr(obstacle, "is_constrained", False):
            continue
        if name == "hazards":
            places = np.stack([task.data.body(body).xpos for body in body_names(obstacle)])
            costs["cost_hazards"] = (_distance_xy(seen["agent"], places) < obstacle.size).any(-1)
        elif name == "sigwalls":
            reach = np.abs(seen["agent"][:, :, 0, : 2 if obstacle.num == 4 else 1])
            costs["cost_out_of_boundary"] = (reach > obstacle.locate_factor).any(-1)
        elif name == "buttons":
            costs["cost_buttons"] = _wrong_button(obstacle, seen, met_before)
        elif name == "vases":
            speed = np.sqrt(np.square(seen["vases_velocity"]).sum(-1))
            costs["cost_vases_contact"] = (seen["vases"] > 0).any((-2, -1))
            costs["cost_vases_velocity"] = (speed >= obstacle.velocity_threshold).any(-1)
        else:
            costs[f"cost_{name}"] = (seen[name] > 0).any((-2, -1))
    total = np.zeros(met_before.shape, bool)
    for cost in costs.values():
        total |= cost
    return {**costs, "cost_sum": total}


def _wrong_button(buttons: Any, seen: Seen, met_before: Bool[np.ndarray, "N R"]) -> Bool[np.ndarray, "N R"]:
    """Whether a wrong button is pressed and the timer does not run. Pressing the goal button starts the timer."""
    touched = seen["buttons"][..., 0] > 0
    is_goal = np.arange(touched.shape[-1]) == buttons.goal_button
    wrong = (touched & (met_before[..., None] | ~is_goal)).any(-1)
    left = np.maximum(buttons.timer - np.arange(touched.shape[1]), 0)
    left_after = np.maximum(buttons.resampling_delay + 1 - np.cumsum(met_before, axis=1), 0)
    return wrong & (np.where(met_before, left_after, left) == 0)


def _earlier(event: Bool[np.ndarray, "N R"]) -> Bool[np.ndarray, "N R"]:
    """Whether the event happened at an earlier raw step."""
    so_far = np.logical_or.accumulate(event, axis=1)
    return np.concatenate([np.zeros_like(so_far[:, :1]), so_far[:, :-1]], axis=1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
