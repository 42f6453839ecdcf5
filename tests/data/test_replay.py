"""The replay against worked examples, and against a naive model of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from prudence.data.chunks import ReplayLayoutError
from prudence.data.replay import Replay
from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition

SPACES = Spaces(
    observation=(("image", ObservationSpec((2, 2, 3), "uint8")), ("state", ObservationSpec((3,), "float32"))),
    action=ActionSpec("continuous", 2),
    costs=("hazards", "vases"),
)
EPISODE = 4
"""Length of the episodes of `step`; environment e's are shifted by e."""


def step(row: int, num_envs: int) -> Transition:
    """Everything in it depends on the row and the environment, whose record is number row · E + e."""
    number = row * num_envs + np.arange(num_envs)
    phase = (row + np.arange(num_envs)) % EPISODE
    return Transition(
        observation={
            "image": (number[:, None, None, None] + np.arange(12).reshape(2, 2, 3)).astype(np.uint8),
            "state": np.stack([number, -number, number / 2], axis=-1).astype(np.float32),
        },
        prev_action=np.stack([np.sin(number), np.cos(number)], axis=-1).astype(np.float32),
        reward=number.astype(np.float32),
        cost=np.stack([number % 3, number % 5], axis=-1).astype(np.float32),
        is_first=phase == 0,
        is_last=phase == EPISODE - 1,
        is_terminal=(phase == EPISODE - 1) & (number % 2 == 0),
    )


def fill(replay: Replay, rows: range, num_envs: int) -> None:
    for row in rows:
        replay.add(step(row, num_envs))


def windows(replay: Replay, length: int) -> set[tuple[int, ...]]:
    """All windows that the replay returns, as tuples of record numbers; sampled so often that none is missed but
    with probability e^-40."""
    total = replay.num_windows(length)
    if total == 0:
        assert not replay.ready(length)
        return set()
    batch = replay.sample(40 * total, length)
    return set(map(tuple, np.asarray(batch.reward).astype(int).tolist()))


def runs(rows: list[int], length: int, num_envs: int) -> set[tuple[int, ...]]:
    """Every window of consecutive ``rows``, the naive way."""
    held = set(rows)
    starts = [row for row in rows if all(row + offset in held for offset in range(length))]
    return {tuple((s + t) * num_envs + env for t in range(length)) for s in starts for env in range(num_envs)}


def assert_same(left: Transition, right: Transition) -> None:
    flat_left, flat_right = left._asdict(), right._asdict()
    assert flat_left.keys() == flat_right.keys()
    for name in flat_left:
        np.testing.assert_equal(flat_left[name], flat_right[name], strict=isinstance(flat_left[name], np.ndarray))


def test_the_newest_windows_do_not_overlap_and_leave_the_sampler_alone(tmp_path: Path) -> None:
    replay = Replay(tmp_path, SPACES, 2, capacity=100, seed=0, chunk_size=4)
    fill(replay, range(7), 2)  # Row r holds records 2r and 2r + 1.
    before = replay.state()
    batch = replay.newest(3, 3)
    assert np.asarray(batch.reward).astype(int).tolist() == [[8, 10, 12], [9, 11, 13], [2, 4, 6]]
    assert np.asarray(replay.newest(100, 3).reward).shape == (4, 3)  # Row 0 is left over.
    assert replay.state() == before
    with pytest.raises(ValueError, match="holds no 8 consecutive steps"):
        replay.newest(1, 8)


def test_windows_of_a_small_replay_are_those_counted_by_hand(tmp_path: Path) -> None:
    replay = Replay(tmp_path, SPACES, 2, capacity=100, seed=0, chunk_size=4)
    assert len(replay) == 0
    assert replay.num_windows(1) == 0
    fill(replay, range(5), 2)
    assert len(replay) == 10
    assert replay.num_windows(3) == 6
    assert windows(replay, 3) == {(0, 2, 4), (2, 4, 6), (4, 6, 8), (1, 3, 5), (3, 5, 7), (5, 7, 9)}
    assert replay.num_windows(6) == 0


def test_every_field_returns_as_it_was_recorded_across_chunks(tmp_path: Path) -> None:
    replay = Replay(tmp_path, SPACES, 3, capacity=1000, seed=1, chunk_size=9)
    fill(replay, range(20), 3)
    batch = replay.sample(64, 7)
    assert batch.observation["image"].shape == (64, 7, 2, 2, 3)
    assert batch.observation["image"].dtype == np.uint8
    assert batch.cost.shape == (64, 7, 2)
    for window in range(64):
        for t in range(7):
            row, env = divmod(int(batch.reward[window, t]), 3)
            recorded = step(row, 3)
            for name in ("prev_action", "reward", "cost", "is_first", "is_last", "is_terminal"):
                np.testing.assert_array_equal(getattr(batch, name)[window, t], getattr(recorded, name)[env])
            for name, value in batch.observation.items():
                np.testing.assert_array_equal(value[window, t], recorded.observation[name][env])


