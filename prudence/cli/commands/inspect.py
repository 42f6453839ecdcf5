"""``prudence inspect``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from prudence.cli.api import use_compilation_cache
from prudence.cli.commands.usage import refuse
from prudence.inspection import report
from prudence.runs.console import text_console


@dataclass(frozen=True)
class Inspect:
    """Compare what an agent foresees with what came: on the newest sequences of its replay, and in episodes.

    The model filters --context steps, then imagines under the recorded actions. A policy can only avoid costs that
    its model foresees. The result says how well the model foresees each named part of the observations, and whether
    the foreseen costs are those that come. In episodes of the policy, it says how much time passes without progress,
    how costs arise, and what the model foresaw just before. An agent without a world model has the episodes only.

    Writes inspection.json and report.html, and draws foresight.png, entries.png, calibration.png, episodes.png
    and, for image observations, open_loop_NAME.png into the run. For an agent with a posterior over models (LAMBDA),
    doubt.png shows how much the models disagree, and whether their predictions cover the truth.
    """

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """Directory of a run, with its replay."""
    context: int = 25
    """Number of decisions that the model filters."""
    ahead: int = 45
    """Number of decisions that it imagines."""
    sequences: int = 128
    """Number of sequences."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="RUN|DATASET")] = None
    """Another run of the same task, or a data set, from which the model has not learned. The default is the newest
    sequences of the run itself, or the held-out episodes of an offline run."""
    episodes: int = 20
    """Number of episodes of the policy, on seeds that training does not use. 0 takes none."""
    seed: int = 0
    """Seed of the imagined samples and of the episodes."""
    against: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    """Another task with the same observations: shows whether the models disagree on states that they do not know."""
    trust: bool = False
    """Run code that the run's files name (a task module:Class, a cost function). Only for files that you trust."""

    def run(self, rest: list[str]) -> int:
        import jax

        from prudence.inspection.inspect import inspect_run
        from prudence.inspection.tables import sheets

        refuse(rest)
        use_compilation_cache()
        run = self.run_directory.absolute()  # An environment may change the working directory.
        found = inspect_run(
            run,
            key=jax.random.key(self.seed),
            sequences=self.sequences,
            context=self.context,
            ahead=self.ahead,
            against=self.against,
            data=self.data,
            episodes=self.episodes,
            seed=self.seed,
            trust=self.trust,
        )
        console = text_console()
        for sheet in sheets(found.numbers()):
            table = Table(*sheet.heads, box=None, show_header=any(sheet.heads), padding=(0, 1, 0, 0))
            for row in sheet.rows:
                table.add_row(*row)
            console.print(f"\n{sheet.title}", style="bold")
            console.print(table)
            if sheet.note:
                console.print(sheet.note, style="dim")
        print("\n".join(["", *map(str, found.pictures)]))
        print(f"report: {report.write_report(run)}")
        return 0
