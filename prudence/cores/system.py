"""What a system says about itself. A file of ``prudence/agents`` exports ``SYSTEMS``, the systems of one paper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from prudence.cores.base import Agent
from prudence.loops import Loop
from prudence.types import Spaces

Config = TypeVar("Config")


@dataclass(frozen=True)
class Published(Generic[Config]):
    """What a paper says of a system's sizes and protocol.

    Attributes:
        agent: the agent's configuration.
        loop: how experience and updates alternate.
        action_repeat: raw steps that a decision lasts.
        cameras: that pictures are taken by.
        counts_raw_steps: the paper counts updates and random steps in raw steps, so that an action repeat of another
            protocol leaves them as they are for each raw step.
    """

    agent: Config
    loop: Loop
    action_repeat: int = 1
    cameras: Literal["front", "both"] = "front"
    counts_raw_steps: bool = False


@dataclass(frozen=True)
class Needs:
    """What a system asks of an environment and of a preset.

    Attributes:
        budget: costs are held to a budget, by it or by the system that it is an ablation of.
        posterior: its world model is a sample of a posterior over models.
        privileged: observations that only training has.
        spent: the observation of what an episode has cost so far.
    """

    budget: bool = True
    posterior: bool = False
    privileged: bool = False
    spent: bool = False


@dataclass(frozen=True)
class System(Generic[Config]):
    """A named agent.

    Attributes:
        name: as the command has it.
        summary: what it is, in a line.
        paper: where it comes from.
        config: the class of its configuration, which says which core it is a composition of.
        make: the agent for an environment's spaces. Raises ValueError where a configuration is not the system's.
        published: what the paper has, for observations with pictures or without.
        compose: makes a configuration that has every part which any system of the core needs the system's own.
        needs: of an environment and of a preset.
    """

    name: str
    summary: str
    paper: str
    config: type[Config]
    make: Callable[[Spaces, Config], Agent]
    published: Callable[[bool], Published[Config]]
    compose: Callable[[Config], Config] = lambda config: config
    needs: Needs = Needs()

    def agent(self, spaces: Spaces, config: Any) -> Agent:
        """The agent for these spaces.

        Raises:
            ValueError: the configuration does not suit the system or the spaces.
        """
        if not isinstance(config, self.config):
            raise ValueError(
                f"{self.name} is configured by {_a(self.config.__name__)}, not by {_a(type(config).__name__)}"
            )
        return self.make(spaces, config)


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIO' else 'a'} {noun}"
