"""The table of a sweep, on a terminal and elsewhere."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from prudence.sweeps import table
from prudence.sweeps.place import Planned, Status
from prudence.sweeps.table import Board, count, scores
from prudence.sweeps.trial import Trial


def planned(seed: int, budgets: tuple[float, ...] = (25.0,)) -> Planned:
    return Planned(Trial("ppo-lag", "probe/cost", seed=seed), 1000, budgets)


WAITING = Status(planned(0), "waiting")
RUNNING = Status(planned(1), "running", 200, 3.21, (18.44,))
FAILED = Status(planned(2), "failed", 40, reason="prudence train: the wheel came off")
DONE = Status(planned(3, ()), "done", 1000, 12.0, (30.0,))


def test_scores() -> None:
    assert scores(WAITING) == ["", ""]
    assert scores(RUNNING) == ["3.2", "18.4/25"]
    assert scores(DONE) == ["12.0", "30.0"], "without a budget"
    assert scores(replace(RUNNING, costs=(1.0, 2.0))) == ["3.2", "1.0/25 2.0/25"], "one budget for both"


def test_counts() -> None:
    assert count([WAITING, DONE, FAILED, DONE]) == "4 trials: 1 failed, 2 done, 1 waiting"


def test_plain_lines_say_what_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(table.time, "monotonic", lambda: next(now))
    said = io.StringIO()
    with Board(Console(file=said, width=80)) as board:
        board.show([WAITING, replace(RUNNING, step=0, state="waiting"), FAILED])
        board.show([WAITING, RUNNING, FAILED])
        board.show([WAITING, replace(RUNNING, step=600), FAILED])
    name = "ppo-lag-probe-cost-seed"
    assert said.getvalue().splitlines() == [
        f"failed  {name}-2  40/1,000  prudence train: the wheel came off",
        "3 trials: 1 failed, 2 waiting; ETA --:--",
        f"running  {name}-1  200/1,000  3.2  18.4/25  --:--",
        "3 trials: 1 running, 1 failed, 1 waiting",
    ]


def test_the_live_table_shows_what_matters_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial made 400 steps in 10 s, and 400 more remain: 10 s."""
    now = iter([0.0, 10.0])
    monkeypatch.setattr(table.time, "monotonic", lambda: next(now))
    said = io.StringIO()
    console = Console(file=said, width=120, height=9, force_terminal=True, color_system=None)
    with Board(console) as board:
        board.show([WAITING, DONE, FAILED, RUNNING])
        said.seek(0), said.truncate()
        board.show([WAITING, DONE, FAILED, replace(RUNNING, step=600)])
    lines = [line.split() for line in said.getvalue().splitlines()]
    rows = [line for line in lines if line and line[0].startswith("ppo-lag")]
    assert [row[1] for row in rows[:3]] == ["running", "failed", "done"]
    assert rows[0][2:] == ["600/1,000", "3.2", "18.4/25", "0:10"]
    assert ["and", "1", "more"] in lines, "9 lines have room for three trials"
    # 2.2 of 4 trials are done at first, and .4 more after 10 s: the other 1.4 take 35 s.
    assert any("4 trials: 1 running, 1 failed, 1 done, 1 waiting; ETA 0:35" in " ".join(line) for line in lines)


def test_at_the_end_of_its_steps_a_trial_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    with Board(Console(file=said, width=80)) as board:
        board.show([replace(RUNNING, step=1000)])
    assert "18.4/25  evaluating" in said.getvalue()
