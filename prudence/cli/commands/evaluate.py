"""``prudence evaluate``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from prudence.cli.api import use_compilation_cache
from prudence.cli.commands.usage import UsageError, refuse
from prudence.deploy.shipped import find_policy
from prudence.inspection import report


@dataclass(frozen=True)
class Evaluate:
    """Run a trained policy on episodes that training never saw.

    Prints the mean return with its 95 % interval. For each constraint, it prints the upper bound of the expected
    episode cost (95 % confidence) and compares it with the budget. Writes evaluation.json and report.html to the run.

    A record with policies (results/NAME) is evaluated in the same way, and does not change.
    """

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """Directory of a run, of a record, or of one of its policies."""
    episodes: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Number of episodes; the default is 20. More episodes give a tighter bound on the cost."""
    until_decided: bool = False
    """Evaluate until the expected cost is shown to be below or above each budget, instead of a fixed number of
    episodes. The bound is valid at every look (after 20, 30, 50, 80, ... episodes)."""
    max_episodes: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """With --until-decided: the largest number of episodes; the default is 400. A larger number makes the bounds of
    the first looks wider."""
    policy: Annotated[str | None, tyro.conf.arg(metavar="SEED")] = None
    """Which policy of a record to evaluate. The default is the first."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIRECTORY")] = None
    """Where to write. The default is the run, or runs/NAME-POLICY-evaluation for a record."""
    seed: int = 0
    """Seed of the evaluation's episodes."""
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    """The expected task: a run of another task is refused. A module:Class that you name here is trusted."""
    trust: bool = False
    """Run code that the files of the run or record name (a task module:Class, a cost function). Only for files that
    you trust."""
    explore: bool = False
    """Act as in training: by the current weights instead of their average, with sampled actions."""
    video: bool = False
    """Film the first episode to videos/evaluation.mp4."""
    show_plan: bool = False
    """Film the plans among which each decision of the first episode was chosen (videos/plan.mp4), and draw the decision
    with the most rejected plans (plan.png). For agents that plan."""
    deadline: Annotated[float | None, tyro.conf.arg(metavar="MS")] = None
    """Milliseconds for a decision, as on a robot. The search does as many iterations as fit, and reports how many. For
    agents that plan; one environment is stepped at a time."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Worker processes with one environment each. The default is as in training: ten environments in this process, or
    worker processes if training had one for each environment (--loop.workers)."""

    def run(self, rest: list[str]) -> int:
        from prudence.cli.present import evaluate_run, place_for
        from prudence.evidence.record import repetition

        refuse(rest)
        use_compilation_cache()
        if self.until_decided and self.episodes is not None:
            raise UsageError("--until-decided chooses the number of episodes: give --max-episodes, not --episodes")
        if not self.until_decided and self.max_episodes is not None:
            raise UsageError("--max-episodes goes with --until-decided: give --episodes, or both of these")
        run, names = find_policy(self.run_directory, self.policy)
        if names:
            others = f"; others: {', '.join(n for n in names if n != run.path.name)} (--policy)" * (len(names) > 1)
            print(f"policy {run.path.name} of {self.run_directory}{others}", file=sys.stderr)
        target = place_for(run, self.out)
        result = evaluate_run(
            run.path,
            episodes=self.max_episodes if self.until_decided else self.episodes,
            until_decided=self.until_decided,
            out=target.path,
            seed=self.seed,
            mode="train" if self.explore else "evaluate",
            task=self.task,
            trust=self.trust,
            workers=self.workers,
            video=self.video,
            show_plan=self.show_plan,
            deadline=None if self.deadline is None else self.deadline / 1000,
            tell=lambda found: print(found.summary(), flush=True),
        )
        if run.ships and (repeated := repetition(run, result)):
            print(repeated)
        print(f"report: {report.write_report(run.path, target.path)}")
        return 0