def test_first_and_last_steps_of_episodes_come_as_often_as_any_other(tmp_path: Path) -> None:
    replay = Replay(tmp_path, SPACES, 1, capacity=1000, seed=2)
    fill(replay, range(EPISODE), 1)
    batch = replay.sample(4000, 1)
    counts = np.bincount(batch.reward[:, 0].astype(int), minlength=EPISODE)
    assert counts.min() > 900
    assert batch.is_first.sum() == counts[0]
    assert batch.is_last.sum() == counts[EPISODE - 1]


def test_windows_are_uniform(tmp_path: Path) -> None:
    replay = Replay(tmp_path, SPACES, 2, capacity=60, seed=3, chunk_size=8)
    fill(replay, range(40), 2)
    total = replay.num_windows(5)
    assert total == 2 * (30 - 5 + 1)
    starts = replay.sample(200 * total, 5).reward[:, 0].astype(int)
    _, counts = np.unique(starts, return_counts=True)
    assert len(counts) == total
    statistic = float(np.sum((counts - 200) ** 2 / 200))
    assert statistic < stats.chi2.ppf(0.999, total - 1)


def test_windows_of_several_updates_are_those_of_one_long_batch(tmp_path: Path) -> None:
    replay = Replay(tmp_path, SPACES, 2, capacity=100, seed=4)
    fill(replay, range(20), 2)
    state = replay.state()
    stacked = replay.gather(replay.draw(4, 6, 3))
    replay.restore(state)
    flat = replay.sample(12, 6)
    assert stacked.observation["image"].shape == (3, 4, 6, 2, 2, 3)
    np.testing.assert_array_equal(stacked.reward.reshape(12, 6), flat.reward)


def test_sampling_from_too_little_is_refused(tmp_path: Path) -> None:
    replay = Replay(tmp_path, SPACES, 2, capacity=100, seed=0)
    fill(replay, range(3), 2)
    with pytest.raises(ValueError, match="no 4 consecutive steps yet"):
        replay.sample(1, 4)


def test_the_oldest_steps_are_given_up_by_number_and_by_bytes(tmp_path: Path) -> None:
    row_bytes = sum(path.stat().st_size for path in _one_row(tmp_path / "one").glob("*.chunk")) - 4096
    by_records = Replay(tmp_path / "records", SPACES, 2, capacity=13, seed=0, chunk_size=4)
    by_bytes = Replay(tmp_path / "bytes", SPACES, 2, capacity=10**6, capacity_bytes=6 * row_bytes, seed=0)
    for replay in (by_records, by_bytes):
        fill(replay, range(50), 2)
        assert len(replay) == 12
        assert windows(replay, 2) == runs(list(range(44, 50)), 2, 2)
    assert len(list((tmp_path / "records").glob("*.chunk"))) <= 4


def _one_row(directory: Path) -> Path:
    replay = Replay(directory, SPACES, 2, capacity=2, seed=0)
    fill(replay, range(1), 2)
    replay.flush()
    return directory


def test_a_capacity_below_one_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot hold one step of 4 environments"):
        Replay(tmp_path, SPACES, 4, capacity=3, seed=0)


def test_chunks_that_a_checkpoint_needs_stay_until_the_next_two(tmp_path: Path) -> None:
    def first_on_disk() -> int:
        return min(int(path.stem) for path in tmp_path.glob("*.chunk"))

    replay = Replay(tmp_path, SPACES, 1, capacity=4, seed=0, chunk_size=2)
    fill(replay, range(4), 1)
    replay.state()
    replay.commit()
    fill(replay, range(4, 12), 1)
    assert first_on_disk() == 0
    for _ in range(2):  # A checkpoint written twice is one.
        replay.state()
        replay.commit()
    assert first_on_disk() == 0  # The one before the last may still be resumed from.
    fill(replay, range(12, 16), 1)
    replay.state()
    assert first_on_disk() == 0  # Not durable yet.
    replay.commit()
    assert first_on_disk() == 8


def test_drawn_windows_can_be_read_after_their_chunks_are_gone(tmp_path: Path) -> None:
    replay = Replay(tmp_path, SPACES, 1, capacity=8, seed=0, chunk_size=2)
    fill(replay, range(8), 1)
    drawn = replay.draw(50, 3)
    expected = replay.gather(drawn)
    fill(replay, range(8, 40), 1)
    assert_same(replay.gather(drawn), expected)


