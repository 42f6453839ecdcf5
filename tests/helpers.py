"""What the tests of training share: short configurations, an agent without networks, and what a run left behind."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.cli.api import configure
from prudence.cores.base import Agent, Mode
from prudence.loops import ReplayLoop
from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.metrics import read_metrics
from prudence.training.trainer import Trainer, train
from prudence.types import Batch, EpisodeSummary, Key, Observation, Spaces

STEPS = 240
"""The length of most runs: an update's program has the length of its run in it, and is compiled anew for another."""


def run_config(
    task: str = "probe/cost", *, agent: str = "safedreamer-bsrp-lag", seed: int = 0, **loop: Any
) -> RunConfig:
    """The debug preset with fields of its loop replaced."""
    config = configure(agent, task, preset_name="debug", seed=seed)
    fields = {"steps": STEPS, **loop}
    if isinstance(config.loop, ReplayLoop) and fields["steps"] <= config.loop.prefill:
        fields = {"prefill": 8, **fields}
    return replace(config, loop=replace(config.loop, **fields))


def train_in_pieces(config: RunConfig, directory: Path, *stops: int) -> Path:
    """Trains, and is asked to stop at each of ``stops`` steps, one call after another. (A run that is meant to be
    shorter is another run: its learning rates fall sooner.)"""
    original = Trainer._after_iteration
    for steps in stops:

        def stopping(self: Trainer, *arguments: Any, steps: int = steps) -> None:
            original(self, *arguments)
            if self.now >= steps:
                self._ask_to_stop()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "_after_iteration", stopping)
            train(config, directory)
    return directory


def content(run: Path) -> dict[str, Any]:
    """Everything in the newest checkpoint but the clock: parameters, environments, replay's sampler, counters."""
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    del manifest["meta"]["counters"]["seconds"]
    del manifest["meta"]["config"]  # Of which a number of workers, say, changes nothing.
    return {**members, "manifest": manifest}


def history(run: Path) -> list[dict[str, float]]:
    """The metrics but those of the clock."""
    rows = read_metrics(run / "metrics.jsonl")
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]


def assert_same_run(left: Path, right: Path) -> None:
    """Bit for bit: the newest checkpoint, and every metric but time."""
    a, b = content(left), content(right)
    assert a.keys() == b.keys()
    assert [name for name in a if a[name] != b[name]] == []
    assert history(left) == history(right)


class PlainState(eqx.Module):
    """What ``PlainAgent`` learns: sums."""

    updates: jax.Array
    reward: jax.Array
    episode_cost: jax.Array


@dataclass(frozen=True)
class PlainAgent(Agent):
    """Acts at random and learns sums: shows what the loop does, at no cost."""

    spaces: Spaces

    def init(self, *, key: Key) -> PlainState:
        return PlainState(jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.zeros(self.spaces.num_costs))

    def init_carry(self, num_envs: int) -> jax.Array:
        return jnp.zeros(num_envs)

    def act(
        self, state: Any, carry: Any, observation: Observation, is_first: Any, *, key: Key, mode: Mode
    ) -> tuple[Any, Any, dict[str, Any]]:
        action = jax.random.uniform(key, (len(carry), self.spaces.action.size), minval=-1.0)
        return action, jnp.where(is_first, 0.0, carry) + action[:, 0], {}

    def update(self, state: PlainState, batches: Batch, *, key: Key) -> tuple[PlainState, dict[str, Any]]:
        reward = state.reward + np.asarray(batches.reward).sum()
        state = PlainState(state.updates + len(batches.reward), reward, state.episode_cost)
        return state, {"plain/updates": state.updates, "plain/reward": reward}

    def on_episode(self, state: PlainState, summary: EpisodeSummary) -> PlainState:
        return eqx.tree_at(lambda s: s.episode_cost, state, state.episode_cost + jnp.asarray(summary.episode_cost))

    def report(
        self, state: Any, batch: Batch, *, key: Key, context: int = 25, samples: int = 1
    ) -> dict[str, np.ndarray]:
        return {}
