"""Training: experience, gradient steps, evaluation and checkpoints, resumable bit for bit.

One *iteration* takes ``decisions_per_iteration`` decisions and the gradient steps that they owe, side
by side: a thread learns from windows that were drawn before the iteration, while this one steps the
environments with the weights from before it. Nothing is under way between two iterations, which is
where checkpoints are taken, so what a run computes depends neither on timing nor on interruptions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from prudence.agents.base import Agent
from prudence.data.memory import check_fits, memory_plan
from prudence.data.replay import Replay, Windows
from prudence.envs.vector import VectorEnv, make_vector
from prudence.presets import RunConfig, make_agent
from prudence.run import checkpoint
from prudence.run.config import ConfigError, read_config, write_config
from prudence.run.directory import RunDirectory
from prudence.run.evaluate import evaluate_agent
from prudence.run.foresight import measure
from prudence.run.logging import Logger, Progress
from prudence.run.provenance import note_provenance
from prudence.types import ActionSpec, EpisodeSummary, Key, Metrics, Spaces, Transition

_ACT, _UPDATE, _INIT, _FORESIGHT = range(4)
_FORESIGHT_SEQUENCES = 64
_REPLAY_CHUNK = 1024


class TrainingDiverged(RuntimeError):
    """A loss is not finite; the message names the last good checkpoint."""


@dataclass
class Counters:
    """Where a run stands. ``decisions`` are over all environments; ``updates`` are gradient steps."""

    decisions: int = 0
    updates: int = 0
    seconds: float = 0.0


def train(config: RunConfig, directory: Path | str, *, wandb: str | None = None) -> Path:
    """Trains, or goes on training, in ``directory``; returns it.

    Raises:
        ConfigError: the directory holds a run of another configuration.
        TrainingDiverged: a loss is no longer finite.
    """
    run = RunDirectory(Path(directory))
    with run.lock(), contextlib.ExitStack() as stack:
        _claim(run, config)
        note_provenance(run.path)
        env = stack.enter_context(
            contextlib.closing(
                make_vector(config.env, config.loop.num_envs, seed=config.seed, workers=config.loop.workers)
            )
        )
        logger = stack.enter_context(contextlib.closing(Logger(run.path, wandb=wandb)))
        Trainer(run, config, env, logger).run()
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


def _differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    for f in dataclasses.fields(a):
        x, y, name = getattr(a, f.name), getattr(b, f.name), f"{path}{f.name}"
        if dataclasses.is_dataclass(x) and type(x) is type(y):
            yield from _differences(x, y, f"{name}.")
        elif x != y:
            yield f"{name}: {x} there, {y} now"


class Trainer:
    """One run in this process; see the module's docstring for what an iteration is."""

    def __init__(self, run: RunDirectory, config: RunConfig, env: VectorEnv, logger: Logger):
        self._run, self._config, self._env, self._logger = run, config, env, logger
        self._spaces = spaces_of(env)
        self._agent: Agent = make_agent(config.agent_name, self._spaces, config.agent)
        self._keys = _Keys(config.seed)
        self._counters = Counters()
        self._recent: deque[EpisodeSummary] = deque(maxlen=10)
        self._acting: Metrics = {}
        self._stop = False
        loop = config.loop
        plan = memory_plan(
            self._spaces,
            loop.replay_capacity,
            loop.num_envs,
            chunk_size=_REPLAY_CHUNK,
            checkpoint_every=loop.checkpoint_every // env.raw_steps,
        )
        check_fits(plan, run.replay)
        self._memory_plan = plan

    @property
    def raw_steps(self) -> int:
        """Environment steps so far, repeats counted."""
        return self._counters.decisions * self._env.raw_steps

    def run(self) -> None:
        """Trains until the configured number of steps, or until SIGTERM or SIGINT asks to stop."""
        loop = self._config.loop
        self._restore()
        budget = getattr(self._agent, "cost_limits", None)
        progress = Progress(loop.steps, start=self.raw_steps, budget=None if budget is None else np.asarray(budget))
        with _on_signals(self._ask_to_stop), ThreadPoolExecutor(1, "learn") as pool, progress:
            progress.log(f"{self._run.path}: {self._memory_plan}")
            if self.raw_steps >= loop.steps:
                progress.log(f"has its {loop.steps:,} steps already ({self.raw_steps:,}); a larger --steps extends it")
            elif self.raw_steps:
                progress.log(f"resumed at {self.raw_steps:,} of {loop.steps:,} steps")
            started, before = time.monotonic(), self._counters.seconds
            updates_before = self._counters.updates
            while self.raw_steps < loop.steps and not self._stop:
                metrics = self._iterate(pool)
                self._counters.seconds = before + time.monotonic() - started
                self._after_iteration(metrics, progress)
                self._show(progress, metrics, self._counters.updates - updates_before)
            self._save()
            if self._stop:
                progress.log(f"stopped at {self.raw_steps:,} steps and saved; the same command goes on from here")

    # ---- one iteration -----------------------------------------------------------------------

    def _iterate(self, pool: ThreadPoolExecutor) -> Metrics:
        started = time.perf_counter()
        windows = self._draw()
        learning = pool.submit(self._learn, self._state, windows) if windows else None
        self._collect()
        collected = time.perf_counter()
        metrics: Metrics = {}
        if learning is not None:
            self._state, metrics, learned = learning.result()
            self._counters.updates += len(windows) * self._config.loop.updates_per_dispatch
            busy = max(collected, learned) - started
        else:
            busy = collected - started
        for summary in self._finished:
            self._state = self._agent.on_episode(self._state, summary)
        self._busy += busy
        self._collecting += collected - started
        return metrics

    def _draw(self) -> list[Windows]:
        """Windows for the updates that the decisions so far owe."""
        loop = self._config.loop
        trained_on = self._counters.decisions - loop.prefill
        if trained_on < 0 or not self._replay.ready(loop.batch_length):
            return []
        owed = loop.updates_per_decision * (trained_on + loop.decisions_per_iteration) - self._counters.updates
        dispatches = int(owed) // loop.updates_per_dispatch
        return [
            self._replay.draw(loop.batch_size, loop.batch_length, loop.updates_per_dispatch) for _ in range(dispatches)
        ]

    def _learn(self, state: Any, windows: list[Windows]) -> tuple[Any, Metrics, float]:
        """Gradient steps on the windows; runs in a thread of its own. Returns when it ended, too."""
        history = []
        for index, chosen in enumerate(windows):
            key = self._keys(_UPDATE, self._counters.updates + index * self._config.loop.updates_per_dispatch)
            state, metrics = self._agent.update(state, jax.device_put(self._replay.gather(chosen)), key=key)
            history.append(metrics)
        means = jax.tree.map(lambda *values: float(np.mean([np.asarray(v) for v in values])), *history)
        return jax.block_until_ready(state), means, time.perf_counter()

    def _collect(self) -> None:
        """Steps the environments and adds what arrives to replay."""
        self._finished: list[EpisodeSummary] = []
        for _ in range(self._config.loop.decisions_per_iteration // self._env.num_envs):
            actions = self._act()
            self._last = self._env.step(actions)
            self._replay.add(self._last)
            self._counters.decisions += self._env.num_envs
            self._count(self._last)

    def _act(self) -> np.ndarray:
        last, index = self._last, self._counters.decisions
        if index < self._config.loop.prefill:
            return random_actions(self._spaces.action, self._env.num_envs, (self._config.seed, index))
        action, self._carry, self._acting = self._agent.act(
            self._state, self._carry, last.observation, last.is_first, key=self._keys(_ACT, index), mode="train"
        )
        return np.asarray(action)

    def _count(self, row: Transition) -> None:
        self._returns = np.where(row.is_first, 0, self._returns) + row.reward
        self._costs = np.where(row.is_first[:, None], 0, self._costs) + row.cost
        self._lengths = np.where(row.is_first, 0, self._lengths + 1)
        for i in np.flatnonzero(row.is_last):
            summary = EpisodeSummary(float(self._returns[i]), self._costs[i].copy(), int(self._lengths[i]))
            self._finished.append(summary)
            self._recent.append(summary)

    # ---- between iterations ------------------------------------------------------------------

    def _after_iteration(self, metrics: Metrics, progress: Progress) -> None:
        loop, taken = self._config.loop, self._config.loop.decisions_per_iteration * self._env.raw_steps
        due = lambda every: every > 0 and self.raw_steps // every > (self.raw_steps - taken) // every  # noqa: E731
        self._refuse_divergence(metrics)
        for summary in self._finished:
            self._logger.write(self.raw_steps, _episode_metrics(summary, self._spaces))
        if metrics and due(loop.log_every):
            acting = {name: float(np.mean(value)) for name, value in self._acting.items()}
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
        seconds = max(self._counters.seconds, 1e-9)
        return {
            "time/wall": self._counters.seconds,
            "time/steps_per_second": self.raw_steps / seconds,
            "time/updates_per_second": self._counters.updates / seconds,
            "time/idle_share": 1 - min(1.0, self._busy / max(time.monotonic() - self._process_started, 1e-9)),
            "time/collect_share": self._collecting / max(time.monotonic() - self._process_started, 1e-9),
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
            self.raw_steps, result.metrics() | self._foresight() | {"time/evaluation": time.monotonic() - started}
        )
        progress.log(f"{self.raw_steps:>9,} steps: evaluation {result.one_line()}")

    def _foresight(self) -> Metrics:
        """How well the model foresees the newest experience, where there is enough of it."""
        length = self._config.loop.batch_length
        if not self._replay.ready(length) or length < 2:
            return {}
        batch, context = self._replay.newest(_FORESIGHT_SEQUENCES, length), length // 2
        key = self._keys(_FORESIGHT, self._counters.decisions)
        return measure(self._agent, self._state, batch, context=context, key=key)[0].metrics()

    def _show(self, progress: Progress, metrics: Metrics, updates: int) -> None:
        multipliers = [v for k, v in metrics.items() if k.startswith("constraint/multiplier")]
        recent = list(self._recent)
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
            "env": self._env.state(),
            "replay": self._replay.state(),
            "episodes": {"return": self._returns, "cost": self._costs, "length": self._lengths},
            "recent": [[s.episode_return, s.episode_cost, s.length] for s in self._recent],
        }
        self._logger.flush()
        checkpoint.save(self._run.checkpoints, self.raw_steps, (self._state, self._carry), meta)
        self._replay.commit()

    def _restore(self) -> None:
        loop, num_envs = self._config.loop, self._env.num_envs
        self._state = self._agent.init(key=self._keys(_INIT, 0))
        self._carry = self._agent.init_carry(num_envs)
        meta = None
        if checkpoint.latest(self._run.checkpoints) is not None:
            # Before replay is opened, since its complaint about other spaces would not name the tasks.
            (self._state, self._carry), meta = checkpoint.load(
                self._run.checkpoints,
                (self._state, self._carry),
                expect={"task": self._config.env.task, "spaces": self._spaces},
            )
        self._replay = Replay(
            self._run.replay,
            self._env.spaces,
            num_envs,
            capacity=loop.replay_capacity,
            seed=self._config.seed,
            chunk_size=_REPLAY_CHUNK,
        )
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, int)
        self._costs = np.zeros((num_envs, self._spaces.num_costs))
        self._busy, self._collecting, self._process_started = 0.0, 0.0, time.monotonic()
        if meta is None:
            self._replay.clear()
            self._logger.truncate(-1)
            self._last = self._env.reset()
            self._replay.add(self._last)
            return
        self._counters = Counters(**meta["counters"])
        self._replay.restore(meta["replay"])
        self._last = self._env.restore(meta["env"])
        episodes = meta["episodes"]
        self._returns, self._costs, self._lengths = episodes["return"], episodes["cost"], episodes["length"]
        self._recent.extend(EpisodeSummary(r, np.asarray(c), n) for r, c, n in meta["recent"])
        if (self._env.state()["episode"] != meta["env"]["episode"]).any():
            # One could not be brought back. Replay has rows of all environments, so all begin an episode.
            self._last = self._env.reset()
            self._replay.add(self._last)
            self._count(self._last)
        self._logger.truncate(self.raw_steps)


class _Keys:
    """The key of a purpose and an index, derived from the run's seed alone."""

    def __init__(self, seed: int):
        self._root = jax.random.key(seed)
        self._fold = jax.jit(lambda root, purpose, index: jax.random.fold_in(jax.random.fold_in(root, purpose), index))

    def __call__(self, purpose: int, index: int) -> Key:
        return self._fold(self._root, purpose, index)


def random_actions(action: ActionSpec, num_envs: int, seed: tuple[int, ...]) -> np.ndarray:
    """Uniform actions ``[E, A]`` over the whole action space."""
    rng = np.random.default_rng(seed)
    if action.kind == "discrete":
        return np.eye(action.size, dtype=np.float32)[rng.integers(action.size, size=num_envs)]
    return rng.uniform(-1, 1, (num_envs, action.size)).astype(np.float32)


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