def test_a_directory_is_taken_up_again_with_a_gap(tmp_path: Path) -> None:
    first = Replay(tmp_path, SPACES, 2, capacity=100, seed=0, chunk_size=4)
    fill(first, range(5), 2)
    first.flush()
    fill(first, range(5, 6), 2)  # Completes no chunk: lost.
    second = Replay(tmp_path, SPACES, 2, capacity=100, seed=0, chunk_size=4)
    fill(second, range(6, 9), 2)
    assert windows(second, 3) == runs([0, 1, 2, 3, 4, 6, 7, 8], 3, 2)


@pytest.mark.parametrize("chunk_size", [4, 1024])
def test_no_window_spans_an_interruption(tmp_path: Path, chunk_size: int) -> None:
    """Rows 0, 1, 2, then an interruption, which takes number 3, then rows 4 and 5; also restored from a checkpoint."""
    replay = Replay(tmp_path, SPACES, 1, capacity=100, seed=0, chunk_size=chunk_size)
    fill(replay, range(3), 1)
    replay.interrupt()
    fill(replay, range(4, 6), 1)
    state = replay.state()
    restored = Replay(tmp_path, SPACES, 1, capacity=100, seed=0, chunk_size=chunk_size)
    restored.restore(state)
    for held in (replay, restored):
        assert windows(held, 2) == {(0, 1), (1, 2), (4, 5)}
        assert len(held) == 5


def test_clear_forgets_everything(tmp_path: Path) -> None:
    replay = Replay(tmp_path, SPACES, 2, capacity=100, seed=0, chunk_size=4)
    fill(replay, range(5), 2)
    replay.clear()
    assert len(replay) == 0
    assert list(tmp_path.iterdir()) == []
    fill(replay, range(3), 2)
    assert windows(replay, 3) == runs([0, 1, 2], 3, 2)


@pytest.mark.parametrize(
    ("spaces", "num_envs", "message"),
    [
        (SPACES, 3, "num_envs 2, asked for 3"),
        (Spaces(SPACES.observation, ActionSpec("continuous", 4), SPACES.costs), 2, "fields .*prev_action"),
    ],
)
def test_a_replay_of_something_else_is_refused(tmp_path: Path, spaces: Spaces, num_envs: int, message: str) -> None:
    _one_row(tmp_path)
    with pytest.raises(ReplayLayoutError, match=message):
        Replay(tmp_path, spaces, num_envs, capacity=100, seed=0)


def test_steps_that_do_not_match_the_spaces_are_refused(tmp_path: Path) -> None:
    replay = Replay(tmp_path, SPACES, 2, capacity=100, seed=0)
    good = step(0, 2)
    with pytest.raises(ValueError, match=r"cost of shape \(2, 2\), got \(2,\)"):
        replay.add(good._replace(cost=np.zeros(2, np.float32)))
    with pytest.raises(ValueError, match=r"observation/state of shape \(2, 3\), got nothing"):
        replay.add(good._replace(observation={"image": good.observation["image"]}))
    with pytest.raises(TypeError, match="uint8"):
        replay.add(good._replace(observation={**good.observation, "image": np.zeros((2, 2, 2, 3), np.float32)}))
    assert len(replay) == 0


def test_rows_that_someone_deleted_become_a_gap(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    replay = Replay(tmp_path, SPACES, 1, capacity=100, seed=0, chunk_size=4)
    fill(replay, range(12), 1)
    state = replay.state()
    (tmp_path / f"{4:012d}.chunk").unlink()
    again = Replay(tmp_path, SPACES, 1, capacity=100, seed=0, chunk_size=4)
    again.restore(state)
    assert "lacks 4 steps" in caplog.text
    fill(again, range(12, 14), 1)
    assert windows(again, 3) == runs([0, 1, 2, 3, 8, 9, 10, 11, 12, 13], 3, 1)


# ---- properties ----------------------------------------------------------------------------------------------------

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 24))
"""E, chunk size in records, capacity in rows."""


