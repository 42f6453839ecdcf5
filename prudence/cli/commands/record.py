"""``prudence record``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from prudence.cli.commands.usage import refuse
from prudence.deploy.shipped import LIMIT_MB


@dataclass(frozen=True)
class Record:
    """Make a small record of evaluated runs to keep: DIRECTORY/result.json, a curve and the policies.

    The JSON has, for each run, its configuration, commands, commit, machine, versions, wall time, every evaluation
    episode and the curves. policies/ has the parts of each run that act (no optimisers, no replay), so that
    `prudence evaluate DIRECTORY` repeats its episodes. results/ consists of such records.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Directories of evaluated runs, such as several seeds of one agent."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIRECTORY")]
    """Directory of the record."""
    note: str = ""
    """What a reader must know about these runs."""
    policies: bool = True
    """Whether to keep the policies."""
    policy_limit: Annotated[float, tyro.conf.arg(metavar="MB")] = LIMIT_MB
    """Largest size of a policy, in megabytes."""

    def run(self, rest: list[str]) -> int:
        from prudence.evidence.record import record

        refuse(rest)
        limits = {"policies": self.policies, "policy_limit": self.policy_limit}
        print("\n".join(map(str, record(self.runs, self.out, note=self.note, **limits))))
        return 0
