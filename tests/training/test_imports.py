"""What training takes into memory."""

from __future__ import annotations

import subprocess
import sys

DRAWING = ("matplotlib", "seaborn", "av")


def test_training_needs_nothing_that_draws() -> None:
    """A machine that trains has no use for them, and importing them takes as long as all the rest."""
    code = f"import sys, prudence.training.trainer; print([name for name in {DRAWING} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
