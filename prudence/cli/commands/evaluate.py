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

    Prints the mean return with its 95 % interval and, for each constraint, what the expected episode cost
    stays below with 95 % confidence, against the budget. Writes evaluation.json and report.html to the run.

    A record that has policies (results/NAME) is evaluated as its run would be, and stays as it is.
    """

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """Directory of a run, of a record, or of one of its policies."""
    episodes: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """How many, 20 by default. More make the statement about cost sharper."""
    until_decided: bool = False
    """Instead of a number of episodes: go on until the expected cost is shown to be below or above each budget, by a
    bound that stays valid though one looks again and again (after 20, 30, 50, 80, ... episodes)."""
    max_episodes: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """With --until-decided, where to stop undecided; 400 by default. A larger number makes early looks stricter."""
    policy: Annotated[str | None, tyro.conf.arg(metavar="SEED")] = None
    """Of a record, which of its policies; the first by default."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIRECTORY")] = None
    """Where to write. By default the run; of a record, runs/NAME-POLICY-evaluation."""
    seed: int = 0
    """Of the evaluation's episodes."""
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    """The task, if it must be checked: a run of another one is refused. A module:Class that is given is trusted."""
    trust: bool = False
    """Run the code that the run's or record's files name, if you trust them: a task module:Class, a cost function."""
    explore: bool = False
    """Act as in training, with samples where the policy would otherwise take its mode."""
    video: bool = False
    """Film the first episode to videos/evaluation.mp4."""
    show_plan: bool = False
    """Film the plans that each of its decisions was chosen from to videos/plan.mp4, and the most contested decision to
    plan.png. For agents that plan."""
    deadline: Annotated[float | None, tyro.conf.arg(metavar="MS")] = None
    """Milliseconds for a decision, as on a robot: the search does as many iterations as fit, and says how many. For
    agents that plan; steps one environment at a time."""

    workers: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Processes, with one environment in each. By default as in training: ten environments in this process, unless each
    of training's had a process of its own (--loop.workers)."""

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
