"""A dataset: whole episodes in an immutable directory, to learn from without an environment.

``dataset.json`` (:mod:`prudence.data.manifest`) lists the episodes and their sources. The chunks beside it are those of
a replay with one stream (:mod:`prudence.data.chunks`). An episode of T decisions has T + 1 rows: its first observation,
then what every decision led to. Episodes lie one after another, without gaps.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prudence.data.chunks import SUFFIX, Chunk, Layout, verified_checksums
from prudence.data.manifest import FILE, DatasetError, Episode, Manifest, Source, digest_of
from prudence.data.windows import Streams, Windows, batch_axes, gather, join
from prudence.types import Batch, Spaces, Transition


class Dataset:
    """Episodes on disk, or a view of some of them, with a sampler of windows.

    Reading changes nothing on the disk. A view (:meth:`select`, :meth:`hold_out`) has the same files and other
    episodes. A window may cross from an episode into the next one if they follow one another in the files. No window
    has a row of an episode that is not in the view.

    Args:
        directory: of the dataset.
        seed: seed of the sampler.

    Attributes:
        directory: of the dataset.
        manifest: of the whole dataset.
        episodes: of this view, in the order of their rows.

    Raises:
        DatasetError: there is no dataset, or it is not as it was written. All of its rows are read once to find out.
    """

    def __init__(self, directory: Path | str, *, seed: int | tuple[int, ...] = 0):
        self.directory = Path(directory).absolute()  # An environment may change the working directory.
        self.manifest = read_manifest(self.directory)
        layout = Layout.of(self.manifest.spaces, 1)
        chunks = _verified_chunks(self.directory, layout, self.manifest)
        self._streams = Streams(layout, chunks, [])
        self._seed = seed
        self._choose(self.manifest.episodes)

    @property
    def spaces(self) -> Spaces:
        return self.manifest.spaces

    @property
    def env(self) -> dict[str, Any] | None:
        """The configuration of the environment as JSON; None if nobody knows it."""
        return self.manifest.env

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def sources(self) -> tuple[Source, ...]:
        return self.manifest.sources

    @property
    def decisions(self) -> int:
        """Number of decisions in the episodes of this view."""
        return sum(episode.length for episode in self.episodes)

    # ---- views -------------------------------------------------------------------------------------------------

    def select(self, episodes: Iterable[int]) -> Dataset:
        """A view of the episodes with these indices into :attr:`episodes`. Its sampler begins anew."""
        view = copy.copy(self)
        view._streams = self._streams.over([])
        view._choose([self.episodes[index] for index in sorted(set(episodes))])
        return view

    def hold_out(self, share: float) -> tuple[Dataset, Dataset]:
        """Views of the episodes to learn from, and of those held out: the last ``share`` of each source's.

        A source of two or more episodes has at least one of them in each view, unless ``share`` is 0. The only episode
        of a source is learnt from.

        Raises:
            ValueError: ``share`` is not in [0, 1).
        """
        if not 0 <= share < 1:
            raise ValueError(f"a share of {share:g} cannot be held out: choose from 0 to below 1")
        held: set[int] = set()
        for source in range(len(self.sources)):
            own = [index for index, episode in enumerate(self.episodes) if episode.source == source]
            number = min(max(round(share * len(own)), 1 if share else 0), max(len(own) - 1, 0))
            held.update(own[len(own) - number :])
        return self.select(set(range(len(self.episodes))) - held), self.select(held)

    def _choose(self, episodes: Iterable[Episode]) -> None:
        self.episodes = tuple(episodes)
        self._streams.spans = join((episode.first_row, episode.stop) for episode in self.episodes)
        self._rng = np.random.default_rng(self._seed)

    # ---- sampling ----------------------------------------------------------------------------------------------

    def num_windows(self, length: int) -> int:
        """Number of windows of ``length`` steps."""
        return self._streams.num_windows(length)

    def ready(self, length: int) -> bool:
        """Whether there is a window of ``length`` steps."""
        return self.num_windows(length) > 0

    def draw(self, batch_size: int, length: int, updates: int | None = None) -> Windows:
        """Chooses windows uniformly and advances the sampler. ``gather`` reads them, at any time and from any thread.

        The batch has axes ``[B, T, ...]``, or ``[U, B, T, ...]`` with U = ``updates``.

        Raises:
            DatasetError: there is no window of this length.
        """
        self.require(length)
        return self._streams.draw(self._rng, batch_axes(batch_size, updates), length)

    def gather(self, windows: Windows) -> Batch:
        """Reads windows as a batch of new arrays ``[*windows.shape, T, ...]``."""
        return gather(self._streams.layout, windows)

    def spread(self, number: int, length: int) -> Batch:
        """``number`` windows ``[B, T, ...]`` that do not overlap, evenly spread over the episodes, in their order.

        There are fewer if the view holds fewer. The same call gives the same windows, and the sampler keeps its state.

        Raises:
            DatasetError: there is no window of this length.
        """
        self.require(length)
        places = self._streams.apart(length)[::-1]
        chosen = np.linspace(0, len(places) - 1, min(number, len(places))).round().astype(int)
        return self.gather(self._streams.at([places[index] for index in chosen], length, (len(chosen),)))

    def episode(self, index: int) -> Transition:
        """All rows of an episode of :attr:`episodes`, ``[T + 1, ...]``."""
        episode = self.episodes[index]
        return self.gather(self._streams.at([(0, episode.first_row)], episode.length + 1, ()))

    def column(self, field: str, index: int) -> np.ndarray:
        """One field of an episode of :attr:`episodes`, ``[T + 1, ...]``: ``cost``, ``observation/state``."""
        episode = self.episodes[index]
        return self._streams.column(field, 0, (episode.first_row, episode.stop))

    def require(self, length: int) -> None:
        if not self.ready(length):
            rows = max((stop - start for start, stop in self._streams.spans), default=0)
            longest = max((episode.length for episode in self.episodes), default=0)
            raise DatasetError(
                f"{self.directory} has no {length} consecutive steps in these {len(self.episodes)} episodes: the most "
                f"are {rows}, and the longest episode has {longest} decisions. Learn from windows of at most {rows} "
                "(--loop.batch-length), or from more episodes"
            )

    def expect(self, digest: str) -> Dataset:
        """This dataset, if its digest is ``digest``.

        Raises:
            DatasetError: it has another digest.
        """
        if self.digest != digest:
            raise DatasetError(
                f"{self.directory} is not the data set that the run learns from (digest {self.digest[:12]}, and not "
                f"{digest[:12]}): name the directory to which that one was moved (--dataset, or --loop.dataset if the "
                "run goes on in an environment), or train a new run"
            )
        return self

    # ---- resuming ----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The state of the sampler for a checkpoint (JSON-able), with the digest of the rows that it samples."""
        return {"digest": self.digest, "rng": self._rng.bit_generator.state}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores :meth:`state`.

        Raises:
            DatasetError: the state is of other data.
        """
        if state["digest"] != self.digest:
            raise DatasetError(
                f"the data in {self.directory} are not those that were learnt from (digest {self.digest[:12]}, which "
                f"was {state['digest'][:12]}): put the old ones back, or begin a new run"
            )
        self._rng.bit_generator.state = state["rng"]


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a dataset, without its rows.

    Raises:
        DatasetError: there is none, or it cannot be read.
    """
    path = Path(directory) / FILE
    if not path.exists():
        raise DatasetError(f"{directory} is no dataset, it has no {FILE}: make one with `prudence dataset record`")
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


def _verified_chunks(directory: Path, layout: Layout, manifest: Manifest) -> list[Chunk]:
    # Files of other names, such as a user's notes, are left alone.
    paths = sorted(path for path in directory.glob(f"*{SUFFIX}") if re.fullmatch("[0-9]+", path.stem))
    try:
        checksums = [verified_checksums(path, layout) for path in paths]
    except ValueError as error:
        raise DatasetError(f"{error}. A dataset is never repaired: copy it anew, or make it anew") from error
    found = digest_of(
        (path.name, layout.header(int(path.stem)), rows) for path, rows in zip(paths, checksums, strict=True)
    )
    chunks = [Chunk(path, int(path.stem), len(rows)) for path, rows in zip(paths, checksums, strict=True)]
    rows = manifest.episodes[-1].stop if manifest.episodes else 0
    if found != manifest.digest or join((chunk.first, chunk.stop) for chunk in chunks) != [(0, rows)]:
        raise DatasetError(
            f"{directory}: its {len(paths)} chunks are not those that it was written with (digest {found[:12]}, which "
            f"should be {manifest.digest[:12]}): copy it anew, or make it anew"
        )
    return chunks
