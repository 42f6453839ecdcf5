"""Sizes and protocols of the systems that learn on-policy.

``debug`` runs in seconds and learns nothing; ``suite`` is Safety-Gymnasium's customary protocol (budget 25, 1e7 steps,
20,000 an iteration; the constants are OmniSafe's); ``paper`` that of the world-model papers (budget 2, networks of
4x512); ``cpu`` the suite's in 1e6 steps, with smaller rollouts.
"""

from __future__ import annotations

from dataclasses import replace

from prudence.constraints import DualAscent, PIDLagrangian
from prudence.cores.on_policy.improvement import ConstrainedTrustRegion, FirstOrder, PenalisedDivergence
from prudence.cores.on_policy.on_policy import OnPolicyConfig
from prudence.cores.system import System
from prudence.envs.base import EnvConfig
from prudence.loops import RolloutLoop

Choices = tuple[EnvConfig, OnPolicyConfig, RolloutLoop]


def _published(system: System[OnPolicyConfig], env: EnvConfig) -> OnPolicyConfig:
    return system.published("vision" in env.obs).agent


def _suite(system: System[OnPolicyConfig], env: EnvConfig) -> Choices:
    return env, _published(system, env), RolloutLoop()


def _paper(system: System[OnPolicyConfig], env: EnvConfig) -> Choices:
    config = _published(system, env)
    actor = replace(config.actor, layers=4, units=512)
    critic = replace(config.critic, layers=4, units=512)
    return env, replace(config, actor=actor, critic=critic, budget=replace(config.budget, limit=2.0)), RolloutLoop()


def _cpu(system: System[OnPolicyConfig], env: EnvConfig) -> Choices:
    config = _published(system, env)
    # Rollouts as small as these promise what is noise, the more so the more costs are priced.
    improvement, priced = config.improvement, isinstance(config.constraint, DualAscent | PIDLagrangian)
    if isinstance(improvement, ConstrainedTrustRegion):
        config = replace(config, improvement=replace(improvement, discount_promises=True))
    if isinstance(improvement, FirstOrder) and priced:  # They would go farther along it than a trust region does.
        # FOCOPS's loss holds back by itself; its λ ≤ 2 is that of an advantage not divided by 1 + λ.
        holds_back = isinstance(improvement, PenalisedDivergence)
        config = replace(
            config,
            improvement=replace(improvement, passes=10, batch_size=256, kl_limit=0.005 if holds_back else 0.002),
            constraint=replace(config.constraint, maximum=10.0) if holds_back else config.constraint,
            actor_optimiser=replace(config.actor_optimiser, learning_rate=1e-4),
        )
    return env, config, RolloutLoop(steps=1_000_000, decisions_per_iteration=8_000, evaluate_every=250_000)


def _debug(system: System[OnPolicyConfig], env: EnvConfig) -> Choices:
    config = _published(system, env)
    actor, critic = replace(config.actor, units=8), replace(config.critic, units=8, passes=2, batch_size=16)
    improvement = config.improvement
    if isinstance(improvement, FirstOrder):
        improvement = replace(improvement, passes=2, batch_size=16)
    config = replace(config, improvement=improvement, actor=actor, critic=critic, cnn_depth=2)
    loop = RolloutLoop(
        steps=400,
        num_envs=2,
        workers=0,
        decisions_per_iteration=40,
        evaluate_every=200,
        evaluate_episodes=1,
        checkpoint_every=80,
    )
    return env, config, loop


PRESETS = {"debug": _debug, "cpu": _cpu, "paper": _paper, "suite": _suite}
