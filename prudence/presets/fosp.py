"""Presets of the FOSP core: ``debug``, ``cpu``, ``paper`` and ``gpu``.

FOSP builds on SafeDreamer's BSRP-Lag. So ``debug`` and ``cpu`` take that system's networks, world model, budget and
imagination.
"""

from __future__ import annotations

from dataclasses import replace

from prudence.cores.fosp.config import FineTuningConfig, FospConfig, RegressionConfig
from prudence.cores.fosp.critics import ValuesConfig
from prudence.cores.fosp.feasibility import FeasibilityConfig
from prudence.cores.system import System
from prudence.envs.base import EnvConfig
from prudence.envs.registry import shows_pictures, where_offered
from prudence.loops import ReplayLoop
from prudence.optim import OptimiserConfig
from prudence.presets import dreamer
from prudence.systems import find_system

Choices = tuple[EnvConfig, FospConfig, ReplayLoop]


def _paper(system: System[FospConfig], env: EnvConfig) -> Choices:
    published = system.published(shows_pictures(env))
    assert isinstance(published.loop, ReplayLoop)
    env = where_offered(replace(env, action_repeat=published.action_repeat), cameras=published.cameras)
    return env, system.compose(published.agent), published.loop


def _gpu(system: System[FospConfig], env: EnvConfig) -> Choices:
    env, agent, loop = _paper(system, env)
    return env, replace(agent, compute_dtype="bfloat16"), replace(loop, updates_per_dispatch=8)


def _small(name: str, system: System[FospConfig], env: EnvConfig) -> Choices:
    """The choices of BSRP-Lag's preset ``name``, with FOSP's critics and weights."""
    bsrp_lag = find_system("safedreamer-bsrp-lag")
    env, base, loop = dreamer.PRESETS[name](bsrp_lag, env)
    head = base.critic.head
    optimiser = OptimiserConfig(3e-4, eps=1e-5)
    value = replace(ValuesConfig().state, head=replace(head, kind="symexp_twohot", limit=8.0), optimiser=optimiser)
    feasibility = FeasibilityConfig(discount=0.95)
    reach = replace(feasibility.critic.head, layers=head.layers, units=head.units)
    agent = FospConfig(
        world_model=base.world_model,
        actor=base.actor,
        values=ValuesConfig(value, value),
        model_optimiser=base.model_optimiser,
        actor_optimiser=base.actor_optimiser,
        regression=RegressionConfig(3.0, 3.0, normalised=True, penalty="weights", safe_action="next"),
        fine_tuning=FineTuningConfig(1.0, 1.0),
        feasibility=replace(feasibility, critic=replace(feasibility.critic, head=reach, optimiser=optimiser)),
        constraint=base.constraint,
        budget=base.budget,
        horizon=base.horizon,
        imagination_starts=base.imagination_starts,
        cooldown=base.cooldown,
        averaging=base.averaging,
    )
    return env, system.compose(agent), loop


def _cpu(system: System[FospConfig], env: EnvConfig) -> Choices:
    return _small("cpu", system, env)


def _debug(system: System[FospConfig], env: EnvConfig) -> Choices:
    return _small("debug", system, env)


PRESETS = {"debug": _debug, "cpu": _cpu, "paper": _paper, "gpu": _gpu}
