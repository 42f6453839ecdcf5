"""What a person asks for (agent, task, preset, budget) made into a run: shared by the command and the API."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from prudence.data.dataset import read_manifest
from prudence.data.manifest import Manifest
from prudence.envs import recorded, registry
from prudence.envs.base import EnvConfig
from prudence.loops import OfflineLoop
from prudence.presets import preset, with_action_repeat
from prudence.presets.offline import offline
from prudence.presets.online import online
from prudence.run_config import RunConfig
from prudence.runs.config import from_json, read_config
from prudence.runs.directory import RunDirectory
from prudence.runs.files import safe_name
from prudence.systems import find_system
from prudence.training.trainer import train as run_training

TASK = "SafetyPointGoal1-v0"
"""The task if none is named."""


def configure(
    agent: str,
    task: str | None = None,
    *,
    obs: tuple[str, ...] = (),
    preset_name: str = "cpu",
    steps: int | None = None,
    updates: int | None = None,
    dataset: Path | str | None = None,
    start_from: Path | str | None = None,
    cost_limit: float | Sequence[float] | None = None,
    seed: int = 0,
    **env: Any,
) -> RunConfig:
    """A preset's configuration with the most asked-for choices applied.

    A run that starts from an offline run, without a data set of its own, goes on in that run's environment, or in
    ``task``. ``env`` are fields of ``EnvConfig`` and options of the task's suite. Raises EnvError where the task has no
    such one.
    """
    origin = None if dataset is not None or start_from is None else _offline_origin(Path(start_from))
    if dataset is None:
        _refuse_online(agent, updates)
        if origin is None:
            config = preset(preset_name, agent, registry.configure(task or TASK, obs=obs, **env))
        else:
            config = online(preset_name, agent, _environment_after(origin, start_from, task, obs), origin)
        if steps is not None:
            config = dataclasses.replace(config, loop=config.loop.with_length(steps))
        # An explicit choice wins over the preset's.
        config = with_action_repeat(config, env.get("action_repeat", config.env.action_repeat))
        config = dataclasses.replace(config, env=registry.with_settings(config.env, **env))
    else:
        if steps is not None:
            raise ValueError("an offline run takes no environment steps: give --updates instead of --steps")
        manifest = read_manifest(Path(dataset))
        known = _environment(manifest, dataset, task, {**env, **({"obs": obs} if obs else {})})
        config = offline(preset_name, agent, known, Path(dataset).absolute(), manifest.digest, updates=updates)
    if cost_limit is not None:
        one = isinstance(cost_limit, int | float | str)  # A string is refused by the budget.
        budget = dataclasses.replace(config.agent.budget, limit=cost_limit if one else tuple(cost_limit))
        config = dataclasses.replace(config, agent=dataclasses.replace(config.agent, budget=budget))
    return dataclasses.replace(config, seed=seed)


def _environment(manifest: Manifest, dataset: Path | str, task: str | None, settings: dict[str, Any]) -> EnvConfig:
    """The environment of a data set. The user names it, with its settings, if the data set does not say it."""
    if manifest.env is None:
        return registry.configure(recorded.TASK if task is None else task, **settings)
    known = registry.complete(from_json(manifest.env, EnvConfig))
    repeated = task in (None, known.task)
    if (registry.with_settings(known, **settings) if repeated else registry.configure(task or "", **settings)) != known:
        raise ValueError(
            f"{dataset} was recorded in {known.task} with settings of its own, so leave --task, --obs and the settings "
            "of the environment out. (A run that starts from the trained policy may have another task.)"
        )
    return known


def _offline_origin(run: Path) -> RunConfig | None:
    """The configuration of an offline run; None for another run, or where there is none."""
    path = RunDirectory(run).config
    found = read_config(path, RunConfig) if path.exists() else None
    return found if found is not None and isinstance(found.loop, OfflineLoop) else None


def _environment_after(origin: RunConfig, run: Path | str | None, task: str | None, obs: tuple[str, ...]) -> EnvConfig:
    """The environment of an offline run, or that of another ``task`` with the same settings."""
    if task is None and origin.env.task == recorded.TASK:
        raise ValueError(f"nobody knows in which environment the data of {run} were recorded: name it with --task")
    if task is None and ":" in origin.env.task:
        raise ValueError(
            f"{run} goes on in {origin.env.task}, and a class that a file names is not imported: name it yourself, "
            f"with --task {origin.env.task}"
        )
    changed = {name: value for name, value in {"task": task, "obs": obs}.items() if value}
    return registry.with_settings(origin.env, **changed)


def _refuse_online(agent: str, updates: int | None) -> None:
    if find_system(agent).needs.dataset:
        raise ValueError(
            f"{agent} learns from recorded data: give --dataset DIRECTORY. `prudence dataset record` makes one from a "
            "policy, and `prudence dataset import` from a file"
        )
    if updates is not None:
        raise ValueError(
            "--updates is the length of an offline run: give --steps, or a data set to learn from (--dataset)"
        )


def train(
    agent: str = "safedreamer-bsrp-lag",
    task: str | None = None,
    *,
    obs: tuple[str, ...] = (),
    preset: str = "cpu",
    steps: int | None = None,
    updates: int | None = None,
    dataset: Path | str | None = None,
    cost_limit: float | Sequence[float] | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    config: RunConfig | None = None,
    wandb: str | None = None,
    start_from: Path | str | None = None,
    restart: bool = False,
    **env: Any,
) -> Path:
    """Trains an agent, or resumes the run that ``out`` holds, and returns the run's directory.

    Args:
        agent, task, preset, seed: what to train, on what, with which sizes. The task is SafetyPointGoal1-v0 by default,
            or the task of the data set.
        obs: observations of a task whose suite offers several; by default the first, ``lidar``.
        steps: raw environment steps in all; None is the preset's.
        updates: gradient steps in all of an offline run; None is the preset's.
        dataset: the data set of an offline run (:class:`prudence.data.dataset.Dataset`).
        cost_limit: budget per episode, one for all constraints or one for each.
        out: run directory; by default :func:`default_directory`.
        config: a whole configuration, instead of all of the above but ``out``.
        wandb: Weights & Biases project.
        start_from: a run that the new one begins as a copy of, or an offline run that it goes on from; see
            :func:`prudence.training.trainer.train`.
        restart: deletes the run that ``out`` holds, and begins anew.
        env: further settings of the environment: fields of :class:`prudence.envs.base.EnvConfig`, such as
            ``costs="separate"`` or ``kwargs={"payload": 2.0}``, and options of the task's suite, such as
            ``lidar_scale="inverse"`` (`prudence list` names them).

    Raises:
        EnvError, ValueError, ConfigError, TrainingDiverged: with the cause and what to do.
    """
    config = config or configure(
        agent,
        task,
        obs=obs,
        preset_name=preset,
        steps=steps,
        updates=updates,
        dataset=dataset,
        start_from=start_from,
        cost_limit=cost_limit,
        seed=seed,
        **env,
    )
    use_compilation_cache()
    return run_training(config, out or default_directory(config), wandb=wandb, start_from=start_from, restart=restart)


def default_directory(config: RunConfig) -> Path:
    """``runs/<agent>-<task>-<seed>``, with the observations after a suite's task, which offers several.

    What file systems dislike in the task's name is replaced.
    """
    observations = config.env.obs if registry.offers_observations(config.env.task) else ()
    return Path("runs") / "-".join([config.agent_name, safe_name(config.env.task), *observations, str(config.seed)])


def use_compilation_cache() -> None:
    """Keeps compiled programs between processes, unless the user configured a place for them already."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(base / "prudence" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
