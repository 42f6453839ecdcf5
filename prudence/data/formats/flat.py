"""Flat HDF5 files of transitions, one after another, as DSRL and D4RL have them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prudence.data.formats.common import (
    ImportOptions,
    Opened,
    checked_costs,
    cost_names,
    costs_of,
    episode,
    needed,
    require_finite,
    require_keys,
    require_shapes,
    unit_actions,
)
from prudence.data.manifest import DatasetError
from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition

log = logging.getLogger(__name__)


class Flat(NamedTuple):
    """N transitions, one after another. Observations are read when they are sliced.

    Attributes:
        observations: ``[N, F]``, before the actions.
        following: ``[N, F]``, after them; None if the file has none.
        actions: ``[N, A]``.
        rewards: ``[N]``.
        costs: ``[N, C]``; None if they are computed or there are none.
        terminals, timeouts: ``[N]``.
    """

    observations: Any
    following: Any
    actions: np.ndarray
    rewards: np.ndarray
    costs: np.ndarray | None
    terminals: np.ndarray
    timeouts: np.ndarray


@contextlib.contextmanager
def open_flat(
    path: Path, options: ImportOptions, *, required: tuple[str, ...], cost_key: str | None
) -> Iterator[Opened]:
    """Opens a file. ``required`` are keys that the format has, and ``cost_key`` is where it has costs.

    Raises:
        DatasetError: it is no such file.
    """
    h5py = needed("h5py")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path} cannot be read as HDF5: {error}") from error
    with file:
        flat = _read(path, file, options, required, cost_key)
        number = 1 if flat.costs is None else flat.costs.shape[1]
        observation = ObservationSpec(tuple(flat.observations.shape[1:]), "float32")
        spaces = Spaces(
            ((options.observation_name, observation),),
            ActionSpec("continuous", flat.actions.shape[1]),
            cost_names(number),
        )
        yield Opened(spaces, flat_episodes(path, flat, options))


def _read(path: Path, file: Any, options: ImportOptions, required: tuple[str, ...], cost_key: str | None) -> Flat:
    computed = options.no_cost or options.cost_rule is not None
    cost_key = None if computed else options.cost_key or cost_key
    if cost_key is None and not computed:
        raise DatasetError(
            f"{path}: this format has no costs: say where they are (--cost-key), how they are computed "
            "(--cost-function), or that there are none (--no-cost)"
        )
    require_keys(path, file, (*required, *((cost_key,) if cost_key else ())))
    flags = [name for name in ("terminals", "timeouts") if name in file]
    columns: dict[str, Any] = {name: _column(file[name]) for name in ("rewards", *flags)}
    columns |= {name: file[name] for name in ("observations", "next_observations") if name in file}
    columns["actions"] = np.asarray(file["actions"])
    ranks = {name: 2 if name in ("observations", "next_observations", "actions") else 1 for name in columns}
    require_shapes(path, columns, ranks)
    for name in ("observations", "next_observations", "rewards"):
        if name in columns:
            require_finite(f"{path}: {name}", columns[name])
    never = np.zeros(len(columns["rewards"]), bool)
    return Flat(
        columns["observations"],
        columns.get("next_observations"),
        unit_actions(f"{path}: actions", columns["actions"]),
        columns["rewards"],
        None if cost_key is None else _costs(path, cost_key, file[cost_key], len(never)),
        columns.get("terminals", never).astype(bool),
        columns.get("timeouts", never).astype(bool),
    )


def _costs(path: Path, key: str, values: Any, length: int) -> np.ndarray:
    costs = np.asarray(values)
    costs = costs[:, None] if costs.ndim == 1 else costs
    require_shapes(path, {key: costs, "rewards": np.zeros(length)}, {key: 2})
    return checked_costs(f"{path}: {key}", costs)


def _column(values: Any) -> np.ndarray:
    """A column ``[N]``, which some files have as ``[N, 1]``."""
    column = np.asarray(values)
    return column[:, 0] if column.ndim == 2 and column.shape[1] == 1 else column


def flat_episodes(path: Path, flat: Flat, options: ImportOptions) -> Iterator[Transition]:
    """The episodes of a flat file, split where one ends.

    Raises:
        DatasetError: nothing ends, or transitions do not follow one another.
    """
    repeated = unknown = 0
    for start, stop in _bounds(path, flat, options)[: options.limit]:
        terminated = bool(flat.terminals[stop - 1])
        rows = _rows(path, flat, start, stop, terminated)
        length = len(rows) - 1
        if flat.following is None:
            repeated, unknown = repeated + terminated, unknown + (not terminated)
        if length == 0:
            log.warning("%s: the only action from row %d has no known result: its episode is left out", path, start)
            continue
        stop, name = start + length, options.observation_name
        costs = costs_of(options, None if flat.costs is None else flat.costs[start:stop], {name: rows[1:]})
        yield episode({name: rows}, flat.actions[start:stop], flat.rewards[start:stop], costs, terminated)
    if repeated or unknown:
        log.warning(
            "%s has no next_observations: the last action of %d truncated episodes is left out, and %d terminated ones "
            "have their last observation twice",
            path,
            unknown,
            repeated,
        )


def _bounds(path: Path, flat: Flat, options: ImportOptions) -> list[tuple[int, int]]:
    """The first transition of every episode, and the one after its last."""
    both = int((flat.terminals & flat.timeouts).sum())
    if both:
        log.warning("%s: %d transitions are terminal and timed out: they are taken as terminal", path, both)
    stops = np.flatnonzero(flat.terminals | flat.timeouts) + 1
    if not len(stops):
        raise DatasetError(
            f"{path}: no episode ends: terminals and timeouts are 0 in all {len(flat.rewards)} rows. A world model "
            "needs whole episodes, so write the flags anew"
        )
    rest = len(flat.rewards) - int(stops[-1])
    if rest and options.drop_incomplete:
        log.warning("%s: the last %d transitions end no episode: they are left out", path, rest)
    elif rest:
        log.warning(
            "%s: the last %d transitions end no episode: they are kept as a truncated one (--drop-incomplete leaves "
            "them out)",
            path,
            rest,
        )
        stops = np.append(stops, len(flat.rewards))
    return list(zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True))


def _rows(path: Path, flat: Flat, start: int, stop: int, terminated: bool) -> np.ndarray:
    """The observations ``[T + 1, F]`` of an episode, as far as they are known."""
    before = np.asarray(flat.observations[start:stop])
    if flat.following is None:
        return np.concatenate([before, before[-1:]]) if terminated else before
    after = np.asarray(flat.following[start:stop])
    broken = ~np.isclose(after[:-1], before[1:], rtol=1e-4, atol=1e-5).all(1)
    if broken.any():
        row = start + int(np.argmax(broken))
        raise DatasetError(
            f"{path}: next_observations[{row}] is not observations[{row + 1}], though no episode ends there: these are "
            "shuffled transitions, and a world model needs sequences"
        )
    return np.concatenate([before, after[-1:]])
