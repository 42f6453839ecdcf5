"""Training: experience, gradient steps, evaluation and checkpoints. A resumed run has exactly the same results.

A run is a sequence of *iterations* of its learning method (prudence/training/learning). Checkpoints are taken between
two iterations, when no work is in progress. So the results of a run do not depend on timing or interruptions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prudence.data.spaces import spaces_to_json
from prudence.deploy.shipped import require_trainable
from prudence.evidence.evaluate import evaluate_agent
from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.config import as_kept, content
from prudence.runs.directory import RunDirectory
from prudence.runs.metrics import Logger, Progress
from prudence.runs.provenance import note_provenance
from prudence.training.learning import make_learning
from prudence.training.learning.base import Learning
from prudence.training.origin import check_restart, claim, goes_online, take_over
from prudence.training.progress import INIT, SWITCH, Counters, Keys
from prudence.types import EpisodeSummary, Metrics, Spaces

_STOPPING = b"\nstopping after this iteration, and saving. A second signal interrupts at once, without saving\n"


class TrainingDiverged(RuntimeError):
    """A loss is not finite. The message names the last good checkpoint."""


def train(
    config: RunConfig,
    directory: Path | str,
    *,
    wandb: str | None = None,
    start_from: Path | str | None = None,
    restart: bool = False,
) -> Path:
    """Starts or resumes the training of a run in ``directory``. Returns the directory.

    Args:
        config: the configuration of the run.
        directory: the run's directory.
        wandb: Weights & Biases project to which metrics are also written. None writes none.
        start_from: another run. A new run in ``directory`` begins as a copy of it, with its last saved weights, its
            experience, steps and metrics, and continues with ``config``. From an offline run it takes weights only, and
            begins to count anew. The other run does not change.
        restart: deletes the run in ``directory``, and starts from the beginning.

    Raises:
        ConfigError: the directory has a run with another configuration, or a run that lost its checkpoints; or a run
            with ``config`` cannot start from ``start_from``.
        RunDirectoryError: one of the two directories is a record or the policy of a record, which cannot be trained; or
            a directory is in use.
        CheckpointMismatch: the networks of ``start_from`` have other sizes.
        TrainingDiverged: a loss is not finite.
        ValueError: settings do not make a run together.
    """
    config = as_kept(config)
    config.check()
    run, origin = RunDirectory(Path(directory)), None if start_from is None else RunDirectory(Path(start_from))
    for named in (run, *([] if origin is None else [origin])):
        require_trainable(named)
    with run.lock(), contextlib.ExitStack() as stack:
        if restart:
            check_restart(run, config, origin)
        else:
            claim(run, config, origin)
        counters, keys = Counters(), Keys(config.seed)
        learning = stack.enter_context(contextlib.closing(make_learning(config, run, counters, keys)))
        if restart:  # Not before the environments could be made, since what is deleted is gone.
            run.wipe()
            claim(run, config, origin)
        taking_over = stack.enter_context(contextlib.ExitStack())
        if checkpoint.latest(run.checkpoints) is not None:
            origin = None  # The run has begun as its copy already.
        if origin is not None:
            take_over(origin, run, config, taking_over)
        note_provenance(run.path)
        logger = stack.enter_context(contextlib.closing(Logger(run.path, wandb=wandb)))
        trainer = Trainer(run, config, learning, counters, keys, logger)
        trainer.restore(origin)
        taking_over.close()
        trainer.run()
    return run.path


class Trainer:
    """Trains one run in this process. The docstring of the module explains iterations."""

    def __init__(
        self,
        run: RunDirectory,
        config: RunConfig,
        learning: Learning,
        counters: Counters,
        keys: Keys,
        logger: Logger,
    ):
        self._run, self._config, self._learning, self._logger = run, config, learning, logger
        self._counters, self._agent, self._spaces = counters, learning.agent, learning.spaces
        self._init_key, self._switch_key = keys(INIT, 0), keys(SWITCH, 0)
        self._stop = False

    @property
    def now(self) -> int:
        """Progress of the run, in the unit of its learning method."""
        return self._learning.now

    def run(self) -> None:
        """Trains until the configured number of steps, or until SIGTERM or SIGINT. Call :meth:`restore` first."""
        end, unit = self._learning.end, self._learning.unit
        budget = getattr(self._agent, "cost_limits", None)
        progress = Progress(end, start=self.now, budget=None if budget is None else np.asarray(budget), unit=unit)
        with _on_signals(self._ask_to_stop), progress:
            progress.log(f"{self._run.path}: {self._learning.plan}{self._planning()}")
            for note in (*self._config.notes, *self._learning.notes):
                progress.log(note)
            if self.now >= end:
                progress.log(f"has its {end:,} {unit} already ({self.now:,}); a larger --{unit} extends it")
            elif self.now:
                progress.log(f"resumed at {self.now:,} of {end:,} {unit}")
            self._started, before = time.monotonic(), self._counters.seconds
            updates_before = self._counters.updates
            while self.now < end and not self._stop:
                self._state, metrics = self._learning.iterate(self._state)
                self._counters.seconds = before + time.monotonic() - self._started
                self._after_iteration(metrics, progress)
                self._show(progress, metrics, self._counters.updates - updates_before)
            self._save()
            if self._stop:
                progress.log(f"stopped at {self.now:,} {unit} and saved; the same command goes on from here")

    def _planning(self) -> str:
        """A note about when the planner starts to act, if it does not act from the beginning."""
        start = self._config.planning_starts
        return f"; its policy acts until {start:,} {self._learning.unit}, then its planner" if start else ""

    # ---- between iterations ------------------------------------------------------------------

    def _after_iteration(self, metrics: Metrics, progress: Progress) -> None:
        loop, taken = self._config.loop, self._learning.stride

        def due(every: int) -> bool:
            """Whether this iteration passed a multiple of ``every``."""
            return every > 0 and self.now // every > (self.now - taken) // every

        self._refuse_divergence(metrics)
        for summary in self._learning.finished:
            self._log(_episode_metrics(summary, self._spaces))
        if metrics and due(loop.log_every):
            acting = {name: float(np.mean(value)) for name, value in self._learning.acting.items()}
            self._log(acting | metrics | self._time_metrics())
        if due(loop.evaluate_every):
            self._evaluate(progress)
        elif due(self._learning.foresight_every):
            self._log(self._learning.foresight(self._state))
        if due(loop.checkpoint_every):
            self._save()

    def _refuse_divergence(self, metrics: Metrics) -> None:
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            last = checkpoint.latest(self._run.checkpoints)
            where = f"{self._counters.updates} updates ({self.now} {self._learning.unit})"
            raise TrainingDiverged(
                f"{', '.join(bad)} is not finite after {where}. "
                f"Last good checkpoint: {last or 'none yet'}. Lower the learning rates, or check the data for "
                "values that are huge or not finite"
            )

    def _time_metrics(self) -> Metrics:
        seconds, elapsed = max(self._counters.seconds, 1e-9), max(time.monotonic() - self._started, 1e-9)
        return {
            "time/wall": self._counters.seconds,
            "time/steps_per_second": self.now / seconds,
            "time/updates_per_second": self._counters.updates / seconds,
            **self._learning.shares(elapsed),
        }

    def _evaluate(self, progress: Progress) -> None:
        started = time.monotonic()
        parallel, workers = self._learning.evaluation_processes
        result = evaluate_agent(
            self._agent,
            self._state,
            self._config.env,
            episodes=self._config.loop.evaluate_episodes,
            seed=self._config.seed,
            parallel=parallel,
            workers=workers,
        )
        foresight = self._learning.foresight(self._state)
        self._log(result.metrics() | foresight | {"time/evaluation": time.monotonic() - started})
        progress.log(f"{self.now:>9,} {self._learning.unit}: evaluation {result.one_line()}")

    def _show(self, progress: Progress, metrics: Metrics, updates: int) -> None:
        multipliers = [v for k, v in metrics.items() if k.startswith("constraint/multiplier")]
        recent = self._learning.recent
        progress.update(
            self.now,
            updates=updates,
            episode_return=float(np.mean([s.episode_return for s in recent])) if recent else None,
            episode_cost=np.mean([s.episode_cost for s in recent], 0) if recent else None,
            multiplier=multipliers or None,
        )

    def _log(self, metrics: Metrics) -> None:
        """Writes metrics. Where the disk is full, saves a checkpoint, if it has room for that.

        Raises:
            OSError: the disk is full or failed.
        """
        try:
            self._logger.write(self.now, metrics)
        except OSError as error:
            saved = "A checkpoint of this step is saved"
            try:
                self._save(metrics=False)
            except OSError:
                saved = f"The last checkpoint is {checkpoint.latest(self._run.checkpoints) or 'none'}"
            raise OSError(
                error.errno,
                f"metrics cannot be written: {error.strerror}. {saved}: make room and repeat the command",
                str(self._run.path),
            ) from error

    def _ask_to_stop(self) -> None:
        self._stop = True

    # ---- saving and resuming -----------------------------------------------------------------

    def _save(self, *, metrics: bool = True) -> None:
        """Writes a checkpoint. ``metrics``: makes the metrics durable before."""
        meta = {
            "task": self._config.env.task,
            "agent": self._config.agent_name,
            "spaces": spaces_to_json(self._spaces),
            checkpoint.CONFIG: content(self._config),
            "counters": dataclasses.asdict(self._counters),
            **self._learning.saved(),
        }
        if metrics:
            self._logger.flush()
        checkpoint.save(self._run.checkpoints, self.now, (self._state, self._learning.carry), meta)
        self._run.saved.touch()
        self._learning.commit()

    def restore(self, origin: RunDirectory | None = None) -> None:
        """Restores the run's newest checkpoint. Without a checkpoint, starts from the beginning.

        With ``origin``, restores the newest checkpoint of that run and saves it as a checkpoint of this run.
        """
        self._state = self._agent.init(key=self._init_key)
        if origin is not None and goes_online(origin, self._config):
            return self._switch(origin)
        source = (origin or self._run).checkpoints
        if checkpoint.latest(source) is None:
            self._logger.truncate(-1)
            self._learning.start()
            return
        # This comes before replay is opened. Replay also checks the spaces, but its error would not name the tasks.
        (self._state, carry), meta = checkpoint.load(
            source,
            (self._state, self._learning.carry),
            expect={"task": self._config.env.task, "spaces": self._spaces},
            partly=origin is not None,
        )
        if origin is None:
            checkpoint.check_config(meta, self._config)
        for name, value in meta["counters"].items():
            setattr(self._counters, name, value)
        self._learning.restore(meta, carry)
        self._logger.truncate(self.now)
        if origin is not None:
            self._save()

    def _switch(self, origin: RunDirectory) -> None:
        """Begins with what the offline run ``origin`` has learned, and saves that as the run's first checkpoint."""
        (state, _), _ = checkpoint.load(
            origin.checkpoints, (self._state, None), expect={"spaces": self._spaces}, partly=True
        )
        self._state = self._agent.begin_online(state, key=self._switch_key)
        self._logger.truncate(-1)
        self._learning.start()
        self._save()


def _episode_metrics(summary: EpisodeSummary, spaces: Spaces) -> Metrics:
    costs = {"episode/cost": float(summary.episode_cost.sum())}
    if spaces.num_costs > 1:
        costs |= {f"episode/cost_{n}": float(c) for n, c in zip(spaces.costs, summary.episode_cost, strict=True)}
    return {"episode/return": summary.episode_return, **costs, "episode/length": summary.length}


@contextlib.contextmanager
def _on_signals(react: Callable[[], None]) -> Iterator[None]:
    """Calls ``react`` on the first SIGTERM or SIGINT. The second one interrupts at once, and a third ends the process.

    Does nothing outside the main thread, where handlers cannot be set.
    """
    asked = False

    def handle(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            for each in previous:  # Whatever the interruption runs into does not hold up the third one.
                signal.signal(each, signal.SIG_DFL)
            raise KeyboardInterrupt
        asked = True
        os.write(2, _STOPPING)  # Not print, which the signal may have interrupted.
        react()

    try:
        previous = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
