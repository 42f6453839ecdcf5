"""results/README.md is what tools/results_table.py makes of the records."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_table", ROOT / "tools" / "results_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def records(table: ModuleType) -> list[Any]:
    return table.read()


def test_committed_page_is_what_the_records_say(table: ModuleType, records: list[Any]):
    found = (ROOT / "results" / "README.md").read_text()
    assert found == table.page(records), "results/README.md is not up to date: run `make results`"


def test_every_record_has_a_row_and_a_verdict(table: ModuleType, records: list[Any]):
    directories = {path.parent.name for path in (ROOT / "results").glob("*/result.json")}
    rows = {row.name: row.cells() for row in records}
    assert rows.keys() == directories
    verdict, bound = table._COLUMNS.index("Verdict"), table._COLUMNS.index("Upper bound")
    # The recorded evaluation has an upper bound of 18.47 under a budget of 25.
    demo = rows["safedreamer-bsrp-lag-budget25-pointgoal1-lidar"]
    assert (demo[bound], demo[verdict]) == ("18.5", "holds")
    # Five episodes without any cost cannot bound the expected cost.
    assert (rows["mpc-sim-pointgoal1"][bound], rows["mpc-sim-pointgoal1"][verdict]) == ("–", "not shown")
    # Costs of 49 to 55 under a budget of 25.
    assert rows["ppo-pointgoal1-lidar"][verdict] == "exceeded"
