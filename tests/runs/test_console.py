"""Text of users is printed as text."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from prudence.runs.console import text_console
from prudence.runs.metrics import Progress

NAME = "runs/[x]/[/x]:smile:"


def test_a_path_is_printed_as_it_is() -> None:
    console = text_console()
    console.file = io.StringIO()
    table = Table("name", box=None)
    table.add_row(NAME)
    console.print(NAME)
    console.print(table)
    assert console.file.getvalue().count(NAME) == 2


def test_progress_prints_paths_as_they_are() -> None:
    console = Console(file=io.StringIO())
    Progress(10, console=console).log(NAME)
    assert NAME in console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
