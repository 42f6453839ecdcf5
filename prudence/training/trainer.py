"""Training: experience, gradient steps, evaluation and checkpoints, resumable bit for bit.

One *iteration* takes ``decisions_per_iteration`` decisions and learns (prudence/training/learning.py: from a replay or
from a rollout). Nothing is under way between two iterations, which is where checkpoints are taken, so what a run
computes depends neither on timing nor on interruptions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prudence.cores.base import Agent
from prudence.deploy.shipped import require_trainable
from prudence.envs.vector import VectorEnv, make_vector
from prudence.evidence.evaluate import evaluate_agent
from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.config import ConfigError, read_config, write_config
from prudence.runs.directory import RunDirectory
from prudence.runs.metrics import Logger, Progress
from prudence.runs.provenance import FILE as PROVENANCE
from prudence.runs.provenance import note_provenance
from prudence.training.collect import INIT, Collector, Counters, Keys
from prudence.training.learning import make_learning
from prudence.types import EpisodeSummary, Metrics, Spaces


class TrainingDiverged(RuntimeError):
    """A loss is not finite; the message names the last good checkpoint."""


def train(
    config: RunConfig, directory: Path | str, *, wandb: str | None = None, start_from: Path | str | None = None
) -> Path:
    """Trains, or goes on training, in ``directory``; returns it.

    Args:
        start_from: another run, which a new one in ``directory`` begins as a copy of: its weights as they were last
            saved, its experience, steps and metrics, from there on under ``config``. It is left as it is.

    Raises:
        ConfigError: the directory holds a run of another configuration, or a copy would be of another kind.
        RunDirectoryError: one of the two is a record, or a policy of one, on which nothing can be trained; or the
            directory is in use.
        CheckpointMismatch: networks of other sizes cannot be taken over.
        TrainingDiverged: a loss is no longer finite.
    """
    run, origin = RunDirectory(Path(directory)), None
    for named in (directory, *([] if start_from is None else [start_from])):
        require_trainable(RunDirectory(Path(named)))
    with run.lock(), contextlib.ExitStack() as stack:
        _claim(run, config)
        taking_over = stack.enter_context(contextlib.ExitStack())
        if start_from is not None and checkpoint.latest(run.checkpoints) is None:
            origin = RunDirectory(Path(start_from))
            _take_over(origin, run, config, taking_over)
        note_provenance(run.path)
        env = stack.enter_context(
            contextlib.closing(
                make_vector(config.env, config.loop.num_envs, seed=config.seed, workers=config.loop.workers)
            )
        )
        logger = stack.enter_context(contextlib.closing(Logger(run.path, wandb=wandb)))
        trainer = Trainer(run, config, env, logger)
        trainer.restore(origin)
        taking_over.close()
        trainer.run()
    return run.path


def spaces_of(env: VectorEnv) -> Spaces:
    """The spaces of a vector of environments, with the length of an episode."""
    return dataclasses.replace(env.spaces, episode_steps=env.steps_per_episode)


def _claim(run: RunDirectory, config: RunConfig) -> None:
    """Writes the configuration, or checks that the directory's run has the same (a longer run may go on)."""
    if not run.exists or checkpoint.latest(run.checkpoints) is None:
        # Without a checkpoint nothing can be resumed, nor lost: a first attempt with a mistake in it is no run.
        write_config(run.config, config)
        return
    saved = read_config(run.config, RunConfig)
    extended = dataclasses.replace(saved, loop=dataclasses.replace(saved.loop, steps=config.loop.steps))
    if extended != config:
        changed = ", ".join(_differences(extended, config))
        raise ConfigError(
            f"{run.path} holds a run with another configuration ({changed}). Repeat its command to resume it, "
            "or name another directory with --out"
        )
    write_config(run.config, config)


