"""Reading of ``evaluation.json`` and ``result.json``: every fault is named, with its file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from prudence.evidence.statistics import Status, cost_bound


class Verdict(NamedTuple):
    """What an evaluation shows of one budget.

    Attributes:
        status: whether the budget is shown to hold, shown to be exceeded, or open.
        upper: upper bound on the expected cost of an episode; None if there is none.
        text: the result in one line.
    """

    status: Status
    upper: float | None
    text: str


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        ValueError: it holds none. The message names the file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # Also of bytes that are no text, and of a thousand brackets.
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


def verdicts(evaluation: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """The verdict on each budget of an evaluation; none without budgets.

    An evaluation that ran until decided has its own. Bounds for a fixed number of episodes are not valid there, because
    the costs decided when it ended. Those of other evaluations are computed again from the episodes.
    """
    if sequential := evaluation.get("until_decided"):
        return tuple(Verdict(d["status"], d["looks"][-1]["upper"], d["verdict"]) for d in sequential["decisions"])
    budgets = evaluation.get("budgets") or []
    costs = np.array(evaluation["costs"], dtype=float).reshape(-1, len(evaluation["cost_names"]))
    bounds = [cost_bound(costs[:, index], budget) for index, budget in enumerate(budgets) if len(costs)]
    return tuple(Verdict(bound.status, bound.upper, bound.verdict) for bound in bounds)


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
    return _sequential_fault(found.get("until_decided"), len(names))


def _sequential_fault(found: Any, constraints: int) -> str | None:
    if found is None:
        return None
    decisions: Any = found.get("decisions") if isinstance(found, Mapping) else None
    if not _list(decisions) or len(decisions) != constraints or not all(map(_is_decision, decisions)):
        return "until_decided has no decision with its looks for each constraint"
    return None


def _is_decision(found: Any) -> bool:
    if not isinstance(found, Mapping) or not isinstance(found.get("verdict"), str):
        return False
    looks: Any = found.get("looks")
    return (
        found.get("status") in ("holds", "open", "exceeded")
        and _list(looks)
        and len(looks) > 0
        and all(isinstance(look, Mapping) and {"episodes", "upper"} <= look.keys() for look in looks)
    )


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


def _list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) for x in value
    )
