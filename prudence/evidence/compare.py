"""Comparison of systems on one task, from run directories and records: a table and a figure."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prudence.evidence import plot
from prudence.evidence.compare_figure import plot_comparison
from prudence.evidence.scores import (
    Score,
    System,
    cost_regret,
    curve_names,
    differences,
    load_runs,
    normalise,
    score_systems,
)
from prudence.evidence.statistics import Interval
from prudence.runs.files import write_text_atomically

_UNKNOWN = "–"


@dataclass(frozen=True)
class Comparison:
    """A comparison of systems on one task.

    Attributes:
        title: what the systems have in common.
        systems: the systems in the order of the sources.
        reference: the system by whose scores all scores are normalised; None for no normalised scores.
        command: the command that makes this comparison.
    """

    title: str
    systems: tuple[System, ...]
    reference: System | None
    command: str

    @property
    def budgets(self) -> dict[str, float | None]:
        """Budgets by the name of their constraint."""
        return {cost.name: cost.budget for cost in self.systems[0].costs}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The table: column heads, and a row of cells for each system."""
        of = {name: f" {name}" if len(self.budgets) > 1 else "" for name in self.budgets}
        heads = ["system", "seeds", "raw steps", "minutes", "episodes", "return", "return IQM"]
        for name, budget in self.budgets.items():
            heads += [name if budget is None else f"{name} (budget {budget:g})", f"{name} IQM"]
            heads += [f"within budget{of[name]}", f"cost regret{of[name]}"]
        if self.reference is not None:
            heads += ["J̄", *(f"J̄c{of[name]}" for name in of), *(f"ρ̄c{of[name]}" for name in of)]
        return heads, [self._row(system) for system in self.systems]

    def notes(self) -> list[str]:
        """Notes for readers of the table."""
        notes = [
            "return, cost: mean over all evaluation episodes with its 95 % bootstrap interval, over seeds and their "
            "episodes; of one seed, over its episodes, so that it speaks of that policy only. IQM: mean of the middle "
            "half. cost regret: costs of finished training episodes for each raw step of a run's own training, mean "
            f"over seeds. {_UNKNOWN}: not known, or not defined."
        ]
        if self.reference is not None:
            notes.append(
                "J̄, J̄c, ρ̄c: return, cost beyond the budget and cost regret, divided by those of "
                f"{self.reference.label} (As et al., 2022, appendix H)."
            )
        for system in self.systems:
            explored, differing = [run.seed for run in system.runs if run.explored], differences(system.runs)
            if explored:
                notes.append(f"{system.label}: acted as in training when evaluated ({_seeds(explored)}).")
            if differing:
                notes.append(f"{system.label}: its runs differ in {', '.join(differing)}.")
        return notes

    def markdown(self, figure: str = "comparison.png") -> str:
        """The comparison in Markdown: title, table, notes, command and ``figure``, a link to the picture."""
        heads, rows = self.table()
        lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
        table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
        picture = f"![Return and cost of {', '.join(system.label for system in self.systems)}]({figure})"
        return "\n\n".join([f"**{self.title}**", table, *self.notes(), f"Made by `{self.command}`.", picture]) + "\n"

    def numbers(self) -> dict[str, Any]:
        """All numbers as JSON-able values. Unknown values are None."""
        return {
            "title": self.title,
            "command": self.command,
            "budgets": self.budgets,
            "reference": None if self.reference is None else self.reference.label,
            "notes": self.notes(),
            "systems": [_system_numbers(system, self.reference) for system in self.systems],
        }

    def write(self, out: Path | str) -> tuple[Path, Path, Path]:
        """Writes ``comparison.md``, ``comparison.json`` and ``comparison.png`` into ``out``. Returns their paths."""
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        write_text_atomically(out / "comparison.md", self.markdown())
        write_text_atomically(out / "comparison.json", json.dumps(self.numbers(), indent=1) + "\n")
        picture = plot_comparison(self.systems, self.budgets, out / "comparison.png")
        return out / "comparison.md", out / "comparison.json", picture

    def _row(self, system: System) -> list[str]:
        cells = [
            system.label,
            str(len(system.runs)),
            _range([run.raw_steps for run in system.runs]),
            _range([run.minutes for run in system.runs]),
            str(sum(len(run.returns) for run in system.runs)),
            _interval(system.returns.mean),
            _number(system.returns.iqm.estimate),
        ]
        for cost in system.costs:
            within = _UNKNOWN if cost.within is None else f"{100 * cost.within:.0f} %"
            cells += [_interval(cost.score.mean), _number(cost.score.iqm.estimate), within, _number(cost.regret)]
        if self.reference is not None:
            scores = normalise(system, self.reference)
            cells += [_number(score) for score in (scores.returns, *scores.costs, *scores.regrets)]
        return cells


