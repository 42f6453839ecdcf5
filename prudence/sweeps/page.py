"""What a sweep ends in: a comparison for each task and budget, and one page, ``sweep.md``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from prudence.evidence.compare import Comparison, compare
from prudence.evidence.plot import stated
from prudence.evidence.scores import Run, load_runs
from prudence.runs.files import safe_name, write_text_atomically
from prudence.sweeps.definition import varied
from prudence.sweeps.place import Place, Status
from prudence.sweeps.table import STATES, count, scores

_HEADS = ("trial", "state", "steps", "return", "cost", "")


def write_page(place: Place, statuses: Sequence[Status], *, title: str) -> Path:
    """Compares the trials that are done, task by task, and writes ``sweep.md``. Returns its path.

    A comparison has the trials of one task and one budget, and those that have no budget. It is that of `prudence
    compare`, and stands in ``comparison/<task>`` too, as ``comparison/<task>-budget-<budget>`` if there are several.

    Raises:
        ValueError: the file of a run cannot be read. The message names it.
    """
    parts = [f"# {title}", f"{count(statuses)}.", _table(place, statuses)]
    for heading, folder, comparison in _comparisons(place, statuses):
        comparison.write(folder)
        figure = (folder / "comparison.png").relative_to(place.path).as_posix()
        parts += [f"## {heading}", comparison.markdown(figure).rstrip()]
    parts.append(f"Made by `{shlex.join(['prudence', *sys.argv[1:]])}`. What the trials are: [sweep.toml](sweep.toml).")
    write_text_atomically(place.page, "\n\n".join(parts) + "\n")
    return place.page


def _table(place: Place, statuses: Sequence[Status]) -> str:
    rows = [_HEADS, ("---", "---", "---:", "---:", "---:", "---")]
    for status in sorted(statuses, key=lambda status: STATES.index(status.state)):
        run, log = place.run(status.planned.trial), place.log(status.planned.trial)
        shown = next((path for path in (run.report, log) if path.exists()), None)
        name = f"[{run.path.name}]({os.path.relpath(shown, place.path)})" if shown else run.path.name
        steps = f"{status.step:,}/{status.planned.length:,}"
        rows.append((name, status.state, steps, *scores(status), status.reason))
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)


def _comparisons(place: Place, statuses: Sequence[Status]) -> Iterator[tuple[str, Path, Comparison]]:
    """Heading, directory and comparison of each task and budget."""
    done = [status.planned.trial for status in statuses if status.state == "done"]
    by = varied([status.planned.trial for status in statuses])
    runs = [run for trial in done for run in load_runs(place.directory(trial))]
    for task in dict.fromkeys(run.task for run in runs):
        group = [run for run in runs if run.task == task]
        budgets = list(dict.fromkeys(run.budgets for run in group if run.budgets is not None)) or [None]
        for budget in budgets:
            sources = [run.source for run in group if run.budgets in (None, budget)]
            heading = task if budget is None else f"{task}, budget {_text(budget)}"
            name = heading.replace(", ", "-").replace(" ", "-") if len(budgets) > 1 else task
            yield heading, place.path / "comparison" / safe_name(name), compare(sources, by=_stated(group, by))


def _stated(runs: Sequence[Run], by: Sequence[str]) -> list[str]:
    """The settings among ``by`` that one of the runs has."""
    return [name for name in by if any(stated(run.config, name) for run in runs)]


def _text(budget: tuple[float, ...]) -> str:
    return " ".join(f"{limit:g}" for limit in budget)
