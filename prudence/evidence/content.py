"""Reading of ``evaluation.json`` and ``result.json``: every fault is named, with its file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        ValueError: it holds none. The message names the file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # Also of bytes that are no text.
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__} instead of a JSON object")
    return found


def read_evaluation(path: Path) -> dict[str, Any]:
    """An ``evaluation.json``.

    Raises:
        ValueError: it is none. The message names the file, the fault and the remedy.
    """
    try:
        found = read_object(path)
    except ValueError as error:
        raise ValueError(f"{error}. Evaluate the run again: prudence evaluate {path.parent}") from error
    if fault := evaluation_fault(found):
        raise ValueError(
            f"{path} is no evaluation of `prudence evaluate`: {fault}. Evaluate the run again: prudence evaluate "
            f"{path.parent}"
        )
    return found


def read_entries(path: Path, *, evaluated: bool = True) -> list[dict[str, Any]]:
    """The entries of a ``result.json``, one for each run.

    Args:
        evaluated: requires that all runs were evaluated.

    Raises:
        ValueError: it is no record. The message names the file and the fault.
    """
    try:
        found = read_object(path)
    except ValueError as error:
        raise ValueError(f"{error}. It is not a record of `prudence record`: record the runs again") from error
    runs: Any = found.get("runs")
    fault = _record_fault(runs, evaluated)
    if fault:
        raise ValueError(f"{path} is not a record of `prudence record`: {fault}. Record the runs again")
    return runs


def evaluation_fault(found: Any) -> str | None:
    """What an evaluation lacks; None for a whole one."""
    if not isinstance(found, Mapping):
        return "it is no JSON object"
    names, returns, costs = found.get("cost_names"), found.get("returns"), found.get("costs")
    budgets = found.get("budgets")
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        return "cost_names is no list of names"
    if not _numbers(returns) or not returns:
        return "returns is no list of numbers, one for each episode"
    rows = costs if isinstance(costs, list) else [None]
    flat = [cost for row in rows for cost in (row if isinstance(row, list) else [row])]
    if not _numbers(flat) or len(flat) != len(returns) * len(names):
        return f"costs is no list of {len(names)} numbers for each of {len(returns)} episodes"
    if budgets is not None and not (_numbers(budgets) and len(budgets) == len(names)):
        return "budgets is no list of numbers, one for each constraint"
    return None


def _record_fault(runs: Any, evaluated: bool) -> str | None:
    if not isinstance(runs, list) or not runs:
        return "it has no list of runs"
    faults = [(number, _entry_fault(run, evaluated)) for number, run in enumerate(runs, start=1)]
    return next((f"run {number}: {found}" for number, found in faults if found), None)


def _entry_fault(run: Any, evaluated: bool) -> str | None:
    if not isinstance(run, dict):
        return "it is no JSON object"
    missing = [name for name in ("config", "raw_steps", "training_minutes", "evaluation", "curves") if name not in run]
    if missing:
        return f"it lacks {', '.join(missing)}"
    config, curves = run["config"], run["curves"]
    if not isinstance(config, dict) or not isinstance(config.get("env", {}), dict):
        return "config is no configuration of a run"
    if not all(run[name] is None or _numbers([run[name]]) for name in ("raw_steps", "training_minutes")):
        return "raw_steps or training_minutes is no number"
    if not isinstance(curves, dict) or not all(
        _list(points) and all(_numbers(point) and len(point) == 2 for point in points) for points in curves.values()
    ):
        return "curves are no lists of pairs of step and value"
    if run["evaluation"] is None:
        return "it was not evaluated" if evaluated else None
    fault = evaluation_fault(run["evaluation"])
    return fault and f"of its evaluation, {fault}"


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in value
    )
