"""Writes a dataset: into ``<directory>.partial``, which gets its name when all of it is on the disk."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from prudence.data.chunks import Layout, OpenChunk, ReplayDiskError, sync_directory
from prudence.data.manifest import FILE, DatasetError, Episode, Manifest, Source, digest_of
from prudence.data.windows import flatten
from prudence.types import Spaces, Transition

_CHUNK_BYTES = 32 * 2**20


class DatasetWriter:
    """Writes the episodes of a new dataset. It is a context manager.

    At the end of the block the dataset gets its name. If the block raises, or is interrupted, nothing is left. If the
    process is killed, ``<directory>.partial`` is left, which nobody takes for a dataset, and the next writer clears.

    Args:
        directory: of the new dataset.
        spaces: of its rows.
        env: the configuration of the environment as JSON; None if nobody knows it.
        interface: the mapping of its own observations and actions as JSON; None if nobody knows it.
        licence: of the data.
        note: what a reader must know of the data.

    Raises:
        DatasetError: the directory exists, or another process writes it.
    """

    def __init__(
        self,
        directory: Path | str,
        spaces: Spaces,
        *,
        env: dict[str, Any] | None = None,
        interface: dict[str, Any] | None = None,
        licence: str | None = None,
        note: str = "",
    ):
        self.directory = Path(directory)
        self.partial = self.directory.with_name(f"{self.directory.name}.partial")
        self._spaces, self._env, self._interface = spaces, env, interface
        self._licence, self._note = licence, note
        self._layout = Layout.of(spaces, 1)
        self._rows_per_chunk = max(1, _CHUNK_BYTES // self._layout.row.itemsize)
        self._filling: OpenChunk | None = None
        self._next = 0
        self._parts: list[tuple[str, bytes, np.ndarray]] = []
        self._episodes: list[Episode] = []
        self._given: list[Source] = []
        self._sources: list[Source] = []

    def __enter__(self) -> DatasetWriter:
        check_vacant(self.directory)
        self.partial.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.partial, os.O_RDONLY)
        try:
            # The operating system releases the lock when this process ends, even by a kill.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise DatasetError(
                f"another process is writing {self.directory}: wait for it to end, or name another directory"
            ) from error
        for path in self.partial.iterdir():  # Of a writer that was killed.
            path.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self.partial, ignore_errors=True)
            os.close(self._lock)

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """The episodes written so far."""
        return tuple(self._episodes)

    def source(self, source: Source) -> int:
        """The index of a source, for :meth:`add`. Another source of its name gets a number after it."""
        if source in self._given:
            return self._given.index(source)
        self._given.append(source)
        names, name = {known.name for known in self._sources}, source.name
        numbers = itertools.count(2)
        while name in names:
            name = f"{source.name}-{next(numbers)}"
        self._sources.append(replace(source, name=name))
        return len(self._sources) - 1

    def add(self, rows: Transition, source: int) -> Episode:
        """Appends an episode of T decisions, ``[T + 1, ...]``.

        Raises:
            DatasetError: the rows are no whole episode, of other shapes, or not finite; or the disk is full.
        """
        number = len(self._episodes)
        values = {name: np.asarray(value) for name, value in flatten(rows).items()}
        self._check(f"episode {number}", values)
        length = len(values["reward"]) - 1
        with self._disk_errors():
            for row in range(length + 1):
                self._append({name: value[row : row + 1] for name, value in values.items()})
        costs = tuple(float(cost) for cost in values["cost"].sum(0, dtype=np.float64))
        episode_return = float(values["reward"].sum(dtype=np.float64))
        first = self._next - length - 1
        self._episodes.append(Episode(first, length, episode_return, costs, bool(values["is_terminal"][-1]), source))
        return self._episodes[-1]

    def _check(self, where: str, values: dict[str, np.ndarray]) -> None:
        rows = len(values["is_first"])
        for name, dtype, shape in self._layout.fields:
            if name not in values or values[name].shape != (rows, *shape):
                found = values[name].shape if name in values else "nothing"
                raise DatasetError(f"{where}: expected {name} of shape {(rows, *shape)}, got {found}")
            if not np.can_cast(values[name].dtype, dtype, "same_kind"):
                raise DatasetError(f"{where}: {name} is {values[name].dtype}, which is not kept as {np.dtype(dtype)}")
            finite = np.isfinite(values[name]).reshape(rows, -1).all(1)
            if not finite.all():
                raise DatasetError(
                    f"{where}: {name} is not finite in {rows - finite.sum()} rows, first in row "
                    f"{int(np.argmin(finite))}: leave such episodes out"
                )
        if rows < 2:
            raise DatasetError(f"{where} has no decision: leave it out")
        borders = np.arange(rows)
        if not (
            np.array_equal(values["is_first"], borders == 0)
            and np.array_equal(values["is_last"], borders == rows - 1)
            and not values["is_terminal"][:-1].any()
        ):
            raise DatasetError(
                f"{where} is no single whole episode: is_first holds in its first row only, is_last in its last only, "
                "and is_terminal in no other"
            )

    def _append(self, row: dict[str, np.ndarray]) -> None:
        if self._filling is None:
            self._filling = OpenChunk(self.partial, self._layout, self._next, self._rows_per_chunk)
        self._filling.append(row)
        self._next += 1
        if self._filling.is_full:
            self._seal()

    def _seal(self) -> None:
        filling = self._filling
        if filling is not None:
            filling.write()
            self._parts.append((filling.path.name, self._layout.header(filling.first), filling.checksums.copy()))
            self._filling = None

    def _finish(self) -> None:
        if not self._episodes:
            raise DatasetError(f"{self.directory} would have no episode: nothing is written")
        with self._disk_errors():
            self._seal()
            manifest = Manifest(
                self._spaces,
                self._env,
                tuple(self._episodes),
                tuple(self._sources),
                digest_of(self._parts),
                self._licence,
                self._note,
                self._interface,
            )
            with open(self.partial / FILE, "w", encoding="utf-8") as file:
                file.write(manifest.to_json())
                file.flush()
                os.fsync(file.fileno())
            sync_directory(self.partial)
            check_vacant(self.directory)
            os.rename(self.partial, self.directory)
            sync_directory(self.directory.parent)

    @contextlib.contextmanager
    def _disk_errors(self) -> Any:
        try:
            yield
        except OSError as error:
            reason = os.strerror(error.errno) if isinstance(error, ReplayDiskError) and error.errno else error.strerror
            raise DatasetError(
                f"cannot write {self.directory}: {reason}. Make room on this disk, or name another, and repeat the "
                "command; nothing is left of this attempt"
            ) from error


def check_vacant(directory: Path) -> None:
    """Raises DatasetError if something has this name already, since a dataset is never changed."""
    if directory.exists():
        raise DatasetError(
            f"{directory} exists already, and a dataset is never changed: name another directory, or delete this one"
        )
