"""Presets of the systems that plan in an ensemble: ``debug``, ``cpu`` and ``paper`` (:mod:`prudence.presets`)."""

from __future__ import annotations

from dataclasses import replace

from prudence.cores.lookahead import LookaheadConfig
from prudence.cores.system import System
from prudence.envs.base import EnvConfig
from prudence.envs.registry import shows_pictures, where_offered
from prudence.loops import ReplayLoop
from prudence.models.dynamics import DynamicsConfig
from prudence.presets.sac import debug_loop

Choices = tuple[EnvConfig, LookaheadConfig, ReplayLoop]


def _paper(system: System[LookaheadConfig], env: EnvConfig) -> Choices:
    published = system.published(shows_pictures(env))
    assert isinstance(published.loop, ReplayLoop)
    return replace(env, action_repeat=published.action_repeat), published.agent, published.loop


def _cpu(system: System[LookaheadConfig], env: EnvConfig) -> Choices:
    """A model, a learner and an environment like those of the presets ``cpu`` of their cores."""
    env, config, loop = _paper(system, env)
    config = replace(
        config,
        dynamics=DynamicsConfig(members=4, elites=4, layers=2, epochs=30, patience=10),
        search=replace(config.search, plans=64, kappa=10.0, iterations=8, min_iterations=4, patience=4),
        particles=1,
        # A decision earns about .1. From 1, the temperature would take a third of the run to fall to that.
        temperature=replace(config.temperature, init=0.05),
        budget=replace(config.budget, margin=0.2),
        fit_every=1000,
    )
    loop = replace(
        loop,
        steps=100_000,
        num_envs=4,
        prefill=1000,
        updates_per_dispatch=20,
        decisions_per_iteration=40,
        replay_capacity=20_000,
    )
    return where_offered(env, lidar_nearest=True, reward="dense"), config, loop


def _debug(system: System[LookaheadConfig], env: EnvConfig) -> Choices:
    _, config, loop = _paper(system, env)
    config = replace(
        config,
        dynamics=DynamicsConfig(members=3, elites=2, layers=1, units=8, batch_size=16, epochs=2),
        search=replace(config.search, horizon=3, plans=20, elites=4, iterations=4, min_iterations=2, patience=2),
        particles=2,
        actor=replace(config.actor, units=8),
        critic=replace(config.critic, head=replace(config.critic.head, units=8)),
        fit_every=80,
    )
    return env, config, debug_loop(loop)


PRESETS = {"debug": _debug, "cpu": _cpu, "paper": _paper}
