"""SafeDreamer (Huang et al. 2024): world models under a cost budget.

``bsrp_lag``: background safety-reward planning with a Lagrangian (section 4.3, Algorithm 2): an actor
trained in imagination on R^λ/S − Ψ(C^λ − d), with the augmented Lagrangian Ψ.

``osrp``: online safety-reward planning (section 4.1, Algorithm 1): every decision is the first action of the best plan
among those whose imagined cost keeps within the budget. Its actor, which proposes some of the plans, minds reward only.

``osrp_lag``: the same with the score R^λ − λ C^λ (section 4.2, Algorithm 3); a PID controller sets λ from the costs of
finished episodes.
"""

from __future__ import annotations

from prudence.agents.dreamer import Dreamer, DreamerConfig
from prudence.constraints import PIDLagrangian
from prudence.types import Spaces


def bsrp_lag(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """The agent for an environment's spaces.

    Raises:
        ValueError: if ``config`` has no constraint.
    """
    if not config.constrained:
        raise ValueError("BSRP-Lag needs a constraint: use AugmentedLagrangian, or train dreamerv3 to ignore costs")
    return Dreamer(spaces, config)


def osrp(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """The agent for an environment's spaces.

    Raises:
        ValueError: if ``config`` does not plan, or plans for reward only.
    """
    if config.planning is None or config.planning.search.rule != "constrained":
        raise ValueError("OSRP plans under a budget: give it a PlanningConfig whose search has rule='constrained'")
    return Dreamer(spaces, config)


def osrp_lag(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """The agent for an environment's spaces.

    Raises:
        ValueError: as :func:`osrp`, or if costs have no price.
    """
    if config.planning is not None and not isinstance(config.planning.price, PIDLagrangian):
        raise ValueError("OSRP-Lag needs a price of costs: use PIDLagrangian, or train safedreamer-osrp without one")
    return osrp(spaces, config)
