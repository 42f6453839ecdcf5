"""Constrained policy optimisation (Achiam et al. 2017): the budget is a second constraint of the trust-region step."""

from __future__ import annotations

from prudence.constraints import Unconstrained
from prudence.cores.on_policy.improvement import ConstrainedTrustRegion
from prudence.cores.on_policy.on_policy import OnPolicy, OnPolicyConfig, compose
from prudence.cores.on_policy.published import SECOND_ORDER_CRITIC, published
from prudence.cores.system import System
from prudence.types import Spaces


def cpo(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Makes CPO, whose step itself keeps the budget without a multiplier. Raises ValueError as ``compose`` does."""
    return compose("cpo", spaces, config, ConstrainedTrustRegion, Unconstrained)


SYSTEMS = (
    System(
        "cpo",
        "constrained policy optimisation: the trust-region step keeps the budget itself",
        "Achiam et al. 2017, arXiv 1705.10528",
        OnPolicyConfig,
        cpo,
        published(OnPolicyConfig(ConstrainedTrustRegion(), Unconstrained(), critic=SECOND_ORDER_CRITIC)),
    ),
)
