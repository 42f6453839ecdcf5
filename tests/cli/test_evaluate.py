"""An evaluation that takes hours is not lost because its last file cannot be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from helpers import PlainAgent, run_config

from prudence.cli.main import main
from prudence.run_config import RunConfig
from prudence.runs import files
from prudence.training.trainer import train


def test_a_full_disk_does_not_lose_the_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(RunConfig, "make_agent", lambda config, spaces: PlainAgent(spaces))
    run = train(run_config("envs.custom:Counter", steps=16, evaluate_every=0), tmp_path / "run")
    assert main(["evaluate", str(run), "--episodes", "2"]) == 0
    before = (run / "evaluation.json").read_text()
    capsys.readouterr()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    assert main(["evaluate", str(run), "--episodes", "3"]) == 1
    said = capsys.readouterr()
    assert "3 episodes on seeds apart from training's" in said.out
    assert "cannot be written: No space left" in said.err
    assert str(run / "evaluation.json") in said.err
    assert (run / "evaluation.json").read_text() == before
    assert not list(run.glob(".*.partial"))
