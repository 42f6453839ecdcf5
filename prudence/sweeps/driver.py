"""The driver of a sweep: hands trials to workers of Ray, watches them, and stops poor ones early.

A trial is one task of Ray, with its cores and GPUs. The driver keeps no state of its own: whatever is killed, the same
command goes on from the directories of the runs.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prudence.sweeps.place import Place, Planned, Status, Watch, write_outcome
from prudence.sweeps.search import EarlyStopping, require
from prudence.sweeps.work import Order, TrialKilled, work

_RETRIES = 3
"""How often a trial goes on by itself after its worker or its process was killed."""
_POLL = 1.0
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # Else Ray tells its authors of its use.
    "RAY_worker_niceness": "0",  # Else trials run at the lowest priority, and starve beside anything else.
    "RAY_kill_child_processes_on_worker_exit": "0",  # Else a training could not save when its worker ends.
}
"""Of Ray, where the user has not set them."""
_OBJECT_STORE = 100 * 2**20
"""Bytes. Nothing but orders goes through it."""


@dataclass(frozen=True)
class Resources:
    """What trials may use.

    Attributes:
        jobs: trials at a time; None for as many as there are cores and GPUs for.
        cores, gpus: of each trial. A part of a GPU is that part of its memory.
        address: of a Ray cluster, all of whose machines have the sweep's directory under the same path; None for this
            machine alone.
    """

    jobs: int | None = None
    cores: int = 1
    gpus: float = 0.0
    address: str | None = None

    @property
    def local_cores(self) -> int:
        """Cores that trials use together on this machine; more than it has, if ``jobs`` says so."""
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(self.cores, usable) if self.jobs is None else self.jobs * self.cores


@dataclass
class Driver:
    """Runs trials that are not done.

    Attributes:
        place: the sweep's directory.
        resources: what trials may use.
        episodes: of each trial's evaluation.
        early_stopping: stops poor trials early; None lets all of them end.
        show: is called about every second with the state of all trials.
    """

    place: Place
    resources: Resources
    episodes: int
    early_stopping: EarlyStopping | None = None
    show: Callable[[list[Status]], None] = lambda statuses: None

    def run(self, trials: Sequence[Planned], *, retry_failed: bool = False) -> list[Status]:
        """Trains and evaluates all trials that are not done. Returns how they ended.

        Args:
            retry_failed: tries failed trials again. Otherwise they stay as they are: a run repeats itself bit for bit,
                so a trial that diverged would diverge again.

        Raises:
            ImportError: Ray is not installed.
            ConnectionError: there is no Ray cluster at the address.
            ValueError: the machines do not have what a trial may use.
        """
        watch = Watch(self.place)
        if retry_failed:
            for planned in trials:
                if watch.status(planned).state == "failed":
                    self.place.outcome(planned.trial).unlink()
        statuses = [watch.status(planned) for planned in trials]
        if any(status.state == "waiting" for status in statuses):
            with _ray(self.resources) as (ray, jobs):
                self._drive(ray, jobs, trials, watch)
            statuses = [watch.status(planned) for planned in trials]
        self.show(statuses)
        return statuses

    def _drive(self, ray: Any, jobs: int, trials: Sequence[Planned], watch: Watch) -> None:
        """Keeps ``jobs`` trials running until all of them have ended."""
        # Ray replaces a worker that dies. What a trial itself does wrong is written down, and raises nothing.
        task = ray.remote(work).options(
            num_cpus=self.resources.cores,
            num_gpus=self.resources.gpus,
            max_retries=_RETRIES,
            retry_exceptions=[TrialKilled],
        )
        running: dict[Any, Planned] = {}
        waiting: deque[Planned] | None = None
        while True:
            names = {planned.trial.name for planned in running.values()}
            statuses = [watch.status(planned, running=planned.trial.name in names) for planned in trials]
            if self.early_stopping is not None:
                self._stop_early(self.early_stopping, statuses, watch)
            if waiting is None:
                waiting = deque(status.planned for status in statuses if status.state == "waiting")
            while waiting and len(running) < jobs:
                planned = waiting.popleft()
                running[task.remote(self._order(planned))] = planned
            self.show(statuses)
            if not running:
                return
            for reference in ray.wait(list(running), timeout=_POLL)[0]:
                self._end(ray, reference, running.pop(reference))

    def _end(self, ray: Any, reference: Any, planned: Planned) -> None:
        try:
            ray.get(reference)
        except Exception as error:  # Of Ray or of the worker: whatever it is, the other trials go on.
            write_outcome(self.place.outcome(planned.trial), "failed", _in_words(error))

    def _stop_early(self, stopping: EarlyStopping, statuses: Sequence[Status], watch: Watch) -> None:
        # Those that have ended come first, so that a driver that starts again compares with them from the beginning.
        for status in sorted(statuses, key=lambda status: status.state in ("waiting", "running")):
            planned = status.planned
            group = planned.trial.task, planned.budgets
            score = lambda share, planned=planned: watch.score(planned, share)
            reason = stopping.judge(planned.trial.name, group, status.share, score)
            # A trial that has all its steps is evaluated, whatever it is worth.
            if reason is not None and status.state in ("waiting", "running") and status.share < 1:
                write_outcome(self.place.outcome(planned.trial), "stopped", reason)

    def _order(self, planned: Planned) -> Order:
        trial, run = planned.trial, self.place.run(planned.trial).path
        return Order(
            train=tuple(trial.train(run)),
            evaluate=tuple(trial.evaluate(run, self.episodes)),
            run=run,
            log=self.place.log(trial).absolute(),
            outcome=self.place.outcome(trial).absolute(),
            length=planned.length,
            cores=self.resources.cores,
            gpus=self.resources.gpus,
            folder=Path.cwd(),
        )


@contextlib.contextmanager
def _ray(resources: Resources) -> Iterator[tuple[Any, int]]:
    """Ray, of this machine or of a cluster, and the number of trials at a time. Ray ends with the context."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    ray = require("ray")
    quiet = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE, "num_cpus": resources.local_cores}
    options = quiet | {"address": "local"} if resources.address is None else {"address": resources.address}
    ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield ray, _jobs(resources, ray.cluster_resources())
    finally:
        ray.shutdown()


def _jobs(resources: Resources, there: dict[str, float]) -> int:
    """The number of trials at a time on what is there: CPUs and GPUs by name.

    Raises:
        ValueError: there is not enough for one trial.
    """
    fits = math.inf
    for name, needed, option in (("CPU", resources.cores, "cores"), ("GPU", resources.gpus, "gpus")):
        if needed:
            fits = min(fits, int(there.get(name, 0.0) / needed + 1e-9))
        if not fits:
            raise ValueError(
                f"a trial needs {needed:g} {option}, but Ray finds {there.get(name, 0.0):g} {name}s: give a smaller "
                f"--{option}-per-trial, or the --address of a cluster that has them"
            )
    return int(fits) if resources.jobs is None else min(resources.jobs, int(fits))


def _in_words(error: Exception) -> str:
    """An error of Ray in one line. What a worker raised is its cause."""
    lines = str(getattr(error, "cause", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
