"""Runs environments in this process, or in this process and worker processes.

A backend executes commands by environment index. A command is one of

- ``("reset", seed)``: starts an episode;
- ``("step", action)``: takes a step; the action is ``float32 [A]``, one-hot if actions are discrete;
- ``("replay", seed, actions)``: starts an episode and takes ``actions`` ``[n, A]`` one after another;
- ``("render",)``: returns a picture, ``uint8 [height, width, 3]``;
- ``("overhead", radius)``: returns the arena, or ``radius`` metres around the agent, as an
  :class:`~prudence.envs.base.Overhead`; None if the environment has no method ``overhead``;
- ``("describe",)``: returns the environment's :class:`~prudence.envs.base.Description`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from prudence.envs import registry
from prudence.envs.base import EnvConfig, EnvError, goals_of

Command = tuple[Any, ...]
SILENCE = 20.0
"""Seconds until a worker that does not answer is named."""
_LARGEST = float(np.finfo(np.float32).max)
_log = logging.getLogger(__name__)


class Row(NamedTuple):
    """The result of a reset or a step of one environment.

    Attributes:
        observation: arrays by name.
        reward: the sum over the decision's raw steps; 0 after a reset.
        cost: ``float32 [C]``, likewise.
        terminated, truncated: as in Gymnasium.
        goals: number of goals that the step reached. None if the environment does not report it, and after a reset.
    """

    observation: dict[str, np.ndarray]
    reward: float
    cost: np.ndarray
    terminated: bool
    truncated: bool
    goals: int | None


def _finite(row: Row) -> Row:
    """Returns ``row`` if all its values are finite. Other values would spoil the replay buffer and all later updates.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    bad = [f"observation {name!r}" for name, value in row.observation.items() if not _is_finite(value)]
    bad += [f"{name} {value}" for name, value in (("reward", row.reward), ("cost", row.cost)) if not _is_finite(value)]
    if bad:
        raise ValueError(f"the environment returned values that are not finite: {', '.join(bad)} (in float32)")
    return row


def _is_finite(value: float | np.ndarray) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind != "f" or bool(np.isfinite(value).all())
    return abs(value) <= _LARGEST


class Crash(NamedTuple):
    """The answer of an environment that failed, or whose process failed. The environment will be made again."""

    reason: str


class Runner:
    """Owns one environment and executes its commands."""

    def __init__(self, config: EnvConfig) -> None:
        self._config = config
        self._env: gym.Env | None = None
        self._discrete = False

    def execute(self, command: Command) -> Any:
        """Executes ``command``. Returns the answer, or a :class:`Crash` if the environment raised an exception.

        Raises:
            EnvError: the configuration is wrong. A new attempt cannot repair that.
        """
        try:
            return getattr(self, f"_{command[0]}")(*command[1:])
        except (EnvError, KeyboardInterrupt):
            raise
        except BaseException:  # Such as SystemExit, which would end a worker: no step may end the run.
            self.close()
            return Crash(traceback.format_exc())

    def close(self) -> None:
        env, self._env = self._env, None
        if env is not None:
            try:
                env.close()
            except (Exception, SystemExit) as error:  # It may fail here again. It is discarded anyway.
                _log.debug("Closing %s failed: %s", self._config.task, error)

    @property
    def env(self) -> gym.Env:
        if self._env is None:
            self._env = registry.make(self._config)
            self._discrete = isinstance(self._env.action_space, gym.spaces.Discrete)
        return self._env

    def _describe(self) -> Any:
        return registry.describe(self.env, self._config)

    def _render(self) -> Any:
        return self.env.render()

    def _overhead(self, radius: float | None) -> Any:
        return self.env.get_wrapper_attr("overhead")(radius) if self.env.has_wrapper_attr("overhead") else None

    def _reset(self, seed: int) -> Row:
        observation, _ = self.env.reset(seed=seed)
        costs = len(self.env.get_wrapper_attr("cost_names"))
        return _finite(Row(observation, 0.0, np.zeros(costs, np.float32), False, False, None))

    def _step(self, action: np.ndarray) -> Row:
        if self._env is None:
            raise RuntimeError("the environment had to be made again, and its episode is lost")
        env = self._env
        step = env.step(int(np.argmax(action)) if self._discrete else action)
        observation, reward, terminated, truncated, info = step
        ends = bool(terminated), bool(truncated)
        return _finite(Row(observation, float(reward), info["cost"], *ends, goals_of(info)))

    def _replay(self, seed: int, actions: np.ndarray) -> Row:
        row = self._reset(seed)
        for action in actions:
            row = self._step(action)
        return row


