"""First-order constrained optimisation in policy space (Zhang et al. 2020)."""

from __future__ import annotations

from prudence.agents.on_policy import OnPolicy, OnPolicyConfig, compose
from prudence.constraints import DualAscent, PIDLagrangian
from prudence.improvement import PenalisedDivergence
from prudence.types import Spaces


def focops(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Projects the optimal nearby policy on what the network can express. Raises ValueError as ``compose``."""
    return compose("focops", spaces, config, PenalisedDivergence, DualAscent, PIDLagrangian)
