"""Presets of the SAC core's systems: ``debug``, ``cpu`` and ``paper`` (:mod:`prudence.presets` describes them)."""

from __future__ import annotations

from dataclasses import replace

from prudence.budgets import Budget, Lived
from prudence.constraints import AugmentedLagrangian
from prudence.cores.sac import SACConfig
from prudence.cores.system import System
from prudence.critics import CriticConfig
from prudence.envs.base import EnvConfig
from prudence.envs.registry import shows_pictures
from prudence.loops import ReplayLoop
from prudence.presets.environments import easy

Choices = tuple[EnvConfig, SACConfig, ReplayLoop]


def _paper(system: System[SACConfig], env: EnvConfig) -> Choices:
    published = system.published(shows_pictures(env))
    assert isinstance(published.loop, ReplayLoop)
    return env, published.agent, published.loop


def for_two_cores(config: SACConfig, updates_per_decision: float, pretraining: int = 0) -> SACConfig:
    """``config`` with the budget and multiplier of the world models' preset ``cpu``, so that runs can be compared.

    Costs count from the same decision on as there: after 2,000 gradient steps at .3 a decision.

    Args:
        updates_per_decision: gradient steps for each decision.
        pretraining: gradient steps before the budget's ``start`` begins to count.
    """
    start = round(2000 / 0.3 * updates_per_decision) - pretraining
    # A decision earns about .1. From 1, the temperature would take a third of the run to fall to that.
    return replace(
        config,
        constraint=AugmentedLagrangian(multiplier_init=0.3, penalty_factor_init=0.05, growth=0.0, dual_rate=0.65),
        temperature=replace(config.temperature, init=0.05),
        budget=Budget(25.0, discount=0.97, margin=0.2, start=start, violation=Lived(bound=2.0)),
    )


def _cpu(system: System[SACConfig], env: EnvConfig) -> Choices:
    """The environment is that of the world models' preset ``cpu``, too."""
    env, config, loop = _paper(system, env)
    env = easy(env)
    loop = replace(
        loop,
        steps=400_000,
        num_envs=4,
        prefill=1000,
        updates_per_dispatch=20,
        decisions_per_iteration=40,
        replay_capacity=500_000,
    )
    return env, system.compose(for_two_cores(config, loop.updates_per_decision)), loop


def tiny(config: SACConfig) -> SACConfig:
    """``config`` with networks of 8 units, and costs that count from the first update on."""

    def of(critic: CriticConfig) -> CriticConfig:
        return replace(critic, head=replace(critic.head, units=8))

    return replace(
        config,
        actor=replace(config.actor, units=8),
        critic=of(config.critic),
        cost_critic=of(config.cost_critic),
        budget=replace(config.budget, start=0),
    )


def debug_loop(loop: ReplayLoop) -> ReplayLoop:
    """The preset ``debug`` of agents that learn from pairs of rows."""
    return replace(
        loop,
        steps=400,
        num_envs=2,
        prefill=40,
        updates_per_decision=0.5,
        updates_per_dispatch=2,
        decisions_per_iteration=8,
        batch_size=8,
        replay_capacity=1000,
        log_every=50,
        evaluate_every=200,
        evaluate_episodes=1,
        checkpoint_every=100,
    )


def _debug(system: System[SACConfig], env: EnvConfig) -> Choices:
    env, config, loop = _paper(system, env)
    return env, tiny(config), debug_loop(loop)


PRESETS = {"debug": _debug, "cpu": _cpu, "paper": _paper}
