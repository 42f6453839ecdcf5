"""The files of the replay: append-only chunks of fixed-size rows. Each row has a checksum.

A row holds one step of E environments: E records, then a CRC-32. A chunk file is::

    magic (8 bytes) · header length (uint32) · CRC-32 of the header (uint32)
    header (JSON, padded with spaces): format version, layout of a record, number of environments, first row
    row 0 · row 1 · ...

Rows have absolute numbers. A chunk is named after its first row and ends where the next chunk begins. A row that no
chunk holds is a *gap*. All numbers are little-endian. Nothing is compressed or pickled, so a window of T steps is a
strided slice of a memory map.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from prudence.types import Spaces

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
SUFFIX = ".chunk"
_MAGIC = b"PRUDRPLY"
_PREFIX = struct.Struct("<8sII")
_PAGE = 4096
_CHECKSUM_BYTES = 4

Fields = dict[str, np.ndarray]
"""Arrays ``[rows, E, ...]`` by field name; an observation is called ``observation/<name>``."""


class ReplayLayoutError(ValueError):
    """The replay on disk was written for other spaces or another number of environments."""


class ReplayDiskError(OSError):
    """The replay could not be written, most often because the disk is full. Earlier records are intact."""


@dataclass(frozen=True)
class Layout:
    """The fields of a row.

    Attributes:
        fields: name, dtype and shape (without batch axes) of each field of a record.
        num_envs: E, number of records in a row.
    """

    fields: tuple[tuple[str, str, tuple[int, ...]], ...]
    num_envs: int

    @classmethod
    def of(cls, spaces: Spaces, num_envs: int) -> Layout:
        """The layout for ``spaces``: every field of a ``Transition``, widest types first, so that all are aligned."""
        fields = [
            ("prev_action", "<f4", (spaces.action.size,)),
            ("reward", "<f4", ()),
            ("cost", "<f4", (spaces.num_costs,)),
            ("is_first", "|b1", ()),
            ("is_last", "|b1", ()),
            ("is_terminal", "|b1", ()),
        ]
        for name, spec in spaces.observation:
            dtype = np.dtype(spec.dtype).newbyteorder("<")
            fields.append((f"observation/{name}", dtype.str, tuple(spec.shape)))
        fields.sort(key=lambda field: -np.dtype(field[1]).itemsize)
        return cls(tuple(fields), num_envs)

    @cached_property
    def record(self) -> np.dtype:
        return np.dtype([(name, dtype, shape) for name, dtype, shape in self.fields], align=True)

    @cached_property
    def row(self) -> np.dtype:
        return np.dtype([("records", self.record, (self.num_envs,)), ("checksum", "<u4")])

    def header(self, first: int) -> bytes:
        """The header of a chunk whose first row is ``first``. Its length is a multiple of a page."""
        content = {
            "format": FORMAT_VERSION,
            "fields": [[name, dtype, list(shape)] for name, dtype, shape in self.fields],
            "num_envs": self.num_envs,
            "first": first,
        }
        text = json.dumps(content).encode()
        length = -(-(len(text) + _PREFIX.size) // _PAGE) * _PAGE - _PREFIX.size
        text = text.ljust(length)
        return _PREFIX.pack(_MAGIC, length, zlib.crc32(text)) + text

    def split(self, rows: np.ndarray) -> Fields:
        """Views ``[R, E, ...]`` of ``rows`` (``[R]`` of dtype ``row``), by field name."""
        records = rows["records"]
        return {name: records[name] for name, _, _ in self.fields}


@dataclass(frozen=True)
class Chunk:
    """A chunk on disk. Its rows ``first`` to ``stop`` (exclusive) are valid."""

    path: Path
    first: int
    rows: int

    @property
    def stop(self) -> int:
        return self.first + self.rows


class OpenChunk:
    """The chunk being filled. Its rows are in memory; the first ``written`` of them are also on disk.

    Appended rows never change, so other threads may read them while more are appended.
    """

    def __init__(self, directory: Path, layout: Layout, first: int, capacity: int):
        self.path = directory / f"{first:012d}{SUFFIX}"
        self.first = first
        self.rows = 0
        self.written = 0
        self._header = layout.header(first)
        self._data = np.zeros(capacity, layout.row)
        self._bytes = self._data.view(np.uint8).reshape(capacity, layout.row.itemsize)
        self.fields = layout.split(self._data)

    @property
    def stop(self) -> int:
        return self.first + self.rows

    @property
    def is_full(self) -> bool:
        return self.rows == len(self._data)

    def append(self, values: Mapping[str, np.ndarray]) -> None:
        """Appends a row. ``values`` holds ``[E, ...]`` for every field of the layout."""
        for name, target in self.fields.items():
            np.copyto(target[self.rows], values[name], casting="same_kind")
        self.rows += 1

    @property
    def checksums(self) -> np.ndarray:
        """``[rows]`` of the rows on disk."""
        return self._data["checksum"][: self.written]

    def write(self) -> None:
        """Writes every row durably to the disk (fsync).

        Raises:
            ReplayDiskError: the disk is full or failed. The file is restored to its earlier content.
        """
        if self.written == self.rows:
            return
        for index in range(self.written, self.rows):
            self._data["checksum"][index] = _checksum(self._bytes[index], self.first + index)
        before = len(self._header) + self.written * self._data.itemsize if self.written else 0
        try:
            self._write_from(before)
        except OSError as error:
            self._undo(before)
            raise _disk_error(self.path.parent, error) from error
        self.written = self.rows

    def _write_from(self, position: int) -> None:
        with open(self.path, "r+b" if position else "wb") as file:
            file.seek(position)
            if not position:
                file.write(self._header)
            file.write(self._bytes[self.written : self.rows].data)
            file.flush()
            os.fsync(file.fileno())
        if not position:
            sync_directory(self.path.parent)

    def _undo(self, length: int) -> None:
        if length:
            os.truncate(self.path, length)
        else:
            self.path.unlink(missing_ok=True)


def map_chunk(chunk: Chunk, layout: Layout) -> Fields:
    """The fields of a chunk as a read-only memory map."""
    with open(chunk.path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    rows = np.frombuffer(data, layout.row, chunk.rows, offset=len(layout.header(chunk.first)))
    return layout.split(rows)


def scan_chunks(directory: Path, layout: Layout) -> list[Chunk]:
    """All chunks in ``directory``, oldest first. Torn chunks are cut, and chunks without a valid row are deleted.

    Reads every chunk once, to verify all checksums.

    Raises:
        ReplayLayoutError: a chunk was written with another layout.
    """
    chunks: list[Chunk] = []
    # Files of other names, such as a user's copies, are left alone.
    paths = sorted(path for path in directory.glob(f"*{SUFFIX}") if re.fullmatch("[0-9]+", path.stem))
    for path, following in zip(paths, [*paths[1:], None], strict=False):
        first = int(path.stem)
        rows = _count_valid_rows(path, first, layout)
        if rows == 0:
            path.unlink()
        else:
            chunks.append(Chunk(path, first, min(rows, int(following.stem) - first) if following else rows))
    return chunks


def verified_checksums(path: Path, layout: Layout) -> np.ndarray:
    """The checksums ``[rows]`` of a chunk. All of it has been read, and is intact.

    Raises:
        ValueError: the header or a row is torn or of another layout. The message names it.
    """
    first = int(path.stem)
    header, data = _header_and_body(path, first, layout)
    if header != layout.header(first):
        raise ValueError(f"the header of {path} is torn, or of other spaces")
    rows, torn = _complete_rows(data, layout)
    broken = next((index for index, row in enumerate(rows) if not _is_intact(row, first + index)), None)
    if broken is not None or torn:
        raise ValueError(f"row {first + (len(rows) if broken is None else broken)} of {path} is torn")
    return np.ascontiguousarray(rows[:, -_CHECKSUM_BYTES:]).view("<u4")[:, 0]


def rows_per_chunk(chunk_size: int, num_envs: int) -> int:
    """Number of rows of ``num_envs`` records in a chunk of about ``chunk_size`` records, at least 1."""
    return max(1, chunk_size // num_envs)


def capacity_in_rows(layout: Layout, capacity: int, capacity_bytes: int | None) -> int:
    """Maximum number of rows within ``capacity`` records and ``capacity_bytes`` bytes, if given.

    Raises:
        ValueError: a limit is too small for a single row.
    """
    rows = capacity // layout.num_envs
    if capacity_bytes is not None:
        rows = min(rows, capacity_bytes // layout.row.itemsize)
    if rows < 1:
        raise ValueError(
            f"a replay of {capacity} records and {capacity_bytes} bytes cannot hold one step of {layout.num_envs} "
            f"environments ({layout.row.itemsize} bytes): raise --replay-capacity"
        )
    return rows


def _count_valid_rows(path: Path, first: int, layout: Layout) -> int:
    header, body = _header_and_body(path, first, layout)
    if header != layout.header(first):
        _refuse_other_layout(path, layout)
        if len(header) < len(layout.header(first)):
            log.warning("replay: dropped %s, whose header is torn", path)
            return 0
        # Rows have checksums of their own. If they are intact in this layout, so is the chunk.
        log.warning("replay: the header of %s is damaged; its rows are read by their own checksums", path)
    rows, _ = _complete_rows(body, layout)
    valid = next((index for index, row in enumerate(rows) if not _is_intact(row, first + index)), len(rows))
    torn = len(body) - valid * layout.row.itemsize
    if torn:
        log.warning("replay: dropped the last %d bytes of %s, which are torn; %d rows are intact", torn, path, valid)
    return valid


def _header_and_body(path: Path, first: int, layout: Layout) -> tuple[bytes, np.ndarray]:
    """What stands in the header's place, and the bytes after it."""
    data = np.memmap(path, np.uint8, mode="r") if path.stat().st_size else np.zeros(0, np.uint8)
    length = len(layout.header(first))
    return data[:length].tobytes(), data[length:]


