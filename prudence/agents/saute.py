"""Sauté RL (Sootla et al. 2022): the state is augmented by the budget that is left, and the reward reshaped."""

from __future__ import annotations

from prudence.agents.on_policy import OnPolicy, OnPolicyConfig, compose
from prudence.constraints import Saute
from prudence.improvement import ClippedSurrogate, TrustRegion
from prudence.types import Spaces


def saute_ppo(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """With PPO. Raises ValueError as ``compose``."""
    return compose("saute-ppo", spaces, config, ClippedSurrogate, Saute)


def saute_trpo(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """With TRPO. Raises ValueError as ``compose``."""
    return compose("saute-trpo", spaces, config, TrustRegion, Saute)
