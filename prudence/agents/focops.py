"""First-order constrained optimisation in policy space (Zhang et al. 2020)."""

from __future__ import annotations

from prudence.constraints import DualAscent, PIDLagrangian
from prudence.cores.on_policy.improvement import PenalisedDivergence
from prudence.cores.on_policy.on_policy import OnPolicy, OnPolicyConfig, compose
from prudence.cores.on_policy.published import published
from prudence.cores.system import System
from prudence.types import Spaces


def focops(spaces: Spaces, config: OnPolicyConfig) -> OnPolicy:
    """Makes FOCOPS: it projects the optimal policy of a trust region onto the network's policies.

    Raises ValueError as ``compose`` does.
    """
    return compose("focops", spaces, config, PenalisedDivergence, DualAscent, PIDLagrangian)


SYSTEMS = (
    System(
        "focops",
        "first-order constrained optimisation in policy space",
        "Zhang et al. 2020, arXiv 2002.06506",
        OnPolicyConfig,
        focops,
        published(OnPolicyConfig(PenalisedDivergence(), DualAscent(maximum=2.0))),
    ),
)
