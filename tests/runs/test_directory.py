"""One process at a time trains into a run's directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from prudence.runs.directory import RunDirectory, RunDirectoryError

HOLDER = """
import sys, time
from pathlib import Path
from prudence.runs.directory import RunDirectory

with RunDirectory(Path(sys.argv[1])).lock():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_dies(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", HOLDER, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(RunDirectoryError, match=f"in use by process {holder.pid}"), run.lock():
            pass
        holder.kill()
    with run.lock():
        pass


def test_a_run_exists_once_it_has_a_configuration(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert not run.exists
    run.config.write_text("{}")
    assert run.exists
