"""Safety-Gymnasium's tasks with current versions of their libraries (docs/environments/safety-gymnasium.md)."""

from __future__ import annotations

import gymnasium as gym

from prudence.envs.base import EnvConfig, EnvError, Suite
from prudence.envs.safety_gymnasium.loader import INSTALL
from prudence.envs.sensors import OBSERVATIONS, SensorOptions

AGENTS = ("Point", "Car", "Racecar", "Doggo", "Ant")
_LEVELLED = ("Goal", "Push", "Button", "Circle", "FadingEasy", "FadingHard")

TASKS = tuple(
    f"Safety{agent}{task}-v0"
    for agent in AGENTS
    for task in (*(f"{name}{level}" for name in _LEVELLED for level in range(3)), "Run0")
)
"""Every task, ``Safety{agent}{task}{level}-v0``."""


def make(config: EnvConfig) -> gym.Env:
    """Makes the task of ``config``.

    Raises:
        EnvError: the simulator or the suite is not installed. The message has the command that installs them.
            Or an option does not suit the task.
    """
    assert isinstance(config.options, SensorOptions)
    config.options.check_task(config.task)
    try:
        from prudence.envs.safety_gymnasium.env import SafetyEnv  # Simulators are imported when they are used.
    except ImportError as error:
        raise EnvError(f"{config.task} needs MuJoCo ({error}). Install it with\n{INSTALL}") from error
    return SafetyEnv(config)


SUITE = Suite(
    name="Safety-Gymnasium",
    summary="robots that reach goals, push boxes or press buttons past hazards (docs/environments/safety-gymnasium.md)",
    tasks=TASKS,
    example="SafetyPointGoal1-v0",
    make=make,
    observations=OBSERVATIONS,
    options=SensorOptions,
    privileged=("paper",),
    arguments=(),
    robots=AGENTS,
    package="safety-gymnasium",
    install=INSTALL,
)
