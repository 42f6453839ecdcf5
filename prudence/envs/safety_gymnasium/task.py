"""The suite's task classes with faster versions of their slow methods.

The suite's own ``Builder`` still controls steps and resets. The overrides compute the same numbers:
tests/envs/test_safety_gymnasium.py compares whole episodes with the original classes. No other module overrides methods
of the suite.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from jaxtyping import Float

from prudence.envs.safety_gymnasium.costs import Costs
from prudence.envs.safety_gymnasium.loader import suite
from prudence.envs.safety_gymnasium.scene import Scene

NO_SENSORS = int(mujoco.mjtDisableBit.mjDSBL_SENSOR)


def make_builder(task_id: str, agent: str) -> Any:
    """Makes the suite's environment of ``task_id``, such as ``SafetyPointGoal1-v0``.

    Its observations are None. :mod:`~prudence.envs.safety_gymnasium.sensing` computes observations when needed.
    """
    return _builder_class()(task_id, {"agent_name": agent})


def _builder_class() -> type:
    def get_task(builder: Any) -> Any:
        name = suite().builder.get_task_class_name(builder.task_id)
        original = getattr(suite().tasks, name)
        overrides = (ButtonOverrides,) if name.startswith("Button") else ()
        # The suite derives its configuration from the name of the class, so the new class keeps it.
        task = type(original.__name__, (*overrides, TaskOverrides, original), {})(config=builder.config)
        task.build_observation_space()
        return task

    return type("Builder", (suite().builder.Builder,), {"_get_task": get_task})


class TaskOverrides:
    """Overrides for all tasks. They come before the suite's task class in the method resolution order."""

    scene: Scene | None = None
    costs: Costs | None = None
    random_generator: Any
    agent: Any
    action_space: Any
    world: Any
    model: Any
    data: Any
    sim_conf: Any
    world_info: Any
    placements_conf: Any
    _mocaps: Any
    _obstacles: Any
    _build_placements_dict: Any
    _build_world_config: Any

    def _build_agent(self, agent_name: str) -> None:
        original = getattr(suite().agents, agent_name)
        self.random_generator = type("RandomGenerator", (PlacementOverrides, type(self.random_generator)), {})()
        agent_class = type(original.__name__, (AgentOverrides, original), {})
        self.agent = agent_class(random_generator=self.random_generator)

    def _build(self) -> None:
        """Samples a layout and builds its world. The first call uses the suite's XML."""
        if self.placements_conf.placements is None:
            self._build_placements_dict()
            conf = self.placements_conf
            self.random_generator.set_placements_info(conf.placements, conf.extents, conf.margin)
        self.world_info.layout = self.random_generator.build_layout()
        config = self.world_info.world_config_dict = self._build_world_config(self.world_info.layout)
        if self.scene is None:
            self.world = suite().world.World(self.agent, self._obstacles, config)
            self.scene = Scene(self.world, self.agent, config)
        self.world.engine.update(*self.scene.arrange(config))
        if self.costs is None:
            self.costs = Costs(self)
            self._gremlins = [self.model.body_mocapid[self.model.body(name).id] for name in config["mocaps"]]
            self._goal = self.model.body("goal").id if hasattr(self, "goal") else -1
        self._stale = True

    def simulation_forward(self, action: np.ndarray) -> bool:
        """Takes one raw step of the physics. Returns False: no failure, because this MuJoCo does not raise."""
        model, data = self.model, self.data
        low, high = self.action_space.low, self.action_space.high
        data.ctrl[:] = np.minimum(np.maximum(action, low), high)
        # The result of the draw is certain, but the draw advances the suite's random stream.
        count = self.random_generator.binomial(self.sim_conf.frameskip_binom_n, self.sim_conf.frameskip_binom_p)
        option = model.opt
        option.disableflags |= NO_SENSORS  # Sensors take a tenth of a step, and are only read after the last one.
        if self._mocaps:
            for _ in range(count):
                self._move_gremlins(data)
                mujoco.mj_step(model, data)
        else:
            mujoco.mj_step(model, data, nstep=count)
        option.disableflags &= ~NO_SENSORS
        mujoco.mj_fwdPosition(model, data)  # Costs and rewards need positions and contacts after the step.
        return False

    def dist_goal(self) -> float:
        positions = self.data.xpos
        x, y, _ = positions[self._goal] - positions[self.agent.body]
        return math.sqrt(x * x + y * y)

    def calculate_cost(self) -> dict[str, float]:
        assert self.costs is not None
        if self._stale:  # A reset may have changed the agent's joints.
            mujoco.mj_forward(self.model, self.data)
            self._stale = False
        return self.costs()

    def obs(self) -> None:
        """Does nothing. Observations are computed only after the last raw step of a decision."""

    def _move_gremlins(self, data: Any) -> None:
        data.mocap_pos[self._gremlins] = gremlin_position(self._mocaps["gremlins"], np.asarray(data.time))


