"""SafeDreamer (Huang et al. 2024): world models under a cost budget.

``bsrp_lag``: background safety-reward planning with a Lagrangian (section 4.3, Algorithm 2): an actor
trained in imagination on R^λ/S − Ψ(C^λ − d), with the augmented Lagrangian Ψ.
"""

from __future__ import annotations

from prudence.agents.dreamer import Dreamer, DreamerConfig
from prudence.types import Spaces


def bsrp_lag(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """The agent for an environment's spaces.

    Raises:
        ValueError: if ``config`` has no constraint.
    """
    if not config.constrained:
        raise ValueError("BSRP-Lag needs a constraint: use AugmentedLagrangian, or train dreamerv3 to ignore costs")
    return Dreamer(spaces, config)
