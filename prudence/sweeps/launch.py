"""``python -m prudence.sweeps.launch PARENT CORES ...`` becomes ``prudence`` on some cores, and ends with its parent.

It is a program of its own, not a function between fork and exec, since its parent has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> None:
    """Replaces this process.

    Args:
        arguments: the parent's process id, numbers of cores with commas in between (none for all of them), and the
            arguments of ``prudence``.
    """
    parent, cores, *rest = arguments
    # On SIGTERM a training saves and stops. Linux keeps both settings when the process becomes another program.
    if (control := getattr(ctypes.CDLL(None), "prctl", None)) is not None:
        control(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        sys.exit("the process that started this trial has ended already")
    if cores:
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.execv(sys.executable, [sys.executable, "-m", "prudence.cli.main", *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
