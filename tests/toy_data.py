"""Datasets of numbered episodes, whose rows say which they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prudence.data.dataset_writer import DatasetWriter
from prudence.data.manifest import Source
from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition

SPACES = Spaces((("state", ObservationSpec((2,), "float32")),), ActionSpec("continuous", 1), ("hazards", "vases"), 9)


def episode(number: int, length: int, *, terminated: bool = False) -> Transition:
    """Row t of episode n has the state (n, t) and, but for the first, the reward t and the costs (1, 0)."""
    time = np.arange(length + 1)
    return Transition(
        observation={"state": np.stack([np.full(length + 1, number), time], -1).astype(np.float32)},
        prev_action=np.where(time > 0, 0.5, 0.0).astype(np.float32)[:, None],
        reward=time.astype(np.float32),
        cost=np.stack([time > 0, time < 0], -1).astype(np.float32),
        is_first=time == 0,
        is_last=time == length,
        is_terminal=(time == length) & terminated,
    )


def write(directory: Path, lengths: dict[str, list[int]]) -> Path:
    """Episodes of these lengths, by source, numbered from 0."""
    with DatasetWriter(directory, SPACES, env={"task": "Toy-v0"}, note="toy") as writer:
        number = 0
        for name, of_source in lengths.items():
            source = writer.source(Source(name, seed=3))
            for length in of_source:
                writer.add(episode(number, length, terminated=number % 2 == 1), source)
                number += 1
    return directory
