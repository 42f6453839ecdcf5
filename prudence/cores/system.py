"""The description of a system. Each file of ``prudence/agents`` exports ``SYSTEMS``, the systems of one paper."""

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
    """The sizes and the protocol that a paper publishes for a system.

    Attributes:
        agent: the agent's configuration.
        loop: how experience and updates alternate.
        action_repeat: number of raw steps in a decision.
        cameras: the cameras that take pictures.
        counts_raw_steps: whether the paper counts updates and random steps per raw step. If so, a protocol with another
            action repeat keeps their numbers per raw step.
    """

    agent: Config
    loop: Loop
    action_repeat: int = 1
    cameras: Literal["front", "both"] = "front"
    counts_raw_steps: bool = False


@dataclass(frozen=True)
class Needs:
    """What a system needs from an environment and from a preset.

    Attributes:
        budget: a budget. It is also set if the system is an ablation of one that keeps a budget.
        posterior: a posterior over world models.
        privileged: observations that only training uses.
        spent: the observation of the costs of the episode so far.
        dataset: recorded data, without which it cannot learn.
    """

    budget: bool = True
    posterior: bool = False
    privileged: bool = False
    spent: bool = False
    dataset: bool = False


@dataclass(frozen=True)
class System(Generic[Config]):
    """A named agent.

    Attributes:
        name: its name on the command line.
        summary: a description in one line.
        paper: the paper that introduced it.
        config: the class of its configuration. It determines the core of the system.
        make: makes the agent for an environment's spaces. It raises ValueError if the configuration does not belong to
            the system.
        published: the paper's sizes and protocol, given whether observations have pictures.
        compose: adapts a configuration with the parts of all systems of the core to this system.
        needs: what it needs from an environment and from a preset.
        offline: adapts a configuration to learning from a data set.
        online: adapts a configuration to going on in an environment from an offline run.
    """

    name: str
    summary: str
    paper: str
    config: type[Config]
    make: Callable[[Spaces, Config], Agent]
    published: Callable[[bool], Published[Config]]
    compose: Callable[[Config], Config] = lambda config: config
    needs: Needs = Needs()
    offline: Callable[[Config], Config] = lambda config: config
    online: Callable[[Config], Config] = lambda config: config

    def agent(self, spaces: Spaces, config: Any) -> Agent:
        """Makes the agent for these spaces.

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
