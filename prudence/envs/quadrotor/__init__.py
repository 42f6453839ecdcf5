"""SafetyQuadrotorGoal: reaching goals in the air without flying through hazards (docs/environments/quadrotor.md).

This package registers ``TASKS`` in Gymnasium when it is imported. It imports MuJoCo when a task is made.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym

from prudence.envs import wrappers
from prudence.envs.base import EnvConfig, EnvError, Suite
from prudence.envs.sensors import OBSERVATIONS, SensorOptions

TIME_LIMIT = 1000
"""Number of raw steps in an episode."""

_TASKS: dict[str, dict[str, Any]] = {
    f"SafetyQuadrotor{name}Goal{level}-v0": {"level": level, "actions": actions}
    for name, actions in (("", "rotors"), ("Velocity", "velocity"))
    for level in range(3)
}

TASKS = tuple(_TASKS)
"""In ``SafetyQuadrotorGoal{level}-v0`` actions are the four rotors' forces, as in the AsymDreamer paper.
In ``SafetyQuadrotorVelocityGoal{level}-v0`` they are velocities, which an inner control loop tracks."""

for _id, _kwargs in _TASKS.items():
    if _id not in gym.registry:  # The module may be imported twice by a process that spawns workers.
        gym.register(_id, "prudence.envs.quadrotor.env:QuadrotorEnv", kwargs=_kwargs)  # It truncates itself.


INSTALL = "pip install 'mujoco>=4.0'"


def make(config: EnvConfig) -> gym.Env:
    """Makes the task of ``config``.

    Raises:
        EnvError: MuJoCo is not installed. The message has the command that installs it. Or an option does
            not suit the task.
    """
    assert isinstance(config.options, SensorOptions)
    config.options.check_task(config.task)
    options = dataclasses.asdict(config.options)
    del options["lidar_fades"]
    try:
        from prudence.envs.quadrotor.env import QuadrotorEnv  # Simulators are imported when they are used.
    except ImportError as error:
        raise EnvError(f"{config.task} needs MuJoCo ({error}). Install it with\n{INSTALL}") from error
    env = QuadrotorEnv(
        **_TASKS[config.task],
        obs=config.obs,
        action_repeat=config.action_repeat,
        time_limit=config.time_limit or TIME_LIMIT,
        paper_privileged=config.privileged == "paper",
        **options,
        **config.arguments,
    )
    return wrappers.Costs(env, config.task, config.costs)


SUITE = Suite(
    name="Quadrotor",
    summary="reaching goals in the air without flying through hazards (docs/environments/quadrotor.md)",
    tasks=TASKS,
    example="SafetyQuadrotorGoal1-v0",
    make=make,
    observations=OBSERVATIONS,
    options=SensorOptions,
    privileged=("paper",),
    arguments=("render_mode", "render_size"),
    package="mujoco",
    install=INSTALL,
)
