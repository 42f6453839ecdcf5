"""The list of all systems. A new one is a file of ``prudence/agents`` and its name here; nothing else knows it."""

from __future__ import annotations

from typing import Any

from prudence.agents import asymdreamer, cpo, crpo, dreamerv3, focops, lambda_, ppo, safedreamer, saute, trpo
from prudence.cores.system import System

_PAPERS = (safedreamer, lambda_, dreamerv3, asymdreamer, ppo, trpo, cpo, crpo, focops, saute)

SYSTEMS: dict[str, System[Any]] = {system.name: system for paper in _PAPERS for system in paper.SYSTEMS}
"""By name."""


def find_system(name: str) -> System[Any]:
    """The system called ``name``.

    Raises:
        ValueError: there is none.
    """
    if name not in SYSTEMS:
        raise ValueError(f"unknown agent '{name}': choose from {', '.join(SYSTEMS)}")
    return SYSTEMS[name]
