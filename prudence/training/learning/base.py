"""What a run asks of a way of learning."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any

from prudence.cores.base import Agent
from prudence.run_config import RunConfig
from prudence.runs.directory import RunDirectory
from prudence.training.progress import Counters, Keys
from prudence.types import EpisodeSummary, Metrics, Spaces


class Learning(abc.ABC):
    """One way of alternating experience and learning. It owns the run's progress and its unit.

    Nothing is under way between two iterations, which is where checkpoints are taken, so what a run computes depends
    neither on timing nor on interruptions.

    Attributes:
        unit: of progress, for a person.
        agent, spaces: what learns, and what it exchanges with its environments.
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
        """What the run will take up, for a person."""

    @property
    def carry(self) -> Any:
        """What the agent remembers between decisions; None without environments."""
        return None

    @property
    def finished(self) -> Sequence[EpisodeSummary]:
        """Training episodes that ended in the last iteration."""
        return ()

    @property
    def recent(self) -> Sequence[EpisodeSummary]:
        """The last ten training episodes."""
        return ()

    @property
    def acting(self) -> Metrics:
        """The newest diagnostics of ``Agent.act``."""
        return {}

    @abc.abstractmethod
    def start(self) -> None:
        """Begins a fresh run."""

    @abc.abstractmethod
    def restore(self, meta: Mapping[str, Any], carry: Any) -> None:
        """Brings back what ``saved`` put into ``meta``, and the carry of the same checkpoint."""

    @abc.abstractmethod
    def saved(self) -> dict[str, Any]:
        """What a checkpoint has to hold beside the agent's state and carry."""

    @abc.abstractmethod
    def commit(self) -> None:
        """A checkpoint with what ``saved`` returned is on the disk."""

    @abc.abstractmethod
    def iterate(self, state: Any) -> tuple[Any, Metrics]:
        """One iteration: the agent's next state, and metrics of learning (none where nothing was learned yet)."""

    @abc.abstractmethod
    def close(self) -> None:
        """The run is over."""

    @abc.abstractmethod
    def foresight(self, state: Any) -> Metrics:
        """How well the agent foresees the newest experience, where that can be said."""

    @abc.abstractmethod
    def shares(self, elapsed: float) -> Metrics:
        """Shares of ``elapsed`` seconds by what they were spent on: ``time/<what>_share``."""
