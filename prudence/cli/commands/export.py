"""``prudence export``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from prudence.cli.api import use_compilation_cache
from prudence.cli.commands.usage import refuse


@dataclass(frozen=True)
class Export:
    """Write a trained policy to one file that runs without Prudence, on a CPU or an NVIDIA GPU.

    The file has the compiled decision (StableHLO) with its weights, and a description in JSON. It leaves out what only
    training needs: critics (unless the agent plans with them), the decoder, the privileged world model. Its actions are
    those of `prudence.load_policy`. examples/04_run_exported.py runs it with NumPy, JAX and flatbuffers.
    """

    run_directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(name="run", metavar="RUN")]
    """Directory of a run."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The file. The default is policy.zip in the run."""
    trust: bool = False
    """Run code that the run's files name (the cost function of a checkpoint). Only for files that you trust."""

    def run(self, rest: list[str]) -> int:
        from prudence.deploy.export import export_run

        refuse(rest)
        use_compilation_cache()
        found = export_run(self.run_directory, self.out, trust=self.trust)
        print(f"{found.path}: {found.size / 1e3:,.0f} kB, {1e3 * found.latency:.2f} ms a decision on this machine")
        print(f"runs on {' and '.join(found.about['platforms'])}; ", end="")
        print(f"sees {', '.join(found.about['observation'])}; examples/04_run_exported.py runs it")
        return 0
