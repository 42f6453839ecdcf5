"""The environments of the presets ``cpu``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prudence.envs.base import EnvConfig
from prudence.envs.registry import where_offered


def easy(env: EnvConfig, **options: Any) -> EnvConfig:
    """``env`` as small networks learn it in minutes: docs/studies/budgets.md has the reasons.

    A decision lasts five raw steps. Where the suite has these options, lidar gives distances, the nearest first, and
    rewards are dense. ``options`` are others, set where the suite has them.
    """
    return where_offered(
        replace(env, action_repeat=5),
        lidar_scale="inverse",
        lidar_nearest=True,
        nearest_first=True,
        reward="dense",
        **options,
    )
