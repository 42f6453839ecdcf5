"""Records evaluated runs as evidence: ``results/<name>/``, a JSON file and a picture.

    python tools/record.py NAME RUN... [--note TEXT]

Each run must have been evaluated (``prudence evaluate``). The JSON holds, for each, the commands with their
commits and machines, the seed, the wall time, every evaluation episode's return and cost, and the training curve.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from prudence.run.logging import METRICS_FILE, read_metrics
from prudence.run.plot import plot_run, plot_runs
from prudence.run.provenance import FILE

CURVES = ("episode/return", "episode/cost", "evaluation/return_mean", "evaluation/cost_mean", "constraint/multiplier")
POINTS = 200


def record(run: Path) -> dict:
    """One run as JSON."""
    rows = read_metrics(run / METRICS_FILE)
    wall = [row["time/wall"] for row in rows if "time/wall" in row]
    curves = {name: [(int(row["step"]), row[name]) for row in rows if name in row] for name in CURVES}
    evaluation = run / "evaluation.json"
    if not evaluation.exists():
        raise SystemExit(f"{run} was not evaluated: run `prudence evaluate {run}` first")
    return {
        "config": json.loads((run / "config.json").read_text()),
        "provenance": [_portable(entry) for entry in json.loads((run / FILE).read_text())],
        "training_minutes": round(wall[-1] / 60, 1) if wall else None,
        "raw_steps": int(rows[-1]["step"]),
        "evaluation": json.loads(evaluation.read_text()),
        "curves": {name: _thinned(points) for name, points in curves.items() if points},
    }


def _portable(entry: dict) -> dict:
    """Without ``--out``: where a run was put is nobody else's business."""
    return entry | {"command": re.sub(r" --out \S+", "", entry["command"])}


def _thinned(points: list) -> list:
    """Every k-th point; episodes are noisy, so averages over groups of them."""
    size = -(-len(points) // POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [[group[-1][0], round(sum(value for _, value in group) / len(group), 5)] for group in groups]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--note", default="")
    arguments = parser.parse_args()
    out = Path("results") / arguments.name
    out.mkdir(parents=True, exist_ok=True)
    runs = [record(run) for run in arguments.runs]
    (out / "result.json").write_text(json.dumps({"note": arguments.note, "runs": runs}, indent=1) + "\n")
    if len(arguments.runs) == 1:
        plot_run(arguments.runs[0], out / "curve.png")
    else:
        plot_runs({arguments.name: arguments.runs}, out / "curve.png")
    for run in runs:
        e = run["evaluation"]
        score = f"return {e['return_mean']:.2f} cost {e['cost_mean']}"
        print(f"seed {run['config']['seed']}: {score} in {run['training_minutes']} min")


if __name__ == "__main__":
    main()
