"""Proximal policy optimisation (Schulman et al. 2017): ignoring costs, paying for them, and under a budget.

``ppo_lag`` is PPO-Lagrangian (Ray et al. 2019): the policy maximises A_r − Σ λ A_c, and λ rises while the mean episode
cost exceeds its budget; by dual ascent, or by a PID controller (Stooke et al. 2020).
"""

from __future__ import annotations

from prudence.agents.on_policy import OnPolicy, OnPolicyConfig, compose
from prudence.constraints import CostPenalty, DualAscent, PIDLagrangian, Unconstrained
from prudence.improvement import ClippedSurrogate
from prudence.types import Spaces


def ppo(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Minds no costs. Raises ValueError as ``compose``."""
    return compose("ppo", spaces, config, ClippedSurrogate, Unconstrained)


def ppo_reward_shaping(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Subtracts costs from rewards. Raises ValueError as ``compose``."""
    return compose("ppo-reward-shaping", spaces, config, ClippedSurrogate, CostPenalty)


def ppo_lag(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Prices costs so that the budget holds. Raises ValueError as ``compose``."""
    return compose("ppo-lag", spaces, config, ClippedSurrogate, DualAscent, PIDLagrangian)
