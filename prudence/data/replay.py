"""A replay on disk that samples uniform windows of experience.

A *row* is one step of E environments. Rows are numbered from 0 over the whole run. A *record* is one environment's part
of a row. The records of environment e form one stream. A *window* is T consecutive records of one stream. Every window
has the same probability, so the first and the last step of an episode are sampled like any other step. A window may
cross from one episode into the next; ``is_first`` marks the border.

A *gap* is a missing row: the tail was lost in a crash, or a chunk is torn. No window crosses a gap.

What is sampled depends only on the rows held and on the sampler's state. It does not depend on how rows are spread over
chunks or when they were written. A resumed run therefore equals an uninterrupted one.
"""

from __future__ import annotations

import bisect
import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prudence.data.chunks import (
    Chunk,
    Fields,
    Layout,
    OpenChunk,
    capacity_in_rows,
    map_chunk,
    rows_per_chunk,
    scan_chunks,
    sync_directory,
)
from prudence.types import Batch, Spaces, Transition

log = logging.getLogger(__name__)

# Each memory map holds a file descriptor, and a process often has at most 1024 of them.
_MAX_MAPS = 256


@dataclass(frozen=True)
class _Piece:
    """Part of window ``window``, from its step ``at`` on: rows ``begin`` to ``end`` of ``fields`` and ``env``."""

    fields: Fields
    begin: int
    end: int
    env: int
    window: int
    at: int


@dataclass(frozen=True)
class Windows:
    """Windows that ``Replay.draw`` chose.

    Attributes:
        shape: batch axes.
        length: T, steps of each window.
        pieces: parts of chunks that make up the windows.
    """

    shape: tuple[int, ...]
    length: int
    pieces: tuple[_Piece, ...]


