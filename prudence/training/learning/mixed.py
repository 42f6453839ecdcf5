"""Going on from an offline run: learning from its data set and from new experience."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from prudence.data.dataset import Dataset
from prudence.data.mixture import Mixture
from prudence.loops import MixedLoop
from prudence.run_config import RunConfig
from prudence.runs.directory import RunDirectory
from prudence.training.learning.replay import ReplayLearning
from prudence.training.progress import Counters, Keys


class MixedLearning(ReplayLearning):
    """Learns from a data set and from replay. The agent acts from the first decision on.

    Raises:
        DatasetError: there is no such data set, it has changed, or it is of other spaces.
    """

    def __init__(self, config: RunConfig, run: RunDirectory, counters: Counters, keys: Keys) -> None:
        loop = config.loop
        assert isinstance(loop, MixedLoop)
        # Other streams than the replay's, which has the run's seed.
        dataset = Dataset(loop.dataset, seed=(config.seed, 1)).expect(loop.digest)
        dataset.require(loop.batch_length)
        super().__init__(config, run, counters, keys)
        self._dataset, self._share, self._seed = dataset, loop.offline_share, (config.seed, 2)

    @property
    def plan(self) -> str:
        return f"{super().plan}; {self._dataset.decisions:,} decisions in {self._dataset.directory}"

    def start(self) -> None:
        super().start()
        self._mix()

    def _resume(self, meta: Mapping[str, Any], *, whole: bool) -> None:
        super()._resume(meta, whole=whole)
        self._mix()
        self._mixture.restore(meta["mixture"])

    def _mix(self) -> None:
        self._mixture = Mixture(self._dataset, self._replay, share=self._share, seed=self._seed)

    def saved(self) -> dict[str, Any]:
        return {**super().saved(), "mixture": self._mixture.state()}

    @property
    def _sampler(self) -> Mixture:
        return self._mixture

    def _first_actions(self, state: Any) -> np.ndarray:
        return self._collector.act(state)