def gremlin_position(gremlins: Any, time: Float[np.ndarray, "*times"]) -> Float[np.ndarray, "*times 3"]:
    """The position of the guides that pull the gremlins: on a circle around a separate place for each."""
    return np.stack(
        [np.sin(time) * gremlins.travel, np.cos(time) * gremlins.travel, np.full_like(time, gremlins.size)], axis=-1
    )


class ButtonOverrides:
    """Overrides for the Button tasks."""

    costs: Costs

    @property
    def goal_achieved(self) -> bool:
        return self.costs.goal_button_pressed()


class AgentOverrides:
    """Overrides for the agents. They read the agent's model from arrays.

    The suite indexes with arrays of one number, which NumPy 2.4 rejects, and looks up bodies by name at every step.
    """

    engine: Any
    sensor_info: Any

    @functools.cached_property
    def body(self) -> int:
        return self.engine.model.body("agent").id

    @property
    def pos(self) -> np.ndarray:
        return self.engine.data.xpos[self.body].copy()

    def _build_action_space(self) -> gym.spaces.Box:
        bounds = self.engine.model.actuator_ctrlrange.astype(np.float32).astype(np.float64)  # Rounds as the suite does.
        return gym.spaces.Box(bounds[:, 0], bounds[:, 1], dtype=np.float64)

    def _init_jnt_sensors(self) -> None:
        model, info = self.engine.model, self.sensor_info
        kinds = {
            mujoco.mjtSensor.mjSENS_JOINTPOS: info.hinge_pos_names,
            mujoco.mjtSensor.mjSENS_JOINTVEL: info.hinge_vel_names,
            mujoco.mjtSensor.mjSENS_BALLQUAT: info.ballquat_names,
            mujoco.mjtSensor.mjSENS_BALLANGVEL: info.ballangvel_names,
        }
        for i in range(model.nsensor):
            name = model.sensor(i).name
            info.sensor_dim[name] = int(model.sensor_dim[i])
            if model.sensor_objtype[i] == mujoco.mjtObj.mjOBJ_JOINT:
                kinds[mujoco.mjtSensor(model.sensor_type[i])].append(name)
            elif model.sensor_objtype[i] == mujoco.mjtObj.mjOBJ_SITE and name == "agent_pos":
                info.freejoint_pos_name = name
            elif model.sensor_objtype[i] == mujoco.mjtObj.mjOBJ_SITE and name == "agent_qvel":
                info.freejoint_qvel_name = name


class PlacementOverrides:
    """Overrides that sample layouts with numbers instead of the suite's arrays. Draws and layouts are the same."""

    placements: dict[str, tuple[Any, float]]
    placements_extents: Any
    placements_margin: float
    random_generator: Any
    constrain_placement: Any
    draw_placement: Any
    layout: dict[str, np.ndarray]

    def sample_layout(self) -> bool:
        layout: dict[str, tuple[float, float]] = {}
        for name, (placements, keepout) in self.placements.items():
            others = [
                (*xy, self.placements[other][1] + self.placements_margin + keepout) for other, xy in layout.items()
            ]
            position = self._sample(placements, keepout, others)
            if position is None:
                return False
            layout[name] = position
        self.layout = {name: np.array(xy) for name, xy in layout.items()}
        return True

    def _sample(self, placements: Any, keepout: float, others: list[tuple[float, ...]]) -> tuple[float, float] | None:
        areas = [self.placements_extents] if placements is None else placements
        uniform = self.random_generator.uniform
        x_min, y_min, x_max, y_max = self.constrain_placement(areas[0], keepout)
        for _ in range(100):
            if len(areas) == 1:
                x, y = uniform(x_min, x_max), uniform(y_min, y_max)
            else:
                x, y = self.draw_placement(placements, keepout)
            if all(math.sqrt((x - a) * (x - a) + (y - b) * (y - b)) >= least for a, b, least in others):
                return float(x), float(y)
        return None
