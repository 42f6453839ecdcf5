"""SIGKILL at random moments, in processes of their own. (tools/soak.py kills hundreds of times.)"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from helpers import assert_same_run

from prudence.runs import checkpoint

KILLS = 5
FURTHER_STEPS = 200
PATIENCE_S = 120.0

pytestmark = pytest.mark.slow


def command(run: Path, steps: int) -> list[str]:
    """Checkpoints at every iteration, so that most kills hit one being written."""
    return [
        *(sys.executable, "-m", "prudence.cli.main", "train", "safedreamer-bsrp-lag", "--task", "probe/policy"),
        *("--preset", "debug", "--steps", str(steps), "--out", str(run)),
        *("--loop.checkpoint-every", "8", "--loop.evaluate-every", "0", "--loop.log-every", "16"),
    ]


def environment() -> dict[str, str]:
    """Compiled programs are shared, without which most of the time would go into compiling them again."""
    return {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.values["jax_compilation_cache_dir"]),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def reached(run: Path) -> int:
    newest = checkpoint.latest(run / "checkpoints")
    return -1 if newest is None else int(newest.stem)


def kill_soon(run: Path, delay: float) -> None:
    """Starts the run, which never ends by itself, and kills it ``delay`` seconds after its first new checkpoint."""
    before, started = reached(run), time.monotonic()
    with subprocess.Popen(command(run, 10**9), env=environment(), stderr=subprocess.DEVNULL) as process:
        while reached(run) <= before:
            assert process.poll() is None, f"training ended with {process.returncode} before it was killed"
            assert time.monotonic() - started < PATIENCE_S, "no checkpoint was written"
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_kills_change_nothing(tmp_path: Path) -> None:
    """The run that was killed five times equals one of the same length that never was, in parameters and metrics."""
    rng, killed, whole = random.Random(2), tmp_path / "killed", tmp_path / "whole"
    for _ in range(KILLS):
        kill_soon(killed, rng.uniform(0.0, 0.4))
    steps = reached(killed) + FURTHER_STEPS
    for run in (killed, whole):
        subprocess.run(command(run, steps), env=environment(), check=True, stderr=subprocess.DEVNULL)
    assert reached(whole) >= steps
    assert_same_run(killed, whole)


def test_sigterm_saves_and_exits_with_0(tmp_path: Path) -> None:
    """Sent to the whole process group, as schedulers do: environments in workers of their own are not to crash."""
    run = tmp_path / "run"
    # Nearly all of the time goes into long rounds of stepping, so that the signal comes in the middle of one.
    stepping = ("--loop.workers", "2", "--loop.updates-per-decision", "1e-6", "--loop.decisions-per-iteration", "2000")
    arguments = [*command(run, 10**9), *stepping]
    with subprocess.Popen(
        arguments, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while reached(run) < 0:
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "crashed" not in said
    assert f"stopped at {reached(run):,} steps and saved; the same command goes on from here" in said
