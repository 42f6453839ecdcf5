"""Writes results/README.md: one row for each record, with its verdict, and the command that made it.

Everything comes from the records. Run it from the repository's root after a change in results/:

    .venv/bin/python tools/results_table.py
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prudence.evidence.content import Verdict
from prudence.evidence.scores import Run, load_runs
from prudence.evidence.statistics import Status
from prudence.runs.directory import RECORD

RESULTS = Path(__file__).resolve().parents[1] / "results"
_VERDICTS: dict[Status, str] = {"holds": "holds", "open": "not shown", "exceeded": "exceeded"}
_HEAD = """# Results

Each row is one record: what `prudence record` keeps of one or several runs of the same system. `make results` writes
this page from the records. Do not edit it.

- **Return** and **cost** are means over the evaluation episodes. A record of several seeds has one number for each
  seed, in the order of its seeds.
- **Upper bound**: the expected episode cost lies below it with 95 % confidence
  (`cost_bound` in `prudence/evidence/statistics.py`; for an evaluation that ran until decided, the bound of its last
  look, from `prudence/evidence/sequential.py`). A dash means that the episodes cannot bound the cost.
- **Verdict**: *holds* means that the upper bound is within the budget. *Exceeded* means that a lower bound, with the
  same confidence, is above the budget. *Not shown* is everything else.
- A record of one seed says what one policy does. It says little about another seed of the same system.
- Offline runs (`--dataset`) have gradient steps in the column *Raw steps*.
- Each command is for the commit of its record. Some flags, units and presets have changed since.
- Some systems ignore costs: `dreamerv3`, `lambda-unsafe`, `ppo` and `ppo-reward-shaping`. For them the budget only
  says what their cost is compared with.
"""
_COLUMNS = (
    "Record",
    "System",
    "Task",
    "Observations",
    "Budget",
    "Seeds",
    "Return",
    "Cost",
    "Upper bound",
    "Verdict",
    "Raw steps",
    "Episodes",
    "Command",
)
_NUMBERS = {"Budget", "Raw steps", "Episodes", "Return", "Cost", "Upper bound"}


@dataclass(frozen=True)
class Row:
    """One record: its name, its note, its runs, and for each run where it comes from."""

    name: str
    note: str
    runs: tuple[Run, ...]
    provenance: tuple[Sequence[dict[str, Any]], ...]

    @property
    def verdicts(self) -> list[Verdict]:
        """Of each run, one for each constraint."""
        return [verdict for run in self.runs for verdict in run.verdicts]

    @property
    def order(self) -> tuple[Any, ...]:
        """By task, budget, system, then name."""
        run = self.runs[0]
        return run.task, run.budgets or (), str(run.config["agent_name"]), self.name

    def cells(self) -> list[str]:
        """The row of the table."""
        first = self.runs[0]
        return [
            f"[{self.name}]({self.name})",
            f"`{first.config['agent_name']}`",
            first.task,
            _observations(first),
            _each(f"{budget:g}" for budget in first.budgets or ()),
            ", ".join(str(run.seed) for run in self.runs),
            ", ".join(f"{run.returns.mean():.1f}" for run in self.runs),
            ", ".join(_cost(cost) for run in self.runs for cost in run.costs.mean(0)),
            ", ".join("–" if verdict.upper is None else _cost(verdict.upper) for verdict in self.verdicts),
            _each(_VERDICTS[verdict.status] for verdict in self.verdicts),
            _each("–" if run.raw_steps is None else f"{run.raw_steps:,}" for run in self.runs),
            _each(str(len(run.returns)) for run in self.runs),
            f"[command](#{self.name})",
        ]

    def section(self) -> str:
        """What made the record."""
        lines = [f"### {self.name}", *([self.note] if self.note else [])]
        for run, parts in zip(self.runs, self.provenance, strict=True):
            minutes = "" if run.minutes is None else f", {run.minutes:.0f} minutes of training"
            lines.append(f"Seed {run.seed}{minutes}, {_machine(parts[-1])}, commit `{parts[-1]['commit'][:12]}`:")
            commands = dict.fromkeys(_command(part["command"]) for part in parts)
            lines.append("```sh\n" + "\n".join(commands) + "\n```")
        return "\n\n".join(lines)


def read(results: Path = RESULTS) -> list[Row]:
    """All records of a directory, in the order of the table."""
    rows = []
    for path in results.glob(f"*/{RECORD}"):
        content = json.loads(path.read_text())
        provenance = tuple(run["provenance"] for run in content["runs"])
        rows.append(Row(path.parent.name, content["note"], tuple(load_runs(path.parent)), provenance))
    return sorted(rows, key=lambda row: row.order)


def page(rows: Sequence[Row]) -> str:
    """The whole of results/README.md."""
    rule = ["---:" if column in _NUMBERS else "---" for column in _COLUMNS]
    table = [_COLUMNS, rule, *(row.cells() for row in rows)]
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in table)
    return "\n".join([_HEAD, lines, "\n## Commands\n", "\n\n".join(row.section() for row in rows), ""])


def _observations(run: Run) -> str:
    """Also of records from before suites had options of their own, which have them beside the others."""
    env = run.config["env"]
    env = env | (env.get("options") or {})
    seen = " and ".join(env.get("obs") or ["its own"])
    if env.get("lidar_arc", 360.0) < 360:
        seen += f", front {env['lidar_arc']:g}°"
    if names := env.get("privileged"):
        seen += f"; privileged: {names if isinstance(names, str) else ', '.join(names)}"
    return seen


def _cost(cost: float) -> str:
    return f"{cost:.2f}" if cost < 10 else f"{cost:.1f}"


def _each(values: Iterable[str]) -> str:
    """One value if all are the same, else all of them."""
    found = list(values)
    return found[0] if len(set(found)) == 1 else ", ".join(found) or "–"


def _command(command: str) -> str:
    """As a person would type it, whichever way it was started."""
    program, *rest = shlex.split(command)
    return shlex.join(["prudence" if program.endswith(".py") else program, *rest])


def _machine(provenance: dict[str, Any]) -> str:
    machine = provenance["machine"]
    cores = machine["cores"]
    return f"{machine['processor']}, {cores} {'core' if cores == 1 else 'cores'}"


if __name__ == "__main__":
    (RESULTS / "README.md").write_text(page(read()))
