"""Soft actor-critic (Haarnoja et al. 2018b): without costs, and under a budget.

SAC-Lag adds the cost critic's value, with a multiplier, to the policy's loss (Ha et al. 2020; OmniSafe's SACLag). The
multiplier rises while the mean cost of training episodes exceeds its budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from prudence.budgets import Budget, Lived
from prudence.constraints import AugmentedLagrangian, DualAscent, PIDLagrangian, SoftplusAscent, Unconstrained
from prudence.cores.sac import SAC, SACConfig, compose
from prudence.cores.system import Needs, Published, System
from prudence.loops import ReplayLoop
from prudence.types import Spaces


def sac(spaces: Spaces, config: SACConfig) -> SAC:
    """Makes SAC, which ignores costs. Raises ValueError as ``compose`` does."""
    return compose("sac", spaces, config, Unconstrained)


def sac_lag(spaces: Spaces, config: SACConfig) -> SAC:
    """Makes SAC with a multiplier that keeps the budget. Raises ValueError as ``compose`` does."""
    return compose("sac-lag", spaces, config, DualAscent, AugmentedLagrangian, PIDLagrangian, SoftplusAscent)


def published(config: SACConfig) -> Callable[[bool], Published[SACConfig]]:
    """A function for ``System.published``: ``config`` with the protocol of OmniSafe's off-policy agents."""
    loop = ReplayLoop(
        steps=1_000_000,
        prefill=10_000,
        updates_per_decision=1.0,
        updates_per_dispatch=10,
        decisions_per_iteration=10,
        batch_size=256,
        batch_length=2,
        log_every=2000,
    )
    return lambda vision: Published(config, loop)


# OmniSafe's SACLag: the mean of the last 10 episodes has the mean age of a memory of .18, and the multiplier rests for
# the first 100 epochs of 2,000 steps.
_LAGRANGIAN = SACConfig(
    constraint=DualAscent(0.001, 1e-5),
    budget=Budget(25.0, discount=0.99, start=200_000, violation=Lived(memory=0.18, relative=False)),
    evaluation="sample",
)

SYSTEMS = (
    System(
        "sac",
        "soft actor-critic: ignores costs",
        "Haarnoja et al. 2018, arXiv 1812.05905",
        SACConfig,
        sac,
        published(SACConfig()),
        lambda config: replace(config, constraint=Unconstrained()),
        Needs(budget=False),
    ),
    System(
        "sac-lag",
        "SAC with a multiplier on cost",
        "Ha et al. 2020, arXiv 2002.08550",
        SACConfig,
        sac_lag,
        published(_LAGRANGIAN),
    ),
)
