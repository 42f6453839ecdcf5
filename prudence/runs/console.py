"""The terminal. What users named, such as paths and tasks, is printed as it is."""

from __future__ import annotations

from rich.console import Console


def text_console(*, stderr: bool = False) -> Console:
    """A console that prints text as text: ``[x]`` in a path is no markup, and ``:x:`` no picture."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)
