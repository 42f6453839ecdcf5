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

from prudence.envs.base import EnvConfig
from prudence.presets import preset
from prudence.types import EpisodeSummary, ObservationSpec, Spaces

GOLDEN = Path(__file__).parent.parent / "golden" / "updates.json"
DREAMS = (
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
ROLLOUTS = ("actor/loss", "actor/kl", "critic/loss", "critic/explained")
FIRST_ORDER, SECOND_ORDER = (*ROLLOUTS, "actor/passes"), (*ROLLOUTS, "actor/step_fraction", "actor/gradient_norm")
STEPS = ("actor/loss", "critic/loss", "cost_critic/loss", "policy/entropy", "policy/temperature")
LATENT = (*STEPS, "model/loss", "model/cost", "model/dynamics")
MODELLED = (*FIRST_ORDER, "model/loss", "model/holdout", "imagined/return", "imagined/cost")
WITH_MODEL, WITHOUT = ("world_model", "actor", "critic"), ("actor", "critic", "constraint")
CONTACTS = ("contacts", ObservationSpec((4, 2), "float32"))
CASES: dict[str, tuple[Spaces, tuple[str, ...], tuple[str, ...]]] = {
    "safedreamer-bsrp-lag": (toys.spaces(), DREAMS, WITH_MODEL),
    "lambda": (toys.spaces(), DREAMS, WITH_MODEL),
    "asymdreamer": (toys.spaces(toys.VECTOR, CONTACTS, privileged=("contacts",)), DREAMS, WITH_MODEL),
    "dreamerv3": (toys.spaces(toys.IMAGE, toys.VECTOR, action="discrete", actions=3), DREAMS, WITH_MODEL),
    "recovery-rl": (toys.spaces(), (*DREAMS, "risk/loss"), (*WITH_MODEL, "recovery")),
    "sac-lag": (toys.spaces(), STEPS, ("learner", "constraint")),
    "safe-slac": (toys.spaces(toys.IMAGE, toys.VECTOR), LATENT, ("world_model", "sac")),
    "safeloop": (toys.spaces(), (*STEPS[:2], *STEPS[3:]), ("learner", "dynamics")),
    "mbppo-lag": (toys.spaces(), MODELLED, ("policy", "dynamics")),
    "ppo-lag": (toys.spaces(), FIRST_ORDER, WITHOUT),
    "focops": (toys.spaces(action="discrete", actions=3), FIRST_ORDER, WITHOUT),
    "trpo-lag": (toys.spaces(), SECOND_ORDER, WITHOUT),
    "cpo": (toys.spaces(), (*SECOND_ORDER, "cpo/case"), WITHOUT),
    "saute-ppo": (toys.spaces(toys.VECTOR, ("spent", ObservationSpec((1,), "float32"))), FIRST_ORDER, WITHOUT),
}


def two_updates(name: str) -> dict[str, float]:
    """Of all that is recorded; an episode that costs more than the budget has finished before."""
    spaces, metrics, parts = CASES[name]
    agent = preset("debug", name, EnvConfig("probe/value")).make_agent(spaces)
    state = agent.init(key=jax.random.key(0, impl="threefry2x32"))
    state = agent.on_episode(state, EpisodeSummary(1.0, np.full(spaces.num_costs, 30.0), 20))
    state, found = agent.update(state, toys.batch(spaces, 2, 2, 8), key=jax.random.key(1, impl="threefry2x32"))
    numbers = {metric: float(found[metric]) for metric in metrics}
    for part in parts:
        numbers[f"norm/{part}"] = float(optax.tree.norm(eqx.filter(getattr(state, part), eqx.is_inexact_array)))
    return numbers


@pytest.mark.parametrize("name", CASES)
def test_two_updates_compute_what_they_did(name):
    numbers = two_updates(name)
    if os.environ.get("PRUDENCE_GOLDEN") == "write":
        recorded = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(recorded | {name: numbers}, indent=1) + "\n")
    recorded = json.loads(GOLDEN.read_text())[name]
    assert set(numbers) == set(recorded)
    for key, value in recorded.items():
        np.testing.assert_allclose(numbers[key], value, rtol=1e-3, atol=1e-6, err_msg=key)
