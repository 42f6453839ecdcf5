"""Safe-SLAC on a probe of pictures: it learns where the square is, and to stop before steps cost anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prudence.budgets import Budget, Lived
from prudence.constraints import DualAscent
from prudence.cores.latent_sac import LatentSACConfig
from prudence.critics import CriticConfig
from prudence.deploy.policy import load_run
from prudence.envs.base import EnvConfig
from prudence.evidence.evaluate import evaluate_agent
from prudence.models.pictures import Patches
from prudence.optim import OptimiserConfig
from prudence.presets import preset
from prudence.training.trainer import train

pytestmark = pytest.mark.slow

FAST = OptimiserConfig(3e-3)


def quick(config: LatentSACConfig, limit: float) -> LatentSACConfig:
    """Small networks, steep learning rates, short sight, and less noise in the end."""

    def steep(critic: CriticConfig) -> CriticConfig:
        return replace(critic, head=replace(critic.head, units=32), optimiser=FAST, slow_rate=0.05)

    model = replace(
        config.model,
        z1=8,
        z2=16,
        units=32,
        features=32,
        min_std=0.02,
        norm="layer",
        patches=Patches(units=16),
        cost=replace(config.model.cost, units=32),
    )
    return replace(
        config,
        model=model,
        model_optimiser=FAST,
        pretraining=200,
        pairs=7,
        constraint=DualAscent(1.0, 0.001, maximum=10.0),
        actor=replace(config.actor, units=32),
        critic=steep(config.critic),
        cost_critic=steep(config.cost_critic),
        actor_optimiser=FAST,
        temperature=replace(config.temperature, init=0.1, target=-2.0, optimiser=FAST),
        discount=0.9,
        budget=Budget(limit, discount=0.9, violation=Lived(memory=0.1, relative=False)),
    )


def test_budget_zero_is_kept_from_pictures(tmp_path: Path) -> None:
    config = preset("debug", "safe-slac", EnvConfig("probe/pixels-16"))
    assert isinstance(config.agent, LatentSACConfig)
    loop = replace(
        config.loop,
        steps=12_000,
        num_envs=20,
        prefill=400,
        updates_per_decision=0.2,
        updates_per_dispatch=16,
        decisions_per_iteration=80,
        batch_size=32,
        batch_length=8,
        replay_capacity=20_000,
        log_every=800,
        evaluate_every=0,
        checkpoint_every=12_000,
    )
    config = replace(config, agent=quick(config.agent, limit=0.0), loop=loop)
    _, agent, state, _ = load_run(train(config, tmp_path / "run"))
    evaluation = evaluate_agent(agent, state, config.env, episodes=20, seed=1)
    # Standing still has return -5. The best return is 22 at a cost of 22, and 11.6 at a cost of 0.
    # The policy still explores.
    assert evaluation.costs.mean() < 5.0
    assert evaluation.returns.mean() > 8.0
