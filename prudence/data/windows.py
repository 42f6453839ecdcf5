"""Windows of rows: what a replay and a dataset sample.

A *row* is one step of E environments, and a *record* is one environment's part of it. The records of environment e
form one *stream*. A *window* is T consecutive records of one stream. A *span* is a run of consecutive rows, and a
window lies in one span: none crosses from one span into another. Every window has the same probability, so the first
and the last step of an episode are sampled like any other step. A window may cross from one episode into the next;
``is_first`` marks the border.

What is sampled depends only on the spans and on the random generator. It does not depend on how rows are spread over
chunks or when they were written.
"""

from __future__ import annotations

import bisect
import copy
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prudence.data.chunks import Chunk, Fields, Layout, OpenChunk, map_chunk
from prudence.types import Batch, Transition

# Each memory map holds a file descriptor, and a process often has at most 1024 of them.
_MAX_MAPS = 256

Span = tuple[int, int]
"""The first row of a run of rows, and the row after its last."""


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
    """Chosen windows, which stay readable even after their rows were dropped.

    Attributes:
        shape: batch axes.
        length: T, steps of each window.
        pieces: parts of chunks that make up the windows.
    """

    shape: tuple[int, ...]
    length: int
    pieces: tuple[_Piece, ...]


class Streams:
    """E streams of rows, and the windows in them. It reads; whoever owns it writes chunks and changes the attributes.

    Attributes:
        layout: the fields of a row.
        chunks: chunks on disk, in the order of their rows.
        spans: the runs of rows that windows lie in, in order.
        filling: the chunk that follows ``chunks`` and is in memory; None if there is none.
    """

    def __init__(self, layout: Layout, chunks: list[Chunk], spans: list[Span]):
        self.layout, self.chunks, self.spans = layout, chunks, spans
        self.filling: OpenChunk | None = None
        self._map = functools.lru_cache(_MAX_MAPS)(functools.partial(map_chunk, layout=layout))

    def over(self, spans: list[Span]) -> Streams:
        """The same chunks, and other spans."""
        other = copy.copy(self)
        other.spans = spans
        return other

    def __len__(self) -> int:
        """Number of records."""
        return self.layout.num_envs * sum(stop - start for start, stop in self.spans)

    def forget_maps(self) -> None:
        """Closes the memory maps that no windows need: a map keeps the disk space of a deleted file."""
        self._map.cache_clear()

    def num_windows(self, length: int) -> int:
        """Number of windows of ``length`` steps."""
        return self.layout.num_envs * sum(max(0, stop - start - length + 1) for start, stop in self.spans)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], length: int) -> Windows:
        """Chooses windows uniformly. There must be one; see :meth:`num_windows`."""
        total = self.num_windows(length)
        chosen = rng.integers(total, size=int(np.prod(shape)))
        envs, offsets = np.divmod(chosen, total // self.layout.num_envs)
        return self.at(zip(envs.tolist(), self._rows_of(offsets, length).tolist(), strict=True), length, shape)

    def apart(self, length: int) -> list[tuple[int, int]]:
        """Environment and first row of windows that do not overlap, from the last row backwards."""
        spans = [range(stop - length, start - 1, -length) for start, stop in reversed(self.spans)]
        return [(env, row) for span in spans for row in span for env in range(self.layout.num_envs)]

    def at(self, places: Iterable[tuple[int, int]], length: int, shape: tuple[int, ...]) -> Windows:
        """The windows that begin at these places, each an environment and a row."""
        pieces = [p for window, (env, row) in enumerate(places) for p in self._locate(window, env, row, length)]
        return Windows(shape, length, tuple(pieces))

    def column(self, field: str, env: int, span: Span) -> np.ndarray:
        """A field of one environment's records in a span, ``[rows, ...]``, without the others being read."""
        pieces = self._locate(0, env, span[0], span[1] - span[0])
        return np.concatenate([piece.fields[field][piece.begin : piece.end, env] for piece in pieces])

    def whole_episodes(self) -> Iterator[tuple[int, Span]]:
        """The environment and the rows of every episode that is held whole, one stream after another."""
        for env in range(self.layout.num_envs):
            for start, stop in self.spans:
                firsts = start + np.flatnonzero(self.column("is_first", env, (start, stop)))
                lasts = start + np.flatnonzero(self.column("is_last", env, (start, stop)))
                for first, following in zip(firsts, [*firsts[1:], stop], strict=True):
                    for last in lasts[(lasts > first) & (lasts < following)][:1]:
                        yield env, (int(first), int(last) + 1)

    def _rows_of(self, offsets: np.ndarray, length: int) -> np.ndarray:
        """The first row of the ``offsets``-th window of a stream."""
        starts = np.array([start for start, _ in self.spans])
        counts = np.array([max(0, stop - start - length + 1) for start, stop in self.spans])
        ends = np.cumsum(counts)
        span = np.searchsorted(ends, offsets, side="right")
        return starts[span] + offsets - (ends - counts)[span]

    def _locate(self, window: int, env: int, row: int, length: int) -> list[_Piece]:
        pieces = []
        at = 0
        index = bisect.bisect_right(self.chunks, row, key=lambda chunk: chunk.first) - 1
        while at < length:
            sealed = 0 <= index < len(self.chunks) and row + at < self.chunks[index].stop
            chunk = self.chunks[index] if sealed else self.filling
            assert chunk is not None, "spans name rows that no chunk holds"
            fields = self._map(chunk) if isinstance(chunk, Chunk) else chunk.fields
            begin = row + at - chunk.first
            end = min(begin + length - at, chunk.rows)
            pieces.append(_Piece(fields, begin, end, env, window, at))
            at += end - begin
            index += 1
        return pieces


def merge(shape: tuple[int, ...], parts: Iterable[tuple[Windows, Sequence[int]]]) -> Windows:
    """One set of windows from several of equal length. The i-th window of a part gets the i-th of its places.

    Args:
        shape: batch axes of all windows.
        parts: windows, and their places in the flattened ``shape``. Every place is named once.
    """
    pieces, lengths = [], set()
    for windows, places in parts:
        lengths.add(windows.length)
        pieces += [replace(piece, window=int(places[piece.window])) for piece in windows.pieces]
    (length,) = lengths
    return Windows(shape, length, tuple(pieces))


def gather(layout: Layout, windows: Windows) -> Batch:
    """Reads windows as a batch of new arrays ``[*windows.shape, T, ...]``, at any time and from any thread."""
    number = int(np.prod(windows.shape))
    batch = {name: np.empty((number, windows.length, *shape), dtype) for name, dtype, shape in layout.fields}
    for piece in windows.pieces:
        end = piece.at + piece.end - piece.begin
        for name, target in batch.items():
            target[piece.window, piece.at : end] = piece.fields[name][piece.begin : piece.end, piece.env]
    return unflatten({name: array.reshape(*windows.shape, *array.shape[1:]) for name, array in batch.items()})


def batch_axes(batch_size: int, updates: int | None) -> tuple[int, ...]:
    """The axes of a batch before T: ``[B]``, or ``[U, B]`` with U = ``updates``."""
    return (batch_size,) if updates is None else (updates, batch_size)


def join(runs: Iterable[Span]) -> list[Span]:
    """Maximal spans of rows of runs that are in order.

    >>> join([(0, 3), (3, 5), (7, 8)])
    [(0, 5), (7, 8)]
    """
    spans: list[Span] = []
    for start, stop in runs:
        if spans and spans[-1][1] == start:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((start, stop))
    return spans


def intersect(held: Sequence[Span], wanted: Sequence[Span]) -> list[Span]:
    """The rows that are in both."""
    pairs = [(max(a, c), min(b, d)) for a, b in held for c, d in wanted]
    return sorted((start, stop) for start, stop in pairs if start < stop)


def flatten(transition: Transition) -> Fields:
    """The fields of a row, by the names of a layout."""
    values = transition._asdict()
    observation = values.pop("observation")
    return {**values, **{f"observation/{name}": value for name, value in observation.items()}}


def unflatten(values: Fields) -> Transition:
    """The inverse of :func:`flatten`."""
    observation = {name.split("/", 1)[1]: array for name, array in values.items() if name.startswith("observation/")}
    return Transition(observation=observation, **{k: v for k, v in values.items() if not k.startswith("observation/")})
