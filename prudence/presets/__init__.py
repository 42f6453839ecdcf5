"""Presets: named configurations with sizes and protocols for a system on a task.

- ``paper``: the sizes and protocol of the papers;
- ``comparison``: the papers' sizes with the protocol of SafeDreamer's comparison;
- ``gpu``: the papers' sizes in bfloat16 with larger dispatches;
- ``suite``: Safety-Gymnasium's usual protocol;
- ``cpu``: learns a low-dimensional task in minutes on two cores;
- ``debug``: runs in seconds and learns nothing.

A preset belongs to a core (:mod:`prudence.presets.dreamer`, :mod:`prudence.presets.fosp`,
:mod:`prudence.presets.on_policy`, :mod:`prudence.presets.sac`, :mod:`prudence.presets.model_based`,
:mod:`prudence.presets.lookahead`, :mod:`prudence.presets.latent_sac`). It depends on the needs of a system, never on
its name. :mod:`prudence.presets.offline` makes an offline run of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from prudence.cores.dreamer.config import DreamerConfig
from prudence.cores.fosp.config import FospConfig
from prudence.cores.latent_sac import LatentSACConfig
from prudence.cores.lookahead import LookaheadConfig
from prudence.cores.on_policy.model_based import ModelBasedConfig
from prudence.cores.on_policy.on_policy import OnPolicyConfig
from prudence.cores.sac import SACConfig
from prudence.cores.system import System
from prudence.envs.base import EnvConfig
from prudence.envs.registry import complete, find_suite
from prudence.presets import dreamer, fosp, latent_sac, lookahead, model_based, on_policy, sac
from prudence.run_config import RunConfig
from prudence.systems import find_system

Preset = Callable[[System[Any], EnvConfig], tuple[EnvConfig, Any, Any]]
"""Makes the configurations of environment, agent and loop for a system on a task."""

_PRESETS: Mapping[type, Mapping[str, Preset]] = {
    DreamerConfig: dreamer.PRESETS,
    FospConfig: fosp.PRESETS,
    OnPolicyConfig: on_policy.PRESETS,
    SACConfig: sac.PRESETS,
    ModelBasedConfig: model_based.PRESETS,
    LatentSACConfig: latent_sac.PRESETS,
    LookaheadConfig: lookahead.PRESETS,
}

PRESETS = ("debug", "cpu", "paper", "gpu", "comparison", "suite")


def preset(name: str, agent: str, env: EnvConfig) -> RunConfig:
    """Makes the configuration of preset ``name`` for an agent and an environment.

    Raises:
        ValueError: the agent does not exist, or it does not have this preset.
        EnvError: the task's suite does not have a setting of ``env``.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset '{name}': choose from {', '.join(PRESETS)}")
    system = find_system(agent)
    presets = _PRESETS[system.config]
    if name not in presets:
        raise ValueError(f"{agent} has no preset '{name}': choose from {', '.join(presets)}")
    env, settings, loop = presets[name](system, complete(env))
    if system.needs.spent:
        env = replace(env, spent=True)
    adds = find_suite(env.task).privileged
    if system.needs.privileged and not env.privileged and adds:
        env = replace(env, privileged=adds[0])
    return RunConfig(agent, env, settings, loop)


def with_action_repeat(config: RunConfig, repeat: int) -> RunConfig:
    """``config`` with another action repeat, and with the settings that depend on it."""
    agent = config.agent
    if isinstance(agent, DreamerConfig):
        agent = dreamer.with_action_repeat(agent, repeat / config.env.action_repeat)
    return replace(config, agent=agent, env=replace(config.env, action_repeat=repeat))
