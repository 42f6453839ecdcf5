"""Offline runs: the configuration of a system that learns from a data set, without an environment."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from prudence.budgets import Imagined, Lived
from prudence.cores.dreamer.config import DreamerConfig
from prudence.data.dataset import read_manifest
from prudence.data.manifest import Manifest
from prudence.envs import recorded, registry
from prudence.envs.base import EnvConfig
from prudence.loops import OfflineLoop, ReplayLoop
from prudence.presets import preset, with_action_repeat
from prudence.run_config import RunConfig
from prudence.runs.config import from_json

_UPDATES = {"debug": 40, "cpu": 30_000}
"""Gradient steps by preset."""
_PAPER_UPDATES = 125_000
"""FOSP's 1e6 steps on its logged axis: an update for every second decision, of four raw steps each."""


def offline(
    name: str,
    agent: str,
    dataset: Path,
    task: str | None = None,
    *,
    obs: tuple[str, ...] = (),
    updates: int | None = None,
    **env: Any,
) -> RunConfig:
    """The configuration with which a system of preset ``name`` learns from a data set.

    The environment is that of the data. The budget's violations are imagined, because data has no episodes of the
    policy. Everything else is the preset's.

    Args:
        name: the preset.
        agent: the system's name.
        dataset: the directory of the data set.
        task: the task, if the data set does not say it. Otherwise it must be the same.
        obs: the observations of a task that offers several; as ``task``.
        updates: gradient steps; None is the preset's.
        env: further settings of the environment; as ``task``.

    Raises:
        DatasetError: there is no such data set.
        EnvError: the task has no such setting.
        ValueError: the system learns from its own episodes only, or the settings contradict the data set.
    """
    manifest = read_manifest(dataset)
    made = preset(name, agent, (environment := _environment(manifest, dataset, task, obs, env)))
    config = dataclasses.replace(with_action_repeat(made, environment.action_repeat), env=environment)
    loop, settings = config.loop, config.agent
    if not isinstance(loop, ReplayLoop):
        raise ValueError(
            f"{agent} learns from episodes of its current policy only, so it cannot learn from a data set: choose a "
            "system with a world model (`prudence list`)"
        )
    if isinstance(settings, DreamerConfig) and settings.planning is not None:
        raise ValueError(
            f"{agent} plans, and the price or the start of its planner belong to episodes in an environment: train "
            "safedreamer-bsrp-lag or fosp on the data set"
        )
    violation = settings.budget.violation
    if isinstance(violation, Lived):
        violation = Imagined("episode", relative=violation.relative, bound=violation.bound)
    budget = dataclasses.replace(settings.budget, violation=violation)
    return dataclasses.replace(
        config,
        agent=dataclasses.replace(settings, budget=budget),
        loop=OfflineLoop(
            dataset=str(dataset.absolute()),
            digest=manifest.digest,
            updates=_UPDATES.get(name, _PAPER_UPDATES) if updates is None else updates,
            updates_per_iteration=max(1, 40 // loop.updates_per_dispatch) * loop.updates_per_dispatch,
            updates_per_dispatch=loop.updates_per_dispatch,
            batch_size=loop.batch_size,
            batch_length=loop.batch_length,
            evaluate_episodes=loop.evaluate_episodes,
        ),
    )


def _environment(
    manifest: Manifest, dataset: Path, task: str | None, obs: tuple[str, ...], settings: dict[str, Any]
) -> EnvConfig:
    """The environment of the data, which the user's settings may repeat, or give where the data set does not."""
    if manifest.env is None:
        return registry.configure(recorded.TASK if task is None else task, obs=obs, **settings)
    known = registry.complete(from_json(manifest.env, EnvConfig))
    asked = {**settings, **({"obs": obs} if obs else {})}
    wanted = registry.with_settings(known, **asked) if task in (None, known.task) else registry.configure(task, **asked)
    if wanted != known:
        raise ValueError(
            f"{dataset} was recorded in {known.task}, so leave --task, --obs and the settings "
            " of the environment out. (A run that starts from the trained policy may have another task.)"
        )
    return known