def _complete_rows(body: np.ndarray, layout: Layout) -> tuple[np.ndarray, int]:
    """The complete rows ``[rows, bytes]`` of a chunk's body, and the number of bytes after them."""
    size = layout.row.itemsize
    number = len(body) // size
    return body[: number * size].reshape(number, size), len(body) % size


def _refuse_other_layout(path: Path, layout: Layout) -> None:
    data = path.read_bytes()
    if len(data) < _PREFIX.size:
        return
    magic, length, checksum = _PREFIX.unpack(data[: _PREFIX.size])
    text = data[_PREFIX.size : _PREFIX.size + length]
    if magic != _MAGIC or zlib.crc32(text) != checksum:
        return
    found, wanted = json.loads(text), json.loads(layout.header(0)[_PREFIX.size :])
    keys = ("format", "num_envs", "fields")
    differences = [f"{key} {found.get(key)}, asked for {wanted[key]}" for key in keys if found.get(key) != wanted[key]]
    if not differences:
        return
    raise ReplayLayoutError(
        f"{path} was written with another layout: {'; '.join(differences)}. "
        "Use another run directory, or the task and the number of environments that this one was started with."
    )


def _checksum(row: np.ndarray, number: int) -> int:
    # The CRC starts from the row's number, so it also detects an intact row in the wrong place.
    return zlib.crc32(row[:-_CHECKSUM_BYTES].data, number & 0xFFFFFFFF)


def _is_intact(row: np.ndarray, number: int) -> bool:
    return _checksum(row, number) == int.from_bytes(row[-_CHECKSUM_BYTES:].tobytes(), "little")


def sync_directory(directory: Path) -> None:
    """Makes the creation, renaming or deletion of files in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _disk_error(directory: Path, error: OSError) -> ReplayDiskError:
    return ReplayDiskError(
        error.errno,
        f"cannot write the replay: {error.strerror}. Everything saved before is intact. Make room on this disk and "
        "repeat the command, which resumes the run; or start a run with a smaller --replay-capacity or on another disk",
        str(directory),
    )
