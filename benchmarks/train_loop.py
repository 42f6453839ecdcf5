"""Use of wall time in training: shares of environments and updates, and the idle share.

    python benchmarks/train_loop.py [--agent safedreamer-bsrp-lag] [--steps 20000] [--out FILE]

Trains SafetyPointGoal1 from lidar with the cpu preset in a temporary directory. The run is long enough for a steady
stretch after compilation. Prints the last ``time/*`` metrics of the run. Environments and updates run in parallel, so
their shares overlap. ``idle`` is the time in which neither runs. Compilation counts as an update.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from prudence.cli.api import train
from prudence.runs.metrics import METRICS_FILE, read_metrics
from prudence.runs.provenance import describe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", default="safedreamer-bsrp-lag")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        run = train(
            options.agent, task="SafetyPointGoal1-v0", preset="cpu", steps=options.steps, out=Path(directory) / "run"
        )
        rows = [row for row in read_metrics(run / METRICS_FILE) if "time/idle_share" in row]
    result = {name: rows[-1][name] for name in sorted(rows[-1]) if name.startswith("time/")}
    for name, value in result.items():
        print(f"{name:28} {value:10.3f}")
    if options.out:
        options.out.write_text(json.dumps({"machine": describe(), **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
