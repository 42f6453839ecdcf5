"""A mixture samples a dataset and a replay, in the proportion that was asked for, and resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_data import SPACES, episode, write

from prudence.data.dataset import Dataset
from prudence.data.manifest import DatasetError
from prudence.data.mixture import Mixture
from prudence.data.replay import Replay
from prudence.types import ObservationSpec, Spaces, Transition, tree_index

LENGTH = 3


def replay_of(directory: Path, spaces: Spaces = SPACES) -> Replay:
    """Two environments, each with one episode of 10 decisions: number 100."""
    replay = Replay(directory, spaces, 2, capacity=1000, seed=0)
    rows = episode(100, 10)
    for row in range(11):
        one = tree_index(rows, row)
        replay.add(Transition(*(_twice(value) for value in one)))
    return replay


def _twice(value):
    if isinstance(value, dict):
        return {name: np.stack([x, x]) for name, x in value.items()}
    return np.stack([value, value])


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Dataset, Replay]:
    """A dataset of 21 rows, so 19 windows of three steps, and a replay of twice 11, so 18 of them."""
    return Dataset(write(tmp_path / "data", {"safe": [9, 10]})), replay_of(tmp_path / "replay")


def recorded(mixture: Mixture, updates: int, batch_size: int) -> np.ndarray:
    """``[updates, batch_size]`` whether a window is of the dataset."""
    batch = mixture.gather(mixture.draw(batch_size, LENGTH, updates))
    assert batch.reward.shape == (updates, batch_size, LENGTH)
    numbers = batch.observation["state"][..., 0]
    return (numbers < 100).all(-1)


def test_by_default_every_window_counts_the_same(parts):
    found = recorded(Mixture(*parts, share=None, seed=0), 500, 8)
    assert abs(found.mean() - 19 / 37) < 0.04  # Five standard deviations.
    assert found.sum(1).min() < 3  # Not always the same number.
    assert found.sum(1).max() > 5


def test_a_share_is_met_in_every_batch_or_on_average(parts):
    assert (recorded(Mixture(*parts, share=0.5, seed=0), 50, 8).sum(1) == 4).all()
    assert not recorded(Mixture(*parts, share=0.0, seed=0), 5, 8).any()
    assert recorded(Mixture(*parts, share=1.0, seed=0), 5, 8).all()
    numbers = recorded(Mixture(*parts, share=0.3, seed=0), 500, 8).sum(1)  # 2.4 of 8.
    assert set(numbers.tolist()) == {2, 3}
    assert abs(numbers.mean() - 2.4) < 0.1


def test_windows_are_of_both_wholes(parts):
    batch = (mixture := Mixture(*parts, share=0.5, seed=0)).gather(mixture.draw(200, LENGTH))
    steps = batch.observation["state"][..., 1].astype(int)
    inside = ~batch.is_first[:, 1:].any(1)
    np.testing.assert_array_equal(steps[inside], steps[inside][:, :1] + np.arange(LENGTH))
    np.testing.assert_array_equal(batch.reward, steps)


def test_it_resumes(parts):
    mixture = Mixture(*parts, share=None, seed=0)
    mixture.draw(8, LENGTH, 2)
    state, replay_state = mixture.state(), parts[1].state()
    first = mixture.gather(mixture.draw(8, LENGTH, 2))
    again = Mixture(Dataset(parts[0].directory), parts[1], share=None, seed=9)
    again.restore(state)
    parts[1].restore(replay_state)
    np.testing.assert_array_equal(again.gather(again.draw(8, LENGTH, 2)).reward, first.reward)


def test_other_spaces_are_refused(parts, tmp_path):
    other = Spaces((("state", ObservationSpec((3,), "float32")),), SPACES.action, SPACES.costs, 9)
    replay = Replay(tmp_path / "other", other, 2, capacity=1000, seed=0)
    with pytest.raises(DatasetError, match="as in the data"):
        Mixture(parts[0], replay, share=None, seed=0)
