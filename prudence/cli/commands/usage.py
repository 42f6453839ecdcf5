"""What commands have in common."""

from __future__ import annotations


class UsageError(Exception):
    """The command line is not one that the command understands; the message says what to write instead."""


def refuse(rest: list[str]) -> None:
    """Raises UsageError for arguments that nobody asked for."""
    if rest:
        raise UsageError(f"unknown arguments: {' '.join(rest)}. See --help")
