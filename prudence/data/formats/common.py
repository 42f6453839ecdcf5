"""What formats have in common: options, checks, and how an episode is put together."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prudence.data.manifest import DatasetError
from prudence.types import Spaces, Transition

log = logging.getLogger(__name__)

EXTRA = "pip install 'prudence-rl[datasets]'"
_TOLERANCE = 1.001
"""Actions up to this are rounding, and are clipped to 1."""
_BLOCK = 2**16

CostRule = Callable[[dict[str, np.ndarray]], Any]
"""From the named observations ``[T, ...]`` that decisions led to, to their costs ``[T]`` or ``[T, C]``."""


@dataclass(frozen=True)
class ImportOptions:
    """How a file is read.

    Attributes:
        observation_name: what an observation without a name is called.
        cost_key: where the costs are; None is the format's own place.
        no_cost: all costs are 0, whatever the file has.
        cost_rule: computes the costs, instead of the file's.
        limit: number of episodes to read; None reads all.
        drop_incomplete: leaves out an unfinished episode at the end, which is otherwise kept as a truncated one.
        download: may download a dataset that is not on this machine.
    """

    observation_name: str = "state"
    cost_key: str | None = None
    no_cost: bool = False
    cost_rule: CostRule | None = None
    limit: int | None = None
    drop_incomplete: bool = False
    download: bool = False


class Opened(NamedTuple):
    """A file that is open: its spaces, its episodes (to go through once), and its licence if it names one."""

    spaces: Spaces
    episodes: Iterator[Transition]
    licence: str | None = None


def needed(module: str) -> Any:
    """Imports an optional library.

    Raises:
        DatasetError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DatasetError(f"{module} is not installed, which this format needs ({error}): {EXTRA}") from error


def require_keys(path: Path | str, found: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
    """Raises DatasetError if ``found`` lacks one of ``wanted``."""
    missing = [key for key in wanted if key not in found]
    if missing:
        raise DatasetError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(found))}. Name another --format, or for "
            "costs --cost-key, --cost-function or --no-cost"
        )


def require_shapes(path: Path | str, columns: Mapping[str, Any], ranks: Mapping[str, int]) -> None:
    """Raises DatasetError if a column has another rank, or columns have different lengths."""
    wrong = [f"{name} {tuple(columns[name].shape)}" for name, rank in ranks.items() if len(columns[name].shape) != rank]
    if wrong:
        axes = ", ".join(f"{name} {rank}" for name, rank in ranks.items())
        raise DatasetError(f"{path}: {', '.join(wrong)} has another number of axes than expected ({axes})")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise DatasetError(f"{path}: columns have different lengths, {lengths}: it is cut off, or mixes two datasets")


def require_finite(where: str, column: Any) -> None:
    """Raises DatasetError if a column ``[N, ...]`` has values that are not finite."""
    count, first = 0, None
    for begin in range(0, len(column), _BLOCK):
        block = np.asarray(column[begin : begin + _BLOCK])
        rows = np.flatnonzero(~np.isfinite(block).reshape(len(block), -1).all(1))
        count += len(rows)
        first = begin + int(rows[0]) if first is None and len(rows) else first
    if count:
        raise DatasetError(f"{where} is not finite in {count} rows, first in row {first}: leave their episodes out")


def checked_costs(where: str, costs: np.ndarray) -> np.ndarray:
    """Costs ``[T, C]``. Raises DatasetError if one is negative or not finite."""
    require_finite(where, costs)
    if (costs < 0).any():
        raise DatasetError(
            f"{where} is negative in {int((costs < 0).any(1).sum())} rows, first in row "
            f"{int(np.argmax((costs < 0).any(1)))}: a cost is what must stay small, 0 or more; are these rewards?"
        )
    return costs.astype(np.float32)


def unit_actions(where: str, actions: np.ndarray) -> np.ndarray:
    """Continuous actions ``[T, A]``, clipped to [-1, 1]. Raises DatasetError if they lie outside of it."""
    require_finite(where, actions)
    outside = (np.abs(actions) > _TOLERANCE).any(1)
    if outside.any():
        raise DatasetError(
            f"{where} is outside of [-1, 1] in {int(outside.sum())} rows, first in row {int(np.argmax(outside))} "
            f"({np.abs(actions).max():.4g}): scale it to the bounds of the action space"
        )
    return np.clip(actions, -1, 1).astype(np.float32)


def as_costs(values: Any, length: int) -> np.ndarray:
    """Costs ``[T]`` or ``[T, C]`` as ``[T, C]``. Raises DatasetError if they are something else."""
    costs = np.asarray(values)
    costs = costs[:, None] if costs.ndim == 1 else costs
    if costs.ndim != 2 or len(costs) != length or not costs.shape[1]:
        raise DatasetError(f"costs of {length} decisions are [{length}] or [{length}, C], not {list(np.shape(values))}")
    return costs


def cost_names(number: int) -> tuple[str, ...]:
    """Names of costs that a file does not name."""
    return ("cost",) if number == 1 else tuple(f"cost_{index}" for index in range(number))


def costs_of(options: ImportOptions, recorded: np.ndarray | None, reached: dict[str, np.ndarray]) -> np.ndarray:
    """Costs ``[T, C]`` of the decisions that led to the observations ``reached``: the file's, a rule's, or none."""
    length = len(next(iter(reached.values())))
    if options.no_cost:
        return np.zeros((length, 1), np.float32)
    if options.cost_rule is not None:
        return checked_costs("the cost function's result", as_costs(options.cost_rule(reached), length))
    assert recorded is not None
    return recorded


def episode(
    observation: dict[str, np.ndarray], actions: np.ndarray, rewards: np.ndarray, costs: np.ndarray, terminated: bool
) -> Transition:
    """Rows ``[T + 1, ...]`` of an episode: observations ``[T + 1, ...]``, and what T decisions did and led to."""
    length = len(rewards)
    begun = lambda values: np.concatenate([np.zeros_like(values[:1]), values]).astype(np.float32)
    time = np.arange(length + 1)
    return Transition(
        observation={name: _kept(value) for name, value in observation.items()},
        prev_action=begun(actions),
        reward=begun(rewards),
        cost=begun(costs),
        is_first=time == 0,
        is_last=time == length,
        is_terminal=(time == length) & terminated,
    )


def _kept(values: np.ndarray) -> np.ndarray:
    return values if values.dtype == np.uint8 else values.astype(np.float32)


@contextlib.contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """A path to write to, which gets its name when the block ends. Nothing is left if the block raises.

    Raises:
        DatasetError: there is such a file already.
    """
    if path.exists():
        raise DatasetError(f"{path} exists already: name another file, or delete it")
    partial = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.rename(partial, path)
    finally:
        partial.unlink(missing_ok=True)
