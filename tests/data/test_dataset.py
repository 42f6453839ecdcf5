"""Datasets: what is written is read, views sample their own episodes only, and nothing damaged is taken for whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from toy_data import SPACES, episode, write

from prudence.data.dataset import Dataset, read_manifest
from prudence.data.dataset_writer import DatasetWriter
from prudence.data.manifest import FILE, DatasetError, Episode, Source
from prudence.types import Transition


def sampled(data: Dataset, length: int) -> set[tuple[tuple[int, int], ...]]:
    """All windows that are sampled, as (episode, time); one is missed with probability e^-40."""
    states = data.gather(data.draw(40 * data.num_windows(length), length)).observation["state"].astype(int)
    return {tuple(map(tuple, window)) for window in states.tolist()}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    data = Dataset(write(tmp_path / "d", {"safe": [3, 1], "random": [2]}))
    assert data.spaces == SPACES
    assert data.env == {"task": "Toy-v0"}
    assert data.manifest.note == "toy"
    assert data.sources == (Source("safe", seed=3), Source("random", seed=3))
    # Rows: 4 + 2 + 3. The rewards 1 + 2 + 3 are 6, and each decision costs 1 hazard.
    assert data.episodes == (
        Episode(0, 3, 6.0, (3.0, 0.0), False, 0),
        Episode(4, 1, 1.0, (1.0, 0.0), True, 0),
        Episode(6, 2, 3.0, (2.0, 0.0), False, 1),
    )
    assert data.decisions == 6
    for index, length in enumerate([3, 1, 2]):
        for name, value in episode(index, length, terminated=index == 1)._asdict().items():
            np.testing.assert_equal(getattr(data.episode(index), name), value)
    assert not (tmp_path / "d.partial").exists()


def test_windows_cross_into_the_next_episode_of_a_view_and_into_no_other(tmp_path: Path) -> None:
    data = Dataset(write(tmp_path / "d", {"safe": [2, 1, 1, 1]}))
    rows = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]
    assert sampled(data, 4) == {tuple(rows[i : i + 4]) for i in range(6)}
    view = data.select([0, 1, 3])
    assert view.episodes == (data.episodes[0], data.episodes[1], data.episodes[3])
    # Episode 2 is missing, and a window of 4 rows does not fit into episode 3 alone.
    assert sampled(view, 4) == {tuple(rows[i : i + 4]) for i in range(2)}
    assert sampled(view, 2) == {tuple(rows[i : i + 2]) for i in [0, 1, 2, 3, 7]}


def test_the_last_episodes_of_every_source_are_held_out(tmp_path: Path) -> None:
    data = Dataset(write(tmp_path / "d", {"a": [1] * 10, "b": [1] * 5, "c": [1]}))
    train, held = data.hold_out(0.2)
    # Two of ten, one of five, and none of one.
    assert [e.first_row // 2 for e in held.episodes] == [8, 9, 14]
    assert [e.first_row // 2 for e in train.episodes] == [*range(8), *range(10, 14), 15]
    of = lambda data: {number for window in sampled(data, 2) for number, _ in window}
    assert of(held) == {8, 9, 14}
    assert of(train) == {*range(8), *range(10, 14), 15}
    assert [len(view.episodes) for view in data.hold_out(0.0)] == [16, 0]
    assert [len(view.episodes) for view in data.hold_out(0.01)] == [14, 2]  # At least one, where there are two.
    with pytest.raises(ValueError, match="choose from 0 to below 1"):
        data.hold_out(1.0)


def test_spread_windows_are_in_order_do_not_overlap_and_leave_the_sampler_alone(tmp_path: Path) -> None:
    data = Dataset(write(tmp_path / "d", {"a": [9, 9]}))  # 20 rows: five windows of four.
    before = data.state()
    assert data.spread(5, 4).reward[:, 0].astype(int).tolist() == [0, 4, 8, 2, 6]
    assert data.spread(3, 4).reward[:, 0].astype(int).tolist() == [0, 8, 6]
    assert len(data.spread(99, 4).reward) == 5
    assert data.state() == before


def test_the_sampler_resumes(tmp_path: Path) -> None:
    directory = write(tmp_path / "d", {"a": [30]})
    data = Dataset(directory, seed=5)
    data.draw(3, 2)
    state = data.state()
    expected = data.gather(data.draw(4, 6, updates=2))
    assert expected.reward.shape == (2, 4, 6)
    again = Dataset(directory, seed=5)
    again.restore(state)
    np.testing.assert_array_equal(again.gather(again.draw(4, 6, updates=2)).reward, expected.reward)
    other = Dataset(write(tmp_path / "other", {"a": [31]}))
    with pytest.raises(DatasetError, match=r"are not those that were learnt from \(digest .* put the old ones back"):
        other.restore(state)


def test_too_short_a_dataset_names_what_it_has(tmp_path: Path) -> None:
    data = Dataset(write(tmp_path / "d", {"a": [2, 4]}))
    with pytest.raises(DatasetError, match=r"no 64 consecutive steps .* most are 8, and the longest episode has 4 dec"):
        data.draw(1, 64)


def damaged(directory: Path, damage: str) -> None:
    chunk = next(directory.glob("*.chunk"))
    if damage == "byte":
        content = bytearray(chunk.read_bytes())
        content[-9] ^= 1
        chunk.write_bytes(content)
    elif damage == "tail":
        os.truncate(chunk, chunk.stat().st_size - 3)
    elif damage == "header":
        chunk.write_bytes(b"\0" * 64 + chunk.read_bytes()[64:])
    else:
        chunk.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("byte", r"row 5 of .* is torn. A dataset is never repaired: copy it anew"),
        ("tail", r"row 5 of .* is torn. A dataset is never repaired: copy it anew"),
        ("header", r"the header of .* is torn"),
        ("missing", r"its 0 chunks are not those that it was written with \(digest"),
    ],
)
def test_damage_is_refused_and_nothing_is_repaired(tmp_path: Path, damage: str, message: str) -> None:
    directory = write(tmp_path / "d", {"a": [5]})
    damaged(directory, damage)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(DatasetError, match=message):
        Dataset(directory)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_rows_of_another_dataset_are_refused(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one", {"a": [5]}), write(tmp_path / "other", {"a": [1, 3]})
    for chunk in other.glob("*.chunk"):
        shutil.copy(chunk, one)
    with pytest.raises(DatasetError, match="are not those that it was written with"):
        Dataset(one)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"format": 1',
            '"format": 2',
            "has format 2, and this version .* reads format 1; it was written with",
        ),
        ('"format": 1', '"formt": 1', "is no manifest of a dataset"),
        ('"spaces"', '"spacs"', "is damaged or was changed"),
        ("[0, 5,", "[0, 6,", "not those that it was written with"),
        ("[0, 5,", "[1, 5,", "its episode 0 does not fit"),
        ("}\n", "", "is no manifest"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path / "d", {"a": [5]}) / FILE
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DatasetError, match=message):
        Dataset(path.parent)


def test_a_directory_without_a_manifest_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"is no dataset, it has no dataset.json: make one with"):
        read_manifest(tmp_path)


def changed(rows: Transition, **fields: object) -> Transition:
    return rows._replace(**fields)  # pyright: ignore


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (episode(0, 0), "has no decision: leave it out"),
        (changed(episode(0, 3), reward=np.array([0, 1, np.nan, np.inf], np.float32)), "not finite in 2 rows, first in"),
        (changed(episode(0, 3), cost=np.zeros((4, 1), np.float32)), r"expected cost of shape \(4, 2\), got \(4, 1\)"),
        (changed(episode(0, 3), reward=np.zeros(4, complex)), "reward is complex128, which is not kept as float32"),
        (changed(episode(0, 3), observation={}), "expected observation/state of shape .* got nothing"),
        (changed(episode(0, 3), is_last=np.zeros(4, bool)), "is no single whole episode"),
    ],
)
def test_what_is_no_episode_is_refused_and_nothing_is_left(tmp_path: Path, rows: Transition, message: str) -> None:
    with pytest.raises(DatasetError, match=message), DatasetWriter(tmp_path / "d", SPACES) as writer:
        writer.add(rows, writer.source(Source("a")))
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_is_never_overwritten_or_empty(tmp_path: Path) -> None:
    directory = write(tmp_path / "d", {"a": [5]})
    with (
        pytest.raises(DatasetError, match="exists already, and a dataset is never changed"),
        DatasetWriter(directory, SPACES),
    ):
        pass
    with pytest.raises(DatasetError, match="would have no episode"), DatasetWriter(tmp_path / "empty", SPACES):
        pass
    with DatasetWriter(tmp_path / "new", SPACES) as writer:
        writer.add(episode(0, 1), writer.source(Source("a")))
        with pytest.raises(DatasetError, match="another process is writing"), DatasetWriter(tmp_path / "new", SPACES):
            pass
    assert {path.name for path in tmp_path.iterdir()} == {"d", "new"}


def test_sources_of_one_name_are_told_apart(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "d", SPACES) as writer:
        indices = [writer.source(Source("a", seed=seed)) for seed in (1, 2, 1)]
        writer.add(episode(0, 1), indices[1])
    assert indices == [0, 1, 0]
    assert [source.name for source in Dataset(tmp_path / "d").sources] == ["a", "a-2"]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("prudence.data.chunks.os.fsync", full)
    with pytest.raises(DatasetError, match=r"cannot write .*: No space left on device. Make room"):
        write(tmp_path / "d", {"a": [5]})
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        sys.path.insert(0, sys.argv[2])
        import toy_data
        from pathlib import Path
        with toy_data.DatasetWriter(Path(sys.argv[1]), toy_data.SPACES) as writer:
            writer._rows_per_chunk = 4
            writer.add(toy_data.episode(0, 20), writer.source(toy_data.Source("a")))
            os.kill(os.getpid(), signal.SIGKILL)
    """
    directory = tmp_path / "d"
    command = [sys.executable, "-c", textwrap.dedent(script), str(directory), str(Path(__file__).parents[1])]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["d.partial"]
    assert list((tmp_path / "d.partial").iterdir())
    for path in (directory, tmp_path / "d.partial"):
        with pytest.raises(DatasetError, match="is no dataset"):
            Dataset(path)
    write(directory, {"a": [3]})  # The next one clears what was left.
    assert Dataset(directory).decisions == 3
    assert [path.name for path in tmp_path.iterdir()] == ["d"]
