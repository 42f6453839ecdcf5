"""A replay on disk that samples uniform windows of experience.

Rows, records, streams, windows and spans are those of :mod:`prudence.data.windows`. Rows are numbered from 0 over the
whole run. A *gap* is a missing row: the tail was lost in a crash, or a chunk is torn. No window crosses a gap.

What is sampled depends only on the rows held and on the sampler's state. A resumed run therefore equals an
uninterrupted one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from prudence.data.chunks import (
    Chunk,
    Fields,
    Layout,
    OpenChunk,
    capacity_in_rows,
    rows_per_chunk,
    scan_chunks,
    sync_directory,
)
from prudence.data.windows import Span, Streams, Windows, batch_axes, flatten, gather, intersect, join, merge
from prudence.types import Batch, Spaces, Transition

log = logging.getLogger(__name__)


class Replay:
    """A disk-backed replay of E parallel streams.

    Args:
        directory: holds the chunks. The replay continues with the chunks that are already there.
        spaces: determine the fields of a record.
        num_envs: E, number of environments.
        capacity: maximum number of records (decisions). The oldest are dropped first.
        capacity_bytes: a second limit, on the bytes of the records.
        recent: probability that a window is chosen from the newest ``window`` records. Otherwise it is chosen from all.
        window: number of newest records that ``recent`` means.
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
        recent: float = 0.0,
        window: int = 0,
        seed: int,
        chunk_size: int = 1024,
    ):
        self.directory = Path(directory)
        self.spaces = spaces
        self._layout = Layout.of(spaces, num_envs)
        self._capacity = capacity_in_rows(self._layout, capacity, capacity_bytes)
        self._recent, self._window = recent, window // num_envs
        self._chunk_rows = rows_per_chunk(chunk_size, num_envs)
        self._rng = np.random.default_rng(seed)
        self._pins: dict[int, int] = {}
        """The first row that each restorable state needs, by the state's next row."""
        self.directory.mkdir(parents=True, exist_ok=True)
        chunks = scan_chunks(self.directory, self._layout)
        self._streams = Streams(self._layout, chunks, _rows(chunks))
        # Leaves a gap after the rows that were found, because steps after them may have been lost.
        self._next = self._streams.spans[-1][1] + 1 if chunks else 0
        self._give_up_oldest()

    # ---- writing -----------------------------------------------------------------------------------------------

    def add(self, transition: Transition) -> None:
        """Appends one step of all environments (axes ``[E, ...]``). First steps of episodes are appended, too.

        Raises:
            ValueError: the shape of an array does not match the spaces.
            TypeError: the dtype of an array does not match the spaces.
            ReplayDiskError: a full chunk could not be written. The step was not added.
        """
        values, streams = flatten(transition), self._streams
        self._check(values)
        if streams.filling is not None and streams.filling.is_full:
            self._seal()
        if streams.filling is None:
            streams.filling = OpenChunk(self.directory, self._layout, self._next, self._chunk_rows)
        streams.filling.append(values)
        streams.spans[-1:] = join([*streams.spans[-1:], (self._next, self._next + 1)])
        self._next += 1
        self._give_up_oldest()
        self._delete_unneeded()

    def interrupt(self) -> None:
        """Leaves a gap: the next step does not follow from the last one, and no window spans both.

        So it is if environments could not be restored, and were reset in the middle of an episode.

        Raises:
            ReplayDiskError: a chunk could not be written.
        """
        if self._streams.filling is not None:
            self._seal()
        self._next += 1

    def flush(self) -> None:
        """Writes every record durably to the disk.

        Raises:
            ReplayDiskError: the disk is full or failed. Records that were durable before are intact.
        """
        if self._streams.filling is not None:
            self._streams.filling.write()

    def clear(self) -> None:
        """Deletes every record. The sampler keeps its state."""
        self._drop_from(0)
        self._streams.spans, self._pins, self._next = [], {}, 0

    # ---- sampling ----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of records held."""
        return len(self._streams)

    def num_windows(self, length: int) -> int:
        """Number of windows of ``length`` steps in the replay."""
        return self._streams.num_windows(length)

    def ready(self, length: int) -> bool:
        """Whether the replay holds a window of ``length`` steps."""
        return self.num_windows(length) > 0

    def sample(self, batch_size: int, length: int) -> Batch:
        """Samples windows ``[B, T, ...]``, T = ``length``. Equals ``gather(draw(batch_size, length))``.

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
        if not self.ready(length):
            raise ValueError(
                f"the replay holds no {length} consecutive steps yet ({len(self)} records of "
                f"{self._layout.num_envs} environments): collect more before sampling, or sample shorter windows"
            )
        shape = batch_axes(batch_size, updates)
        newest = self._streams.over(intersect(self._streams.spans, [(self._next - self._window, self._next)]))
        if not self._recent or not newest.num_windows(length):
            return self._streams.draw(self._rng, shape, length)
        recent = self._rng.random(int(np.prod(shape))) < self._recent
        parts = ((newest, np.flatnonzero(recent)), (self._streams, np.flatnonzero(~recent)))
        return merge(shape, [(of.draw(self._rng, where.shape, length), where.tolist()) for of, where in parts])

    def newest(self, number: int, length: int) -> Batch:
        """The newest ``number`` windows ``[B, T, ...]`` that do not overlap, or fewer if the replay holds fewer.

        The sampler keeps its state.

        Raises:
            ValueError: the replay holds no window of this length.
        """
        places = self._streams.apart(length)[:number]
        if not places:
            raise ValueError(f"the replay in {self.directory} holds no {length} consecutive steps")
        return self.gather(self._streams.at(places, length, (len(places),)))

    def recorded(self) -> Batch:
        """Every record that is held, ``[E, T, ...]``. ``is_first`` is also set where the row before is missing.

        Raises:
            ValueError: the replay holds nothing.
        """
        if not self._streams.spans:
            raise ValueError(f"the replay in {self.directory} holds no steps")
        envs, spans = range(self._layout.num_envs), []
        for start, stop in self._streams.spans:
            span = self.gather(self._streams.at([(env, start) for env in envs], stop - start, (len(envs),)))
            span.is_first[:, 0] = True
            spans.append(span)
        return jax.tree.map(lambda *parts: np.concatenate(parts, 1), *spans)

    def gather(self, windows: Windows) -> Batch:
        """Reads the windows that ``draw`` chose, as a batch of new arrays ``[*windows.shape, T, ...]``.

        Another thread may call ``add`` meanwhile. Records never change, and the windows stay readable even after the
        replay has dropped their records.
        """
        return gather(self._layout, windows)

    def episodes(self) -> Iterator[Transition]:
        """Every episode that is held whole, ``[T + 1, ...]``, one environment's after another's."""
        for env, (first, stop) in self._streams.whole_episodes():
            yield self.gather(self._streams.at([(env, first)], stop - first, ()))

    # ---- resuming ----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Flushes, and returns the state for a checkpoint (JSON-able).

        Nothing that the state refers to is deleted before ``commit``.
        """
        self.flush()
        self._pins[self._next] = self._start
        return {
            "next": self._next,
            "spans": [list(span) for span in self._streams.spans],
            "rng": self._rng.bit_generator.state,
        }

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
        self._streams.spans = intersect(_rows(self._streams.chunks), wanted)
        missing = sum(stop - start for start, stop in wanted) - len(self._streams) // self._layout.num_envs
        if missing:
            log.warning("replay: %s lacks %d steps of the checkpoint; continuing without them", self.directory, missing)
        self._next = cursor
        self._rng.bit_generator.state = state["rng"]
        self._pins = {cursor: self._start}
        self._give_up_oldest()

    # ---- inside ------------------------------------------------------------------------------------------------

    @property
    def _start(self) -> int:
        return self._streams.spans[0][0] if self._streams.spans else self._next

    def _check(self, values: Fields) -> None:
        for name, _, shape in self._layout.fields:
            wanted = (self._layout.num_envs, *shape)
            if name not in values or np.shape(values[name]) != wanted:
                found = np.shape(values[name]) if name in values else "nothing"
                raise ValueError(f"replay: expected {name} of shape {wanted}, got {found}")

    def _seal(self) -> None:
        filling = self._streams.filling
        assert filling is not None
        filling.write()
        self._streams.chunks.append(Chunk(filling.path, filling.first, filling.rows))
        self._streams.filling = None

    def _give_up_oldest(self) -> None:
        spans, start = self._streams.spans, self._next - self._capacity
        while spans and spans[0][1] <= start:
            spans.pop(0)
        if spans:
            spans[0] = (max(start, spans[0][0]), spans[0][1])

    def _delete_unneeded(self) -> None:
        needed, chunks = min([*self._pins.values(), self._start]), self._streams.chunks
        while chunks and chunks[0].stop <= needed:
            chunks.pop(0).path.unlink(missing_ok=True)
            self._streams.forget_maps()

    def _drop_from(self, cursor: int) -> None:
        """Deletes the rows from number ``cursor`` on."""
        if self._streams.filling is not None:
            self._seal()
        chunks = self._streams.chunks
        while chunks and chunks[-1].first >= cursor:
            chunks.pop().path.unlink(missing_ok=True)
        if chunks:
            last = chunks[-1]
            # The file keeps its length. Readers end a chunk where the next one begins.
            chunks[-1] = Chunk(last.path, last.first, min(last.rows, cursor - last.first))
        self._streams.forget_maps()
        sync_directory(self.directory)


def _rows(chunks: list[Chunk]) -> list[Span]:
    return join((chunk.first, chunk.stop) for chunk in chunks)
