"""Experience on disk, and uniform windows of it.

A *row* is one step of E environments, numbered from 0 for the life of a run; a *record* is one environment's part
of it. Environment e's records form one stream. A *window* is T consecutive records of one stream. Every window has
the same probability, so the first and the last step of every episode are reached like any other; a window may
cross from one episode into the next, where ``is_first`` marks the border.

Where a row is missing (a tail lost in a crash, a torn chunk) is a *gap*, and no window bridges it.

What is sampled depends on the rows held and on the sampler's state alone, never on how rows are spread over chunks
or when they were written: that is what lets a resumed run equal an uninterrupted one.
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

# Each map holds a file descriptor, and systems commonly grant 1024 to a process.
_MAX_MAPS = 256


@dataclass(frozen=True)
class _Piece:
    """Rows ``begin`` to ``end`` of ``fields``, environment ``env``: part of window ``window``, from its step ``at``."""

    fields: Fields
    begin: int
    end: int
    env: int
    window: int
    at: int


@dataclass(frozen=True)
class Windows:
    """Windows that ``Replay.draw`` chose: batch axes ``shape``, each ``length`` steps long."""

    shape: tuple[int, ...]
    length: int
    pieces: tuple[_Piece, ...]


class Replay:
    """A disk-backed replay of E parallel streams.

    Args:
        directory: where the chunks live; whatever it holds already is taken up again.
        spaces: what a record consists of.
        num_envs: E.
        capacity: records (decisions) to hold; the oldest are given up first.
        capacity_bytes: a second limit, on the bytes of the records held.
        seed: of the sampler.
        chunk_size: records in a file. It bounds what a crash can lose (the tail that was not written yet) and the
            memory of the tail; it has no influence on what is sampled.

    Raises:
        ReplayLayoutError: the directory holds a replay of other spaces or another E.
        ValueError: a limit leaves no room for a single row.
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
        """By the moment of each state that may be restored (its next row): the first row it holds."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._chunks: list[Chunk] = scan_chunks(self.directory, self._layout)
        self._open: OpenChunk | None = None
        self._spans = _join(self._chunks)
        # Not contiguous with what was found: steps after it may have been lost.
        self._next = self._spans[-1][1] + 1 if self._spans else 0
        self._give_up_oldest()

    # ---- writing -----------------------------------------------------------------------------------------------

    def add(self, transition: Transition) -> None:
        """Appends one step of all environments (axes ``[E, ...]``), the first steps of episodes included.

        Raises:
            ValueError: an array has another shape than the spaces say; TypeError: another kind of dtype.
            ReplayDiskError: a full chunk could not be written; the step was not added.
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
        """Makes every record durable.

        Raises:
            ReplayDiskError: the disk is full or failed; what was durable before still is.
        """
        if self._open is not None:
            self._open.write()

    def clear(self) -> None:
        """Forgets and deletes every record; the sampler's state stays."""
        self._drop_from(0)
        self._spans, self._pins, self._next = [], {}, 0

    # ---- sampling ----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Records held."""
        return self._layout.num_envs * sum(stop - start for start, stop in self._spans)

    def num_windows(self, length: int) -> int:
        """How many windows of ``length`` steps the replay holds."""
        return self._layout.num_envs * sum(max(0, stop - start - length + 1) for start, stop in self._spans)

    def ready(self, length: int) -> bool:
        """Whether ``sample(..., length)`` has anything to choose from."""
        return self.num_windows(length) > 0

    def sample(self, batch_size: int, length: int) -> Batch:
        """Uniform windows ``[B, T, ...]``, T = ``length``; the same as ``gather(draw(batch_size, length))``.

        ``is_first`` is returned as recorded: the first step of a window need not be the first of an episode, and
        it is for the model to start from its initial state there.

        Raises:
            ValueError: no window of this length exists yet (ask ``ready``).
        """
        return self.gather(self.draw(batch_size, length))

    def draw(self, batch_size: int, length: int, updates: int | None = None) -> Windows:
        """Chooses windows, which advances the sampler; ``gather`` reads them, at any time and from any thread.

        With ``updates`` the batch has axes ``[U, B, T, ...]``, U = ``updates``; else ``[B, T, ...]``.
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
        """The newest ``number`` windows ``[B, T, ...]`` (fewer if there are fewer) that do not overlap; the sampler's
        state stays as it is.

        Raises:
            ValueError: there is none.
        """
        spans = [range(stop - length, start - 1, -length) for start, stop in reversed(self._spans)]
        places = [(env, row) for span in spans for row in span for env in range(self._layout.num_envs)][:number]
        if not places:
            raise ValueError(f"the replay in {self.directory} holds no {length} consecutive steps")
        pieces = [p for window, (env, row) in enumerate(places) for p in self._locate(window, env, row, length)]
        return self.gather(Windows((len(places),), length, tuple(pieces)))

    def gather(self, windows: Windows) -> Batch:
        """Reads the windows that ``draw`` chose: a batch of fresh arrays ``[*windows.shape, T, ...]``.

        Safe beside ``add`` in another thread: records never change, and what the windows need stays readable even
        once the replay has given it up.
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
        """What a checkpoint stores (JSON-able), after ``flush``. Until ``commit`` nothing it refers to is deleted."""
        self.flush()
        self._pins[self._next] = self._start
        return {"next": self._next, "spans": [list(span) for span in self._spans], "rng": self._rng.bit_generator.state}

    def commit(self, keep: int = 2) -> None:
        """To be called once the checkpoint with the last ``state`` is durable: deletes the chunks that neither the
        replay nor the ``keep`` latest states need. ``keep`` is the number of checkpoints that may be resumed from.
        """
        self._pins = dict(list(self._pins.items())[-keep:])
        self._delete_unneeded()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Returns to the moment of ``state``: whatever was added since is deleted, and the sampler goes on from there.

        Rows that the state knew and that are gone (someone deleted files) become a gap, with a warning.
        """
        cursor = int(state["next"])
        self._drop_from(cursor)
        wanted = [(int(start), int(stop)) for start, stop in state["spans"]]
        self._spans = _intersect(_join(self._chunks), wanted)
        missing = sum(stop - start for start, stop in wanted) - sum(stop - start for start, stop in self._spans)
        if missing:
            log.warning("replay: %s lacks %d steps that the checkpoint knew; going on without", self.directory, missing)
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
            # The file stays as it is: a chunk ends where the next one begins.
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
