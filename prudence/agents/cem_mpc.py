"""CEM-MPC, LAMBDA's ablation (As et al. 2022, section 5.3): planning without an actor's or a critic's help.

A plan is worth its imagined rewards over the horizon; plans whose most pessimistic future exceeds the budget are
rejected. ``lambda-cem-mpc`` imagines each of a plan's futures under another model of LAMBDA's posterior; in ``cem-mpc``
they are samples of one model's latents.
"""

from __future__ import annotations

from prudence.agents.dreamer import Dreamer, DreamerConfig
from prudence.types import Spaces


def cem_mpc(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """The agent for an environment's spaces.

    Raises:
        ValueError: if ``config`` does not plan, or lets critics or the actor enter the plans.
    """
    planning = config.planning
    if planning is None or planning.beyond != "nothing" or planning.search.num_proposals:
        raise ValueError("CEM-MPC plans with the model alone: PlanningConfig(beyond='nothing') without proposals")
    return Dreamer(spaces, config)
