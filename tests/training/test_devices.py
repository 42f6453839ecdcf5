"""Several devices share a batch: they learn what one device learns, and a run goes on with another number of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest
import toys
from helpers import history, run_config, train_in_pieces

from prudence.envs.base import EnvConfig
from prudence.presets import preset
from prudence.runs import checkpoint
from prudence.systems import find_system
from prudence.training.learning.steps import Devices
from prudence.training.trainer import train


def test_more_devices_than_there_are_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"loop.devices=64, but JAX sees \d+ \(cpu\): give --loop.devices"):
        train(run_config(devices=64, batch_size=64), tmp_path / "run")


def test_a_batch_is_divided_into_equal_shares():
    with pytest.raises(ValueError, match=r"batch_size=10 must be a multiple of devices=4.*--loop.batch-size 12"):
        run_config(devices=4, batch_size=10).check()


def updated(number: int) -> tuple[list[np.ndarray], dict[str, float], float]:
    """The leaves of FOSP's state after an update on ``number`` devices, the metrics, and each device's FLOPs."""
    spaces, devices = toys.spaces(), Devices(number)
    config: Any = preset("debug", "fosp", EnvConfig("probe/value")).agent
    made: Any = find_system("fosp").agent(spaces, replace(config, imagination_starts=None))
    state, batch = devices.place(made.init(key=jax.random.key(0)), toys.batch(spaces, 1, 8, 16))
    program = type(made).update.lower(made, state, batch, key=jax.random.key(1)).compile()
    state, metrics = program(state, batch, key=jax.random.key(1))
    leaves = jax.tree.leaves(eqx.filter(devices.first(state), eqx.is_inexact_array))
    assert all(len(leaf.sharding.device_set) == 1 for leaf in leaves)
    return [np.asarray(x) for x in leaves], jax.tree.map(float, metrics), program.cost_analysis()["flops"]


def child(directory: Path) -> None:
    """On four virtual devices: prints how far an update on four of them is from one on one, and the share of its work
    that each of the four does. Then trains a run that changes the number of its devices."""
    (one, metrics, work), (four, others, share) = updated(1), updated(4)
    told = {
        "state": max(float(np.abs(a - b).max(initial=0)) for a, b in zip(one, four, strict=True)),
        "metrics": max(abs(others[k] - v) / max(1, abs(v)) for k, v in metrics.items()),
        "work": share / work,
    }
    several = run_config(devices=4, batch_size=8)
    train_in_pieces(several, directory / "changing", 120)
    train(run_config(devices=2, batch_size=8), directory / "changing")
    train(run_config(batch_size=8), directory / "one")
    print(json.dumps(told))


@pytest.mark.slow
def test_four_devices_learn_what_one_learns(tmp_path):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    tests = Path(__file__).parents[1]
    ran = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{tests}:{tests.parent}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["state"] < 1e-5
    assert told["metrics"] < 1e-3
    assert told["work"] < 0.5  # A quarter, and what every device does for itself: the optimisers.

    # The same decisions and windows, and nearly the same numbers: the run has changed from four devices to two.
    changing, one = (history(tmp_path / name) for name in ("changing", "one"))
    assert [row["step"] for row in changing] == [row["step"] for row in one]
    losses = [[row["model/loss"] for row in rows if "model/loss" in row] for rows in (changing, one)]
    assert len(losses[0]) > 3
    np.testing.assert_allclose(*losses, rtol=1e-2)
    assert checkpoint.read_meta(tmp_path / "changing" / "checkpoints")["config"]["loop"]["devices"] == 2


if __name__ == "__main__":
    child(Path(sys.argv[1]))
