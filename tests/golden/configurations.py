"""The configuration of every system, preset and kind of observation, as the file beside this one keeps it.

A preset that moves by accident changes what a published command trains. One that moves on purpose is kept anew by
`python tests/golden/configurations.py`; the difference belongs into the commit.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from prudence.envs.base import EnvConfig
from prudence.presets import PRESETS, preset
from prudence.systems import SYSTEMS

FILE = Path(__file__).with_suffix(".json")
TASKS = {"lidar": "SafetyPointGoal1-v0", "coordinates": "SafetyPointGoal1-v0", "vision": "SafetyPointGoal1-v0"}


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """``{"agent.horizon": 15, ...}``; a dataclass adds its class, ``{"agent": "DreamerConfig"}``."""
    settings: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            settings |= {name: type(value).__name__, **flat(value, f"{name}.")}
        else:
            settings[name] = list(value) if isinstance(value, tuple) else value
    return settings


def configurations() -> dict[str, dict[str, Any]]:
    """By ``preset/observation/system``, where the system has the preset."""
    found = {}
    for name in PRESETS:
        for obs, task in TASKS.items():
            for agent in SYSTEMS:
                try:
                    config = preset(name, agent, EnvConfig(task, obs=(obs,)))
                except ValueError:
                    continue
                found[f"{name}/{obs}/{agent}"] = flat(config)
    return found


def differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """What turns ``a`` into ``b``; a setting that ``b`` lacks is "(none)"."""
    changed = {name: value for name, value in b.items() if name not in a or a[name] != value}
    return changed | {name: "(none)" for name in a if name not in b}


def short(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each configuration as its differences from the most similar one before it, which ``like`` names."""
    kept: dict[str, dict[str, Any]] = {}
    for name, settings in found.items():
        changes = {other: differences(found[other], settings) for other in kept}
        nearest = min(changes, key=lambda other: len(changes[other]), default=None)
        kept[name] = settings if nearest is None else {"like": nearest, **changes[nearest]}
    return kept


def whole(kept: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What :func:`short` shortened."""
    found: dict[str, dict[str, Any]] = {}
    for name, changes in kept.items():
        settings = {**found.get(changes.get("like", ""), {}), **changes}
        found[name] = {key: value for key, value in settings.items() if key != "like" and value != "(none)"}
    return found


if __name__ == "__main__":
    # In their order: each names one before it.
    FILE.write_text(json.dumps(short(configurations()), indent=1) + "\n")
