"""Sauté RL (Sootla et al. 2022): the state includes the rest of the budget, and the reward is reshaped."""

from __future__ import annotations

from prudence.constraints import Saute
from prudence.cores.on_policy.improvement import ClippedSurrogate, TrustRegion
from prudence.cores.on_policy.on_policy import OnPolicy, OnPolicyConfig, compose
from prudence.cores.on_policy.published import SECOND_ORDER_CRITIC, published
from prudence.cores.system import Needs, System
from prudence.types import Spaces


def saute_ppo(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Makes Sauté RL with PPO. Raises ValueError as ``compose`` does."""
    return compose("saute-ppo", spaces, config, ClippedSurrogate, Saute)


def saute_trpo(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Makes Sauté RL with TRPO. Raises ValueError as ``compose`` does."""
    return compose("saute-trpo", spaces, config, TrustRegion, Saute)


_PAPER = "Sootla et al. 2022, arXiv 2202.06558"

SYSTEMS = (
    System(
        "saute-ppo",
        "PPO that sees the rest of its budget, and gets a penalty instead of reward beyond it",
        _PAPER,
        OnPolicyConfig,
        saute_ppo,
        published(OnPolicyConfig(constraint=Saute())),
        needs=Needs(spent=True),
    ),
    System(
        "saute-trpo",
        "TRPO that sees the rest of its budget, and gets a penalty instead of reward beyond it",
        _PAPER,
        OnPolicyConfig,
        saute_trpo,
        published(OnPolicyConfig(TrustRegion(), Saute(), critic=SECOND_ORDER_CRITIC)),
        needs=Needs(spent=True),
    ),
)
