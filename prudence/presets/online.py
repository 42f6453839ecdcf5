"""Runs in an environment that go on from an offline run."""

from __future__ import annotations

import dataclasses

from prudence.envs.base import EnvConfig
from prudence.loops import MixedLoop, OfflineLoop, ReplayLoop
from prudence.presets import preset, with_action_repeat
from prudence.run_config import RunConfig
from prudence.systems import find_system


def online(name: str, agent: str, env: EnvConfig, origin: RunConfig) -> RunConfig:
    """The configuration with which a system of preset ``name`` goes on from an offline run.

    It learns from the data set of that run and from new experience. Costs count from its first update on, since the
    agent has found rewards already. Everything else is the preset's.

    Args:
        name: the preset.
        agent: the system's name.
        env: the environment, whose task may be another than that of the data.
        origin: the configuration of the offline run.

    Raises:
        ValueError: the system learns from recorded data only, or cannot take the data into its experience.
    """
    loop = origin.loop
    assert isinstance(loop, OfflineLoop)
    config = dataclasses.replace(with_action_repeat(preset(name, agent, env), env.action_repeat), env=env)
    if find_system(agent).needs.dataset:
        raise ValueError(f"{agent} learns from recorded data only, so it cannot go on in an environment: choose fosp")
    if type(config.loop) is not ReplayLoop:
        raise ValueError(
            f"{agent} learns from episodes of its current policy only, so it cannot go on from an offline run: choose "
            "a system with a world model (`prudence list`)"
        )
    settings = find_system(agent).online(config.agent)
    kept = {field.name: getattr(config.loop, field.name) for field in dataclasses.fields(ReplayLoop)}
    return dataclasses.replace(
        config,
        agent=dataclasses.replace(settings, budget=dataclasses.replace(settings.budget, start=0)),
        loop=MixedLoop(**kept, dataset=loop.dataset, digest=loop.digest),
    )
