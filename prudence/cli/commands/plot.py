"""``prudence plot``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from prudence.cli.commands.usage import UsageError, refuse
from prudence.evidence import plot
from prudence.runs.directory import RunDirectory


@dataclass(frozen=True)
class Plot:
    """Draw learning curves of one run, or of several runs: one line for each agent, with its spread over seeds.

    Lines are means of the training episodes in windows of steps. --frontier draws return against cost instead: a path
    for each agent, which is pale at the beginning of training, and a mark for its evaluation.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Directories of runs; with --frontier also of records, such as those in results/."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The picture. The default is curve.png (or frontier.png) in the run; for several runs, comparison.png (or
    frontier.png) in this directory."""
    frontier: bool = False
    """Draw return against cost over training."""

    def run(self, rest: list[str]) -> int:
        refuse(rest)
        if not self.runs:
            raise UsageError("name at least one run: prudence plot runs/...")
        if self.frontier:
            from prudence.evidence.frontier import plot_frontier

            alone = self.runs[0] if len(self.runs) == 1 and RunDirectory(self.runs[0]).exists else Path()
            print(plot_frontier(self.runs, self.out or alone / "frontier.png"))
            return 0
        if len(self.runs) == 1:
            print(plot.plot_run(self.runs[0], self.out))
            return 0
        print(plot.plot_runs(plot.group_runs(self.runs), self.out or Path("comparison.png")))
        return 0
