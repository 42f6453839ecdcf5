"""What a replay survives: a kill at any moment, torn and corrupted files, a full disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from prudence.data import chunks
from prudence.data.chunks import ReplayDiskError
from prudence.data.replay import Replay
from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition

SPACES = Spaces((("state", ObservationSpec((50,), "float32")),), ActionSpec("discrete", 3))

WRITER = """
import os, random, signal, sys, time
from pathlib import Path
from tests.data.test_replay_crash import opened, step

# One import serves all kills: each writer is a fork that is killed at a moment of its own.
for trial in range(int(sys.argv[2])):
    directory = Path(sys.argv[1], str(trial))
    directory.mkdir()
    child = os.fork()
    if child == 0:
        replay, row = opened(directory), 0
        while True:
            replay.add(step(row))
            row += 1
            if row % 7 == 0:
                replay.flush()
                Path(directory, "flushed").write_text(f"{row:6d}")
    while not Path(directory, "flushed").exists():
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.15))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def step(row: int) -> Transition:
    flags = np.full(2, row % 10 == 0)
    return Transition(
        observation={"state": np.full((2, 50), row, np.float32) + np.arange(50, dtype=np.float32)},
        prev_action=np.eye(3, dtype=np.float32)[[row % 3, (row + 1) % 3]],
        reward=np.array([row, -row], np.float32),
        cost=np.full((2, 1), row % 4, np.float32),
        is_first=flags,
        is_last=~flags,
        is_terminal=flags,
    )


def opened(directory: Path) -> Replay:
    return Replay(directory, SPACES, 2, capacity=10**6, seed=0, chunk_size=64)


def assert_intact(replay: Replay, rows: int) -> None:
    """The replay holds rows 0 to ``rows`` as `step` makes them, without a gap."""
    assert len(replay) == 2 * rows
    assert replay.num_windows(rows) == 2
    batch = replay.sample(30, rows)
    wanted = np.stack([step(row).observation["state"][0] for row in range(rows)])
    assert set(batch.reward[:, -1].tolist()) == {rows - 1, 1 - rows}
    np.testing.assert_array_equal(batch.observation["state"], np.broadcast_to(wanted, (30, rows, 50)))
    np.testing.assert_array_equal(np.abs(batch.reward[0]), np.arange(rows))


def test_killed_writers_lose_the_unflushed_tail_at_the_most(tmp_path: Path) -> None:
    kills = 10
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", WRITER, str(tmp_path), str(kills)], check=True, env=environment)
    for trial in range(kills):
        directory = tmp_path / str(trial)
        flushed = int((directory / "flushed").read_text() or 0)
        replay = opened(directory)
        assert len(replay) >= 2 * flushed
        assert_intact(replay, len(replay) // 2)


def written(directory: Path, rows: int = 40) -> list[Path]:
    """Two chunks: rows 0 to 32, and 32 to 40."""
    replay = opened(directory)
    for row in range(rows):
        replay.add(step(row))
    replay.flush()
    return sorted(directory.glob("*.chunk"))


@pytest.mark.parametrize("torn_bytes", [1, 3, 4, 5, 400, 900, 1500])
def test_a_torn_tail_is_dropped(tmp_path: Path, torn_bytes: int, caplog: pytest.LogCaptureFixture) -> None:
    last = written(tmp_path)[-1]
    row_bytes = (last.stat().st_size - 4096) // 8
    os.truncate(last, last.stat().st_size - torn_bytes)
    replay = opened(tmp_path)
    assert_intact(replay, 40 - -(-torn_bytes // row_bytes))
    if torn_bytes % row_bytes:
        assert "are torn" in caplog.text
        assert str(last) in caplog.text


def test_copies_of_a_user_are_ignored(tmp_path: Path) -> None:
    paths = written(tmp_path)
    copies = [paths[0].with_name(f"{paths[0].stem} (1).chunk"), tmp_path / "000000000020-best.chunk"]
    for copy in copies:
        copy.write_bytes(paths[0].read_bytes())
    assert_intact(opened(tmp_path), 40)
    assert all(copy.exists() for copy in copies)


def test_zeros_after_the_tail_are_no_rows(tmp_path: Path) -> None:
    """What a file system may leave after a loss of power: the length of the file without its content."""
    last = written(tmp_path)[-1]
    os.truncate(last, last.stat().st_size + 5000)
    assert_intact(opened(tmp_path), 40)


@pytest.mark.parametrize("length", [0, 5, 100, 4095])
def test_a_chunk_with_a_torn_header_is_dropped(tmp_path: Path, length: int, caplog: pytest.LogCaptureFixture) -> None:
    last = written(tmp_path)[-1]
    os.truncate(last, length)
    replay = opened(tmp_path)
    assert "header is torn" in caplog.text
    assert_intact(replay, 32)
    assert not last.exists()


@pytest.mark.parametrize("place", [0, 9, 30, 4000])
def test_a_flip_in_a_header_costs_no_row(tmp_path: Path, place: int, caplog: pytest.LogCaptureFixture) -> None:
    """In the magic, the length, the text or its padding: rows have checksums of their own."""
    last = written(tmp_path)[-1]
    content = bytearray(last.read_bytes())
    content[place] ^= 1
    last.write_bytes(content)
    assert_intact(opened(tmp_path), 40)
    assert "header of" in caplog.text


def test_a_corrupted_row_ends_its_chunk_and_no_window_bridges_it(tmp_path: Path) -> None:
    first = written(tmp_path)[0]
    row_bytes = (first.stat().st_size - 4096) // 32
    with open(first, "r+b") as file:
        file.seek(4096 + 20 * row_bytes + 17)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x10]))
    replay = opened(tmp_path)
    assert len(replay) == 2 * (20 + 8)
    starts = {abs(int(reward)) for reward in replay.sample(2000, 5).reward[:, 0]}
    assert starts == {*range(16), *range(32, 36)}


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = opened(tmp_path)
    for row in range(10):
        replay.add(step(row))
    replay.flush()
    for row in range(10, 32):
        replay.add(step(row))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(chunks.os, "fsync", full)
        with pytest.raises(ReplayDiskError, match=r"No space left on device.*--replay-capacity") as caught:
            replay.add(step(32))  # The chunk is full: it has to be written first.
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(tmp_path)
        assert_intact(opened(tmp_path), 10)
        assert_intact(replay, 32)
    replay.add(step(32))
    replay.flush()
    assert_intact(opened(tmp_path), 33)


def test_a_disk_that_is_full_from_the_start_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    replay = opened(tmp_path)
    replay.add(step(0))
    monkeypatch.setattr(chunks.os, "fsync", full)
    with pytest.raises(ReplayDiskError, match="No space left"):
        replay.flush()
    assert list(tmp_path.iterdir()) == []
