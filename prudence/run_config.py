"""Everything that determines a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, cast

from prudence.cores.base import Agent
from prudence.cores.dreamer.config import DreamerConfig
from prudence.cores.fosp.config import FospConfig
from prudence.cores.latent_sac import LatentSACConfig
from prudence.cores.lookahead import LookaheadConfig
from prudence.cores.on_policy.model_based import ModelBasedConfig
from prudence.cores.on_policy.on_policy import OnPolicyConfig
from prudence.cores.sac import SACConfig
from prudence.envs.base import EnvConfig
from prudence.envs.registry import complete
from prudence.loops import MixedLoop, OfflineLoop, ReplayLoop, RolloutLoop
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
    agent: (
        DreamerConfig | FospConfig | OnPolicyConfig | SACConfig | ModelBasedConfig | LookaheadConfig | LatentSACConfig
    ) = field(default_factory=DreamerConfig)
    loop: ReplayLoop | MixedLoop | RolloutLoop | OfflineLoop = field(default_factory=ReplayLoop)
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

    @property
    def _pretraining(self) -> int:
        """Gradient steps of a model alone, at first."""
        return self.agent.pretraining if isinstance(self.agent, LatentSACConfig) else 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person may not expect of these settings: what never happens in a run this short, and what is not
        told apart."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        updates, loop, agent = self.run_updates, self.loop, self.agent
        of = f"of the {updates:,} updates of this run"
        start = agent.budget.start + self._pretraining
        # MBPPO's start counts imagined rollouts, of which an update has a number that is not known before.
        if start >= updates and not isinstance(agent, ModelBasedConfig):
            yield f"costs never count: agent.budget.start={agent.budget.start:,} is none {of}"
        if loop.evaluate_every > loop.length:
            yield f"no evaluation happens before the end: loop.evaluate_every={loop.evaluate_every:,}"
        if isinstance(agent, FospConfig) and type(loop) is ReplayLoop:
            yield (
                f"{self.agent_name} learns in the environment from the beginning. Its offline phase learns from data "
                "(--dataset), and a run goes on from there (--start-from)"
            )
        if not isinstance(agent, DreamerConfig):
            return
        burn_in = getattr(agent.uncertainty and agent.uncertainty.posterior, "burn_in", 0)
        if burn_in >= updates:
            yield f"the posterior over models stays empty: agent.uncertainty.posterior.burn_in={burn_in:,} is none {of}"
        if agent.world_model.cost.kind == "bernoulli":
            yield (
                "the model learns whether a decision costs anything, not how much: a cost of 0.01 counts as one of 10 "
                "(agent.world_model.cost.kind=bernoulli)"
            )

    def make_agent(self, spaces: Spaces) -> Agent:
        """Makes the agent that this run trains.

        Raises:
            ValueError: the configuration does not suit the agent or the spaces, or the run ends before its planner
                starts to act or its policy begins to learn.
        """
        start = self.planning_starts
        unit, end = self.loop.unit, self.loop.length
        if start is not None and start >= end:
            raise ValueError(
                f"{self.agent_name} acts with its planner from {start:,} {unit} on, but this run ends at {end:,}: its "
                f"planner would never act. Give more --{unit}, or start it sooner (--agent.planning.start, in gradient "
                "steps)"
            )
        if self._pretraining >= self.run_updates:
            raise ValueError(
                f"the policy would never learn: agent.pretraining={self._pretraining:,} updates are for the model "
                f"alone, and the run has {self.run_updates:,}: give more --steps, or a smaller --agent.pretraining"
            )
        agent = find_system(self.agent_name).agent(spaces, self.agent)
        return replace(cast(Any, agent), run_updates=self.run_updates)
