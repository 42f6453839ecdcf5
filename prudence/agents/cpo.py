"""Constrained policy optimisation (Achiam et al. 2017): the budget is a second constraint of the trust-region step."""

from __future__ import annotations

from prudence.agents.on_policy import OnPolicy, OnPolicyConfig, compose
from prudence.constraints import Unconstrained
from prudence.improvement import ConstrainedTrustRegion
from prudence.types import Spaces


def cpo(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """The step itself keeps the budget, without a multiplier. Raises ValueError as ``compose``."""
    return compose("cpo", spaces, config, ConstrainedTrustRegion, Unconstrained)