class Replay:
    """A disk-backed replay of E parallel streams.

    Args:
        directory: holds the chunks. The replay continues with the chunks that are already there.
        spaces: determine the fields of a record.
        num_envs: E, number of environments.
        capacity: maximum number of records (decisions). The oldest are dropped first.
        capacity_bytes: a second limit, on the bytes of the records.
        seed: seed of the sampler.
        chunk_size: records in a file. The chunk being filled is in memory, and a crash loses its unwritten rows, so
            this bounds both. It has no influence on what is sampled.

    Raises:
        ReplayLayoutError: the directory holds a replay of other spaces or another E.
        ValueError: a limit is too small for a single row.
    """

    def __init__(
        self,
        directory: Path,
        spaces: Spaces,
        num_envs: int,
        *,
        capacity: int,
        capacity_bytes: int | None = None,
        seed: int,
        chunk_size: int = 1024,
    ):
        self.directory = Path(directory)
        self._spaces = spaces
        self._layout = Layout.of(spaces, num_envs)
        self._capacity = capacity_in_rows(self._layout, capacity, capacity_bytes)
        self._chunk_rows = rows_per_chunk(chunk_size, num_envs)
        self._rng = np.random.default_rng(seed)
        self._map = functools.lru_cache(_MAX_MAPS)(functools.partial(map_chunk, layout=self._layout))
        self._pins: dict[int, int] = {}
        """The first row that each restorable state needs, by the state's next row."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._chunks: list[Chunk] = scan_chunks(self.directory, self._layout)
        self._open: OpenChunk | None = None
        self._spans = _join(self._chunks)
        # Leaves a gap after the rows that were found, because steps after them may have been lost.
        self._next = self._spans[-1][1] + 1 if self._spans else 0
        self._give_up_oldest()

    # ---- writing -----------------------------------------------------------------------------------------------

    def add(self, transition: Transition) -> None:
        """Appends one step of all environments (axes ``[E, ...]``). First steps of episodes are appended, too.

        Raises:
            ValueError: the shape of an array does not match the spaces.
            TypeError: the dtype of an array does not match the spaces.
            ReplayDiskError: a full chunk could not be written. The step was not added.
        """
        values = _flatten(transition)
        self._check(values)
        if self._open is not None and self._open.is_full:
            self._seal()
        if self._open is None:
            self._open = OpenChunk(self.directory, self._layout, self._next, self._chunk_rows)
        self._open.append(values)
        if self._spans and self._spans[-1][1] == self._next:
            self._spans[-1] = (self._spans[-1][0], self._next + 1)
        else:
            self._spans.append((self._next, self._next + 1))
        self._next += 1
        self._give_up_oldest()
        self._delete_unneeded()

    def flush(self) -> None:
        """Writes every record durably to the disk.

        Raises:
            ReplayDiskError: the disk is full or failed. Records that were durable before are intact.
        """
        if self._open is not None:
            self._open.write()

    def clear(self) -> None:
        """Deletes every record. The sampler keeps its state."""
        self._drop_from(0)
        self._spans, self._pins, self._next = [], {}, 0

    # ---- sampling ----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of records held."""
        return self._layout.num_envs * sum(stop - start for start, stop in self._spans)

    def num_windows(self, length: int) -> int:
        """Number of windows of ``length`` steps in the replay."""
        return self._layout.num_envs * sum(max(0, stop - start - length + 1) for start, stop in self._spans)

    def ready(self, length: int) -> bool:
        """Whether the replay holds a window of ``length`` steps."""
        return self.num_windows(length) > 0

    def sample(self, batch_size: int, length: int) -> Batch:
        """Samples windows ``[B, T, ...]`` uniformly, T = ``length``. Equals ``gather(draw(batch_size, length))``.

        ``is_first`` is as recorded, so the first step of a window is often not ``is_first``. The model has to start
        from its initial state there anyway.

        Raises:
            ValueError: the replay holds no window of this length yet; see ``ready``.
        """
        return self.gather(self.draw(batch_size, length))

    def draw(self, batch_size: int, length: int, updates: int | None = None) -> Windows:
        """Chooses windows and advances the sampler. ``gather`` reads them, at any time and from any thread.

        The batch has axes ``[B, T, ...]``, or ``[U, B, T, ...]`` with U = ``updates``.

        Raises:
            ValueError: the replay holds no window of this length yet; see ``ready``.
        """
        total = self.num_windows(length)
        if total == 0:
            raise ValueError(
                f"the replay holds no {length} consecutive steps yet ({len(self)} records of "
                f"{self._layout.num_envs} environments): collect more before sampling, or sample shorter windows"
            )
        shape = (batch_size,) if updates is None else (updates, batch_size)
        chosen = self._rng.integers(total, size=int(np.prod(shape)))
        envs, offsets = np.divmod(chosen, total // self._layout.num_envs)
        pieces: list[_Piece] = []
        for window, (env, row) in enumerate(zip(envs.tolist(), self._rows_of(offsets, length).tolist(), strict=True)):
            pieces.extend(self._locate(window, env, row, length))
        return Windows(shape, length, tuple(pieces))

    def newest(self, number: int, length: int) -> Batch:
        """The newest ``number`` windows ``[B, T, ...]`` that do not overlap, or fewer if the replay holds fewer.

        The sampler keeps its state.

        Raises:
            ValueError: the replay holds no window of this length.
        """
        spans = [range(stop - length, start - 1, -length) for start, stop in reversed(self._spans)]
        places = [(env, row) for span in spans for row in span for env in range(self._layout.num_envs)][:number]
        if not places:
            raise ValueError(f"the replay in {self.directory} holds no {length} consecutive steps")
        pieces = [p for window, (env, row) in enumerate(places) for p in self._locate(window, env, row, length)]
        return self.gather(Windows((len(places),), length, tuple(pieces)))

    def gather(self, windows: Windows) -> Batch:
        """Reads the windows that ``draw`` chose, as a batch of new arrays ``[*windows.shape, T, ...]``.

        Another thread may call ``add`` meanwhile. Records never change, and the windows stay readable even after the
        replay has dropped their records.
        """
        number = int(np.prod(windows.shape))
        batch = {name: np.empty((number, windows.length, *shape), dtype) for name, dtype, shape in self._layout.fields}
        for piece in windows.pieces:
            end = piece.at + piece.end - piece.begin
            for name, target in batch.items():
                target[piece.window, piece.at : end] = piece.fields[name][piece.begin : piece.end, piece.env]
        return _unflatten({name: array.reshape(*windows.shape, *array.shape[1:]) for name, array in batch.items()})

    # ---- resuming ----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Flushes, and returns the state for a checkpoint (JSON-able).

        Nothing that the state refers to is deleted before ``commit``.
        """
        self.flush()
        self._pins[self._next] = self._start
        return {"next": self._next, "spans": [list(span) for span in self._spans], "rng": self._rng.bit_generator.state}

    def commit(self, keep: int = 2) -> None:
        """Deletes the chunks that neither the replay nor the ``keep`` latest states need.

        Call it when the checkpoint with the last ``state`` is durable. ``keep`` is the number of checkpoints from which
        a run can resume.
        """
        self._pins = dict(list(self._pins.items())[-keep:])
        self._delete_unneeded()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores ``state``: deletes all rows that were added after it, and restores the sampler.

        Rows of the state that are missing (somebody deleted files) become a gap, with a warning.
        """
        cursor = int(state["next"])
        self._drop_from(cursor)
        wanted = [(int(start), int(stop)) for start, stop in state["spans"]]
        self._spans = _intersect(_join(self._chunks), wanted)
        missing = sum(stop - start for start, stop in wanted) - sum(stop - start for start, stop in self._spans)
        if missing:
            log.warning("replay: %s lacks %d steps of the checkpoint; continuing without them", self.directory, missing)
        self._next = cursor
        self._rng.bit_generator.state = state["rng"]
        self._pins = {cursor: self._start}
        self._give_up_oldest()

    # ---- inside ------------------------------------------------------------------------------------------------

    @property
    def _start(self) -> int:
        return self._spans[0][0] if self._spans else self._next

    def _check(self, values: Fields) -> None:
        for name, _, shape in self._layout.fields:
            wanted = (self._layout.num_envs, *shape)
            if name not in values or np.shape(values[name]) != wanted:
                found = np.shape(values[name]) if name in values else "nothing"
                raise ValueError(f"replay: expected {name} of shape {wanted}, got {found}")

    def _rows_of(self, offsets: np.ndarray, length: int) -> np.ndarray:
        """The first row of the ``offsets``-th window of a stream."""
        starts = np.array([start for start, _ in self._spans])
        counts = np.array([max(0, stop - start - length + 1) for start, stop in self._spans])
        ends = np.cumsum(counts)
        span = np.searchsorted(ends, offsets, side="right")
        return starts[span] + offsets - (ends - counts)[span]

    def _locate(self, window: int, env: int, row: int, length: int) -> list[_Piece]:
        pieces = []
        at = 0
        index = bisect.bisect_right(self._chunks, row, key=lambda chunk: chunk.first) - 1
        while at < length:
            sealed = 0 <= index < len(self._chunks) and row + at < self._chunks[index].stop
            chunk = self._chunks[index] if sealed else self._open
            assert chunk is not None, "spans name rows that no chunk holds"
            fields = self._map(chunk) if isinstance(chunk, Chunk) else chunk.fields
            begin = row + at - chunk.first
            end = min(begin + length - at, chunk.rows)
            pieces.append(_Piece(fields, begin, end, env, window, at))
            at += end - begin
            index += 1
        return pieces

    def _seal(self) -> None:
        assert self._open is not None
        self._open.write()
        self._chunks.append(Chunk(self._open.path, self._open.first, self._open.rows))
        self._open = None

    def _give_up_oldest(self) -> None:
        start = self._next - self._capacity
        while self._spans and self._spans[0][1] <= start:
            self._spans.pop(0)
        if self._spans:
            self._spans[0] = (max(start, self._spans[0][0]), self._spans[0][1])

    def _delete_unneeded(self) -> None:
        needed = min([*self._pins.values(), self._start])
        while self._chunks and self._chunks[0].stop <= needed:
            self._chunks.pop(0).path.unlink(missing_ok=True)
            # A map would keep the disk space of the deleted file.
            self._map.cache_clear()

    def _drop_from(self, cursor: int) -> None:
        """Deletes the rows from number ``cursor`` on."""
        if self._open is not None:
            self._seal()
        while self._chunks and self._chunks[-1].first >= cursor:
            self._chunks.pop().path.unlink(missing_ok=True)
        if self._chunks:
            last = self._chunks[-1]
            # The file keeps its length. Readers end a chunk where the next one begins.
            self._chunks[-1] = Chunk(last.path, last.first, min(last.rows, cursor - last.first))
        self._map.cache_clear()
        sync_directory(self.directory)


def _join(chunks: list[Chunk]) -> list[tuple[int, int]]:
    """Maximal runs of consecutive rows, as (first, stop)."""
    spans: list[tuple[int, int]] = []
    for chunk in chunks:
        if spans and spans[-1][1] == chunk.first:
            spans[-1] = (spans[-1][0], chunk.stop)
        else:
            spans.append((chunk.first, chunk.stop))
    return spans


def _intersect(held: list[tuple[int, int]], wanted: list[tuple[int, int]]) -> list[tuple[int, int]]:
    pairs = [(max(a, c), min(b, d)) for a, b in held for c, d in wanted]
    return sorted((start, stop) for start, stop in pairs if start < stop)


def _flatten(transition: Transition) -> Fields:
    values = transition._asdict()
    observation = values.pop("observation")
    return {**values, **{f"observation/{name}": value for name, value in observation.items()}}


def _unflatten(values: Fields) -> Transition:
    observation = {name.split("/", 1)[1]: array for name, array in values.items() if name.startswith("observation/")}
    return Transition(observation=observation, **{k: v for k, v in values.items() if not k.startswith("observation/")})
