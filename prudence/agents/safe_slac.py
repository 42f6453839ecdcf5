"""Safe-SLAC (Hogewind et al. 2022): soft actor-critic under a budget, on the latents of SLAC (Lee et al. 2020).

A model with two latents a step learns from sequences of the replay. It also predicts rewards, and whether steps cost
anything. SAC learns from the model's states, with a critic of costs and a multiplier.
"""

from __future__ import annotations

from dataclasses import replace

from prudence.budgets import Budget, Lived
from prudence.constraints import SoftplusAscent
from prudence.cores.latent_sac import LatentSAC, LatentSACConfig
from prudence.cores.sac import SACConfig, TemperatureConfig
from prudence.cores.system import Published, System
from prudence.loops import ReplayLoop
from prudence.optim import OptimiserConfig
from prudence.types import Spaces


def safe_slac(spaces: Spaces, config: LatentSACConfig) -> LatentSAC:
    """Makes Safe-SLAC. Raises ValueError as :class:`LatentSAC` does."""
    return LatentSAC(spaces, config)


def published(vision: bool) -> Published[LatentSACConfig]:
    """The constants of the paper and of the released code.

    Sequences have 10 actions. The 2 last pairs of 32 sequences are the 64 pairs of the code. Its model's loss is a sum
    over 10 steps whose gradient is clipped to 40, which is 4 for a mean.
    """
    sac, rate = SACConfig(), OptimiserConfig(2e-4, clip=40.0)
    config = LatentSACConfig(
        model_optimiser=OptimiserConfig(1e-4, clip=4.0),
        constraint=SoftplusAscent(multiplier_init=0.02, learning_rate=2e-4),
        critic=replace(sac.critic, optimiser=rate),
        cost_critic=replace(sac.cost_critic, optimiser=rate),
        actor_optimiser=replace(rate, clip=80.0),
        temperature=TemperatureConfig(init=4e-3, optimiser=rate),
        budget=Budget(25.0, discount=0.995, violation=Lived(relative=False)),
    )
    loop = ReplayLoop(
        updates_per_decision=1.0,
        updates_per_dispatch=10,
        decisions_per_iteration=100,
        batch_size=32,
        batch_length=11,
        replay_capacity=200_000,
        evaluate_episodes=10,
    )
    return Published(config, loop, action_repeat=2)


SYSTEMS = (
    System(
        "safe-slac",
        "Safe-SLAC: SAC with a multiplier on cost, on two latents of a model",
        "Hogewind et al. 2022, arXiv 2210.01801",
        LatentSACConfig,
        safe_slac,
        published,
    ),
)
