"""``prudence list``."""

from __future__ import annotations

from dataclasses import dataclass

from rich.table import Table

from prudence.cli.commands.usage import refuse
from prudence.envs import custom
from prudence.envs.registry import SUITES, options_of, task_ids
from prudence.evidence import mpc_sim as simulate
from prudence.presets import PRESETS
from prudence.runs.console import text_console
from prudence.systems import SYSTEMS


@dataclass(frozen=True)
class List:
    """List all agents, presets and tasks."""

    tasks: bool = False
    """List task ids only, one on each line."""

    def run(self, rest: list[str]) -> int:
        refuse(rest)
        if self.tasks:
            print("\n".join(task_ids()))
            return 0
        console, table = text_console(), Table("agent", "what it is", box=None)
        for system in SYSTEMS.values():
            table.add_row(system.name, f"{system.summary} ({system.paper})")
        table.add_row(simulate.NAME, simulate.SUMMARY)
        console.print(table)
        console.print(f"\npresets  {', '.join(PRESETS)}")
        console.print("tasks    `prudence list --tasks` names those of Prudence's suites\n")
        for suite in (*SUITES, custom.SUITE):
            number = f"{len(suite.tasks)} tasks, such as {suite.example}" if suite.tasks else suite.example
            console.print(f"{suite.name}: {number}", style="bold")
            console.print(f"  {suite.summary}")
            for what, names in (
                ("robots", suite.robots),
                ("--obs", suite.observations),
                ("--env.privileged", suite.privileged),
                ("options", [f"--env.{name.replace('_', '-')}" for name in options_of(suite)]),
            ):
                if names:
                    console.print(f"  {what}: {', '.join(names)}")
        return 0
