"""Presets of the systems that learn by SAC on latent states.

``debug``, ``cpu`` and ``paper`` (:mod:`prudence.presets` describes them).
"""

from __future__ import annotations

from dataclasses import replace

from prudence.cores.latent_sac import LatentSACConfig
from prudence.cores.system import System
from prudence.envs.base import EnvConfig
from prudence.envs.registry import shows_pictures, where_offered
from prudence.loops import ReplayLoop
from prudence.models.pictures import Patches
from prudence.optim import OptimiserConfig
from prudence.presets.environments import easy
from prudence.presets.sac import debug_loop, for_two_cores, tiny

Choices = tuple[EnvConfig, LatentSACConfig, ReplayLoop]


def _paper(system: System[LatentSACConfig], env: EnvConfig) -> Choices:
    published = system.published(shows_pictures(env))
    assert isinstance(published.loop, ReplayLoop)
    env = where_offered(replace(env, action_repeat=published.action_repeat), cameras=published.cameras)
    return env, system.compose(published.agent), published.loop


def _cpu(system: System[LatentSACConfig], env: EnvConfig) -> Choices:
    """The environment, budget and multiplier of the world models' preset ``cpu``, so that runs can be compared."""
    env, config, loop = _paper(system, env)
    env = easy(env)
    # Layer normalisation lets the model learn at the larger rate. A smallest deviation of 1e-5 would let a reward that
    # never varies outweigh everything else.
    model = replace(
        config.model,
        z2=96,
        units=128,
        features=128,
        mlp_units=128,
        cost=replace(config.model.cost, units=128, norm="layer"),
        patches=Patches() if shows_pictures(env) else None,
        norm="layer",
        min_std=0.02,
    )
    config = replace(
        config.with_sac(for_two_cores(config.sac, updates_per_decision=0.5, pretraining=1000)),
        model=model,
        model_optimiser=OptimiserConfig(1e-3, clip=100.0),
        pretraining=1000,
        pairs=8,
    )
    loop = replace(
        loop,
        steps=400_000,
        num_envs=4,
        updates_per_decision=0.5,
        updates_per_dispatch=4,
        decisions_per_iteration=40,
        batch_size=16,
        batch_length=16,
        replay_capacity=100_000 if shows_pictures(env) else 500_000,
        log_every=2000,
    )
    return env, config, loop


def _debug(system: System[LatentSACConfig], env: EnvConfig) -> Choices:
    """A smallest deviation as in ``cpu``: with the papers' 1e-5, divergences of such small random networks overflow."""
    env, config, loop = _paper(system, env)
    model = replace(
        config.model,
        z1=2,
        z2=4,
        layers=1,
        units=8,
        features=8,
        mlp_layers=1,
        mlp_units=8,
        cnn_depth=2,
        cost=replace(config.model.cost, layers=1, units=8),
        min_std=0.02,
        patches=Patches(units=2) if shows_pictures(env) else None,
    )
    config = replace(config.with_sac(tiny(config.sac)), model=model, pretraining=1)
    loop = replace(debug_loop(loop), batch_size=4, batch_length=6)
    return replace(env, action_repeat=1), config, loop


PRESETS = {"debug": _debug, "cpu": _cpu, "paper": _paper}
