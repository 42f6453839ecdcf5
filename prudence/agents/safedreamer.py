"""SafeDreamer (Huang et al. 2024): world models under a cost budget.

``bsrp_lag`` is background safety-reward planning with a Lagrangian (section 4.3, Algorithm 2). The actor is trained in
imagination on R^λ/S − Ψ(C^λ − d), with the augmented Lagrangian Ψ.

``osrp`` is online safety-reward planning (section 4.1, Algorithm 1). Every decision is the first action of the best
plan whose imagined cost is within the budget. The actor proposes some of the plans, and is trained on reward only.

``osrp_lag`` is the same with the score R^λ − λ C^λ (section 4.2, Algorithm 3). A PID controller sets λ from the costs
of finished episodes.
"""

from __future__ import annotations

from dataclasses import replace

from prudence.constraints import PIDLagrangian, Unconstrained
from prudence.cores.dreamer.config import DreamerConfig
from prudence.cores.dreamer.dreamer import Dreamer
from prudence.cores.dreamer.sizes import safedreamer_published
from prudence.cores.system import System
from prudence.types import Spaces

_PAPER = "Huang et al. 2024, arXiv 2307.07176"


def bsrp_lag(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """Makes BSRP-Lag for an environment's spaces.

    Raises:
        ValueError: ``config`` has no constraint.
    """
    if not config.constrained:
        raise ValueError("BSRP-Lag needs a constraint: use AugmentedLagrangian, or train dreamerv3 to ignore costs")
    return Dreamer(spaces, config)


def osrp(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """Makes OSRP for an environment's spaces.

    Raises:
        ValueError: ``config`` does not plan, or plans for reward only.
    """
    if config.planning is None or config.planning.search.rule != "constrained":
        raise ValueError("OSRP plans under a budget: give it a PlanningConfig whose search has rule='constrained'")
    return Dreamer(spaces, config)


def osrp_lag(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """Makes OSRP-Lag for an environment's spaces.

    Raises:
        ValueError: as :func:`osrp`, or costs have no price.
    """
    if config.planning is not None and not isinstance(config.planning.price, PIDLagrangian):
        raise ValueError("OSRP-Lag needs a price of costs: use PIDLagrangian, or train safedreamer-osrp without one")
    return osrp(spaces, config)


def _bsrp_lag(config: DreamerConfig) -> DreamerConfig:
    """The multiplier is in the actor's loss (equation 9), and samples of the policy act, as in the released code."""
    return replace(config, planning=None, uncertainty=None, privileged=None, evaluation="sample")


def _osrp_lag(config: DreamerConfig) -> DreamerConfig:
    """The multiplier is in the score of plans. The actor is trained on reward only."""
    return replace(config, constraint=Unconstrained(), uncertainty=None, privileged=None, evaluation="sample")


def _osrp(config: DreamerConfig) -> DreamerConfig:
    """The budget only decides which plans are safe. Costs have no price."""
    assert config.planning is not None
    return replace(_osrp_lag(config), planning=replace(config.planning, price=Unconstrained()))


SYSTEMS = (
    System(
        "safedreamer-bsrp-lag",
        "SafeDreamer's actor trained in imagination under an augmented Lagrangian",
        _PAPER,
        DreamerConfig,
        bsrp_lag,
        safedreamer_published,
        _bsrp_lag,
    ),
    System(
        "safedreamer-osrp",
        "SafeDreamer's planner: the best plan whose imagined cost is within the budget",
        _PAPER,
        DreamerConfig,
        osrp,
        safedreamer_published,
        _osrp,
    ),
    System(
        "safedreamer-osrp-lag",
        "SafeDreamer's planner with a price on cost, which a PID controller sets from episodes",
        _PAPER,
        DreamerConfig,
        osrp_lag,
        safedreamer_published,
        _osrp_lag,
    ),
)
