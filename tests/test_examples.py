"""Every script under ``examples/`` runs as it is, from the folder that it lies in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("[0-9]*.py")))
def test_it_runs(script: str) -> None:
    result = subprocess.run([sys.executable, script], cwd=EXAMPLES, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert any(said in result.stdout for said in ("return ", "action ", "training would be refused"))
