"""`benchmarks/gpu.sh` on a CPU, at debug size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.sh"


@pytest.mark.slow
def test_the_script_measures_trains_and_reports(tmp_path):
    """One agent in both dtypes, then a short run on a task without pictures, so that nothing has to be drawn."""
    command = [SCRIPT, tmp_path, "--minutes", "4", "--preset", "debug", "--agents", "safedreamer-osrp-lag"]
    command += ["--task", "probe/cost", "--repeats", "1", "--loop.steps", "120", "--loop.evaluate-every", "0"]
    environment = {**os.environ, "PYTHON": sys.executable, "MPLBACKEND": "agg"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr + (tmp_path / "measure.log").read_text()
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["left_out"] == []
    assert [(row["agent"], row["dtype"]) for row in report["updates"]] == [
        ("safedreamer-osrp-lag", "bfloat16"),
        ("safedreamer-osrp-lag", "float32"),
    ]
    for row in report["updates"]:
        assert row["update_ms"] > 0
        assert row["decision_ms"] > 0
        assert row["memory_gb"] >= 0
    assert report["run"]["exit_code"] == 0
    assert 100 <= report["run"]["step"] <= 120  # Of the last metrics.
    assert (tmp_path / "run" / "curve.png").exists() or "no learning curve" in (tmp_path / "run.log").read_text()
    assert "| safedreamer-osrp-lag | bfloat16 |" in (tmp_path / "gpu.md").read_text()


@pytest.mark.slow
def test_what_the_time_does_not_suffice_for_is_named(tmp_path):
    command = [SCRIPT, tmp_path, "--minutes", "0.02", "--preset", "debug", "--task", "probe/cost"]
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([*command, "--agents", "dreamerv3"], env=environment, timeout=120, check=False)
    assert done.returncode == 0
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert report["left_out"] == ["dreamerv3 bfloat16", "dreamerv3 float32"]
    assert "Left out, since the time ended: dreamerv3 bfloat16, dreamerv3 float32." in (tmp_path / "gpu.md").read_text()
