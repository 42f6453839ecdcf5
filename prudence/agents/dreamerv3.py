"""DreamerV3 (Hafner et al. 2023) as SafeDreamer's unsafe baseline: it predicts costs but ignores them."""

from __future__ import annotations

from dataclasses import replace

from prudence.constraints import Unconstrained
from prudence.cores.dreamer.config import DreamerConfig
from prudence.cores.dreamer.dreamer import Dreamer
from prudence.cores.dreamer.sizes import safedreamer_published
from prudence.cores.dreamer.uncertainty import DisagreementConfig
from prudence.cores.system import Needs, System
from prudence.types import Spaces


def dreamerv3(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """Makes DreamerV3 for an environment's spaces. It ignores the constraint of ``config``."""
    return Dreamer(spaces, replace(config, constraint=Unconstrained()))


def _compose(config: DreamerConfig) -> DreamerConfig:
    return replace(config, constraint=Unconstrained(), planning=None, uncertainty=None, privileged=None)


def _offline(config: DreamerConfig) -> DreamerConfig:
    """Imagined rewards are less where an ensemble disagrees (FOSP's Appendix F)."""
    return replace(config, disagreement=DisagreementConfig())


SYSTEMS = (
    System(
        "dreamerv3",
        "DreamerV3: predicts costs but ignores them",
        "Hafner et al. 2023, arXiv 2301.04104; sizes of SafeDreamer's Appendix C",
        DreamerConfig,
        dreamerv3,
        safedreamer_published,
        _compose,
        Needs(budget=False),
        _offline,
    ),
)
