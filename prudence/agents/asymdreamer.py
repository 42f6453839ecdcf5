"""AsymDreamer (anonymous 2024): critics that see more than the actor, through a second world model.

There are two models: an observation model of what the robot will see, and a privileged model of what only training
sees. Both imagine under the same actions. The heads of reward and costs and the critics see both states; the actor sees
only the state of the observation model (sections 5 and 6, prudence/models/paired.py). Everything else is SafeDreamer's
BSRP-Lag (prudence/agents/safedreamer.py).

There are two ablations (section 7.2). The critics of ``asymdreamer-s`` see only the privileged state.
``asymdreamer-o`` has no privileged observations, and so equals BSRP-Lag.
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
    """Makes AsymDreamer for an environment's spaces.

    Raises:
        ValueError: ``config`` has no constraint or no privileged world model, or ``spaces`` has no privileged
            observations.
    """
    if config.privileged is None:
        raise ValueError("AsymDreamer needs a second world model: give it a PrivilegedConfig, or train asymdreamer-o")
    return asymdreamer_o(spaces, config)


def asymdreamer_s(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """Makes AsymDreamer(S) for an environment's spaces.

    Raises:
        ValueError: as :func:`asymdreamer`, or the critics see more than the privileged state.
    """
    if config.privileged is not None and config.privileged.critics_see != "privileged":
        raise ValueError("AsymDreamer(S)'s critics see the privileged state only: set critics_see='privileged'")
    return asymdreamer(spaces, config)


def asymdreamer_o(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """Makes the agent for an environment's spaces. Without ``config.privileged`` it is BSRP-Lag.

    Raises:
        ValueError: ``config`` has no constraint.
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
        "AsymDreamer's ablation whose critics see only the privileged state",
        _PAPER,
        DreamerConfig,
        asymdreamer_s,
        safedreamer_published,
        _asymdreamer_s,
        Needs(privileged=True),
    ),
    System(
        "asymdreamer-o",
        "AsymDreamer's ablation without privileged observations; it equals BSRP-Lag",
        _PAPER,
        DreamerConfig,
        asymdreamer_o,
        safedreamer_published,
        _asymdreamer_o,
    ),
)
