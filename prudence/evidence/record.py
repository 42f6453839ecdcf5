"""Records of runs, for results/: small summaries with configuration, provenance, evaluation and curves."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prudence.cores.base import Agent
from prudence.deploy.policy import load_run
from prudence.deploy.shipped import LIMIT_MB, write_policies
from prudence.evidence import plot
from prudence.evidence.content import read_evaluation
from prudence.evidence.evaluate import Evaluation, common_episodes
from prudence.runs import checkpoint, provenance
from prudence.runs.curves import load_series
from prudence.runs.directory import RECORD, RunDirectory, RunDirectoryError
from prudence.runs.files import write_text_atomically

FILE = RECORD
_CURVES = (
    "episode/return",
    "episode/cost",
    "evaluation/return_mean",
    "evaluation/cost_mean",
    "constraint/multiplier",
    "plan/price",
    "model/loss",
)


def record(
    runs: Sequence[Path | str],
    out: Path | str,
    *,
    note: str = "",
    policies: bool = True,
    policy_limit: float = LIMIT_MB,
) -> tuple[Path, ...]:
    """Writes ``result.json``, ``curve.png`` and the policy of each run into ``out``. Returns their paths.

    If no run has a curve, because the agents do not learn, there is neither a figure nor a policy.

    Args:
        note: text that is stored in ``result.json``.
        policies: stores the part of each run that acting needs (prudence/deploy/shipped.py). Its evaluation can then be
            repeated. False also deletes the policies of an earlier record in ``out``.
        policy_limit: size limit of each policy, in 10⁶ bytes.

    Raises:
        RunDirectoryError: a directory holds no run, or the run was not evaluated.
        ValueError: there are no runs, or a policy is larger than ``policy_limit``.
    """
    if not runs:
        raise ValueError("name at least one run to record")
    directories, out = [RunDirectory(Path(run)) for run in runs], Path(out)
    content = {"note": note, "runs": [describe(run) for run in directories]}
    out.mkdir(parents=True, exist_ok=True)
    kept = write_policies(_with_policies(directories) if policies else [], out, limit_mb=policy_limit)
    path = out / FILE
    write_text_atomically(path, _one_line_pairs(json.dumps(content, indent=1)) + "\n")
    learning = [run.path for run in directories if run.metrics.exists()]
    if not learning:
        return path, *kept
    if len(directories) == 1:
        return path, plot.plot_run(learning[0], out / "curve.png"), *kept
    return path, plot.plot_runs(plot.group_runs(learning), out / "curve.png"), *kept


def _with_policies(runs: Sequence[RunDirectory]) -> list[tuple[RunDirectory, Agent, Any]]:
    """The runs that have learned something, with agent and state."""
    return [(run, *load_run(run.path)[1:3]) for run in runs if run.checkpoints.exists()]


def _one_line_pairs(text: str) -> str:
    """Writes each point of a curve on one line."""
    return re.sub(r"\[\s+([^][\s,]+),\s+([^][\s,]+)\s+\]", r"[\1, \2]", text)


def describe(run: RunDirectory, *, evaluated: bool = True) -> dict[str, Any]:
    """The entry of a run in a record. For an agent that does not learn, curves are empty and steps and minutes None.

    Args:
        evaluated: requires that the run was evaluated. Otherwise its evaluation may be None.

    Raises:
        RunDirectoryError: the directory holds no run, or an evaluation is required but missing.
        ValueError: its configuration or its evaluation cannot be read. The message names the file and the fault.
    """
    if not run.exists:
        raise RunDirectoryError(f"{run.path} holds no run: there is no config.json")
    if run.ships:
        raise RunDirectoryError(f"{run.path} is a policy of a record, not a run: name the record, or the run")
    evaluation = run.evaluation
    if evaluated and not evaluation.exists():
        raise RunDirectoryError(f"{run.path} was not evaluated yet: run `prudence evaluate {run.path}` first")
    series = load_series(run.path) if run.metrics.exists() else {}
    curves = {
        name: [[int(step), round(float(value), 4)] for step, value in zip(*series[name], strict=True)]
        for name in series
        if name.startswith(_CURVES)
    }
    wall = series.get("time/wall")
    return {
        "config": provenance.config_anywhere(plot.raw_config(run.path)),
        "provenance": provenance.anywhere(run.path),
        "training_minutes": None if wall is None else round(float(wall.values[-1]) / 60, 1),
        "raw_steps": int(checkpoint.read_meta(run.checkpoints)["step"]) if run.checkpoints.exists() else None,
        "evaluation": read_evaluation(evaluation) if evaluation.exists() else None,
        "curves": curves,
    }


def repetition(run: RunDirectory, result: Evaluation) -> str | None:
    """Says in one line whether an evaluation repeats the recorded one. None if they have no common episodes.

    Two episodes are common if they have the same environment and the same number in it, and if the same number of
    environments is stepped together.
    """
    recorded = read_evaluation(run.evaluation) if run.evaluation.exists() else None
    if recorded is None or recorded.get("real_time") or result.real_time:
        return None
    if (recorded.get("seed"), recorded.get("mode", "evaluate")) != (result.seed, result.mode):
        return None
    pairs = common_episodes(len(recorded["returns"]), len(result.returns))
    same = [
        recorded["returns"][i] == result.returns[j] and recorded["costs"][i] == result.costs[j].tolist()
        for i, j in pairs
    ]
    if not same:
        return None
    if all(same):
        return f"repeats the recorded evaluation: {len(same)} of {len(same)} common episodes are the same"
    return (
        f"differs from the recorded evaluation in {len(same) - sum(same)} of {len(same)} common episodes (return "
        f"{np.mean(recorded['returns']):.2f} there): other processors and versions round differently, and episodes part"
    )
