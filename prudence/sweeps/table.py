"""The table of a sweep: live on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from prudence.runs.metrics import against, duration
from prudence.sweeps.place import State, Status
from prudence.sweeps.search import each_budget

STATES: tuple[State, ...] = ("running", "failed", "stopped", "done", "waiting")
"""In the order in which they are shown: what a person has to know first."""
HEADS = ("trial", "state", "steps", "return", "cost", "ETA")
_PLAIN_INTERVAL = 60.0
_LINES = 6
"""Of the terminal that are left to the head of the table, and to reasons."""


class Board:
    """Shows the states of trials. Use it as a context manager, and call :meth:`show` as often as you like.

    Where there is no terminal it prints a line for each change of a trial's state, and one for all about every minute.
    """

    def __init__(self, console: Console):
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._states: dict[str, State] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._start: tuple[float, float] | None = None
        self._last = -math.inf
        self._shown: Sequence[Status] = ()

    def __enter__(self) -> Board:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._shown:
            self._console.print(count(self._shown), soft_wrap=True)

    def show(self, statuses: Sequence[Status]) -> None:
        """Shows the states now."""
        now, self._shown = time.monotonic(), statuses
        if self._start is None:
            self._start = now, sum(_done(status) for status in statuses)
        for status in statuses:
            if status.state == "running":
                self._began.setdefault(status.planned.trial.name, (now, status.step))
        if self._live is not None:
            self._live.update(self._table(statuses, now), refresh=True)
        else:
            self._lines(statuses, now)

    def _lines(self, statuses: Sequence[Status], now: float) -> None:
        for status in statuses:
            name = status.planned.trial.name
            if status.state != self._states.get(name, "waiting"):
                self._console.print("  ".join([status.state, *filter(None, self._row(status, now))]), soft_wrap=True)
            self._states[name] = status.state
        if now - self._last > _PLAIN_INTERVAL:
            self._last = now
            self._console.print(self._summary(statuses, now), soft_wrap=True)

    def _table(self, statuses: Sequence[Status], now: float) -> Table:
        # The summary is above, since a terminal that is too low cuts off what is below.
        table = Table(box=None, title=self._summary(statuses, now), title_justify="left")
        for head in HEADS:
            table.add_column(head, no_wrap=head != HEADS[0], overflow="fold")
        shown = sorted(statuses, key=lambda status: STATES.index(status.state))
        room = max(1, self._console.height - _LINES)
        for status in shown[:room]:
            name, *cells, last = self._row(status, now)
            running = status.state == "running"
            below = f"\n{status.reason}" if status.state in ("failed", "stopped") else ""
            table.add_row(f"{name}{below}", status.state, *cells, last if running else "")
        if len(shown) > room:
            table.add_row(f"and {len(shown) - room} more")
        return table

    def _row(self, status: Status, now: float) -> list[str]:
        """Name, steps, return, cost, and ETA or reason."""
        steps = f"{status.step:,}/{status.planned.length:,}"
        last = self._eta(status, now) if status.state == "running" else status.reason
        return [status.planned.trial.name, steps, *scores(status), last]

    def _eta(self, status: Status, now: float) -> str:
        began, step = self._began[status.planned.trial.name]
        if status.share == 1:
            return "evaluating"
        if not (made := status.step - step):
            return duration(math.inf)
        return duration((now - began) * (status.planned.length - status.step) / made)

    def _summary(self, statuses: Sequence[Status], now: float) -> str:
        """How many trials are in which state, and when the last of them will have ended."""
        assert self._start is not None
        began, before = self._start
        done = sum(_done(status) for status in statuses)
        left = (now - began) * (len(statuses) - done) / (done - before) if done > before else math.inf
        return f"{count(statuses)}; ETA {duration(left)}"


def count(statuses: Sequence[Status]) -> str:
    """The number of trials in each state, in words."""
    numbers = {state: sum(status.state == state for status in statuses) for state in STATES}
    return f"{len(statuses)} trials: " + ", ".join(f"{number} {state}" for state, number in numbers.items() if number)


def scores(status: Status) -> list[str]:
    """Return, and costs with their budgets, as text; empty where there is none yet."""
    if status.episode_return is None:
        return ["", ""]
    budgets = each_budget(status.planned.budgets, len(status.costs))
    return [f"{status.episode_return:.1f}", against(status.costs, budgets or None)]


def _done(status: Status) -> float:
    """The part of a trial's work that is done, in [0, 1]."""
    return 1.0 if status.state in ("done", "failed", "stopped") else status.share
