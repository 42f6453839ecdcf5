"""Provenance of a result: command, commit, machine and versions."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import psutil

from prudence.runs.files import write_text_atomically

log = logging.getLogger(__name__)

FILE = "provenance.json"
_LIBRARIES = ("prudence-rl", "jax", "equinox", "optax", "gymnasium", "mujoco", "safety-gymnasium", "numpy")


def note_provenance(directory: Path) -> None:
    """Appends this process to ``provenance.json``, which has one entry for each start or resumption of the run."""
    write_text_atomically(directory / FILE, json.dumps([*_starts(directory), describe()], indent=1) + "\n")


def anywhere(directory: Path) -> list[dict[str, Any]]:
    """Entries of ``provenance.json`` for publication: their commands do not name folders of this machine.

    Only the last part of the paths after ``--out``, ``--start-from`` and ``--dataset`` is kept.
    """
    shortened = lambda command: re.sub(r"(--(?:out|start-from|dataset)[ =])\S*/", r"\1", command)
    return [start | {"command": shortened(str(start.get("command", "")))} for start in _starts(directory)]


def config_anywhere(config: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a ``config.json`` for publication: it has the name of a data set, not its folder here."""
    loop = config.get("loop")
    if not isinstance(loop, dict) or not loop.get("dataset"):
        return dict(config)
    return {**config, "loop": {**loop, "dataset": Path(str(loop["dataset"])).name}}


def last_commit(directory: Path) -> str | None:
    """The commit that a run was last started at; None where nobody noted it."""
    starts = _starts(directory)
    commit = starts[-1].get("commit") if starts else None
    return commit and commit.removesuffix("+")


def _starts(directory: Path) -> list[dict[str, Any]]:
    """The entries that can be read. A file that cannot is warned of, since no run should fail for it."""
    path = directory / FILE
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (ValueError, RecursionError) as error:
        log.warning("%s is not JSON (%s): its entries are lost, and it begins anew", path, error)
        return []
    starts = [start for start in found if isinstance(start, dict)] if isinstance(found, list) else []
    if not isinstance(found, list) or len(starts) < len(found):
        log.warning("%s has entries that are no descriptions of a start: they are skipped", path)
    return starts


def describe() -> dict[str, Any]:
    """Describes this process in JSON-able values: time, command, commit, machine and versions."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _commit(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            "devices": [device.device_kind for device in jax.devices()],
        },
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _LIBRARIES},
    }


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, with ``+`` if it has uncommitted changes."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "..")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
