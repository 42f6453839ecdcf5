"""Output of benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prudence.runs.provenance import describe


def show(rows: Iterable[dict[str, Any]], out: Path | None) -> None:
    """Prints each row as soon as it is measured. Writes all rows, with machine and versions, to ``out`` if given."""
    measured = []
    for row in rows:
        measured.append(row)
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    if out is not None:
        out.write_text(json.dumps({"rows": measured, **describe()}, indent=1) + "\n")