def compare(
    sources: Sequence[Path | str],
    *,
    reference: str | None = None,
    budget: Sequence[float] | None = None,
    by: Sequence[str] = (),
) -> Comparison:
    """Compares the evaluated runs of run directories and of records (``prudence record``), grouped over seeds.

    >>> compare(["results/dreamerv3", "runs/ours-0"], reference="dreamerv3").write("docs/comparison")  # doctest: +SKIP

    Args:
        reference: label of the system by which scores are normalised, such as an unconstrained agent.
        budget: budget for all systems, one number or one for each constraint. By default the runs' own budget.
        by: settings by which runs are told apart, too, such as ``agent.horizon``. Without it, runs that differ only in
            such a setting count as seeds of one system.

    Raises:
        RunDirectoryError: a directory holds neither a run nor a record, or a run was not evaluated.
        ValueError: the runs differ in task, constraints or budget, a run is given twice, or no system is called
            ``reference``.
    """
    runs = [run for source in sources for run in load_runs(source)]
    if not runs:
        raise ValueError("name at least one run or record to compare")
    systems = {system.label: system for system in score_systems(runs, budget, by)}
    if reference is not None and reference not in systems:
        raise ValueError(f"no system is called '{reference}': choose the reference from {', '.join(systems)}")
    title, _ = plot.system_labels([run.config for run in runs], by)
    options = [] if reference is None else ["--reference", reference]
    options += [] if budget is None else ["--budget", *(f"{limit:g}" for limit in budget)]
    options += ["--by", *by] if by else []
    command = shlex.join(["prudence", "compare", *map(str, sources), *options])
    return Comparison(title, tuple(systems.values()), systems[reference] if reference else None, command)


def _system_numbers(system: System, reference: System | None) -> dict[str, Any]:
    return {
        "label": system.label,
        "return": _score_numbers(system.returns),
        "costs": {
            cost.name: {**_score_numbers(cost.score), "within_budget": cost.within, "regret": cost.regret}
            for cost in system.costs
        },
        "normalised": None if reference is None else normalise(system, reference)._asdict(),
        "runs": [
            {
                "source": run.source,
                "seed": run.seed,
                "raw_steps": run.raw_steps,
                "training_minutes": run.minutes,
                "episodes": len(run.returns),
                "return_mean": float(run.returns.mean()),
                "cost_mean": run.costs.mean(0).tolist(),
                "cost_regret": [
                    cost_regret(run.curves[name]) if name in run.curves else None
                    for name in curve_names(run.cost_names)[1:]
                ],
            }
            for run in system.runs
        ],
    }


def _score_numbers(score: Score) -> Mapping[str, Any]:
    return {
        name: {"estimate": found.estimate, "interval": [_finite(found.low), _finite(found.high)]}
        for name, found in (("mean", score.mean), ("iqm", score.iqm))
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> str:
    """Formats a number with three significant digits, or as a whole number from 100 on."""
    if value is None:
        return _UNKNOWN
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _interval(interval: Interval) -> str:
    if not math.isfinite(interval.low):
        return _number(interval.estimate)
    return f"{_number(interval.estimate)} [{_number(interval.low)}, {_number(interval.high)}]"


def _range(values: Sequence[float | None]) -> str:
    """The common value, or the lowest and the highest value."""
    known = [value for value in values if value is not None]
    if not known:
        return _UNKNOWN
    return " to ".join(dict.fromkeys(f"{value:,.0f}" for value in (min(known), max(known))))


def _seeds(seeds: Sequence[Any]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
