"""The task of recorded data whose environment nobody knows. It has no simulator, so policies cannot act in it."""

from __future__ import annotations

import gymnasium as gym

from prudence.envs.base import EnvConfig, EnvError, Suite

TASK = "recorded"


def _make(config: EnvConfig) -> gym.Env:
    raise EnvError(
        f"{config.task}: the data set does not say which environment it was recorded in, so there is none to act in. "
        "Name it with --task"
    )


SUITE = Suite(
    name="Recorded data",
    summary="data of an unknown environment (learning only)",
    tasks=(TASK,),
    example=TASK,
    make=_make,
)
