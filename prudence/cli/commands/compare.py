"""``prudence compare``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from prudence.cli.commands.usage import UsageError, refuse
from prudence.runs.console import text_console


@dataclass(frozen=True)
class Compare:
    """Compare systems on one task: one table and one figure, over runs and records (`prudence record`) in any mixture.

    Runs of one agent with the same observations and budget are its seeds and make one row: mean and interquartile
    mean (IQM) of its evaluation episodes' return and costs with 95 % bootstrap intervals, the share of episodes
    within the budget, and the cost regret of training. Writes comparison.md, comparison.json and comparison.png.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Directories of evaluated runs (`prudence evaluate`), or of records, such as those in results/."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIRECTORY")]
    """Directory for the table, the numbers and the figure."""
    reference: Annotated[str | None, tyro.conf.arg(metavar="SYSTEM")] = None
    """The system to normalise by: an unconstrained agent such as dreamerv3, by its name in the table. Adds return, cost
    beyond the budget and cost regret as multiples of this system's (LAMBDA, appendix H)."""
    budget: Annotated[tuple[float, ...] | None, tyro.conf.arg(metavar="COST [COST ...]")] = None
    """The budget for all runs: one number, or one for each constraint. The default is the runs' own budget, which must
    be the same for all."""

    by: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SETTING [SETTING ...]")] = ()
    """Tell runs apart by these settings, too, such as agent.horizon. Otherwise runs that differ in them count as seeds
    of one system."""

    def run(self, rest: list[str]) -> int:
        from prudence.evidence.compare import compare

        refuse(rest)
        if not self.runs:
            raise UsageError("name at least one run or record: prudence compare runs/... --out comparison")
        found = compare(self.runs, reference=self.reference, budget=self.budget, by=self.by)
        heads, rows = found.table()
        # A system a column, since terminals are narrow.
        console, table = text_console(), Table(heads[0], box=None)
        for row in rows:
            table.add_column(row[0], justify="right", overflow="fold")
        for index, head in enumerate(heads[1:], start=1):
            table.add_row(head, *(row[index] for row in rows))
        console.print(f"{found.title}\n", style="bold", soft_wrap=True)
        console.print(table)
        print("\n".join(["", *found.notes(), "", *map(str, found.write(self.out))]))
        return 0
