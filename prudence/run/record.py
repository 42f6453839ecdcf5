"""A small record of runs, for results/: what made them, how they were evaluated, and their curves."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prudence.run import checkpoint, plot, provenance
from prudence.run.directory import RunDirectory, RunDirectoryError

_CURVES = (
    "episode/return",
    "episode/cost",
    "evaluation/return_mean",
    "evaluation/cost_mean",
    "constraint/multiplier",
    "plan/price",
    "model/loss",
)


def record(runs: Sequence[Path | str], out: Path | str, *, note: str = "") -> tuple[Path, ...]:
    """Writes ``result.json`` and, where anything was trained, ``curve.png`` into ``out``, and returns their paths.

    Raises:
        RunDirectoryError: one of the directories holds no run, or it was not evaluated.
    """
    if not runs:
        raise ValueError("name at least one run to record")
    directories, out = [RunDirectory(Path(run)) for run in runs], Path(out)
    content = {"note": note, "runs": [_describe(run) for run in directories]}
    out.mkdir(parents=True, exist_ok=True)
    path = out / "result.json"
    path.write_text(_one_line_pairs(json.dumps(content, indent=1)) + "\n")
    trained = [run for run in directories if run.metrics.exists()]
    if not trained:
        return (path,)
    if len(directories) == 1:
        return path, plot.plot_run(directories[0].path, out / "curve.png")
    groups: dict[str, list[Path | str]] = {}
    for run in trained:
        groups.setdefault(plot.raw_config(run.path)["agent_name"], []).append(run.path)
    return path, plot.plot_runs(groups, out / "curve.png")


def _one_line_pairs(text: str) -> str:
    """Puts the points of curves on a line each."""
    return re.sub(r"\[\s+([^][\s,]+),\s+([^][\s,]+)\s+\]", r"[\1, \2]", text)


def _describe(run: RunDirectory) -> dict[str, Any]:
    if not run.exists:
        raise RunDirectoryError(f"{run.path} holds no run: there is no config.json")
    evaluation = run.path / "evaluation.json"
    if not evaluation.exists():
        raise RunDirectoryError(f"{run.path} was not evaluated yet: run `prudence evaluate {run.path}` first")
    series = plot.load_series(run.path) if run.metrics.exists() else {}
    curves = {
        name: [[int(step), round(float(value), 4)] for step, value in zip(*series[name], strict=True)]
        for name in series
        if name.startswith(_CURVES)
    }
    wall = series.get("time/wall")
    return {
        "config": plot.raw_config(run.path),
        "provenance": json.loads((run.path / provenance.FILE).read_text()),
        "training_minutes": None if wall is None else round(float(wall.values[-1]) / 60, 1),
        "raw_steps": int(checkpoint.read_meta(run.checkpoints)["step"]) if run.metrics.exists() else 0,
        "evaluation": json.loads(evaluation.read_text()),
        "curves": curves,
    }
