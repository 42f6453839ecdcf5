"""LAMBDA (As et al. 2022): constrained policy optimisation in a posterior over world models.

Every start state is imagined under N models drawn from a SWAG posterior; the actor improves the best of N returns
and keeps the worst of N costs within the budget, by an augmented Lagrangian (section 4.2, Algorithms 1 and 2).
``lambda-unsafe`` (Appendix E) leaves out the constraint, ``lambda-greedy`` (Appendix G) takes means over the models
instead of bounds; ``lambda-cem-mpc`` (Appendix F) plans, see prudence/agents/cem_mpc.py.
"""

from __future__ import annotations

from prudence.agents.dreamer import Dreamer, DreamerConfig
from prudence.types import Spaces


def lambda_agent(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """The agent for an environment's spaces.

    Raises:
        ValueError: if ``config`` has no posterior over models.
    """
    if config.uncertainty is None:
        raise ValueError("LAMBDA draws its models from a posterior: give it an UncertaintyConfig")
    return Dreamer(spaces, config)
