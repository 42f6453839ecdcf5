"""Recorded sequences on which a world model is tested."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from prudence.data.dataset import Dataset
from prudence.data.manifest import FILE as MANIFEST
from prudence.data.replay import Replay
from prudence.loops import OfflineLoop, ReplayLoop
from prudence.run_config import RunConfig
from prudence.runs.config import read_config
from prudence.runs.directory import RunDirectory
from prudence.types import Batch, Spaces


def recorded_sequences(place: Path, spaces: Spaces, number: int, context: int, ahead: int) -> Batch:
    """Sequences ``[B, context + ahead]`` in whose last ``ahead`` decisions no episode begins.

    Imagination cannot predict resets.

    Args:
        place: a run or a data set. Of a run: the newest sequences of its replay, or, if it learned offline, the
            episodes that were held out. Of a data set: sequences that are spread over all episodes.
        spaces: the spaces of the agent.
        number: B; there are fewer sequences if there is too little data.
        context, ahead: decisions that a model filters, and that it then imagines.

    Raises:
        ValueError: there are no such sequences, or the place has no recorded data of these spaces.
    """
    length = context + ahead
    # More than asked for, since those with an episode's start are left out.
    if (place / MANIFEST).exists():
        rows = Dataset(place).spread(2 * number, length)
    else:
        rows = _of_run(RunDirectory(place), spaces, 2 * number, length)
    inside = ~np.asarray(rows.is_first)[:, context:].any(1)
    if not inside.any():
        raise ValueError(f"no episode recorded in {place} lasts {ahead} decisions: choose fewer ahead")
    if {name: x.shape[2:] for name, x in rows.observation.items()} != {n: s.shape for n, s in spaces.observation}:
        raise ValueError(f"{place} has other observations than the agent: name data of the same observations")
    return jax.tree.map(lambda x: x[inside][:number], rows)


def _of_run(run: RunDirectory, spaces: Spaces, number: int, length: int) -> Batch:
    loop = read_config(run.config, RunConfig).loop
    if isinstance(loop, OfflineLoop):
        held = Dataset(loop.dataset).expect(loop.digest).hold_out(loop.holdout)[1]
        return held.spread(number, length)
    if not isinstance(loop, ReplayLoop):
        raise ValueError(f"{run.path} keeps no experience: name a run of an agent with a world model, or a data set")
    with run.lock():  # Opening a replay deletes incomplete chunks, such as one that a training run is writing.
        replay = Replay(run.replay, spaces, loop.num_envs, capacity=loop.replay_capacity, seed=0)
        return replay.newest(number, length)
