"""Sweeps by the command, with a real Ray of two workers: kills of driver and worker, and trials that fail."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import psutil
import pytest

from prudence.runs import checkpoint
from prudence.runs.metrics import read_metrics

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]
PATIENCE_S = 400.0
DEBUG = ["--preset", "debug", "--episodes", "2", "--jobs", "2"]


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts `prudence sweep` in ``tmp_path``, and ends whatever is left of it."""
    started: list[subprocess.Popen] = []

    def start(*arguments: str) -> subprocess.Popen:
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "JAX_COMPILATION_CACHE_DIR": str(jax.config.values["jax_compilation_cache_dir"]),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [sys.executable, "-m", "prudence.cli.main", "sweep", *arguments, "--out", "sweep"]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()  # Nothing, if it has ended.
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert wait_for(lambda: not trainings(tmp_path)), "a training outlived its sweep"


def wait_for(holds: Callable[[], object]) -> object:
    end = time.monotonic() + PATIENCE_S
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def trainings(place: Path) -> list[psutil.Process]:
    """Processes that train or evaluate in a folder, without those that just end."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "prudence.cli.main" in words and str(place) in " ".join(words):
            found.append(process)
    return found


def saved(place: Path) -> list[Path]:
    """Runs that have a checkpoint and are not at their end."""
    runs = place.glob("sweep/trials/*")
    return [run for run in runs if (last := checkpoint.latest(run / "checkpoints")) and int(last.stem) < 2000]


def starts(run: Path) -> int:
    return len(json.loads((run / "provenance.json").read_text()))


def end(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=PATIENCE_S)
    return said


def test_a_killed_driver_and_trials_that_fail(sweep: Callable[..., subprocess.Popen], tmp_path: Path) -> None:
    """Two trials learn, and the third's environment gives a reward that is not a number."""
    (tmp_path / "mine.toml").write_text("""
        agents = [{ name = "ppo-lag", tasks = "probe/cost", seeds = [0, 1], steps = 2000 }, "ppo"]
        tasks = "faulty:Poisoned"
    """)
    first = sweep("mine.toml", *DEBUG)
    assert wait_for(lambda: saved(tmp_path)), "no checkpoint was written"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert wait_for(lambda: not trainings(tmp_path)), "trainings outlive a killed driver"
    before = {run.name: run for run in saved(tmp_path)}
    assert before, "none was at its end"

    second = sweep("mine.toml", *DEBUG)
    said = end(second)
    assert second.returncode == 1, said
    assert "failed: ppo-faulty-Poisoned-seed-0: prudence train: faulty:Poisoned" in said
    assert "crashed 3 times in a row" in said
    place = tmp_path / "sweep"
    runs = [place / "trials" / f"ppo-lag-probe-cost-seed-{seed}" for seed in (0, 1)]
    for run in runs:
        assert [row["step"] for row in read_metrics(run / "metrics.jsonl")][-1] == 2000
        assert len(json.loads((run / "evaluation.json").read_text())["returns"]) == 2
    assert any(starts(run) == 2 for run in runs if run.name in before), "a trial went on from where it was"
    page = (place / "sweep.md").read_text()
    assert "3 trials: 1 failed, 2 done." in page
    assert "| ppo-lag | 2 | 2,000 |" in page, "the two seeds of one system"
    assert (place / "comparison/probe-cost/comparison.png").stat().st_size > 0

    third = sweep(*DEBUG[4:])  # Neither a file nor choices: the sweep in the directory.
    assert third.wait(timeout=PATIENCE_S) == 1
    assert (place / "sweep.md").read_text().count("crashed 3 times in a row") == 1
    log = place / "logs/ppo-faulty-Poisoned-seed-0.log"
    assert log.read_text().count("$ prudence train") == 1, "what failed would fail again"
    other = sweep("mine.toml", *DEBUG, "--seeds", "5")
    assert "has another sweep:\n  seeds: nothing there, [5] now" in end(other)
    assert other.returncode == 2


def test_a_killed_worker(sweep: Callable[..., subprocess.Popen], tmp_path: Path) -> None:
    """Ray starts the trial again, and it goes on."""
    process = sweep("--agents", "ppo-lag", "--tasks", "probe/cost", "--seeds", "0", "1", "--steps", "2000", *DEBUG)
    [run, *_] = wait_for(lambda: saved(tmp_path)) or [None]
    assert run is not None, "no checkpoint was written"
    [training, *_] = [each for each in trainings(tmp_path) if str(run) in each.cmdline()]
    parent = training.parent()
    assert parent is not None
    assert "work" in parent.name() or "ray" in parent.name(), "the worker of Ray"
    parent.kill()
    said = end(process)
    assert process.returncode == 0, said
    assert starts(run) == 2
    assert "2 trials: 2 done" in (tmp_path / "sweep/sweep.md").read_text()


def test_poor_trials_are_stopped_early(sweep: Callable[..., subprocess.Popen], tmp_path: Path) -> None:
    """One trial at a time. Episodes of the second are a quarter as long, so its return is far below the first's."""
    settings = ["--settings", "env.time_limit=[20, 5]", "--steps", "20000", "--asha"]
    process = sweep("--agents", "ppo-lag", "--tasks", "probe/cost", *settings, *DEBUG[:4], "--jobs", "1")
    said = end(process)
    assert process.returncode == 0, said
    page = (tmp_path / "sweep/sweep.md").read_text()
    assert "2 trials: 1 stopped, 1 done" in page
    assert "| ASHA: not among the best third at 10 % of the steps (objective " in page
    run = tmp_path / "sweep/trials/ppo-lag-probe-cost-env.time_limit-5-seed-0"
    assert 2000 <= int(checkpoint.latest(run / "checkpoints").stem) < 20_000, "it saved where it was stopped"
    assert not (run / "evaluation.json").exists()
    assert end(sweep(*DEBUG[4:])).count("stopped  ppo-lag") == 1, "it stays stopped"
