"""MBPPO-Lag (Jayant and Bhatnagar 2022): PPO-Lagrangian in an ensemble of learned models.

Real decisions are recorded. After each lot of them an ensemble of models is fitted to all that is recorded, and PPO-Lag
learns from rollouts of 80 decisions in it, until fewer than 66 % of the models see the policy improve (algorithm 1).
"""

from __future__ import annotations

from prudence.cores.on_policy.model_based import ModelBased, ModelBasedConfig
from prudence.cores.system import Published, System
from prudence.loops import RolloutLoop
from prudence.types import Spaces


def mbppo_lag(spaces: Spaces, config: ModelBasedConfig) -> ModelBased:
    """Makes MBPPO-Lag. Raises ValueError as :class:`ModelBased` does."""
    return ModelBased(spaces, config)


def published(vision: bool) -> Published[ModelBasedConfig]:
    """The paper's constants and those of the released code, for 45 fits of 10,000 decisions."""
    loop = RolloutLoop(steps=450_000, decisions_per_iteration=10_000, replay_capacity=450_000, evaluate_every=50_000)
    return Published(ModelBasedConfig(), loop)


SYSTEMS = (
    System(
        "mbppo-lag",
        "MBPPO-Lag: PPO-Lag in an ensemble of learned models",
        "Jayant and Bhatnagar 2022, arXiv 2210.07573",
        ModelBasedConfig,
        mbppo_lag,
        published,
    ),
)
