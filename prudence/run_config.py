"""Everything that determines a run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, cast

from prudence.cores.base import Agent
from prudence.cores.dreamer.config import DreamerConfig
from prudence.cores.fosp.config import FospConfig
from prudence.cores.on_policy.on_policy import OnPolicyConfig
from prudence.envs.base import EnvConfig
from prudence.envs.registry import complete
from prudence.loops import OfflineLoop, ReplayLoop, RolloutLoop
from prudence.ranges import between, check_ranges
from prudence.systems import find_system
from prudence.types import Spaces


@dataclass(frozen=True)
class RunConfig:
    """The configuration of a run, its ``config.json``: agent, environment, loop and seed.

    The environment's configuration is completed with the defaults of its task's suite.

    Raises:
        EnvError: the task's suite does not have a setting of the environment.
        ValueError: a number is outside of its range.
    """

    agent_name: str
    env: EnvConfig
    agent: DreamerConfig | FospConfig | OnPolicyConfig = field(default_factory=DreamerConfig)
    loop: ReplayLoop | RolloutLoop | OfflineLoop = field(default_factory=ReplayLoop)
    seed: Annotated[int, between(0, 2**32 - 1)] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "env", complete(self.env))
        check_ranges(self)

    def check(self) -> None:
        """Raises ValueError where settings do not make a run together.

        Not when a configuration is made, since settings are replaced one after another.
        """
        self.loop.check(self.env.action_repeat)

    @property
    def run_updates(self) -> int:
        """The number of updates of the whole run."""
        return self.loop.run_updates(self.env.action_repeat)

    @property
    def planning_starts(self) -> int | None:
        """Progress of the run from which on the planner acts. None for an agent that does not plan."""
        if not isinstance(self.agent, DreamerConfig) or self.agent.planning is None:
            return None
        start = self.agent.planning.start
        return self.loop.progress_at(start, self.env.action_repeat) if start else 0

    def make_agent(self, spaces: Spaces) -> Agent:
        """Makes the agent that this run trains.

        Raises:
            ValueError: the configuration does not suit the agent or the spaces, or the run ends before its planner
                starts to act.
        """
        start = self.planning_starts
        unit, end = self.loop.unit, self.loop.length
        if start is not None and start >= end:
            raise ValueError(
                f"{self.agent_name} acts with its planner from {start:,} {unit} on, but this run ends at {end:,}: its "
                f"planner would never act. Give more --{unit}, or start it sooner (--agent.planning.start, in gradient "
                "steps)"
            )
        agent = find_system(self.agent_name).agent(spaces, self.agent)
        return replace(cast(Any, agent), run_updates=self.run_updates)
