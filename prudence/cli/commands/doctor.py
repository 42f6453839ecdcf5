"""``prudence doctor``."""

from __future__ import annotations

from dataclasses import dataclass

from prudence.cli import doctor
from prudence.cli.commands.usage import refuse


@dataclass(frozen=True)
class Doctor:
    """Check this machine: Python, JAX, rendering, simulators, disk, memory. Exits with 1 if something needed fails."""

    def run(self, rest: list[str]) -> int:
        refuse(rest)
        return doctor.print_checks(doctor.doctor())
