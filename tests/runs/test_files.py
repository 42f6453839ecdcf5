"""Names and files of a run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from prudence.runs import files
from prudence.runs.files import safe_name, write_text_atomically


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("state", "state"),
        ("x/../../../escaped", "x-..-..-..-escaped"),
        ("/etc/passwd", "-etc-passwd"),
        ("..", "-."),
        ("", "-"),
        ("a\\b\x00c d", "a-b-c-d"),
        ("my.robot:Arm", "my.robot-Arm"),
        ("n" * 300, "n" * 100),
    ],
)
def test_a_name_never_leaves_its_directory(tmp_path: Path, name: str, safe: str) -> None:
    assert safe_name(name) == safe
    assert (tmp_path / safe_name(name)).resolve().parent == tmp_path.resolve()


def test_a_full_disk_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "evaluation.json"
    write_text_atomically(path, "one")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match=r"cannot be written: No space left.*evaluation\.json") as caught:
        write_text_atomically(path, "two")
    assert caught.value.errno == errno.ENOSPC
    assert [entry.name for entry in tmp_path.iterdir()] == ["evaluation.json"]
    assert path.read_text() == "one"
