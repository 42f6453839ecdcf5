"""SafeLOOP (Sikchi et al. 2020): planning in an ensemble of learned models, with the values of an off-policy learner.

Plans whose cost is within a threshold in the worst of the models are weighed by what they earn, and by soft
actor-critic's value of where they end (actor regularized control, ARC). The actor-critic learns from what plans did.
"""

from __future__ import annotations

from prudence.cores.lookahead import Lookahead, LookaheadConfig
from prudence.cores.system import Published, System
from prudence.loops import ReplayLoop
from prudence.types import Spaces


def safeloop(spaces: Spaces, config: LookaheadConfig) -> Lookahead:
    """Makes SafeLOOP.

    Raises:
        ValueError: plans ignore costs, or the configuration does not suit the spaces.
    """
    if config.search.rule != "constrained":
        raise ValueError(f"safeloop needs search.rule='constrained', but the configuration has {config.search.rule!r}")
    return Lookahead(spaces, config)


def published(vision: bool) -> Published[LookaheadConfig]:
    """The constants of the released code, for 1e6 raw steps."""
    loop = ReplayLoop(
        steps=1_000_000,
        prefill=10_000,
        updates_per_decision=1.0,
        updates_per_dispatch=50,
        decisions_per_iteration=50,
        batch_size=256,
        batch_length=2,
    )
    return Published(LookaheadConfig(), loop, action_repeat=5)


SYSTEMS = (
    System(
        "safeloop",
        "SafeLOOP: plans in an ensemble of learned models, with SAC's values",
        "Sikchi et al. 2020, arXiv 2008.10066",
        LookaheadConfig,
        safeloop,
        published,
    ),
)
