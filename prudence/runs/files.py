"""Files of a run: safe names, and writing that leaves either the old file or the new one."""

from __future__ import annotations

import os
from pathlib import Path

_LONGEST = 100


def safe_name(name: str) -> str:
    """``name`` as a part of a file's name: letters, digits, ``-``, ``_`` and ``.``, and none of the rest.

    It never leaves its directory, whatever a file or a user calls an observation, a task or a seed.

    >>> safe_name("x/../../escaped"), safe_name(".."), safe_name("my.robot:Arm")
    ('x-..-..-escaped', '-.', 'my.robot-Arm')
    """
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:_LONGEST]
    return f"-{kept[1:]}" if kept[:1] in ("", ".") else kept


def write_text_atomically(path: Path, text: str) -> None:
    """Writes a whole file, or leaves the one before as it is.

    Raises:
        OSError: the disk is full or failed. The file is as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # Else a power failure could leave an empty file.
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"cannot be written: {error.strerror}. Make room, or choose another place", str(path)
        ) from error
