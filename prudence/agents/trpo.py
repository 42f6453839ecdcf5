"""Trust-region policy optimisation (Schulman et al. 2015) under a Lagrangian budget (Ray et al. 2019)."""

from __future__ import annotations

from prudence.constraints import DualAscent, PIDLagrangian
from prudence.cores.on_policy.improvement import TrustRegion
from prudence.cores.on_policy.on_policy import OnPolicy, OnPolicyConfig, compose
from prudence.cores.on_policy.published import PID, SECOND_ORDER_CRITIC, published
from prudence.cores.system import System
from prudence.types import Spaces


def trpo_lag(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Makes TRPO with a multiplier that keeps the budget. Raises ValueError as ``compose`` does."""
    return compose("trpo-lag", spaces, config, TrustRegion, DualAscent, PIDLagrangian)


SYSTEMS = (
    System(
        "trpo-lag",
        "trust-region policy optimisation with a multiplier on cost, set by dual ascent",
        "Ray et al. 2019, Benchmarking Safe Exploration in Deep Reinforcement Learning",
        OnPolicyConfig,
        trpo_lag,
        published(OnPolicyConfig(TrustRegion(), DualAscent(), critic=SECOND_ORDER_CRITIC)),
    ),
    System(
        "trpo-pid",
        "trust-region policy optimisation with a multiplier on cost, set by a PID controller",
        "Stooke et al. 2020, arXiv 2007.03964",
        OnPolicyConfig,
        trpo_lag,
        published(OnPolicyConfig(TrustRegion(), PID, critic=SECOND_ORDER_CRITIC)),
    ),
)
