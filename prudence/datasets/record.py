"""Recording datasets: episodes of a policy, or those that a run's replay holds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from prudence.cores.base import Agent, Mode
from prudence.data.dataset import Dataset
from prudence.data.dataset_writer import DatasetWriter, check_vacant
from prudence.data.manifest import DatasetError, Source
from prudence.data.replay import Replay
from prudence.datasets.policies import FixedPolicy, find_script
from prudence.deploy.policy import load_interface, load_run, require_known_task
from prudence.deploy.shipped import find_policy
from prudence.envs.base import EnvConfig
from prudence.envs.interface import Interface
from prudence.envs.vector import make_vector
from prudence.evidence.evaluate import Evaluation, Step, evaluate_agent
from prudence.loops import ReplayLoop
from prudence.run_config import RunConfig
from prudence.runs.config import read_config, to_json
from prudence.runs.directory import RunDirectory
from prudence.runs.provenance import describe
from prudence.types import Transition

RANDOM = "random"
_SEED_OFFSET = 1_000_000
"""Distance of the seeds of recorded episodes from those of evaluation, which is as far from training's."""


class _Behaviour(NamedTuple):
    agent: Agent
    state: Any
    env: EnvConfig
    interface: Interface
    mode: Mode
    source: Source


def record_dataset(
    policy: Path | str,
    out: Path | str,
    *,
    episodes: int = 200,
    env: EnvConfig | Path | str | None = None,
    explore: bool = False,
    seed: int = 0,
    name: str | None = None,
    licence: str | None = None,
    note: str = "",
    trust: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[Dataset, Evaluation]:
    """Records whole episodes of a policy.

    Args:
        policy: the directory of a run (or of a recorded policy), which acts as it is evaluated; ``random``: uniform
            actions; or ``module:name``, a script (:func:`prudence.datasets.policies.find_script`).
        out: directory of the new dataset.
        episodes: number of episodes.
        env: for ``random`` and a script: the environment, or the directory of a run that has it.
        explore: a run acts as in training.
        seed: of the episodes, which are apart from those of training and of evaluation.
        name: of the source; by default that of the run or the policy.
        licence, note: for the manifest.
        trust: imports and calls what the run's files name: a task ``module:Class`` and a cost function.
        progress: is called with the number of finished episodes.

    Returns:
        The dataset, and returns and costs of its episodes.

    Raises:
        DatasetError: ``out`` exists, or ``env`` is missing, or given for a run, which has its own.
        RunDirectoryError, CheckpointError, CheckpointMismatch, EnvError: the run or its task cannot be loaded.
        ValueError: there is no such script, or it gives no action.
    """
    out = Path(out).absolute()  # An environment may change the working directory.
    check_vacant(out)
    found = _behaviour(policy, env, explore, trust)
    source = _described(found.source, name, seed)
    known = {"env": to_json(found.env), "interface": found.interface.content()}
    with DatasetWriter(out, found.agent.spaces, **known, licence=licence, note=note) as writer:
        result = evaluate_agent(
            found.agent,
            found.state,
            found.env,
            episodes=episodes,
            seed=seed + _SEED_OFFSET,
            mode=found.mode,
            witness=_Recorder(writer, writer.source(source)),
            progress=progress,
        )
    return Dataset(out), result


def dataset_from_replay(
    run: Path | str,
    out: Path | str,
    *,
    name: str | None = None,
    licence: str | None = None,
    note: str = "",
    progress: Callable[[int], None] | None = None,
) -> Dataset:
    """Makes a dataset of every episode that a run's replay holds whole: what was tried while it learnt.

    Args:
        run: directory of a run that has a replay and is not training now.
        progress: is called with the number of episodes so far.

    Raises:
        DatasetError: the run has no replay, or no whole episode in it, or ``out`` exists.
        RunDirectoryError: the run is training, or there is none.
    """
    check_vacant(Path(out))
    directory = RunDirectory(Path(run))
    config, agent, _, step = load_run(directory.path)
    if not isinstance(config.loop, ReplayLoop) or not directory.replay.is_dir():
        raise DatasetError(
            f"{run} has no replay: it learns from rollouts, or is a recorded policy. `prudence dataset record` records "
            "its policy"
        )
    source = _described(Source(directory.path.name, run=str(run), step=step, mode="replay"), name, config.seed)
    env, interface = to_json(config.env), load_interface(directory.path, agent.spaces).content()
    with (
        directory.lock(),  # Opening a replay deletes incomplete chunks, such as one that a training run is writing.
        DatasetWriter(out, agent.spaces, env=env, interface=interface, licence=licence, note=note) as writer,
    ):
        replay = Replay(
            directory.replay, agent.spaces, config.loop.num_envs, capacity=config.loop.replay_capacity, seed=0
        )
        index = writer.source(source)
        for number, episode in enumerate(replay.episodes(), start=1):
            writer.add(episode, index)
            if progress is not None:
                progress(number)
    return Dataset(out)


class _Recorder:
    """A ``witness`` of :func:`~prudence.evidence.evaluate.evaluate_agent` that writes the episodes that count."""

    def __init__(self, writer: DatasetWriter, source: int) -> None:
        self._writer, self._source = writer, source
        self._rows: dict[int, list[Transition]] = {}

    def __call__(self, step: Step) -> None:
        for i in np.flatnonzero(step.counts).tolist():
            rows = self._rows.setdefault(i, [_row(step.before, i)])
            rows.append(_row(step.after, i))
            if step.after.is_last[i]:
                self._writer.add(jax.tree.map(lambda *values: np.stack(values), *self._rows.pop(i)), self._source)


def _row(transition: Transition, index: int) -> Transition:
    return jax.tree.map(lambda values: np.array(values[index]), transition)


def _behaviour(policy: Path | str, env: EnvConfig | Path | str | None, explore: bool, trust: bool) -> _Behaviour:
    if str(policy) != RANDOM and ":" not in str(policy):
        if env is not None:
            raise DatasetError(f"{policy} is a run, which acts in its own environment: leave --task and --like out")
        return _trained(Path(policy), explore, trust)
    if explore:
        raise DatasetError(f"{policy} does not learn, so it does not explore: leave --explore out")
    if env is None:
        raise DatasetError(
            f"{policy} acts in any environment: say in which, with --like RUN (that of a run) or with --task"
        )
    config = env if isinstance(env, EnvConfig) else _environment_of(Path(env), trust)
    with contextlib.closing(make_vector(config, 1, seed=0)) as envs:
        spaces, interface = envs.spaces, envs.interface
    make = None if str(policy) == RANDOM else find_script(str(policy), spaces)
    source = Source(str(policy), mode="random" if make is None else "scripted")
    return _Behaviour(FixedPolicy(spaces, make), None, config, interface, "evaluate", source)


def _trained(directory: Path, explore: bool, trust: bool) -> _Behaviour:
    run, _ = find_policy(directory)
    if run.ships and explore:
        raise DatasetError(
            f"{run.path} keeps what is evaluated, not the networks that training explored with: leave --explore out"
        )
    config, agent, state, step = load_run(run.path, trust=trust, parts="all" if explore else "acting")
    if not trust:
        require_known_task(run, config.env.task)
    mode: Mode = "train" if explore else "evaluate"
    source = Source(directory.name, run=str(directory), step=step, mode=mode)
    interface = load_interface(run.path, agent.spaces, trust=trust)
    return _Behaviour(agent, state, config.env, interface, mode, source)


def _environment_of(directory: Path, trust: bool) -> EnvConfig:
    run, _ = find_policy(directory)
    config = read_config(run.config, RunConfig)
    if not trust:
        require_known_task(run, config.env.task)
    return config.env


def _described(source: Source, name: str | None, seed: int) -> Source:
    told = describe()
    return Source(name or source.name, told["command"], source.run, source.step, source.mode, told["commit"], seed)
