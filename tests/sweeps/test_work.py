"""What a worker does with a trial, with a command that does nothing but what it is told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from prudence.runs.directory import RunDirectory
from prudence.sweeps import work as module
from prudence.sweeps.place import read_outcome, write_outcome
from prudence.sweeps.work import Order, TrialKilled, work


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Order:
    """A ``prudence`` that runs Python: the launcher starts ``prudence.cli.main``, which here is another module."""
    package = tmp_path / "fake" / "prudence"
    for folder in (package, package / "cli", package / "sweeps"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
    (package / "cli" / "main.py").write_text("import sys\nexec(sys.argv[1])\n")
    (package / "sweeps" / "launch.py").write_text((Path(module.__file__).parent / "launch.py").read_text())
    monkeypatch.setattr(module, "_POLL", 0.05)
    run = tmp_path / "run"
    return Order((), (), run, tmp_path / "logs/x.log", tmp_path / "logs/x.json", 100, 1, 0.0, package.parent)


def saying(order: Order, train: str, evaluate: str = "pass") -> Order:
    return Order((train,), (evaluate,), order.run, order.log, order.outcome, order.length, 1, 0.0, order.folder)


TRAINED = "import pathlib; p = pathlib.Path({!r}); p.mkdir(parents=True, exist_ok=True); (p / '{:012d}.ckpt').touch()"


def trained(order: Order, step: int = 100) -> str:
    return TRAINED.format(str(RunDirectory(order.run).checkpoints), step)


def test_trains_then_evaluates_on_a_core_of_its_own(order: Order) -> None:
    evaluate = (
        "import os, pathlib; e = os.environ; print(len(os.sched_getaffinity(0)), e['XLA_FLAGS'], e['JAX_PLATFORMS']); "
        f"pathlib.Path({str(RunDirectory(order.run).evaluation)!r}).write_text('x')"
    )
    work(saying(order, trained(order), evaluate))
    said = order.log.read_text()
    assert said.count("$ prudence") == 2
    assert said.splitlines()[-1].startswith("1 ")
    assert "--xla_cpu_multi_thread_eigen=false cpu" in said
    assert not order.outcome.exists()
    work(saying(order, "raise SystemExit(1)"))
    assert order.log.read_text() == said, "what is done is not done again"


def test_a_failure_leaves_its_last_words(order: Order) -> None:
    work(saying(order, "print('prudence train: the loss is not finite.\\nNone saved'); raise SystemExit(1)"))
    reason = "prudence train: the loss is not finite. None saved"
    assert read_outcome(order.outcome) == {"state": "failed", "reason": reason}
    order.outcome.unlink()
    work(saying(order, "raise ValueError('the wheel came off')"))
    assert read_outcome(order.outcome) == {"state": "failed", "reason": "ValueError: the wheel came off"}


def test_what_is_killed_or_stopped_can_go_on(order: Order) -> None:
    with pytest.raises(TrialKilled, match="was killed by signal 9"):
        work(saying(order, "import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(TrialKilled, match="was asked to stop, and saved"):
        work(saying(order, trained(order, 40)))
    assert not order.outcome.exists()


def test_the_driver_stops_a_trial(order: Order) -> None:
    threading.Timer(0.5, lambda: write_outcome(order.outcome, "stopped", "ASHA")).start()
    began = time.monotonic()
    work(saying(order, "import time; time.sleep(60)"))
    assert time.monotonic() - began < 30
    assert read_outcome(order.outcome) == {"state": "stopped", "reason": "ASHA"}
    work(saying(order, "raise SystemExit(1)"))
    assert read_outcome(order.outcome) == {"state": "stopped", "reason": "ASHA"}, "it does not begin again"


def test_waits_for_who_still_saves(order: Order) -> None:
    with RunDirectory(order.run).lock():
        worker = threading.Thread(target=work, args=(saying(order, "raise SystemExit('over')"),))
        worker.start()
        time.sleep(0.5)
        assert not order.log.exists()
    worker.join()
    assert read_outcome(order.outcome) == {"state": "failed", "reason": "over"}


def test_a_trial_ends_with_its_worker(order: Order, tmp_path: Path) -> None:
    """By SIGTERM, upon which a training saves."""
    sleep = "import os, time, pathlib; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    launch = f"[sys.executable, '-m', 'prudence.sweeps.launch', str(os.getpid()), '', {sleep!r}]"
    script = f"import os, subprocess, sys; subprocess.Popen({launch}).wait()"
    with subprocess.Popen([sys.executable, "-c", script], cwd=order.folder) as parent:
        path = order.folder / "pid"
        while not (path.exists() and path.read_text()):
            time.sleep(0.05)
        child = psutil.Process(int(path.read_text()))
        parent.kill()
    child.wait(timeout=20)


def test_cores_are_shared_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores: the second trial has the other one, and a third runs on both."""
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    with module._cores(1) as first, module._cores(1) as second, module._cores(1) as third:
        assert (first, second, third) == ([0], [1], [])
    with module._cores(2) as both:
        assert both == [0, 1]


def test_a_part_of_a_gpu_is_that_part_of_its_memory(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAX_PLATFORMS")
    half = Order((), (), order.run, order.log, order.outcome, 1, 2, 0.5, order.folder)
    found = module._environment(half, [0, 1])
    assert found["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450"
    assert "JAX_PLATFORMS" not in found
