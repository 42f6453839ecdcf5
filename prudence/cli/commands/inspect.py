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

    The model sees --context steps, then imagines under the recorded actions. A policy can only avoid costs that
    its model foresees. Says how far each named part of the observations is foreseen, and whether the costs that
    are foreseen are those that come. In episodes of the policy: how much time is lost where goals take long, how
    costs come about, and what was foreseen just before. An agent without a world model has the episodes only.

    Writes inspection.json and report.html, and draws foresight.png, entries.png, calibration.png, episodes.png
    and, for image observations, open_loop_NAME.png into the run; for an agent with a posterior over models
    (LAMBDA's) also doubt.png: how far its models disagree, and whether the truth lies among them.
    """

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """Directory of a run, with its replay."""
    context: int = 25
    """Decisions that the model sees."""
    ahead: int = 45
    """Decisions that it imagines."""
    sequences: int = 128
    """How many sequences to average over."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="RUN|DATASET")] = None
    """Another run of the same task, or a data set, to judge on what the model has not learned from. By default the
    newest sequences of the run itself; of an offline run, the episodes that were held out."""
    episodes: int = 20
    """Of the policy, on seeds apart from training's; 0 for none."""
    seed: int = 0
    """Of the imagined samples and of the episodes."""
    against: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None
    """Another task with the same observations, to see whether the models disagree where they have not been."""
    trust: bool = False
    """Run the code that the run's files name, if you trust them: a task module:Class, a cost function."""

    def run(self, rest: list[str]) -> int:
        import jax

        from prudence.inspection.inspect import inspect_run
        from prudence.inspection.tables import sheets

        refuse(rest)
        use_compilation_cache()
        found = inspect_run(
            self.run_directory,
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
        print(f"report: {report.write_report(self.run_directory)}")
        return 0
