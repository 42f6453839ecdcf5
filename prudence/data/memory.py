"""Disk space and memory of a replay, checked before training starts."""

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
    """The replay does not fit on the disk or into memory."""


@dataclass(frozen=True)
class MemoryPlan:
    """Disk space and memory of a full replay.

    Attributes:
        records: number of decisions that it holds.
        record_bytes: bytes of one record.
        disk_bytes: maximum bytes of its files: the records, the chunk that is being dropped, and the records that the
            latest checkpoints still need.
        resident_bytes: memory that the operating system cannot reclaim: the chunk being filled. Sampled chunks are
            memory-mapped. They also count as memory of the process, as far as the system has room to cache them.
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
    """Disk space and memory of a full ``Replay`` with the same arguments.

    Args:
        checkpoint_every: decisions between two checkpoints. The replay keeps dropped records until no checkpoint needs
            them, so that the run can resume from the checkpoint before the last.
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
    """Refuses a replay that does not fit on the disk of ``directory`` or into memory.

    Chunks that are already in the directory count as free space, because a resumed run uses them again. A replay larger
    than the free memory is accepted with a warning: it works at the speed of the disk.

    Raises:
        ReplayTooLargeError: the replay does not fit. The message names its size, the free space and a remedy.
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
            f"the {plan} does not fit: only {_in_words(free_memory)} of memory are free. Use fewer or smaller "
            "observations"
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
