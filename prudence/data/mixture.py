"""A mixture of a dataset and a replay: what a run samples that goes on from an offline run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from prudence.data.dataset import Dataset
from prudence.data.manifest import DatasetError
from prudence.data.replay import Replay
from prudence.data.spaces import interface, spaces_in_words
from prudence.data.windows import Windows, batch_axes, merge
from prudence.types import Batch


class Mixture:
    """Samples windows of a dataset and of a replay. Both keep their own samplers.

    Args:
        dataset: the recorded data.
        replay: the new experience, of the same spaces.
        share: share of a batch that comes from the dataset. If it is no whole number of windows, the number varies
            between the two next to it. None draws every window of both with the same probability.
        seed: seed of the choice between the two.

    Raises:
        DatasetError: the spaces differ.
    """

    def __init__(self, dataset: Dataset, replay: Replay, *, share: float | None, seed: int | tuple[int, ...]):
        if interface(dataset.spaces) != interface(replay.spaces):
            raise DatasetError(
                f"{dataset.directory} has {spaces_in_words(dataset.spaces)}, and the environment has "
                f"{spaces_in_words(replay.spaces)}: go on in a task with observations, actions and costs as in the data"
            )
        self._dataset, self._replay, self._share = dataset, replay, share
        self._rng = np.random.default_rng(seed)

    def ready(self, length: int) -> bool:
        """Whether both have a window of ``length`` steps."""
        return self._replay.ready(length) and self._dataset.ready(length)

    def draw(self, batch_size: int, length: int, updates: int | None = None) -> Windows:
        """Chooses windows and advances the samplers. ``gather`` reads them.

        The batch has axes ``[B, T, ...]``, or ``[U, B, T, ...]`` with U = ``updates``. Windows of the dataset are the
        first ones of each batch.
        """
        shape = batch_axes(batch_size, updates)
        recorded = self._recorded(batch_size, length, 1 if updates is None else updates)
        places = np.arange(int(np.prod(shape))).reshape(-1, batch_size)
        first = np.arange(batch_size) < recorded[:, None]
        parts = [(self._dataset, places[first]), (self._replay, places[~first])]
        return merge(shape, [(of.draw(len(where), length), where.tolist()) for of, where in parts])

    def _recorded(self, batch_size: int, length: int, batches: int) -> np.ndarray:
        """``[batches]`` numbers of windows of the dataset in each batch."""
        if self._share is not None:
            return np.floor(self._share * batch_size + self._rng.random(batches)).astype(int)
        recorded, lived = self._dataset.num_windows(length), self._replay.num_windows(length)
        return self._rng.binomial(batch_size, recorded / (recorded + lived), batches)

    def gather(self, windows: Windows) -> Batch:
        """Reads windows as a batch of new arrays ``[*windows.shape, T, ...]``, at any time and from any thread."""
        return self._replay.gather(windows)

    def state(self) -> dict[str, Any]:
        """The state of the choice and of the dataset's sampler for a checkpoint (JSON-able). The replay has its own."""
        return {"rng": self._rng.bit_generator.state, "dataset": self._dataset.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restores :meth:`state`.

        Raises:
            DatasetError: the state is of other data.
        """
        self._dataset.restore(state["dataset"])
        self._rng.bit_generator.state = state["rng"]
