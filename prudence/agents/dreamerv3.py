"""DreamerV3 (Hafner et al. 2023) as SafeDreamer's unsafe baseline: costs are predicted but not minded."""

from __future__ import annotations

from dataclasses import replace

from prudence.agents.dreamer import Dreamer, DreamerConfig
from prudence.constraints import Unconstrained
from prudence.types import Spaces


def dreamerv3(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """The agent for an environment's spaces; any constraint in ``config`` is dropped."""
    return Dreamer(spaces, replace(config, constraint=Unconstrained()))