def _take_over(origin: RunDirectory, run: RunDirectory, config: RunConfig, meanwhile: contextlib.ExitStack) -> None:
    """Copies experience, metrics and provenance of ``origin`` to ``run``, which has no checkpoint of its own yet, and
    keeps ``origin`` from being trained on ``meanwhile``: its checkpoint and its replay must be of one moment."""
    if not origin.exists or checkpoint.latest(origin.checkpoints) is None:
        raise ConfigError(f"there is no run with a checkpoint in {origin.path} to start from")
    source = read_config(origin.config, RunConfig)
    if type(source.loop) is not type(config.loop) or type(source.agent) is not type(config.agent):
        raise ConfigError(f"{origin.path} is a run of {source.agent_name}, from which no {config.agent_name} can start")
    kept: dict[str, tuple[Any, Any]] = {"env": (source.env, config.env)}
    for name in ("num_envs", "updates_per_decision", "prefill"):
        kept[f"loop.{name}"] = getattr(source.loop, name, None), getattr(config.loop, name, None)
    changed = [name for name, (there, here) in kept.items() if there != here]
    if changed:
        raise ConfigError(
            f"a run that starts from {origin.path} must have the same {', '.join(changed)}: its experience and its "
            "count of gradient steps go on"
        )
    meanwhile.enter_context(origin.lock())
    if origin.replay.exists():
        shutil.copytree(origin.replay, run.replay, dirs_exist_ok=True)
    for name in (origin.metrics.name, PROVENANCE):
        shutil.copy(origin.path / name, run.path / name)


def _differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    for f in dataclasses.fields(a):
        x, y, name = getattr(a, f.name), getattr(b, f.name), f"{path}{f.name}"
        if dataclasses.is_dataclass(x) and type(x) is type(y):
            yield from _differences(x, y, f"{name}.")
        elif x != y:
            yield f"{name}: {x} there, {y} now"


