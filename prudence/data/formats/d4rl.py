"""D4RL's HDF5 files: flat, without costs, and often without the observation that the last action led to."""

from __future__ import annotations

import contextlib
from pathlib import Path

from prudence.data.formats.common import ImportOptions, Opened
from prudence.data.formats.flat import open_flat


def open_file(source: str, options: ImportOptions) -> contextlib.AbstractContextManager[Opened]:
    """Opens a file, see :func:`prudence.data.formats.flat.open_flat`."""
    return open_flat(Path(source), options, required=("observations", "actions", "rewards", "terminals"), cost_key=None)
