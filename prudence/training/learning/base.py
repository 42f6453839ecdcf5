"""The interface of a learning method."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

from prudence.cores.base import Agent
from prudence.evidence.evaluate import PARALLEL
from prudence.run_config import RunConfig
from prudence.runs.directory import RunDirectory
from prudence.training.progress import Counters, Keys
from prudence.types import EpisodeSummary, Metrics, Spaces


class Learning(abc.ABC):
    """A learning method: how experience and learning alternate. It defines a run's progress and its unit.

    Checkpoints are taken between two iterations, when no work is in progress. So the results of a run do not depend on
    timing or interruptions.

    Attributes:
        unit: the name of the unit of progress.
        agent: the agent that learns.
        spaces: the spaces of its environments.
    """

    unit: str
    agent: Agent
    spaces: Spaces

    @abc.abstractmethod
    def __init__(self, config: RunConfig, run: RunDirectory, counters: Counters, keys: Keys) -> None: ...

    @property
    @abc.abstractmethod
    def now(self) -> int:
        """Progress of the run, in ``unit``."""

    @property
    @abc.abstractmethod
    def end(self) -> int:
        """Progress at which the run ends."""

    @property
    @abc.abstractmethod
    def stride(self) -> int:
        """Progress of one iteration."""

    @property
    @abc.abstractmethod
    def plan(self) -> str:
        """A description of the resources that the run will use, for people."""

    @property
    def evaluation_processes(self) -> tuple[int, int]:
        """The number of environments that an evaluation steps together, and of its worker processes."""
        return PARALLEL, 0

    @property
    def notes(self) -> Sequence[str]:
        """What people should know about the experience, a line for each."""
        return ()

    @property
    def carry(self) -> Any:
        """The agent's carry between decisions. None without environments."""
        return None

    @property
    def finished(self) -> Sequence[EpisodeSummary]:
        """The training episodes that ended in the last iteration."""
        return ()

    @property
    def recent(self) -> Sequence[EpisodeSummary]:
        """The last ten training episodes."""
        return ()

    @property
    def acting(self) -> Metrics:
        """The latest diagnostics of ``Agent.act``."""
        return {}

    @property
    def foresight_every(self) -> int:
        """Progress between two measurements of foresight, apart from those in evaluations; 0 means never."""
        return 0

    @abc.abstractmethod
    def start(self) -> None:
        """Begins a new run."""

    @abc.abstractmethod
    def restore(self, meta: Mapping[str, Any], carry: Any) -> None:
        """Restores the result of ``saved`` from ``meta``, and the carry of the same checkpoint."""

    @abc.abstractmethod
    def saved(self) -> dict[str, Any]:
        """What a checkpoint has to store in addition to the agent's state and carry."""

    @abc.abstractmethod
    def commit(self) -> None:
        """Called when a checkpoint with the result of ``saved`` is on the disk."""

    @abc.abstractmethod
    def iterate(self, state: Any) -> tuple[Any, Metrics]:
        """Runs one iteration. Returns the agent's next state and metrics, which are empty if it did not learn yet."""

    @abc.abstractmethod
    def close(self) -> None:
        """Frees resources at the end of the run."""

    @abc.abstractmethod
    def foresight(self, state: Any) -> Metrics:
        """Metrics of the agent's predictions of the newest experience. Empty if it makes none."""

    @abc.abstractmethod
    def shares(self, elapsed: float) -> Metrics:
        """Shares of ``elapsed`` seconds by activity: ``time/<activity>_share``."""
