"""Trust-region policy optimisation (Schulman et al. 2015) under a Lagrangian budget (Ray et al. 2019)."""

from __future__ import annotations

from prudence.agents.on_policy import OnPolicy, OnPolicyConfig, compose
from prudence.constraints import DualAscent, PIDLagrangian
from prudence.improvement import TrustRegion
from prudence.types import Spaces


def trpo_lag(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Prices costs so that the budget holds. Raises ValueError as ``compose``."""
    return compose("trpo-lag", spaces, config, TrustRegion, DualAscent, PIDLagrangian)
