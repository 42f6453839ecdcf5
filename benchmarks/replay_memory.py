"""Disk space and memory of a replay of images, planned and measured, and its speed of writing and sampling.

    python benchmarks/replay_memory.py --decisions 50000
    python benchmarks/replay_memory.py --decisions 500000 --directory /a/disk/with/20/GB

The replay is deleted at the end. Memory is measured by Linux for this process. *Anonymous* memory is what the process
needs. *File* memory is the part of the replay that the system keeps mapped and can reclaim.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from prudence.data.memory import check_fits, memory_plan
from prudence.data.replay import Replay
from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition


@dataclass(frozen=True)
class Config:
    """
    Attributes:
        decisions: number of records in the full replay.
        num_envs: number of parallel environments.
        image: height, width and channels.
        batch: number of sequences and their length.
        samples: number of batches to time.
        directory: directory for the temporary replay.
    """

    decisions: int = 50_000
    num_envs: int = 8
    image: tuple[int, int, int] = (64, 64, 6)
    batch: tuple[int, int] = (16, 64)
    samples: int = 30
    directory: Path = Path(".")


def main(config: Config) -> None:
    spaces = Spaces((("image", ObservationSpec(config.image, "uint8")),), ActionSpec("continuous", 2))
    plan = memory_plan(spaces, config.decisions, config.num_envs)
    with tempfile.TemporaryDirectory(dir=config.directory, prefix="replay-benchmark-") as name:
        directory = Path(name)
        check_fits(plan, directory)
        before = memory()
        replay = Replay(directory, spaces, config.num_envs, capacity=config.decisions, seed=0)
        seconds = fill(replay, spaces, config)
        full = memory()
        times = [timed_sample(replay, config) for _ in range(config.samples)]
        sampled = memory()
        state = replay.state()
        disk = sum(path.stat().st_blocks * 512 for path in directory.iterdir())
        started = time.perf_counter()
        again = Replay(directory, spaces, config.num_envs, capacity=config.decisions, seed=0)
        again.restore(state)
        resuming = time.perf_counter() - started
        assert len(again) == len(replay) == plan.records

    batch_bytes = config.batch[0] * config.batch[1] * int(np.prod(config.image))
    print(f"{plan}")
    print(f"disk            planned {plan.disk_bytes / 1e6:10.1f} MB   measured {disk / 1e6:10.1f} MB")
    print(
        f"anonymous       planned {plan.resident_bytes / 1e6:10.1f} MB   measured "
        f"{(full['RssAnon'] - before['RssAnon']) / 1e6:10.1f} MB full, "
        f"{(sampled['RssAnon'] - before['RssAnon']) / 1e6:.1f} MB after sampling batches of {batch_bytes / 1e6:.1f} MB"
    )
    print(f"file            mapped and reclaimable        {(sampled['RssFile'] - before['RssFile']) / 1e6:10.1f} MB")
    print(f"writing         {config.decisions / seconds:,.0f} decisions/s, made durable chunk by chunk")
    print(f"sampling        {np.median(times) * 1e3:.1f} ms a batch (median), {np.max(times) * 1e3:.1f} ms at the most")
    print(f"resuming        {resuming:.1f} s, every checksum compared")


def fill(replay: Replay, spaces: Spaces, config: Config) -> float:
    """Fills the replay. Returns the seconds. Then adds another tenth of the records, so that chunks are dropped."""
    rng = np.random.default_rng(0)
    envs = config.num_envs
    images = rng.integers(0, 256, (64, envs, *config.image), np.uint8)
    zeros, flags = np.zeros(envs, np.float32), np.zeros(envs, bool)
    action, cost = np.zeros((envs, spaces.action.size), np.float32), np.zeros((envs, spaces.num_costs), np.float32)
    rows = config.decisions // envs
    started = time.perf_counter()
    for row in range(rows):
        replay.add(Transition({"image": images[row % 64]}, action, zeros, cost, flags, flags, flags))
    replay.flush()
    seconds = time.perf_counter() - started
    for row in range(rows // 10):
        replay.add(Transition({"image": images[row % 64]}, action, zeros, cost, flags, flags, flags))
    replay.flush()
    return seconds


def timed_sample(replay: Replay, config: Config) -> float:
    started = time.perf_counter()
    replay.sample(*config.batch)
    return time.perf_counter() - started


def memory() -> dict[str, int]:
    """Bytes of resident memory of this process, by kind as in Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}


if __name__ == "__main__":
    main(tyro.cli(Config))
