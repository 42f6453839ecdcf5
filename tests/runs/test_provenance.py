"""Provenance: no run fails for a file that only says where it came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prudence.runs.provenance import anywhere, config_anywhere, last_commit, note_provenance


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


def test_what_is_published_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    start = {
        "command": "prudence train fosp --dataset /home/me/data/goal --start-from=/tmp/runs/off --out /tmp/runs/on"
    }
    (tmp_path / "provenance.json").write_text(json.dumps([start]))
    assert anywhere(tmp_path)[0]["command"] == "prudence train fosp --dataset goal --start-from=off --out on"
    config = {"seed": 0, "loop": {"class": "OfflineLoop", "dataset": "/home/me/data/goal", "digest": "ab"}}
    assert config_anywhere(config)["loop"] == {"class": "OfflineLoop", "dataset": "goal", "digest": "ab"}
    assert config_anywhere({"loop": {"steps": 3}}) == {"loop": {"steps": 3}}
