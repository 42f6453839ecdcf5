"""What a replay will take up, known and checked before training starts."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from prudence.data.chunks import SUFFIX, Layout, capacity_in_rows, rows_per_chunk
from prudence.types import Spaces

log = logging.getLogger(__name__)


class ReplayTooLargeError(ValueError):
    """The replay cannot fit on this disk or into this memory."""


@dataclass(frozen=True)
class MemoryPlan:
    """What a full replay takes up.

    Attributes:
        records: decisions it holds.
        record_bytes: bytes of one of them.
        disk_bytes: of its files at the most: the records, the chunk being given up, and what the latest
            checkpoints still need.
        resident_bytes: memory of the process that the system cannot take back: the chunk being filled. Sampled
            chunks are mapped, so they count as the process's memory too as far as the system has room to cache them.
    """

    records: int
    record_bytes: int
    disk_bytes: int
    resident_bytes: int

    def __str__(self) -> str:
        return (
            f"replay of {self.records:,} decisions of {_in_words(self.record_bytes)}: "
            f"{_in_words(self.disk_bytes)} on disk, {_in_words(self.resident_bytes)} resident"
        )


def memory_plan(
    spaces: Spaces,
    capacity: int,
    num_envs: int,
    *,
    capacity_bytes: int | None = None,
    chunk_size: int = 1024,
    checkpoint_every: int = 0,
) -> MemoryPlan:
    """What a ``Replay`` with the same arguments takes up once full.

    ``checkpoint_every`` is the number of decisions between checkpoints: as many as lie between two of them are kept
    longer, so that the run can resume from the checkpoint before the last.
    """
    layout = Layout.of(spaces, num_envs)
    rows = capacity_in_rows(layout, capacity, capacity_bytes)
    chunk_rows = rows_per_chunk(chunk_size, num_envs)
    held_rows = rows + chunk_rows + 2 * -(-checkpoint_every // num_envs)
    chunks = -(-held_rows // chunk_rows)
    return MemoryPlan(
        records=rows * num_envs,
        record_bytes=layout.row.itemsize // num_envs,
        disk_bytes=held_rows * layout.row.itemsize + chunks * len(layout.header(0)),
        resident_bytes=chunk_rows * layout.row.itemsize,
    )


def check_fits(plan: MemoryPlan, directory: Path) -> None:
    """Refuses a replay that ``directory``'s disk or this machine's memory cannot hold.

    What the directory holds of a replay already counts as free, since resuming takes it up again. A replay larger
    than the free memory is accepted with a warning: it works, at the speed of the disk.

    Raises:
        ReplayTooLargeError: naming what is needed, what there is, and what to change.
    """
    directory = Path(directory)
    existing = next(path for path in [directory, *directory.absolute().parents] if path.exists())
    held = sum(path.stat().st_size for path in directory.glob(f"*{SUFFIX}"))
    free_disk = shutil.disk_usage(existing).free + held
    free_memory = psutil.virtual_memory().available
    if plan.disk_bytes > free_disk:
        fitting = int(plan.records * free_disk / plan.disk_bytes)
        raise ReplayTooLargeError(
            f"the {plan} does not fit: {directory} has {_in_words(free_disk)} free. Make room, choose another disk, "
            f"or pass --replay-capacity {fitting} or less"
        )
    if plan.resident_bytes > free_memory:
        raise ReplayTooLargeError(
            f"the {plan} does not fit: {_in_words(free_memory)} of memory are free. Use fewer or smaller observations"
        )
    if plan.disk_bytes > free_memory:
        log.warning(
            "the %s is larger than the %s of free memory: sampling will read from the disk. "
            "A smaller --replay-capacity avoids that",
            plan,
            _in_words(free_memory),
        )


def _in_words(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
