"""``prudence check``."""

from __future__ import annotations

import pytest

from prudence.cli.main import main
from prudence.envs import check
from prudence.envs.check import Finding


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker process takes seconds to start."""
    monkeypatch.setattr(check, "_worker", lambda config: Finding("worker", "ok", ""))


def test_it_exits_with_0_where_training_is_possible(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "probe/cost", "--seconds", "0.1", "--env.time-limit", "7"]) == 0
    assert "7 decisions" in capsys.readouterr().out


def test_it_exits_with_1_where_training_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "envs.custom:Unbounded", "--seconds", "0.1"]) == 1
    assert "finite low and high" in capsys.readouterr().out
