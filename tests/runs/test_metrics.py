"""Metrics survive kills and match after a resume; progress says what a user wants to know."""

from __future__ import annotations

import io
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]

from prudence.runs import metrics as run_logging
from prudence.runs.metrics import Logger, Progress, read_metrics


def test_metrics_return_as_written(tmp_path: Path) -> None:
    logger = Logger(tmp_path, tensorboard=False)
    logger.write(5, {"train/loss": np.float32(0.1), "eval/return": jnp.asarray(2.5)})
    logger.write(7, {"train/loss": 3})
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"step": 5, "train/loss": float(np.float32(0.1)), "eval/return": 2.5},
        {"step": 7, "train/loss": 3.0},
    ]
    logger.close()


def test_what_is_not_finite_is_null_and_reads_as_nan(tmp_path: Path) -> None:
    logger = Logger(tmp_path)
    logger.write(1, {"a": float("nan"), "b": float("inf"), "c": 1.0})
    logger.close()
    path = tmp_path / "metrics.jsonl"
    assert path.read_text() == '{"step": 1, "a": null, "b": null, "c": 1.0}\n'
    (row,) = read_metrics(path)
    assert math.isnan(row["a"])
    assert math.isnan(row["b"])
    assert row["c"] == 1.0


def test_a_torn_last_line_is_tolerated_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1.0}\n{"step": 2, "a"')
    assert [row["step"] for row in read_metrics(path)] == [1]
    logger = Logger(tmp_path, tensorboard=False)
    logger.write(2, {"a": 2.0})
    logger.close()
    assert [row["a"] for row in read_metrics(path)] == [1.0, 2.0]


@pytest.mark.parametrize(
    "line", ["", "oops", "{}", "[1]", '{"step": null}', '{"step": 2, "a": "x"}', "\x00\x00", "3", "[" * 99_999]
)
def test_a_line_that_is_no_metrics_is_named_skipped_and_repaired(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    assert [row["step"] for row in read_metrics(path)] == [1, 2]
    assert f"{path}, line 2 is not a line of metrics" in caplog.text
    logger = Logger(tmp_path, tensorboard=False)
    logger.truncate(2)
    logger.close()
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_resuming_drops_what_the_checkpoint_does_not_know(tmp_path: Path) -> None:
    def run(directory: Path, kill: bool) -> bytes:
        logger = Logger(directory, tensorboard=False)
        for step in range(10):
            logger.write(step, {"a": step / 3})
        if kill:
            logger.close()
            logger = Logger(directory, tensorboard=False)
            logger.truncate(6)
            for step in range(7, 10):
                logger.write(step, {"a": step / 3})
        logger.close()
        return (directory / "metrics.jsonl").read_bytes()

    assert run(tmp_path / "whole", kill=False) == run(tmp_path / "killed", kill=True)


def test_tensorboard_gets_the_scalars_and_the_purge(tmp_path: Path) -> None:
    logger = Logger(tmp_path)
    logger.write(3, {"eval/return": 1.0})
    logger.close()
    logger = Logger(tmp_path)
    logger.truncate(1)
    logger.write(2, {"eval/cost": 1.0})
    logger.close()
    first, second = sorted(
        (_events(path) for path in (tmp_path / "tensorboard").iterdir()),
        key=lambda events: events[-1].step,
        reverse=True,
    )
    assert [(value.tag, value.simple_value) for value in first[-1].summary.value] == [("eval/return", 1.0)]
    assert [(value.tag, value.simple_value) for value in second[-1].summary.value] == [("eval/cost", 1.0)]
    # This is how TensorBoard learns to forget step 2 and those after it from the first file.
    assert [(event.step, event.session_log.status) for event in second if event.HasField("session_log")] == [
        (2, SessionLog.START)
    ]


def _events(path: Path) -> list[Event]:
    """The records of an event file: length (8 bytes), its checksum (4), an event, its checksum (4)."""
    content, events = path.read_bytes(), []
    while content:
        length = int.from_bytes(content[:8], "little")
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events


def test_weights_and_biases_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def init(**arguments: Any) -> SimpleNamespace:
        calls.append(arguments)
        return SimpleNamespace(
            log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("finish")
        )

    monkeypatch.setattr(run_logging.importlib, "import_module", lambda name: SimpleNamespace(init=init))
    for step in (1, 2):
        logger = Logger(tmp_path, tensorboard=False, wandb="safety")
        logger.write(step, {"a": 1.0})
        logger.close()
    assert calls[1:3] == [(1, {"a": 1.0}), "finish"]
    assert calls[4:] == [(2, {"a": 1.0}), "finish"]
    assert calls[0] == calls[3]
    assert calls[0]["project"] == "safety"


def test_weights_and_biases_missing_is_said_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(run_logging.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'prudence-rl\[logging\]'"):
        Logger(tmp_path, wandb="safety")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def drive(monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    """100 steps and 20 updates a second, of 6000 steps, for 25 seconds; resumed at step 500."""
    clock = Clock()
    monkeypatch.setattr(run_logging, "time", clock)
    with Progress(6000, start=500, budget=[2.0, 1.0], console=console) as progress:
        progress.update(500, updates=0, episode_return=12.34, episode_cost=np.array([1.5, 0.25]))
        for second in range(1, 26):
            clock.now = float(second)
            progress.update(500 + 100 * second, updates=20 * second, multiplier=[0.5, 1e-3])
        progress.log("evaluated: 3")


def test_without_a_terminal_progress_is_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    drive(monkeypatch, Console(file=output, width=40))
    numbers = "return 12.3  cost 1.5/2 0.2/1  multiplier 0.5 0.001  100 steps/s  20.0 updates/s"
    assert output.getvalue().splitlines() == [
        f"1,500/6,000 steps  ETA 0:45  {numbers}",
        f"2,500/6,000 steps  ETA 0:35  {numbers}",
        "evaluated: 3",
    ]


def test_on_a_terminal_progress_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    drive(monkeypatch, Console(file=output, width=160, force_terminal=True, color_system=None))
    text = output.getvalue()
    assert text.count("steps/s") >= 25
    assert "3,000/6,000 steps  ETA 0:30  return 12.3  cost 1.5/2 0.2/1" in text
    assert "evaluated: 3" in text
