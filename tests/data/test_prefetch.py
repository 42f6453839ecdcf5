"""Prefetching has no influence on what is sampled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from prudence.data.prefetch import Prefetcher
from prudence.data.replay import Replay
from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition

SPACES = Spaces((("state", ObservationSpec((1,), "float32")),), ActionSpec("continuous", 1))


def add(replay: Replay, rows: range) -> None:
    for row in rows:
        flag = np.zeros(1, bool)
        state, action = np.full((1, 1), row, np.float32), np.zeros((1, 1), np.float32)
        replay.add(Transition({"state": state}, action, np.zeros(1, np.float32), action, flag, flag, flag))


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    replay = Replay(tmp_path / "prefetched", SPACES, 1, capacity=20, seed=5, chunk_size=4)
    add(replay, range(10))
    return replay


@pytest.fixture
def prefetcher(replay: Replay) -> Iterator[Prefetcher]:
    prefetcher = Prefetcher(replay, 3, 2)
    yield prefetcher
    prefetcher.close()


def test_batches_are_those_sampled_without_it(tmp_path: Path, replay: Replay, prefetcher: Prefetcher) -> None:
    plain = Replay(tmp_path / "plain", SPACES, 1, capacity=20, seed=5, chunk_size=4)
    add(plain, range(10))
    for start in range(10, 100, 10):
        prefetcher.submit(2)
        add(replay, range(start, start + 10))  # Gives up what the batch being read is from.
        expected = plain.gather(plain.draw(3, 2, 2))
        add(plain, range(start, start + 10))
        batch = prefetcher.result()
        assert isinstance(batch.reward, jax.Array)
        assert batch.observation["state"].shape == (2, 3, 2, 1)
        np.testing.assert_array_equal(batch.observation["state"], expected.observation["state"])


def test_it_says_what_is_pending(prefetcher: Prefetcher) -> None:
    with pytest.raises(RuntimeError, match=r"ask for one with submit\(\)"):
        prefetcher.result()
    prefetcher.submit(1)
    assert prefetcher.pending
    with pytest.raises(RuntimeError, match=r"take it with result\(\)"):
        prefetcher.submit(1)
    prefetcher.result()
    assert not prefetcher.pending
