"""Whole updates against numbers that were recorded: nothing may change them unnoticed.

After an intended change: ``PRUDENCE_GOLDEN=write pytest tests/agents/test_golden.py``, and say in the commit
why the numbers moved.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
import toys

from prudence.types import ObservationSpec, Spaces

GOLDEN = Path(__file__).parent.parent / "golden" / "updates.json"
CASES = {
    "safedreamer-bsrp-lag": toys.spaces(),
    "lambda": toys.spaces(),
    "asymdreamer": toys.spaces(toys.VECTOR, ("contacts", ObservationSpec((4, 2), "float32")), privileged=("contacts",)),
    "dreamerv3": toys.spaces(toys.IMAGE, toys.VECTOR, action="discrete", actions=3),
}
METRICS = (
    "model/loss",
    "model/cost",
    "model/dynamics",
    "model/gradient_norm",
    "actor/gradient_norm",
    "critic/loss",
    "policy/entropy",
    "imagined/return",
    "imagined/cost",
)


def two_updates(name: str, spaces: Spaces) -> dict[str, float]:
    agent = toys.dreamer(spaces, name)
    state = agent.init(key=jax.random.key(0, impl="threefry2x32"))
    batch = toys.batch(spaces, 2, 2, 8)
    state, metrics = agent.update(state, batch, key=jax.random.key(1, impl="threefry2x32"))
    numbers = {metric: float(metrics[metric]) for metric in METRICS}
    for part in ("world_model", "actor", "critic"):
        numbers[f"norm/{part}"] = float(optax.tree.norm(eqx.filter(getattr(state, part), eqx.is_inexact_array)))
    return numbers


@pytest.mark.parametrize("name", CASES)
def test_two_updates_compute_what_they_did(name):
    numbers = two_updates(name, CASES[name])
    if os.environ.get("PRUDENCE_GOLDEN") == "write":
        recorded = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(recorded | {name: numbers}, indent=1) + "\n")
    recorded = json.loads(GOLDEN.read_text())[name]
    assert set(numbers) == set(recorded)
    for key, value in recorded.items():
        np.testing.assert_allclose(numbers[key], value, rtol=1e-3, atol=1e-6, err_msg=key)
