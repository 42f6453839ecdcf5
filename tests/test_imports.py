"""What an import takes into memory, and that it works by itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

DRAWING = ("matplotlib", "seaborn", "av")
EACH_ALONE = """
import importlib, pkgutil, sys, prudence

for name in [module.name for module in pkgutil.walk_packages(prudence.__path__, "prudence.")]:
    for loaded in [other for other in sys.modules if other.split(".")[0] == "prudence"]:
        del sys.modules[loaded]
    importlib.import_module(name)
    print(name)
"""


def test_training_needs_nothing_that_draws() -> None:
    """A machine that trains has no use for them, and importing them takes as long as all the rest."""
    code = f"import sys, prudence.training.trainer; print([name for name in {DRAWING} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.slow
def test_every_module_can_be_imported_first() -> None:
    """A cycle of imports works from one end only."""
    found = subprocess.run([sys.executable, "-c", EACH_ALONE], capture_output=True, text=True)
    assert found.returncode == 0, f"after {found.stdout.splitlines()[-1:]}: {found.stderr[-500:]}"
    assert "prudence.training.collect" in found.stdout.splitlines()


def test_no_command_imports_ray() -> None:
    """It takes seconds and most of the memory of a small machine. Sweeps import it when they begin."""
    names = "[f'prudence.cli.commands.{name}' for name in prudence.cli.main.COMMANDS]"
    code = f"import importlib, sys, prudence.cli.main; [importlib.import_module(name) for name in {names}]"
    found = subprocess.run(
        [sys.executable, "-c", f"{code}; print('ray' in sys.modules)"], capture_output=True, text=True
    )
    assert found.stdout.strip() == "False", found.stderr[-500:]
