"""Safety-Gymnasium's tasks on a current stack."""

from __future__ import annotations

import gymnasium as gym

from prudence.envs.base import EnvConfig

AGENTS = ("Point", "Car", "Racecar", "Doggo", "Ant")
_LEVELLED = ("Goal", "Push", "Button", "Circle", "FadingEasy", "FadingHard")

TASKS = tuple(
    f"Safety{agent}{task}-v0"
    for agent in AGENTS
    for task in (*(f"{name}{level}" for name in _LEVELLED for level in range(3)), "Run0")
)


def make(config: EnvConfig) -> gym.Env:
    from prudence.envs.safety_env import SafetyEnv

    return SafetyEnv(config)
