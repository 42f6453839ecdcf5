"""Proximal policy optimisation (Schulman et al. 2017): without costs, with costs as penalties, and under a budget.

``ppo_lag`` is PPO-Lagrangian (Ray et al. 2019). The policy maximises A_r − Σ λ A_c. λ rises while the mean episode cost
exceeds its budget, by dual ascent or with a PID controller (Stooke et al. 2020).
"""

from __future__ import annotations

from prudence.constraints import CostPenalty, DualAscent, PIDLagrangian, Unconstrained
from prudence.cores.on_policy.improvement import ClippedSurrogate
from prudence.cores.on_policy.on_policy import OnPolicy, OnPolicyConfig, compose
from prudence.cores.on_policy.published import PID, published
from prudence.cores.system import Needs, System
from prudence.types import Spaces


def ppo(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Makes PPO, which ignores costs. Raises ValueError as ``compose`` does."""
    return compose("ppo", spaces, config, ClippedSurrogate, Unconstrained)


def ppo_reward_shaping(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Makes PPO that subtracts costs from rewards. Raises ValueError as ``compose`` does."""
    return compose("ppo-reward-shaping", spaces, config, ClippedSurrogate, CostPenalty)


def ppo_lag(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Makes PPO with a multiplier that keeps the budget. Raises ValueError as ``compose`` does."""
    return compose("ppo-lag", spaces, config, ClippedSurrogate, DualAscent, PIDLagrangian)


_PPO = "Schulman et al. 2017, arXiv 1707.06347"
_LAGRANGIAN = "Ray et al. 2019, Benchmarking Safe Exploration in Deep Reinforcement Learning"

SYSTEMS = (
    System(
        "ppo",
        "proximal policy optimisation: ignores costs",
        _PPO,
        OnPolicyConfig,
        ppo,
        published(OnPolicyConfig()),
        needs=Needs(budget=False),
    ),
    System(
        "ppo-reward-shaping",
        "PPO with costs subtracted from rewards",
        _PPO,
        OnPolicyConfig,
        ppo_reward_shaping,
        published(OnPolicyConfig(constraint=CostPenalty())),
        needs=Needs(budget=False),
    ),
    System(
        "ppo-lag",
        "PPO with a multiplier on cost, set by dual ascent",
        _LAGRANGIAN,
        OnPolicyConfig,
        ppo_lag,
        published(OnPolicyConfig(constraint=DualAscent())),
    ),
    System(
        "ppo-pid",
        "PPO with a multiplier on cost, set by a PID controller",
        "Stooke et al. 2020, arXiv 2007.03964",
        OnPolicyConfig,
        ppo_lag,
        published(OnPolicyConfig(constraint=PID)),
    ),
)
