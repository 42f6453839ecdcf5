"""DSRL's HDF5 files: flat, with costs (github.com/liuzuxin/DSRL). A step is a raw step of the simulator."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from prudence.data.dataset import Dataset
from prudence.data.formats.common import ImportOptions, Opened, finished_file, needed
from prudence.data.formats.flat import open_flat
from prudence.data.manifest import DatasetError

_REQUIRED = ("observations", "next_observations", "actions", "rewards", "terminals", "timeouts")


def open_file(source: str, options: ImportOptions) -> contextlib.AbstractContextManager[Opened]:
    """Opens a file, see :func:`prudence.data.formats.flat.open_flat`."""
    return open_flat(Path(source), options, required=_REQUIRED, cost_key="costs")


def export(data: Dataset, to: str) -> Path:
    """Writes a dataset of one vector observation, continuous actions and one cost. Returns the file.

    Raises:
        DatasetError: the dataset is another, or the file exists.
    """
    spaces, path = data.spaces, Path(to)
    if len(spaces.observation) != 1 or len(spaces.observation[0][1].shape) != 1:
        names = ", ".join(f"{name} {list(spec.shape)}" for name, spec in spaces.observation)
        raise DatasetError(
            f"DSRL's format has one vector as observation, and {data.directory} has {names}: export it as minari"
        )
    if spaces.num_costs != 1 or spaces.action.kind != "continuous":
        raise DatasetError(
            f"DSRL's format has one cost and continuous actions, and {data.directory} has "
            f"{spaces.num_costs} costs and {spaces.action.kind} actions: export it as minari"
        )
    h5py, total = needed("h5py"), data.decisions
    name, spec = spaces.observation[0]
    shapes = {"observations": spec.shape, "next_observations": spec.shape, "actions": (spaces.action.size,)}
    with finished_file(path) as partial, h5py.File(partial, "w") as file:
        for key in (*shapes, "rewards", "costs"):
            file.create_dataset(key, (total, *shapes.get(key, ())), "f4", compression="gzip")
        for key in ("terminals", "timeouts"):
            file.create_dataset(key, (total,), bool, compression="gzip")
        start = 0
        for index in range(len(data.episodes)):
            rows = data.episode(index)
            stop, seen = start + len(rows.reward) - 1, rows.observation[name]
            ends, terminal = np.asarray(rows.is_last)[1:], np.asarray(rows.is_terminal)[1:]
            for key, values in {
                "observations": seen[:-1],
                "next_observations": seen[1:],
                "actions": rows.prev_action[1:],
                "rewards": rows.reward[1:],
                "costs": rows.cost[1:, 0],
                "terminals": terminal,
                "timeouts": ends & ~terminal,
            }.items():
                file[key][start:stop] = values
            start = stop
    return path