class Trainer:
    """One run in this process; see the module's docstring for what an iteration is."""

    def __init__(
        self,
        run: RunDirectory,
        config: RunConfig,
        env: VectorEnv,
        logger: Logger,
    ):
        self._run, self._config, self._env, self._logger = run, config, env, logger
        self._spaces = spaces_of(env)
        self._agent: Agent = config.make_agent(self._spaces)
        keys, self._counters = Keys(config.seed), Counters()
        self._collector = Collector(self._agent, env, self._spaces, self._counters, keys, config.seed)
        self._learning = make_learning(
            config.loop,
            self._agent,
            self._collector,
            self._spaces,
            self._counters,
            keys,
            run.replay,
            config.seed,
        )
        self._init_key = keys(INIT, 0)
        self._stop = False

    @property
    def raw_steps(self) -> int:
        """Environment steps so far, repeats counted."""
        return self._counters.decisions * self._env.raw_steps

    def run(self) -> None:
        """Trains until the configured number of steps, or until SIGTERM or SIGINT asks to stop; once restored."""
        loop = self._config.loop
        budget = getattr(self._agent, "cost_limits", None)
        progress = Progress(loop.steps, start=self.raw_steps, budget=None if budget is None else np.asarray(budget))
        with contextlib.closing(self._learning), _on_signals(self._ask_to_stop), progress:
            progress.log(f"{self._run.path}: {self._learning.plan}{self._planning()}")
            if self.raw_steps >= loop.steps:
                progress.log(f"has its {loop.steps:,} steps already ({self.raw_steps:,}); a larger --steps extends it")
            elif self.raw_steps:
                progress.log(f"resumed at {self.raw_steps:,} of {loop.steps:,} steps")
            self._started, before = time.monotonic(), self._counters.seconds
            updates_before = self._counters.updates
            while self.raw_steps < loop.steps and not self._stop:
                self._collector.begin()
                self._state, metrics = self._learning.iterate(self._state)
                self._counters.seconds = before + time.monotonic() - self._started
                self._after_iteration(metrics, progress)
                self._show(progress, metrics, self._counters.updates - updates_before)
            self._save()
            if self._stop:
                progress.log(f"stopped at {self.raw_steps:,} steps and saved; the same command goes on from here")

    def _planning(self) -> str:
        """When plans begin to be acted on, if that is not at once."""
        start = self._config.planning_starts
        return f"; its policy acts, and plans do from {start:,} steps on" if start else ""

    # ---- between iterations ------------------------------------------------------------------

    def _after_iteration(self, metrics: Metrics, progress: Progress) -> None:
        loop, taken = self._config.loop, self._config.loop.decisions_per_iteration * self._env.raw_steps
        due = lambda every: every > 0 and self.raw_steps // every > (self.raw_steps - taken) // every
        self._refuse_divergence(metrics)
        for summary in self._collector.finished:
            self._logger.write(self.raw_steps, _episode_metrics(summary, self._spaces))
        if metrics and due(loop.log_every):
            acting = {name: float(np.mean(value)) for name, value in self._collector.acting.items()}
            self._logger.write(self.raw_steps, acting | metrics | self._time_metrics())
        if due(loop.evaluate_every):
            self._evaluate(progress)
        if due(loop.checkpoint_every):
            self._save()

    def _refuse_divergence(self, metrics: Metrics) -> None:
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            last = checkpoint.latest(self._run.checkpoints)
            raise TrainingDiverged(
                f"{', '.join(bad)} is not finite after {self._counters.updates} updates ({self.raw_steps} steps). "
                f"Last good checkpoint: {last or 'none yet'}. Lower the learning rates, or look at the data for "
                "values that are not finite or are huge"
            )

    def _time_metrics(self) -> Metrics:
        seconds, elapsed = max(self._counters.seconds, 1e-9), max(time.monotonic() - self._started, 1e-9)
        return {
            "time/wall": self._counters.seconds,
            "time/steps_per_second": self.raw_steps / seconds,
            "time/updates_per_second": self._counters.updates / seconds,
            "time/idle_share": 1 - min(1.0, self._learning.busy / elapsed),
            "time/collect_share": self._learning.collecting / elapsed,
            "time/simulate_share": self._collector.simulating / elapsed,
        }

    def _evaluate(self, progress: Progress) -> None:
        started = time.monotonic()
        result = evaluate_agent(
            self._agent,
            self._state,
            self._config.env,
            episodes=self._config.loop.evaluate_episodes,
            seed=self._config.seed,
        )
        self._logger.write(
            self.raw_steps,
            result.metrics() | self._learning.foresight(self._state) | {"time/evaluation": time.monotonic() - started},
        )
        progress.log(f"{self.raw_steps:>9,} steps: evaluation {result.one_line()}")

    def _show(self, progress: Progress, metrics: Metrics, updates: int) -> None:
        multipliers = [v for k, v in metrics.items() if k.startswith("constraint/multiplier")]
        recent = list(self._collector.recent)
        progress.update(
            self.raw_steps,
            updates=updates,
            episode_return=float(np.mean([s.episode_return for s in recent])) if recent else None,
            episode_cost=np.mean([s.episode_cost for s in recent], 0) if recent else None,
            multiplier=multipliers or None,
        )

    def _ask_to_stop(self) -> None:
        self._stop = True

    # ---- saving and resuming -----------------------------------------------------------------

    def _save(self) -> None:
        meta = {
            "task": self._config.env.task,
            "agent": self._config.agent_name,
            "spaces": checkpoint.spaces_to_json(self._spaces),
            "counters": dataclasses.asdict(self._counters),
            **self._collector.saved(),
            **self._learning.saved(),
        }
        self._logger.flush()
        checkpoint.save(self._run.checkpoints, self.raw_steps, (self._state, self._collector.carry), meta)
        self._learning.commit()

    def restore(self, origin: RunDirectory | None = None) -> None:
        """Goes back to the run's newest checkpoint, or to that of ``origin``, which is then saved as the run's own;
        begins anew where there is none."""
        self._state = self._agent.init(key=self._init_key)
        source = (origin or self._run).checkpoints
        if checkpoint.latest(source) is None:
            self._logger.truncate(-1)
            self._collector.start()
            self._learning.start()
            return
        # Before replay is opened, since its complaint about other spaces would not name the tasks.
        (self._state, carry), meta = checkpoint.load(
            source,
            (self._state, self._collector.carry),
            expect={"task": self._config.env.task, "spaces": self._spaces},
            partly=origin is not None,
        )
        for name, value in meta["counters"].items():
            setattr(self._counters, name, value)
        whole = self._collector.restore(meta, carry)
        self._learning.restore(meta, whole)
        self._logger.truncate(self.raw_steps)
        if origin is not None:
            self._save()


def _episode_metrics(summary: EpisodeSummary, spaces: Spaces) -> Metrics:
    costs = {"episode/cost": float(summary.episode_cost.sum())}
    if spaces.num_costs > 1:
        costs |= {f"episode/cost_{n}": float(c) for n, c in zip(spaces.costs, summary.episode_cost, strict=True)}
    return {"episode/return": summary.episode_return, **costs, "episode/length": summary.length}


@contextlib.contextmanager
def _on_signals(react: Callable[[], None]) -> Iterator[None]:
    """Calls ``react`` on SIGTERM or SIGINT; outside the main thread, where handlers cannot be set, never."""
    try:
        previous = {s: signal.signal(s, lambda *_: react()) for s in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
