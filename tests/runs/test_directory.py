"""One process at a time trains into a run's directory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
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


def test_the_lock_holds_within_a_process(tmp_path: Path) -> None:
    """Against another thread, and though somebody opened the file and closed it."""
    run, refused = RunDirectory(tmp_path / "run"), []

    def other() -> None:
        try:
            with run.lock():
                pass
        except RunDirectoryError as error:
            refused.append(str(error))

    with run.lock():
        open(run.path / ".lock").close()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "is in use by this process already" in refused[0]
    other()
    assert len(refused) == 1


def test_a_file_system_without_locks_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def without(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", without)
    with RunDirectory(tmp_path / "run").lock():
        pass
    assert "this file system has no locks (No locks available)" in caplog.text


def test_a_run_stays_where_it_is_though_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunDirectory(Path("run"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run.config == tmp_path / "run" / "config.json"
