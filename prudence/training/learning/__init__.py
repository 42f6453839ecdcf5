"""Learning methods: one class for each kind of loop (:mod:`prudence.loops`)."""

from __future__ import annotations

from prudence.loops import Loop, MixedLoop, OfflineLoop, ReplayLoop, RolloutLoop
from prudence.run_config import RunConfig
from prudence.runs.directory import RunDirectory
from prudence.training.learning.base import Learning
from prudence.training.learning.mixed import MixedLearning
from prudence.training.learning.offline import OfflineLearning
from prudence.training.learning.replay import ReplayLearning
from prudence.training.learning.rollout import RolloutLearning
from prudence.training.progress import Counters, Keys

_LEARNINGS: dict[type[Loop], type[Learning]] = {
    ReplayLoop: ReplayLearning,
    MixedLoop: MixedLearning,
    RolloutLoop: RolloutLearning,
    OfflineLoop: OfflineLearning,
}


def make_learning(config: RunConfig, run: RunDirectory, counters: Counters, keys: Keys) -> Learning:
    """Makes the learning method for ``config.loop``."""
    return _LEARNINGS[type(config.loop)](config, run, counters, keys)
