"""Mixing: which episodes are kept, what is known of them, and what does not fit together."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prudence.cli.commands.dataset import Inspect
from prudence.data.dataset_writer import DatasetWriter
from prudence.data.manifest import DatasetError, Source
from prudence.datasets.coverage import draw_coverage
from prudence.datasets.mix import mix_datasets
from prudence.datasets.summary import disjoint, summarise
from prudence.envs.registry import configure
from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition

SPACES = Spaces((("state", ObservationSpec((2,), "float32")),), ActionSpec("continuous", 1), ("cost",), 20)


def episode(number: int, *, length: int = 2, cost: float = 0.0) -> Transition:
    """Its return is its number, and its costs add up to ``cost``, which comes at its end. The state is (number, 7)."""
    last = np.arange(length + 1) == length
    return Transition(
        observation={"state": np.tile(np.float32([number, 7]), (length + 1, 1))},
        prev_action=np.where(last, 1.0, 0.0).astype(np.float32)[:, None],
        reward=np.where(last, number, 0).astype(np.float32),
        cost=np.where(last, cost, 0).astype(np.float32)[:, None],
        is_first=np.arange(length + 1) == 0,
        is_last=last,
        is_terminal=last & (number % 2 == 1),
    )


def write(
    directory: Path, name: str, episodes: dict[int, float], *, spaces: Spaces = SPACES, env: Any = None, **about: Any
) -> Path:
    """Episodes by number, with their costs."""
    with DatasetWriter(directory, spaces, env=env, **about) as writer:
        for number, cost in episodes.items():
            writer.add(episode(number, cost=cost), writer.source(Source(name)))
    return directory


def returns(data: Any) -> list[float]:
    return [episode.episode_return for episode in data.episodes]


def test_a_mixture_has_all_episodes_and_knows_their_sources(tmp_path: Path) -> None:
    safe = write(tmp_path / "safe", "safe", {1: 0, 2: 0}, env={"task": "A"}, interface={"action": 1}, licence="MIT")
    unsafe = write(tmp_path / "unsafe", "unsafe", {3: 9.5}, licence="CC BY 4.0")
    data = mix_datasets([safe, unsafe], tmp_path / "mix", note="both")
    assert returns(data) == [1, 2, 3]
    assert [data.sources[e.source].name for e in data.episodes] == ["safe", "safe", "unsafe"]
    assert (data.env, data.manifest.interface) == ({"task": "A"}, {"action": 1})
    assert (data.manifest.licence, data.manifest.note) == ("CC BY 4.0, MIT", "both")
    # The only dataset may be filtered, too.
    assert returns(mix_datasets([tmp_path / "mix"], tmp_path / "cheap", max_cost=0, min_return=2)) == [2]


def test_episodes_are_drawn_without_replacement(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "a", dict.fromkeys(range(10), 0))
    b = write(tmp_path / "b", "b", dict.fromkeys(range(20, 30), 0))
    data = mix_datasets([a, b], tmp_path / "mix", episodes=[10, 3], seed=1)
    assert returns(data)[:10] == list(range(10))
    drawn = returns(data)[10:]
    assert len(set(drawn)) == 3
    assert set(drawn) <= set(range(20, 30))
    assert returns(mix_datasets([a, b], tmp_path / "again", episodes=[10, 3], seed=1))[10:] == drawn
    assert returns(mix_datasets([a, b], tmp_path / "other", episodes=[10, 3], seed=2))[10:] != drawn


def test_what_does_not_fit_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    five = {"task": "A", "action_repeat": 5}
    a = write(tmp_path / "a", "a", {1: 0, 2: 5}, env=five)
    other = replace(SPACES, costs=("hazards",))
    b = write(tmp_path / "b", "b", {1: 0}, spaces=other)
    c = write(tmp_path / "c", "c", {1: 0}, env={**five, "action_repeat": 4})
    wide, narrow = (write(tmp_path / str(high), "d", {1: 0}, interface={"action": high}) for high in (1, 2))
    before = sorted(tmp_path.iterdir())
    cases: list[tuple[list[Path], dict[str, Any], str]] = [
        ([a, b], {}, r"different spaces: .*costs \['cost'\]; and .*costs \['hazards'\]"),
        ([a, c], {}, r"of different environments, by action_repeat \(5 and 4\)"),
        ([wide, a, narrow], {}, r"of different environments, by action \(1 and 2\)"),
        ([a], {"episodes": [1, 2]}, "has 2 numbers, and there are 1 datasets"),
        ([a], {"episodes": [2], "max_cost": 1}, r"has 1 such episodes \(of 2\), fewer than the 2"),
        ([a], {"min_return": 99}, "would have no episode"),
        ([], {}, "name at least one dataset"),
    ]
    for datasets, options, message in cases:
        with pytest.raises(DatasetError, match=message):
            mix_datasets(datasets, tmp_path / "mix", **options)
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(DatasetError, match="exists already"):
        mix_datasets([a], tmp_path / "b")


def test_a_failure_while_mixing_leaves_nothing(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "a", {1: 0, 2: 0})

    def interrupt(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mix_datasets([a], tmp_path / "mix", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_summary_is_what_one_counts_by_hand(tmp_path: Path) -> None:
    safe = write(tmp_path / "safe", "safe", {1: 0, 3: 0, 5: 6})
    unsafe = write(tmp_path / "unsafe", "unsafe", {8: 10})
    found = summarise(mix_datasets([safe, unsafe], tmp_path / "mix"))
    heads, rows = found.table()
    assert heads == ("source", "episodes", "decisions", "return", "cost", "no cost", "length", "terminated")
    # Returns 1, 3, 5 have quartiles 2 and 4; costs 0, 0, 6 have 0 and 3.
    assert rows[0] == ("safe", "3", "6", "3.00 (2.0 to 4.0; 5.0)", "2.00 (0.0 to 3.0; 6.0)", "67%", "2", "100%")
    assert rows[1][:3] == ("unsafe", "1", "2")
    assert rows[2][0] == "all"
    assert rows[2][-1] == "75%"
    np.testing.assert_allclose(found.borders, [0.5])  # The second of two actions is 1.
    notes = "\n".join(found.notes())
    assert "constant entries, from which nothing is learnt: state[1]" in notes
    assert "is 0 in every episode" not in notes
    assert "cost is 0 in every episode" in "\n".join(
        summarise(mix_datasets([safe], tmp_path / "c", max_cost=0)).notes()
    )
    assert draw_coverage(found, tmp_path / "coverage.png").stat().st_size > 5000


def test_ranges_are_held_against_a_task(tmp_path: Path) -> None:
    # probe/memory's observation has two entries in [-1, 1]; here the second is always 7.
    env = configure("probe/memory")
    spaces = Spaces((("state", ObservationSpec((2,), "float32")),), ActionSpec("continuous", 1))
    data = mix_datasets([write(tmp_path / "a", "a", {0: 0, 1: 0}, spaces=spaces)], tmp_path / "mix")
    found = disjoint(data, env)
    assert len(found) == 1
    assert found[0].startswith("state[1]: 7 to 7 in the data, ")
    with pytest.raises(DatasetError, match=r"has observation state float32\[2\].*; probe/cost has observation state"):
        disjoint(data, configure("probe/cost"))


def test_the_command_inspects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write(tmp_path / "a", "a", {0: 0, 1: 1})
    assert Inspect(directory, against="probe/memory").run() == 0
    said = capsys.readouterr().out
    assert "1 entries do not overlap\nstate[1]: 7 to 7 in the data" in said
    assert (directory / "coverage.png").exists()
    shutil.rmtree(directory)
