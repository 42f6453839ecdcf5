"""Offline runs: the configuration of a system that learns from a data set, without an environment."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from prudence.budgets import Imagined, Lived
from prudence.cores.dreamer.config import DreamerConfig
from prudence.cores.latent_sac import LatentSACConfig
from prudence.cores.lookahead import LookaheadConfig
from prudence.cores.sac import SACConfig
from prudence.envs import recorded, registry
from prudence.envs.base import EnvConfig
from prudence.loops import OfflineLoop, ReplayLoop
from prudence.presets import preset, with_action_repeat
from prudence.run_config import RunConfig
from prudence.systems import find_system

# FOSP's 1e6 steps on its logged axis are 125,000 gradient steps: one for every second decision, of four raw steps each.
_PAPER = OfflineLoop(updates=125_000)
_LOOPS = {
    "cpu": OfflineLoop(updates=30_000),
    "debug": OfflineLoop(
        updates=40, updates_per_iteration=4, holdout=0.2, log_every=10, foresight_every=20, checkpoint_every=20
    ),
}


def offline(
    name: str, agent: str, env: EnvConfig, dataset: Path, digest: str, *, updates: int | None = None
) -> RunConfig:
    """The configuration with which a system of preset ``name`` learns from a data set.

    The budget's violations are imagined, because data has no episodes of the policy. Where the preset measures lived
    episodes, imagined ones of the policy take their place. Everything else is the preset's.

    Args:
        name: the preset.
        agent: the system's name.
        env: the environment in which the data was recorded.
        dataset: the directory of the data set.
        digest: the digest of its content.
        updates: gradient steps; None is the preset's.

    Raises:
        ValueError: the system learns from its own episodes only.
    """
    config = with_action_repeat(preset(name, agent, _without_code(env)), env.action_repeat)
    config = dataclasses.replace(config, env=env)
    loop, settings = config.loop, config.agent
    if not isinstance(loop, ReplayLoop):
        raise ValueError(
            f"{agent} learns from episodes of its current policy only, so it cannot learn from a data set: choose a "
            "system with a world model (`prudence list`)"
        )
    if isinstance(settings, SACConfig | LookaheadConfig | LatentSACConfig):
        raise ValueError(
            f"{agent} values actions that a data set may never have tried, so it learns from its own episodes only: "
            "choose a system with a world model (`prudence list`)"
        )
    if isinstance(settings, DreamerConfig) and settings.planning is not None:
        raise ValueError(
            f"{agent} plans, and the price or the start of its planner belong to episodes in an environment: train "
            "safedreamer-bsrp-lag or fosp on the data set"
        )
    settings = find_system(agent).offline(settings)
    violation = settings.budget.violation
    if isinstance(violation, Lived):
        violation = Imagined("episode", relative=violation.relative, bound=violation.bound, on_policy=True)
    budget = dataclasses.replace(settings.budget, violation=violation)
    made = _LOOPS.get(name, _PAPER)
    whole = -(-made.updates_per_iteration // loop.updates_per_dispatch) * loop.updates_per_dispatch
    return dataclasses.replace(
        config,
        agent=dataclasses.replace(settings, budget=budget),
        loop=dataclasses.replace(
            made,
            dataset=str(dataset),
            digest=digest,
            updates=made.updates if updates is None else updates,
            updates_per_iteration=whole,
            updates_per_dispatch=loop.updates_per_dispatch,
            batch_size=loop.batch_size,
            batch_length=loop.batch_length,
            evaluate_episodes=loop.evaluate_episodes,
        ),
    )


def _without_code(env: EnvConfig) -> EnvConfig:
    """The environment by which a preset chooses. A data set is a file, so a class that it names is not imported.

    Pictures of such an environment get the networks of the ``paper`` preset's kind, convolutions.
    """
    if registry.offers_observations(env.task):
        return env
    return EnvConfig(recorded.TASK, action_repeat=env.action_repeat)
