"""Presets of the on-policy systems that learn in a model.

- ``debug``: runs in seconds and learns nothing;
- ``paper``: the paper's sizes and protocol;
- ``cpu``: decisions of five raw steps, a fit after each 1,000 of them, fewer and smaller networks.
"""

from __future__ import annotations

from dataclasses import replace

from prudence.budgets import Budget, Imagined
from prudence.constraints import DualAscent
from prudence.cores.on_policy.improvement import ClippedSurrogate
from prudence.cores.on_policy.model_based import ModelBasedConfig
from prudence.cores.system import System
from prudence.envs.base import EnvConfig
from prudence.envs.registry import shows_pictures, where_offered
from prudence.loops import RolloutLoop
from prudence.models.dynamics import DynamicsConfig

Choices = tuple[EnvConfig, ModelBasedConfig, RolloutLoop]


def _paper(system: System[ModelBasedConfig], env: EnvConfig) -> Choices:
    published = system.published(shows_pictures(env))
    assert isinstance(published.loop, RolloutLoop)
    return env, published.agent, published.loop


def _cpu(system: System[ModelBasedConfig], env: EnvConfig) -> Choices:
    config = _paper(system, env)[1]
    config = replace(
        config,
        dynamics=DynamicsConfig(members=4, elites=4, layers=2, epochs=30, patience=10),
        improvement=ClippedSurrogate(20, 512, kl_limit=0.015),
        # A decision in a hazard costs 5 here. At the paper's first λ the policy would only flee, and never find a goal.
        constraint=DualAscent(0.001, 0.01),
        critic=replace(config.critic, passes=5, batch_size=1024),
        budget=Budget(25.0, discount=0.99, margin=0.2, violation=Imagined("episode")),
        horizon=25,
        rollouts=200,
        updates=20,
        trials=64,
    )
    loop = RolloutLoop(
        steps=100_000,
        num_envs=4,
        workers=0,
        decisions_per_iteration=1_000,
        evaluate_every=50_000,
        checkpoint_every=20_000,
        replay_capacity=20_000,
    )
    return where_offered(replace(env, action_repeat=5), lidar_nearest=True), config, loop


def _debug(system: System[ModelBasedConfig], env: EnvConfig) -> Choices:
    config = _paper(system, env)[1]
    config = replace(
        config,
        dynamics=DynamicsConfig(members=3, elites=2, layers=1, units=8, batch_size=16, epochs=2),
        improvement=ClippedSurrogate(2, 16, kl_limit=config.improvement.kl_limit),
        actor=replace(config.actor, units=8),
        critic=replace(config.critic, units=8, passes=2, batch_size=16),
        horizon=5,
        rollouts=4,
        updates=2,
        trials=2,
    )
    loop = RolloutLoop(
        steps=400,
        num_envs=2,
        workers=0,
        decisions_per_iteration=40,
        evaluate_every=200,
        evaluate_episodes=1,
        checkpoint_every=80,
        replay_capacity=400,
    )
    return env, config, loop


PRESETS = {"debug": _debug, "cpu": _cpu, "paper": _paper}
