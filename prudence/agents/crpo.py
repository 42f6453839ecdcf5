"""Constraint-rectified policy optimisation (Xu et al. 2021): a switch between return and cost, without a multiplier."""

from __future__ import annotations

from prudence.constraints import Switch
from prudence.cores.on_policy.improvement import TrustRegion
from prudence.cores.on_policy.on_policy import OnPolicy, OnPolicyConfig, compose
from prudence.cores.on_policy.published import SECOND_ORDER_CRITIC, published
from prudence.cores.system import System
from prudence.types import Spaces


def crpo(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Makes CRPO. A step reduces a cost that exceeds its budget, if there is one; otherwise it increases the return.

    Raises ValueError as ``compose`` does.
    """
    return compose("crpo", spaces, config, TrustRegion, Switch)


SYSTEMS = (
    System(
        "crpo",
        "trust-region steps that reduce cost while a budget is exceeded, and increase return while none is",
        "Xu et al. 2021, arXiv 2011.05869",
        OnPolicyConfig,
        crpo,
        published(OnPolicyConfig(TrustRegion(), Switch(), critic=SECOND_ORDER_CRITIC)),
    ),
)
