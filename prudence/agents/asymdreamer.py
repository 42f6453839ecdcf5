"""AsymDreamer (anonymous 2024): critics that see more than the actor, in a second world model.

An observation model of what the robot will see, and a privileged model of what only training sees, are imagined under
the same actions; reward, costs and their critics see both states, the actor that of the observation model alone
(sections 5 and 6, prudence/models/paired.py). All else is SafeDreamer's BSRP-Lag (prudence/agents/safedreamer.py).

``asymdreamer-s`` is its ablation whose critics see the privileged state only, and ``asymdreamer-o`` that without
anything privileged (section 7.2): the latter is BSRP-Lag.
"""

from __future__ import annotations

from prudence.agents.dreamer import Dreamer, DreamerConfig
from prudence.types import Spaces


def asymdreamer(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """The agent for an environment's spaces.

    Raises:
        ValueError: if ``config`` has no constraint or no privileged world model, or ``spaces`` nothing privileged.
    """
    if config.privileged is None:
        raise ValueError("AsymDreamer learns a second world model: give it a PrivilegedConfig, or train asymdreamer-o")
    return asymdreamer_o(spaces, config)


def asymdreamer_s(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """The agent for an environment's spaces.

    Raises:
        ValueError: as :func:`asymdreamer`, or if the critics see more than the privileged state.
    """
    if config.privileged is not None and config.privileged.critics_see != "privileged":
        raise ValueError("AsymDreamer(S)'s critics see the privileged state only: set critics_see='privileged'")
    return asymdreamer(spaces, config)


def asymdreamer_o(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """The agent for an environment's spaces: without ``config.privileged`` BSRP-Lag.

    Raises:
        ValueError: if ``config`` has no constraint.
    """
    if not config.constrained:
        raise ValueError("AsymDreamer needs a constraint: use AugmentedLagrangian, or train dreamerv3 to ignore costs")
    return Dreamer(spaces, config)
