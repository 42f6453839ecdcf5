"""AsymDreamer (anonymous 2024): critics that see more than the actor, in a second world model.

An observation model of what the robot will see, and a privileged model of what only training sees, are imagined under
the same actions; reward, costs and their critics see both states, the actor that of the observation model alone
(sections 5 and 6, prudence/models/paired.py). All else is SafeDreamer's BSRP-Lag (prudence/agents/safedreamer.py).

``asymdreamer-s`` is its ablation whose critics see the privileged state only, and ``asymdreamer-o`` that without
anything privileged (section 7.2): the latter is BSRP-Lag.
"""

from __future__ import annotations

from dataclasses import replace

from prudence.cores.dreamer.config import DreamerConfig
from prudence.cores.dreamer.dreamer import Dreamer
from prudence.cores.dreamer.sizes import safedreamer_published
from prudence.cores.system import Needs, System
from prudence.types import Spaces

_PAPER = "anonymous 2024 (AsymDreamer)"


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


def _asymdreamer(config: DreamerConfig) -> DreamerConfig:
    """The critics see the states of both models."""
    return replace(config, planning=None, uncertainty=None, evaluation="sample")


def _asymdreamer_s(config: DreamerConfig) -> DreamerConfig:
    assert config.privileged is not None
    return replace(_asymdreamer(config), privileged=replace(config.privileged, critics_see="privileged"))


def _asymdreamer_o(config: DreamerConfig) -> DreamerConfig:
    return replace(_asymdreamer(config), privileged=None)


SYSTEMS = (
    System(
        "asymdreamer",
        "AsymDreamer: critics and heads also see privileged observations, in a second world model",
        _PAPER,
        DreamerConfig,
        asymdreamer,
        safedreamer_published,
        _asymdreamer,
        Needs(privileged=True),
    ),
    System(
        "asymdreamer-s",
        "its ablation whose critics see the privileged state only",
        _PAPER,
        DreamerConfig,
        asymdreamer_s,
        safedreamer_published,
        _asymdreamer_s,
        Needs(privileged=True),
    ),
    System(
        "asymdreamer-o",
        "its ablation without anything privileged, which is BSRP-Lag",
        _PAPER,
        DreamerConfig,
        asymdreamer_o,
        safedreamer_published,
        _asymdreamer_o,
    ),
)
