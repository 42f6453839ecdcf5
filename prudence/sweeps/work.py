"""What a worker does with one trial: trains and evaluates it by the command, in a process of its own.

So a crash or a divergence ends that process only, and every trial can be repeated by hand.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from prudence.runs.directory import RunDirectory, RunDirectoryError
from prudence.sweeps.place import is_done, is_trained, read_outcome, write_outcome

_POLL = 0.5
_PATIENCE = 600.0
"""Seconds that a process of an earlier start may take to save."""
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"


class TrialKilled(RuntimeError):
    """A process of a trial was killed, or asked to stop. The same trial can go on from its last checkpoint."""


@dataclass(frozen=True)
class Order:
    """All that a worker needs to know of a trial. Every path is absolute.

    Attributes:
        train, evaluate: arguments of ``prudence``.
        run, log, outcome: the run's directory, the file for what the commands print, and the file that says why a trial
            does not go on.
        length: raw environment steps of the run.
        cores, gpus: what the trial may use. A part of a GPU is that part of its memory.
        folder: where the commands start, and find environments ``module:Class``.
    """

    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    run: Path
    log: Path
    outcome: Path
    length: int
    cores: int
    gpus: float
    folder: Path


def work(order: Order) -> None:
    """Trains and evaluates, or goes on with what is done already.

    A trial that fails leaves its last words in ``order.outcome``. One that the driver stops there ends early.

    Raises:
        TrialKilled: one of its processes was killed, or was asked to stop.
        RunDirectoryError: another process trains in the run's directory, and does not end.
    """
    run = RunDirectory(order.run)
    if read_outcome(order.outcome) is not None:
        return  # It was stopped before it began.
    order.log.parent.mkdir(parents=True, exist_ok=True)
    _wait_until_free(run)
    with _cores(order.cores) as cores:
        if not is_trained(run, order.length) and not _command(order, order.train, cores):
            return
        if not is_trained(run, order.length):
            raise TrialKilled("its training was asked to stop, and saved")
        if not is_done(run, order.length):
            _command(order, order.evaluate, cores)


def _command(order: Order, arguments: Sequence[str], cores: Sequence[int]) -> bool:
    """Runs ``prudence``. Returns whether it succeeded; a failure is written down.

    Raises:
        TrialKilled: it was killed.
    """
    with open(order.log, "a+b") as log:
        log.write(f"$ prudence {shlex.join(arguments)}\n".encode())
        log.flush()
        begin = log.tell()
        launch = [sys.executable, "-m", "prudence.sweeps.launch", str(os.getpid()), ",".join(map(str, cores))]
        process = subprocess.Popen(
            [*launch, *arguments],
            cwd=order.folder,
            env=_environment(order, cores),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            status, stopped = _wait(process, order.outcome)
        finally:
            process.terminate()  # Where this function is interrupted; else it has ended.
        if stopped:
            return False
        if status < 0:
            raise TrialKilled(f"`prudence {arguments[0]}` was killed by signal {-status}")
        if status:
            log.seek(begin)
            write_outcome(order.outcome, "failed", last_words(log.read().decode(errors="replace")))
        return status == 0


def _wait(process: subprocess.Popen, outcome: Path) -> tuple[int, bool]:
    """The exit status, and whether the driver stopped the trial meanwhile."""
    stopped = False
    while (status := process.poll()) is None:
        time.sleep(_POLL)
        if not stopped and read_outcome(outcome) is not None:
            stopped = True
            process.terminate()
    return status, stopped


def last_words(said: str) -> str:
    """The error of a command in one line, from all that it printed. Of a traceback it has the last line.

    >>> last_words("200 steps\\nprudence train: loss is not finite.\\nlast good checkpoint: none\\n")
    'prudence train: loss is not finite. last good checkpoint: none'
    >>> last_words("prudence train: it crashed:\\nTraceback (most recent call last):\\n  File ...\\nKeyError: 'x'\\n")
    "prudence train: it crashed: KeyError: 'x'"
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    starts = [index for index, line in enumerate(lines) if line.startswith("prudence ")]
    message = lines[starts[-1] :] if starts else lines[-1:]
    if "Traceback (most recent call last):" in message:
        message = [*message[: message.index("Traceback (most recent call last):")], message[-1]]
    return " ".join(message) or "it said nothing"


def _environment(order: Order, cores: Sequence[int]) -> dict[str, str]:
    found = dict(os.environ)
    if len(cores) == 1:
        found["XLA_FLAGS"] = f"{found.get('XLA_FLAGS', '')} {_ONE_THREAD}".strip()
    if not order.gpus:
        found.setdefault(
            "JAX_PLATFORMS", "cpu"
        )  # Else every trial would take the memory of a GPU that it was not given.
    elif order.gpus < 1:
        found.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 * order.gpus:.3f}")
    return found


def _wait_until_free(run: RunDirectory) -> None:
    """Waits for a process of an earlier start, which saves its run."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            with run.lock():
                return
        except RunDirectoryError:
            if time.monotonic() > end:
                raise
            time.sleep(_POLL)


@contextlib.contextmanager
def _cores(number: int) -> Iterator[list[int]]:
    """Cores of this machine that no other trial has; none if there are not enough, and the trial runs on all of them.

    A lock of a file stands for a core. The operating system frees it when this process ends, however it ends.
    """
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        for core in sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else ():
            path = Path(tempfile.gettempdir()) / f"prudence-{os.getuid()}-core-{core}"
            file = stack.enter_context(open(path, "w"))
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                found.append(core)
            if len(found) == number:
                break
        yield found if len(found) == number else []
