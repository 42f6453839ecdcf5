"""The memory plan is what a replay then takes up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prudence.data import memory
from prudence.data.memory import MemoryPlan, ReplayTooLargeError, check_fits, memory_plan
from prudence.data.replay import Replay
from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition

VISION = Spaces((("image", ObservationSpec((64, 64, 6), "uint8")),), ActionSpec("continuous", 2))
VECTOR = Spaces((("state", ObservationSpec((3,), "float32")),), ActionSpec("continuous", 2))


def test_a_vision_replay_of_half_a_million_decisions() -> None:
    plan = memory_plan(VISION, 500_000, 1)
    # 64·64·6 bytes of image; two actions, reward and cost, 4 bytes each; three flags, padded to 4; the checksum.
    assert plan.record_bytes == 24_576 + 16 + 4 + 4
    assert plan.records == 500_000
    rows = 500_000 + 1024
    assert plan.disk_bytes == rows * 24_600 + 490 * 4096
    assert plan.resident_bytes == 1024 * 24_600
    assert str(plan) == "replay of 500,000 decisions of 24.6 kB: 12.3 GB on disk, 25.2 MB resident"


def test_files_stay_below_the_plan_and_near_it(tmp_path: Path) -> None:
    plan = memory_plan(VECTOR, 2000, 2, chunk_size=100, checkpoint_every=300)
    replay = Replay(tmp_path, VECTOR, 2, capacity=2000, seed=0, chunk_size=100)
    zeros, flags = np.zeros((2, 1), np.float32), np.zeros(2, bool)
    row = Transition({"state": np.zeros((2, 3), np.float32)}, np.zeros((2, 2)), zeros[:, 0], zeros, flags, flags, flags)
    largest = 0
    for index in range(3000):
        replay.add(row)
        if index % 150 == 149:
            replay.state()
            largest = max(largest, sum(path.stat().st_size for path in tmp_path.glob("*.chunk")))
            replay.commit()
    assert len(replay) == plan.records == 2000
    assert 0.85 * plan.disk_bytes < largest <= plan.disk_bytes


def test_bytes_limit_the_records() -> None:
    row = memory_plan(VECTOR, 100, 4).record_bytes * 4
    assert memory_plan(VECTOR, 100, 4, capacity_bytes=5 * row + row // 2).records == 20


def test_what_cannot_fit_is_refused_with_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 3_000_000

    monkeypatch.setattr(memory.shutil, "disk_usage", lambda path: Usage)
    check_fits(MemoryPlan(100, 30_000, 3_000_000, 1000), tmp_path / "not" / "there")
    with pytest.raises(ReplayTooLargeError, match=r"6 MB on disk.*3 MB free.*--replay-capacity 50 or less"):
        check_fits(MemoryPlan(100, 60_000, 6_000_000, 1000), tmp_path)
    (tmp_path / "0.chunk").write_bytes(bytes(3_000_000))  # Taken up again by resuming.
    check_fits(MemoryPlan(100, 60_000, 6_000_000, 1000), tmp_path)


def test_memory_is_checked_and_slow_sampling_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Memory:
        available = 2_000_000

    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: Memory)
    with pytest.raises(ReplayTooLargeError, match="2 MB of memory are free"):
        check_fits(MemoryPlan(10, 300_000, 3_000_000, 3_000_000), tmp_path)
    assert caplog.text == ""
    check_fits(MemoryPlan(10, 300_000, 3_000_000, 300_000), tmp_path)
    assert "sampling will read from the disk" in caplog.text
