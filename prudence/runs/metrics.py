"""Metrics and the progress display. Metrics go to JSON lines, TensorBoard and, optionally, Weights & Biases.

``metrics.jsonl`` has one object on each line, with ``step`` first. Values that are not finite are written as ``null``,
because JSON cannot express them, and are read back as NaN. Metrics that depend on the clock are named ``time/...``. All
others are the same for a resumed run and an uninterrupted one.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import math
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.summary import scalar

from prudence.runs.console import text_console
from prudence.runs.files import write_text_atomically

log = logging.getLogger(__name__)

Vector = Sequence[float] | np.ndarray | jax.Array
"""A vector ``[C]``, one number for each constraint."""

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_DIRECTORY = "tensorboard"
_WANDB_ID_FILE = "wandb_id"
_PLAIN_INTERVAL = 10.0
_LIVE_INTERVAL = 0.25
_FLUSH_INTERVAL = 60.0
_RATE_WINDOW = 30.0


class Logger:
    """Writes the metrics of a run.

    A resumed run calls ``truncate`` with the step of its checkpoint before the first ``write``. A training loop must
    therefore write all metrics of a step before the checkpoint of that step, and none of them after it.

    Args:
        directory: directory of the run.
        tensorboard: also writes TensorBoard events.
        wandb: Weights & Biases project to which metrics are also written; None writes none. A resumed run continues the
            same W&B run.

    Raises:
        ImportError: ``wandb`` is given, but Weights & Biases is not installed.
    """

    def __init__(self, directory: Path, tensorboard: bool = True, wandb: str | None = None):
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._path = self._directory / METRICS_FILE
        self._tensorboard = tensorboard
        self._purge_step: int | None = None
        self._events: EventsWriter | None = None
        self._flushed = time.monotonic()
        self._wandb = _start_wandb(self._directory, wandb) if wandb else None
        _drop_torn_line(self._path)
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)

    def write(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes scalars by name (``group/name``) at ``step``. They survive a crash of this process.

        Raises:
            OSError: the disk is full or failed.
        """
        values = {name: float(value) for name, value in metrics.items()}
        line = {"step": step, **{name: value if math.isfinite(value) else None for name, value in values.items()}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._tensorboard:
            for name, value in values.items():
                if math.isfinite(value):
                    event = Event(wall_time=time.time(), step=step, summary=scalar(name, value))
                    self._event_writer().write_event(event)
            if time.monotonic() - self._flushed > _FLUSH_INTERVAL:
                self.flush()
        if self._wandb is not None:
            self._wandb.log(values, step=step)

    def truncate(self, step: int) -> None:
        """Deletes the metrics after ``step``, also from TensorBoard. Lines that are no metrics go, too."""
        self._file.close()
        kept = [line for line, row in _rows(self._path) if row["step"] <= step]
        write_text_atomically(self._path, "".join(kept))
        self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed by close)
        self._purge_step = step + 1

    def flush(self) -> None:
        """Writes the metrics durably to the disk. Call it before a checkpoint."""
        self._flushed = time.monotonic()
        os.fsync(self._file.fileno())
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Closes all outputs."""
        for output in (self._file, self._events):
            if output is not None:
                with contextlib.suppress(OSError):  # Of a full disk, which was said already.
                    output.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _event_writer(self) -> EventsWriter:
        # Created late, because a resumed run calls `truncate` after the constructor. Not a SummaryWriter: that one
        # writes in a thread, whose death on a full disk nobody notices until its queue is full and blocks for ever.
        if self._events is None:
            directory = self._directory / TENSORBOARD_DIRECTORY
            directory.mkdir(exist_ok=True)
            # Default names have a resolution of seconds, and a run may resume within the same second.
            self._events = EventsWriter(str(directory / "events"), f".{uuid.uuid4().hex[:8]}")
            if self._purge_step is not None:
                start = SessionLog(status=SessionLog.START)
                self._events.write_event(Event(step=self._purge_step, file_version="brain.Event:2"))
                self._events.write_event(Event(step=self._purge_step, session_log=start))
        return self._events


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Reads the lines of a ``metrics.jsonl``, each with its ``step``. ``null`` is read as NaN.

    An incomplete last line is skipped: a crash cut it off, or it is being written. Any other line that is no JSON
    object of a step and numbers is skipped with a warning, which has its number.
    """
    return [{name: math.nan if value is None else value for name, value in row.items()} for _, row in _rows(Path(path))]


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The complete lines that are metrics, as they are and read."""
    for number, line in enumerate(_complete_lines(path), start=1):
        row = _parsed(line)
        if _is_row(row):
            yield line, row
        else:
            log.warning("%s, line %d is not a line of metrics, and is skipped: %.40r", path, number, line.rstrip())


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _is_row(row: Any) -> bool:
    number = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    return (
        isinstance(row, dict)
        and number(row.get("step"))
        and all(value is None or number(value) for value in row.values())
    )


def _complete_lines(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    return [line for line in lines if line.endswith("\n")]


def _drop_torn_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def _start_wandb(directory: Path, project: str) -> Any:
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as error:
        raise ImportError("Weights & Biases is not installed: pip install 'prudence-rl[logging]'") from error
    id_file = directory / _WANDB_ID_FILE
    if not id_file.exists():
        id_file.write_text(uuid.uuid4().hex)
    return wandb.init(project=project, name=directory.name, dir=str(directory), id=id_file.read_text(), resume="allow")


class Progress:
    """Progress display of training: one live line on a terminal, else a plain line about every ten seconds.

    Use it as a context manager. Use ``log`` instead of ``print`` inside it.

    Args:
        total: progress at which training ends.
        start: progress that a resumed run has already made.
        unit: of progress.
        budget: allowed cost of an episode, one number for each constraint; None without constraints.
        console: a rich console. By default it prints to standard error, so that standard output stays free for results.
    """

    def __init__(
        self,
        total: int,
        *,
        start: int = 0,
        budget: Vector | None = None,
        unit: str = "steps",
        console: Console | None = None,
    ):
        self._console = console or text_console(stderr=True)
        self._total, self._unit = total, unit
        self._budget = budget
        self._history: list[tuple[float, int, int]] = [(time.monotonic(), start, 0)]
        self._last = time.monotonic()
        self._fields: dict[str, str] = {}
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(
        self,
        step: int,
        *,
        updates: int,
        episode_return: float | None = None,
        episode_cost: Vector | None = None,
        multiplier: Vector | None = None,
    ) -> None:
        """Updates the display. It is cheap enough to call at every step. None leaves a value as it is shown.

        Args:
            step: decisions so far.
            updates: gradient steps since this process started.
            episode_return: mean over the latest episodes.
            episode_cost: mean over the latest episodes, one number for each constraint.
            multiplier: one number for each constraint.
        """
        if episode_return is not None:
            self._fields["return"] = f"{episode_return:.1f}"
        if episode_cost is not None:
            self._fields["cost"] = against(episode_cost, self._budget)
        if multiplier is not None:
            self._fields["multiplier"] = " ".join(f"{float(value):.3g}" for value in multiplier)
        now = time.monotonic()
        interval = _PLAIN_INTERVAL if self._live is None else _LIVE_INTERVAL
        if now - self._last < interval and step < self._total:
            return
        self._history.append((now, step, updates))
        while self._history[1][0] < now - _RATE_WINDOW and len(self._history) > 2:
            self._history.pop(0)
        self._last = now
        self._show()

    def log(self, message: str) -> None:
        """Prints a permanent line above the live one."""
        self._console.print(message, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def _show(self) -> None:
        if self._live is not None:
            self._live.update(self._line(), refresh=True)
        else:
            self._console.print("  ".join(self._parts()), highlight=False, markup=False, soft_wrap=True)

    def _line(self) -> Table:
        step = self._history[-1][1]
        grid = Table.grid(padding=(0, 1))
        grid.add_row(ProgressBar(self._total, step, width=20), Text("  ".join(self._parts())))
        return grid

    def _parts(self) -> list[str]:
        (before, step_before, updates_before), (now, step, updates) = self._history[0], self._history[-1]
        elapsed = max(now - before, 1e-9)
        rate = (step - step_before) / elapsed
        remaining = max(0, self._total - step) / rate if rate > 0 else math.inf
        return [
            f"{step:,}/{self._total:,} {self._unit}",
            f"ETA {duration(remaining)}",
            *(f"{name} {value}" for name, value in self._fields.items()),
            *([f"{rate:.0f} steps/s"] if self._unit != "updates" else []),
            f"{(updates - updates_before) / elapsed:.1f} updates/s",
        ]


def against(costs: Vector, budget: Vector | None) -> str:
    """Costs in words, beside their budgets: ``18.4/25``. Both are ``[C]``."""
    if budget is None:
        return " ".join(f"{float(cost):.1f}" for cost in costs)
    return " ".join(f"{float(cost):.1f}/{float(limit):g}" for cost, limit in zip(costs, budget, strict=True))


def duration(seconds: float) -> str:
    """Seconds as ``h:mm:ss`` or ``m:ss``; ``--:--`` where they are not known."""
    if not math.isfinite(seconds):
        return "--:--"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