class Backend:
    """Environments 0 to E - 1, distributed in turn over the worker processes and this process.

    This process takes its share because it would only wait otherwise. With two workers, environment 0 runs in the
    first, 1 in the second, 2 in this process, and 3 in the first again. Without workers all run in this process. With
    one worker for each environment, none runs in this process.

    Workers are spawned, not forked: JAX runs threads in the parent, and a fork would copy their locks. If a worker
    dies, it is started again, and the answer to its pending commands is a :class:`Crash`.
    """

    def __init__(self, config: EnvConfig, num_envs: int, workers: int) -> None:
        self._config = config
        self._context = multiprocessing.get_context("spawn")
        self._workers = [self._start() for _ in range(min(workers, num_envs))]
        self._here: dict[int, Runner] = {}

    def execute(self, commands: Mapping[int, Command]) -> dict[int, Any]:
        """Executes the commands. Returns the answer of each environment, or its :class:`Crash`.

        Raises:
            EnvError: an environment does not work with this configuration.
        """
        shares: dict[int, dict[int, Command]] = {}
        for index, command in commands.items():
            shares.setdefault(index % (len(self._workers) + 1), {})[index] = command
        own = shares.pop(len(self._workers), {})
        try:
            sent = {worker: self._send(worker, share) for worker, share in shares.items()}
            answers = _answer(self._here, self._config, own)
            for worker, share in shares.items():
                answers |= (self._receive(worker, share) if sent[worker] else None) or self._restart(worker, share)
        except BaseException:  # After Ctrl-C, an unread answer must not be read as the answer to the next command.
            for worker, share in shares.items():
                self._restart(worker, share)
            _close(self._here)
            raise
        for answer in answers.values():
            if isinstance(answer, EnvError):
                raise answer
        return answers

    def close(self) -> None:
        """Closes the environments and ends the processes. A second call does nothing."""
        for process, connection in self._workers:
            connection.close()  # A worker ends when its pipe does.
            _end(process)
        self._workers = []
        _close(self._here)

    def _start(self) -> tuple[Any, Any]:
        parent, child = self._context.Pipe()
        process = self._context.Process(target=_work, args=(child, self._config), daemon=True)
        process.start()
        child.close()
        return process, parent

    def _send(self, worker: int, share: dict[int, Command]) -> bool:
        try:
            self._workers[worker][1].send(share)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _receive(self, worker: int, share: Mapping[int, Command]) -> dict[int, Any] | None:
        process, connection = self._workers[worker]
        waited, patience = 0.0, SILENCE
        try:
            while not connection.poll(patience):
                waited, patience = waited + patience, 2 * patience
                _log.warning(
                    "worker process %d has been silent for %.0f s, since environments %s of %s were told to %s. If it "
                    "hangs, end it (kill -9 %d): its episodes end as truncated, and it is started anew",
                    process.pid, waited, ", ".join(map(str, share)), self._config.task,
                    " or ".join(dict.fromkeys(command[0] for command in share.values())), process.pid,
                )  # fmt: skip
            return connection.recv()
        except (EOFError, ConnectionResetError):
            return None

    def _restart(self, worker: int, share: dict[int, Command]) -> dict[int, Any]:
        process, connection = self._workers[worker]
        connection.close()
        _end(process)
        self._workers[worker] = self._start()
        code = process.exitcode
        reason = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"
        return {index: Crash(f"worker process {process.pid} died: {reason}") for index in share}


def _end(process: Any) -> None:
    process.join(timeout=5)
    if process.is_alive():
        process.kill()
        process.join()


def _work(connection: Connection, config: EnvConfig) -> None:
    """The main loop of a worker: executes commands until the pipe closes."""
    # Schedulers send SIGTERM, and terminals Ctrl-C, to the whole process group. Only the parent should react.
    os.setpgrp()
    threading.Thread(target=_die_with_parent, daemon=True).start()
    runners: dict[int, Runner] = {}
    try:
        while True:
            _await(connection)
            connection.send(_answer(runners, config, connection.recv()))
    except (EOFError, ConnectionError):
        _close(runners)


def _die_with_parent() -> None:
    """Ends this process when its parent has ended, also in the middle of a step that never returns."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _close(runners: dict[int, Runner]) -> None:
    for runner in runners.values():
        runner.close()
    runners.clear()


def _await(connection: Connection) -> None:
    """Polls for a command for a millisecond, and yields to other processes meanwhile. After that the worker may sleep.

    For a fast environment, waking up takes a good part of the time of a step. It may also happen on the core that the
    parent uses.
    """
    until = time.perf_counter() + 0.001
    while not connection.poll() and time.perf_counter() < until:
        os.sched_yield()


def _answer(runners: dict[int, Runner], config: EnvConfig, commands: dict[int, Command]) -> dict[int, Any]:
    """The answer of each environment. An :class:`EnvError` is an answer too; :class:`Backend` raises it."""
    answers: dict[int, Any] = {}
    for index, command in commands.items():
        try:
            answers[index] = runners.setdefault(index, Runner(config)).execute(command)
        except EnvError as error:
            answers[index] = error
    return answers
