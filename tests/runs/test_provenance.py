"""Provenance: no run fails for a file that only says where it came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prudence.runs.provenance import anywhere, last_commit, note_provenance


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON (Expecting value"),
        ("[{", "is not JSON"),
        ("{}", "no descriptions"),
        ("[3]", "no descriptions"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_begins_anew(
    tmp_path: Path, content: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "provenance.json"
    path.write_text(content)
    assert last_commit(tmp_path) is None
    assert anywhere(tmp_path) == []
    note_provenance(tmp_path)
    assert message in caplog.text
    assert str(path) in caplog.text
    assert len(json.loads(path.read_text())) == 1


def test_each_start_is_an_entry(tmp_path: Path) -> None:
    note_provenance(tmp_path)
    note_provenance(tmp_path)
    assert len(anywhere(tmp_path)) == 2
