"""``prudence simulate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from prudence.cli.api import use_compilation_cache
from prudence.cli.commands.usage import refuse
from prudence.envs.base import EnvConfig
from prudence.evidence import mpc_sim as simulate
from prudence.planners import CrossEntropy


@dataclass(frozen=True)
class Simulate:
    """Plan in the true simulator, without learning anything: SafeDreamer's baseline MPC:sim.

    At every decision a cross-entropy search draws plans, and the simulator computes the return and the cost of each.
    Plans within the budget are preferred. The result shows what planning is worth with a model that makes no errors,
    as a reference for agents that learn. It works for Safety-Gymnasium's tasks only. It is slow: about three seconds of
    processor time for a decision, over all cores, and an episode of PointGoal1 has 200 decisions. With --plans 64
    --iterations 3 it takes a fifth of that.

    Prints what `prudence evaluate` prints, for the same episodes if their number and the seed are the same, and
    writes a directory that `prudence record` reads.
    """

    task: str = "SafetyPointGoal1-v0"
    """One of Safety-Gymnasium's tasks (`prudence list --tasks`)."""
    episodes: int = 5
    """Number of episodes. More episodes give a tighter bound on the cost."""
    cost_limit: Annotated[tuple[float, ...], tyro.conf.arg(metavar="COST [COST ...]")] = (2.0,)
    """The budget: the cost that an episode may have. A plan's costs are extrapolated to a whole episode, so a small
    budget allows no cost within the horizon."""
    action_repeat: int = 5
    """Raw steps that one decision lasts."""
    plans: int = 150
    """Number of plans in each round; the best tenth are the elites."""
    horizon: int = 15
    """Number of decisions in a plan. What comes after them does not count."""
    iterations: int = 6
    """Number of rounds. Each draws plans around the elites of the round before."""
    seed: int = 0
    """Seed of the episodes and of the plans."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIRECTORY")] = None
    """Where to write. The default is runs/mpc-sim-TASK-SEED."""
    video: bool = False
    """Film the first episode to videos/evaluation.mp4."""

    def run(self, rest: list[str]) -> int:
        from prudence.cli.present import simulate_run

        refuse(rest)
        use_compilation_cache()
        search = CrossEntropy(self.horizon, self.plans, max(1, self.plans // 10), self.iterations)
        limit = self.cost_limit[0] if len(self.cost_limit) == 1 else self.cost_limit
        config = simulate.SimulationConfig(
            EnvConfig(self.task, action_repeat=self.action_repeat),
            simulate.SimulatedPlanning(search, limit),
            episodes=self.episodes,
            seed=self.seed,
        )
        directory = self.out or Path("runs") / f"{simulate.NAME}-{self.task}-{self.seed}"
        tell = lambda found: print(found.summary(), flush=True)
        _, rate = simulate_run(config, directory, video=self.video, tell=tell)
        print(f"{rate:.2f} decisions/s; written to {directory}")
        return 0
