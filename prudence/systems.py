"""The list of all systems. To add one, write a file of ``prudence/agents`` and list its name here, and nowhere else."""

from __future__ import annotations

from typing import Any

from prudence.agents import (
    asymdreamer,
    cpo,
    crpo,
    dreamerv3,
    focops,
    fosp,
    lambda_,
    mbppo,
    ppo,
    recovery_rl,
    sac,
    safe_slac,
    safedreamer,
    safeloop,
    saute,
    trpo,
)
from prudence.cores.system import System

_PAPERS = (
    safedreamer,
    lambda_,
    dreamerv3,
    asymdreamer,
    fosp,
    recovery_rl,
    mbppo,
    safeloop,
    ppo,
    trpo,
    cpo,
    crpo,
    focops,
    saute,
    sac,
    safe_slac,
)

SYSTEMS: dict[str, System[Any]] = {system.name: system for paper in _PAPERS for system in paper.SYSTEMS}
"""All systems by name."""


def find_system(name: str) -> System[Any]:
    """The system with this name.

    Raises:
        ValueError: there is no such system.
    """
    if name not in SYSTEMS:
        raise ValueError(f"unknown agent '{name}': choose from {', '.join(SYSTEMS)}")
    return SYSTEMS[name]
