"""Presets of the on-policy systems.

- ``debug``: runs in seconds and learns nothing;
- ``suite``: Safety-Gymnasium's usual protocol (budget 25, 1e7 steps, 20,000 per iteration), with OmniSafe's constants;
- ``paper``: the protocol of the world-model papers (budget 2, networks of 4x512);
- ``cpu``: the suite's protocol with 1e6 steps and smaller rollouts.
"""

from __future__ import annotations

from dataclasses import replace

from prudence.constraints import DualAscent, PIDLagrangian
from prudence.cores.on_policy.improvement import ConstrainedTrustRegion, FirstOrder, PenalisedDivergence
from prudence.cores.on_policy.on_policy import OnPolicyConfig
from prudence.cores.system import System
from prudence.envs.base import EnvConfig
from prudence.envs.registry import shows_pictures
from prudence.loops import RolloutLoop
from prudence.models.pictures import Patches

Choices = tuple[EnvConfig, OnPolicyConfig, RolloutLoop]


def _published(system: System[OnPolicyConfig], env: EnvConfig) -> OnPolicyConfig:
    return system.published(shows_pictures(env)).agent


def _patches(env: EnvConfig, patches: Patches) -> Patches | None:
    return patches if shows_pictures(env) else None


def _suite(system: System[OnPolicyConfig], env: EnvConfig) -> Choices:
    return env, _published(system, env), RolloutLoop()


def _paper(system: System[OnPolicyConfig], env: EnvConfig) -> Choices:
    config = _published(system, env)
    actor = replace(config.actor, layers=4, units=512)
    critic = replace(config.critic, layers=4, units=512)
    return env, replace(config, actor=actor, critic=critic, budget=replace(config.budget, limit=2.0)), RolloutLoop()


def _cpu(system: System[OnPolicyConfig], env: EnvConfig) -> Choices:
    config = _published(system, env)
    # With such small rollouts, much of the predicted improvement is noise, especially if costs have a high price.
    improvement, priced = config.improvement, isinstance(config.constraint, DualAscent | PIDLagrangian)
    if isinstance(improvement, ConstrainedTrustRegion):
        config = replace(config, improvement=replace(improvement, discount_promises=True))
    if isinstance(improvement, FirstOrder) and priced:  # These would follow the noise further than a trust region does.
        # FOCOPS's loss limits the step by itself. Its λ ≤ 2 is for an advantage that is not divided by 1 + λ.
        holds_back = isinstance(improvement, PenalisedDivergence)
        config = replace(
            config,
            improvement=replace(improvement, passes=10, batch_size=256, kl_limit=0.005 if holds_back else 0.002),
            constraint=replace(config.constraint, maximum=10.0) if holds_back else config.constraint,
            actor_optimiser=replace(config.actor_optimiser, learning_rate=1e-4),
        )
    config = replace(config, patches=_patches(env, Patches()))
    return env, config, RolloutLoop(steps=1_000_000, decisions_per_iteration=8_000, evaluate_every=250_000)


def _debug(system: System[OnPolicyConfig], env: EnvConfig) -> Choices:
    config = _published(system, env)
    actor, critic = replace(config.actor, units=8), replace(config.critic, units=8, passes=2, batch_size=16)
    improvement = config.improvement
    if isinstance(improvement, FirstOrder):
        improvement = replace(improvement, passes=2, batch_size=16)
    config = replace(config, improvement=improvement, actor=actor, critic=critic, cnn_depth=2)
    config = replace(config, patches=_patches(env, Patches(units=2)))
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
