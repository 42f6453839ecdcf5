"""Small spaces, batches and agents that several tests share."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from prudence.cores.dreamer.dreamer import Dreamer, DreamerConfig, DreamerState
from prudence.envs.base import EnvConfig
from prudence.models.swag import SWAG
from prudence.presets import preset
from prudence.systems import find_system
from prudence.types import ActionSpec, Batch, ObservationSpec, Spaces

VECTOR = ("state", ObservationSpec((3,), "float32"))
IMAGE = ("image", ObservationSpec((8, 8, 3), "uint8"))


def spaces(*observation, action="continuous", actions=2, costs=("cost",), steps=20, privileged=()) -> Spaces:
    """Spaces with a vector of 3 numbers unless ``observation`` names others."""
    return Spaces(observation or (VECTOR,), ActionSpec(action, actions), costs, steps, privileged=privileged)


def batch(spaces: Spaces, *lead: int, seed: int = 0) -> Batch:
    """Random sequences with the given leading axes; some costs, episode starts and a termination."""
    rng = np.random.default_rng(seed)

    def draw(spec: ObservationSpec) -> np.ndarray:
        if spec.dtype == "uint8":
            return rng.integers(0, 256, (*lead, *spec.shape), dtype=np.uint8)
        return rng.normal(size=(*lead, *spec.shape)).astype(np.float32)

    size = spaces.action.size
    action = rng.uniform(-1, 1, (*lead, size)).astype(np.float32)
    if spaces.action.kind == "discrete":
        action = np.eye(size, dtype=np.float32)[rng.integers(0, size, lead)]
    first = rng.random(lead) < 0.2
    terminal = rng.random(lead) < 0.1
    rows = Batch(
        observation={name: draw(spec) for name, spec in spaces.observation},
        prev_action=action,
        reward=rng.normal(size=lead).astype(np.float32),
        cost=(rng.random((*lead, spaces.num_costs)) < 0.3).astype(np.float32),
        is_first=first,
        is_last=terminal,
        is_terminal=terminal,
    )
    return jax.tree.map(jnp.asarray, rows)


def debug_config(name: str = "safedreamer-bsrp-lag", **changes) -> DreamerConfig:
    """The debug preset's agent configuration with changes."""
    config = preset("debug", name, EnvConfig("probe/value")).agent
    assert isinstance(config, DreamerConfig)
    return replace(config, **changes)


def dreamer(spaces: Spaces, name: str = "safedreamer-bsrp-lag", **changes) -> Dreamer:
    """A tiny agent."""
    agent = find_system(name).agent(spaces, debug_config(name, **changes))
    assert isinstance(agent, Dreamer)
    return agent


def warmed(agent: Dreamer, state: DreamerState) -> DreamerState:
    """The state with a posterior over models that has seen a dozen of them, without the dozen updates."""
    assert agent.config.uncertainty is not None
    swag, predictor, iterates = agent.config.uncertainty.posterior, state.world_model.module.predictor, state.posterior
    assert isinstance(swag, SWAG)
    rng = np.random.default_rng(0)
    moved = lambda w: w + 0.1 * rng.normal(size=w.shape).astype(np.float32) if eqx.is_inexact_array(w) else w
    for number in range(12):
        iterates = swag.observe(iterates, jax.tree.map(moved, predictor), swag.burn_in + number * swag.period)
    return eqx.tree_at(lambda s: s.posterior, state, iterates, is_leaf=lambda x: x is None)