@settings(max_examples=10, deadline=None)
@given(sizes=SIZES, blocks=st.lists(st.tuples(st.integers(1, 15), st.booleans()), min_size=1, max_size=4))
def test_the_windows_are_those_of_a_naive_model(
    tmp_path_factory: pytest.TempPathFactory, sizes: tuple[int, int, int], blocks: list[tuple[int, bool]]
) -> None:
    """Blocks of steps, after each of which the directory is opened anew, with or without a flush before."""
    num_envs, chunk_size, capacity = sizes
    directory = tmp_path_factory.mktemp("replay")

    def opened() -> Replay:
        return Replay(directory, SPACES, num_envs, capacity=capacity * num_envs, seed=0, chunk_size=chunk_size)

    replay, valid, row, durable = opened(), [], 0, -1
    for number, flushed in blocks:
        fill(replay, range(row, row + number), num_envs)
        valid += range(row, row + number)
        row += number
        held = valid[-(len(replay) // num_envs) :]
        for length in (1, 2, 5):
            assert windows(replay, length) == runs(held, length, num_envs)
        assert len(replay) <= capacity * num_envs
        if flushed:
            replay.flush()
        replay = opened()
        # The numbering goes on after a hole of one row; what is lost at the most is what was not flushed.
        before, durable = durable, opened().state()["next"] - 1
        all_given_up = durable == -1 and number + 1 >= capacity  # The hole counts too.
        assert durable == row if flushed else before <= durable <= row or all_given_up
        valid = [earlier for earlier in valid if earlier < durable]
        row = durable + 1
    shutil.rmtree(directory)


@settings(max_examples=30, deadline=None)
@given(
    sizes=SIZES,
    other_chunk_size=st.integers(1, 12),
    script=st.lists(st.sampled_from(["add", "add", "add", "sample", "checkpoint"]), min_size=5, max_size=60),
    data=st.data(),
)
def test_a_run_that_crashes_samples_what_an_uninterrupted_one_samples(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: tuple[int, int, int],
    other_chunk_size: int,
    script: list[str],
    data: st.DataObject,
) -> None:
    num_envs, chunk_size, capacity = sizes
    script = ["checkpoint", *script]
    base = tmp_path_factory.mktemp("replay")

    def opened(name: str, size: int) -> Replay:
        return Replay(base / name, SPACES, num_envs, capacity=capacity * num_envs, seed=7, chunk_size=size)

    def play(replay: Replay, start: int, stop: int, row: int) -> tuple[list[Transition | None], dict, int, int]:
        samples, checkpoint = [], (replay.state(), start, row)
        for position in range(start, stop):
            if script[position] == "add":
                replay.add(step(row, num_envs))
                row += 1
            elif script[position] == "sample":
                samples.append(replay.sample(3, 2) if replay.ready(2) else None)
            else:
                checkpoint = (replay.state(), position + 1, row)
                replay.commit()
        return samples, *checkpoint

    expected = play(opened("whole", chunk_size), 0, len(script), 0)[0]
    crash = data.draw(st.integers(1, len(script)), "crash")
    replay = opened("crashed", other_chunk_size)
    _, state, position, row = play(replay, 0, crash, 0)
    if data.draw(st.booleans(), "flushed"):
        replay.flush()
    replay = opened("crashed", other_chunk_size)
    replay.restore(state)
    found = play(replay, position, len(script), row)[0]
    for left, right in zip(expected[len(expected) - len(found) :], found, strict=True):
        assert (left is None) == (right is None)
        if left is not None and right is not None:
            assert_same(left, right)
    shutil.rmtree(base)


def test_a_share_of_the_windows_is_recent(tmp_path: Path) -> None:
    """Of 60 rows of two environments the newest 10 are recent. They hold 8 of the 58 windows of three rows."""
    replay = Replay(tmp_path, SPACES, 2, capacity=1000, recent=0.5, window=20, seed=0, chunk_size=7)
    fill(replay, range(60), 2)
    first_rows = replay.gather(replay.draw(8, 3, updates=400)).reward[..., 0].astype(int) // 2
    assert set(first_rows.ravel().tolist()) == set(range(58))
    share = 0.5 + 0.5 * 8 / 58
    # Within five standard deviations, in every place of a batch and in both halves of the updates.
    deviation = np.sqrt(share * (1 - share) / 400)
    assert np.abs((first_rows >= 50).mean(0) - share).max() < 5 * deviation
    assert np.abs((first_rows >= 50).reshape(2, -1).mean(1) - share).max() < 5 * deviation / 2
    assert replay.gather(replay.draw(0, 3)).reward.shape == (0, 3)


def test_a_resumed_replay_draws_the_same_recent_windows(tmp_path: Path) -> None:
    make = lambda: Replay(tmp_path, SPACES, 2, capacity=100, recent=0.3, window=12, seed=0, chunk_size=4)
    first = make()
    fill(first, range(20), 2)
    state = first.state()
    expected = first.sample(16, 2)
    second = make()
    second.restore(state)
    assert_same(second.sample(16, 2), expected)


def test_where_nothing_recent_is_long_enough_all_windows_count(tmp_path: Path) -> None:
    replay = Replay(tmp_path, SPACES, 1, capacity=100, recent=1.0, window=4, seed=0)
    fill(replay, range(10), 1)
    replay.interrupt()
    fill(replay, range(11, 13), 1)
    assert windows(replay, 3) == runs(list(range(10)), 3, 1)
