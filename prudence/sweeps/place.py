"""The directory of a sweep, and the state of its trials. All of it is read from the runs and from a few small files."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from prudence.evidence.content import read_evaluation, verdicts
from prudence.runs import checkpoint
from prudence.runs.curves import Series, load_series
from prudence.runs.directory import RunDirectory
from prudence.runs.files import write_text_atomically
from prudence.sweeps.search import objective
from prudence.sweeps.trial import Trial

RECENT = 20
"""So many of the last training episodes are averaged, as in a run's report."""

State = Literal["waiting", "running", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Place:
    """Paths of the parts of a sweep."""

    path: Path

    @property
    def definition(self) -> Path:
        """What the sweep consists of, with the choices that flags made."""
        return self.path / "sweep.toml"

    @property
    def page(self) -> Path:
        return self.path / "sweep.md"

    def directory(self, trial: Trial) -> Path:
        """The directory of a trial's run, as a person would type it."""
        return self.path / "trials" / trial.name

    def run(self, trial: Trial) -> RunDirectory:
        """The run of a trial."""
        return RunDirectory(self.directory(trial))

    def log(self, trial: Trial) -> Path:
        """What the commands of a trial printed."""
        return self.path / "logs" / f"{trial.name}.log"

    def outcome(self, trial: Trial) -> Path:
        """Exists for a trial that does not go on: ``{"state": "failed" or "stopped", "reason": ...}``."""
        return self.path / "logs" / f"{trial.name}.json"


@dataclass(frozen=True)
class Planned:
    """A trial with what its configuration says.

    Attributes:
        length: raw environment steps of the run.
        budgets: ``[C]`` or ``[1]`` allowed cost of an episode; empty if the agent ignores costs.
    """

    trial: Trial
    length: int
    budgets: tuple[float, ...] = ()


@dataclass(frozen=True)
class Status:
    """How far a trial is.

    Attributes:
        step, length: raw environment steps so far, and in all.
        episode_return, costs: means over the last ``RECENT`` training episodes, or over the evaluation of a trial that
            is done; None and empty before the first episode. ``costs`` is ``[C]``.
        reason: of a trial that failed or was stopped; what the evaluation says of the budgets of one that is done.
    """

    planned: Planned
    state: State
    step: int = 0
    episode_return: float | None = None
    costs: tuple[float, ...] = ()
    reason: str = ""

    @property
    def share(self) -> float:
        """Share of the steps that were made, in [0, 1]."""
        return min(1.0, self.step / self.planned.length)


class Watch:
    """Reads the states of trials. Files that have not changed since the last time are not read again."""

    def __init__(self, place: Place):
        self._place = place
        self._curves: dict[Path, tuple[int, dict[str, Series]]] = {}

    def status(self, planned: Planned, *, running: bool = False) -> Status:
        """The state of a trial now.

        Raises:
            ValueError: its evaluation cannot be read. The message names the file.
        """
        run, outcome = self._place.run(planned.trial), read_outcome(self._place.outcome(planned.trial))
        curves = self.curves(planned)
        found = _training(planned, curves)
        if outcome:
            return replace(found, state=outcome["state"], reason=outcome["reason"])
        if not running and is_done(run, planned.length):
            return _evaluated(planned, run)
        return replace(found, state="running" if running else "waiting")

    def curves(self, planned: Planned) -> dict[str, Series]:
        """The metrics of a trial's run; none before it begins."""
        path = self._place.run(planned.trial).metrics
        if not path.exists():
            return {}
        changed = path.stat().st_mtime_ns
        if self._curves.get(path, (0,))[0] != changed:
            self._curves[path] = changed, load_series(path.parent)
        return self._curves[path][1]

    def score(self, planned: Planned, share: float) -> float | None:
        """The objective of the last ``RECENT`` episodes within a share of the trial's steps; None without episodes."""
        means = _recent(self.curves(planned), share * planned.length)
        return None if means is None else objective(means[0], means[1:], planned.budgets)


def read_outcome(path: Path) -> dict[str, Any] | None:
    """Why a trial does not go on; None if it does. A file that cannot be read says nothing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"state": found["state"], "reason": str(found["reason"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_outcome(path: Path, state: State, reason: str) -> None:
    """Says that a trial does not go on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps({"state": state, "reason": reason}) + "\n")


def is_trained(run: RunDirectory, length: int) -> bool:
    """Whether a checkpoint has all steps of the run."""
    last = checkpoint.latest(run.checkpoints)
    return last is not None and int(last.stem) >= length


def is_done(run: RunDirectory, length: int) -> bool:
    """Whether a run is trained, and its last policy was evaluated."""
    last = checkpoint.latest(run.checkpoints)
    if last is None or not is_trained(run, length) or not run.evaluation.exists():
        return False
    return run.evaluation.stat().st_mtime_ns >= last.stat().st_mtime_ns


def _training(planned: Planned, curves: dict[str, Series]) -> Status:
    means = _recent(curves, planned.length)
    step = int(max((series.steps[-1] for series in curves.values()), default=0))
    return Status(planned, "waiting", step, *((None, ()) if means is None else (means[0], tuple(means[1:]))))


def _recent(curves: dict[str, Series], until: float) -> list[float] | None:
    """Mean return and costs of the last episodes that ended by step ``until``. Costs are in the order of budgets."""
    several = [name for name in curves if name.startswith("episode/cost_")]
    kept = [curves[name] for name in ("episode/return", *(several or ["episode/cost"])) if name in curves]
    values = [series.values[series.steps <= until][-RECENT:] for series in kept]
    return [float(value.mean()) for value in values] if values and all(map(len, values)) else None


def _evaluated(planned: Planned, run: RunDirectory) -> Status:
    found = read_evaluation(run.evaluation)
    returns, costs = found["returns"], found["costs"]
    rows = [row if isinstance(row, list) else [row] for row in costs]
    means = tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
    said = "; ".join(verdict.text for verdict in verdicts(found))
    return Status(planned, "done", planned.length, sum(returns) / len(returns), means, said)
