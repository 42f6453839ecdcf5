"""SafetyQuadrotorGoal: reaching goals in the air without flying through hazards (docs/environments/quadrotor.md).

Importing this package registers ``TASKS`` in Gymnasium; MuJoCo is imported when one of them is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from prudence.envs.base import EnvConfig, EnvError

TIME_LIMIT = 1000
"""Raw steps of an episode."""

_TASKS: dict[str, dict[str, Any]] = {
    f"SafetyQuadrotor{name}Goal{level}-v0": {"level": level, "actions": actions}
    for name, actions in (("", "rotors"), ("Velocity", "velocity"))
    for level in range(3)
}

TASKS = tuple(_TASKS)
"""``SafetyQuadrotorGoal{level}-v0``: actions are the four rotors' forces, as in the AsymDreamer paper;
``SafetyQuadrotorVelocityGoal{level}-v0``: they are velocities, which an inner loop holds."""

for _id, _kwargs in _TASKS.items():
    if _id not in gym.registry:  # The module may be imported twice by a process that spawns workers.
        gym.register(_id, "prudence.envs.quadrotor.env:QuadrotorEnv", kwargs=_kwargs)  # It truncates itself.


def make(config: EnvConfig) -> gym.Env:
    """The task that ``config`` names; its ``info["cost"]`` is a number.

    Raises:
        EnvError: MuJoCo is not installed (the message holds the line that installs it), or ``kwargs`` repeat a setting.
    """
    try:
        from prudence.envs.quadrotor.env import QuadrotorEnv  # Simulators are imported when they are used.
    except ImportError as error:
        raise EnvError(f"{config.task} needs MuJoCo ({error}). Install it with\npip install 'mujoco>=4.0'") from error
    settings = dict(
        **_TASKS[config.task],
        obs=config.obs,
        action_repeat=config.action_repeat,
        cameras=config.cameras,
        image_size=config.image_size,
        quality=config.quality,
        time_limit=config.time_limit or TIME_LIMIT,
        paper_privileged=config.privileged == "paper",
        lidar_arc=config.lidar_arc,
        lidar_scale=config.lidar_scale,
        nearest_first=config.nearest_first,
    )
    kwargs = dict(config.kwargs)
    if repeated := sorted(settings.keys() & kwargs):
        raise EnvError(f"{config.task}: its name and EnvConfig set {', '.join(repeated)} already, not kwargs.")
    return QuadrotorEnv(**settings, **kwargs)
