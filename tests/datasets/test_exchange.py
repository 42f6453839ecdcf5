"""Other projects' files: what is exported is read by their own readers and comes back equal, and every complaint."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from prudence.cli.commands.dataset import Import
from prudence.cli.commands.usage import UsageError
from prudence.data.dataset import Dataset
from prudence.data.dataset_writer import DatasetWriter
from prudence.data.formats import common
from prudence.data.formats.common import ImportOptions
from prudence.data.manifest import DatasetError, Source
from prudence.datasets.exchange import export_dataset, find_cost_rule, import_dataset
from prudence.envs.registry import configure
from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition

h5py = pytest.importorskip("h5py")
minari = pytest.importorskip("minari")

VECTOR = Spaces((("state", ObservationSpec((2,), "float32")),), ActionSpec("continuous", 1))
RICH = Spaces(
    (("image", ObservationSpec((32, 32, 3), "uint8")), ("speed", ObservationSpec((1,), "float32"))),
    ActionSpec("discrete", 3),
    ("hazards", "cost_time"),
)


def rows(spaces: Spaces, length: int, *, terminated: bool, seed: int) -> Transition:
    rng, time = np.random.default_rng(seed), np.arange(length + 1)

    def draw(spec: ObservationSpec) -> np.ndarray:
        shape = (length + 1, *spec.shape)
        return (rng.integers(0, 256, shape) if spec.dtype == "uint8" else rng.normal(size=shape)).astype(spec.dtype)

    size = spaces.action.size
    action = rng.uniform(-1, 1, (length + 1, size)).astype(np.float32)
    if spaces.action.kind == "discrete":
        action = np.eye(size, dtype=np.float32)[rng.integers(0, size, length + 1)]
    # Not as a product, which has zeros that are negative.
    after = lambda values: np.where((time > 0).reshape(-1, *[1] * (values.ndim - 1)), values, 0).astype(np.float32)
    return Transition(
        observation={name: draw(spec) for name, spec in spaces.observation},
        prev_action=after(action),
        reward=after(rng.normal(size=length + 1)),
        cost=after(rng.uniform(0, 1, (length + 1, spaces.num_costs))),
        is_first=time == 0,
        is_last=time == length,
        is_terminal=(time == length) & terminated,
    )


def write(directory: Path, spaces: Spaces) -> Dataset:
    """A truncated episode of 4 decisions, a terminated one of 1, and a truncated one of 3."""
    with DatasetWriter(directory, spaces) as writer:
        for seed, length in enumerate([4, 1, 3]):
            writer.add(rows(spaces, length, terminated=seed == 1, seed=seed), writer.source(Source("made")))
    return Dataset(directory)


def flat(path: Path, *, without: tuple[str, ...] = (), **changes: Any) -> str:
    """A DSRL file of two episodes of 3 and 2 steps; the first terminates and the second is truncated.

    Observations count up, so that a step from o leads to o + 1; each episode begins 10 later.
    """
    before = np.array([0, 1, 2, 10, 11], np.float32)
    columns: dict[str, Any] = {
        "observations": np.stack([before, -before], 1),
        "next_observations": np.stack([before + 1, -before - 1], 1),
        "actions": np.linspace(-1, 1, 5, dtype=np.float32)[:, None],
        "rewards": np.arange(5, dtype=np.float32),
        "costs": np.array([0, 1, 0, 0, 1], np.float32),
        "terminals": np.array([0, 0, 1, 0, 0], bool),
        "timeouts": np.array([0, 0, 0, 0, 1], bool),
    } | changes
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if name not in without:
                file.create_dataset(name, data=values, compression="gzip")
    return str(path)


def test_dsrl_files_are_read(tmp_path: Path) -> None:
    data = import_dataset(flat(tmp_path / "f.hdf5"), tmp_path / "d", format="dsrl", licence="CC BY 4.0")
    assert [(e.length, e.episode_return, e.costs, e.terminated) for e in data.episodes] == [
        (3, 3.0, (1.0,), True),
        (2, 7.0, (1.0,), False),
    ]
    first = data.episode(0)
    assert first.observation["state"][:, 0].tolist() == [0, 1, 2, 3]
    assert first.prev_action[:, 0].tolist() == [0, -1, -0.5, 0]
    assert first.cost[:, 0].tolist() == [0, 0, 1, 0]
    assert data.env is None
    assert data.manifest.licence == "CC BY 4.0"
    assert (data.sources[0].name, data.sources[0].mode, data.sources[0].run) == ("f", "imported", "f.hdf5")


def test_columns_of_one_and_flags_as_numbers_are_the_same_file(tmp_path: Path) -> None:
    one = import_dataset(flat(tmp_path / "a.hdf5"), tmp_path / "a", format="dsrl")
    flags = {
        "terminals": np.array([0, 0, 1, 0, 0], np.float32)[:, None],
        "timeouts": np.array([0, 0, 0, 0, 1], np.float32)[:, None],
        "rewards": np.arange(5, dtype=np.float64)[:, None],
        "costs": np.array([0, 1, 0, 0, 1], np.float32)[:, None],
    }
    other = import_dataset(flat(tmp_path / "b.hdf5", **flags), tmp_path / "b", format="dsrl")
    assert one.digest == other.digest


def test_dsrl_files_that_are_exported_come_back_equal(tmp_path: Path) -> None:
    data = write(tmp_path / "d", VECTOR)
    path = export_dataset(tmp_path / "d", str(tmp_path / "f.hdf5"), format="dsrl")
    with h5py.File(path) as file:  # DSRL's layout, by h5py's own reader.
        assert {name: (v.shape, v.dtype.str) for name, v in file.items()} == {
            "observations": ((8, 2), "<f4"),
            "next_observations": ((8, 2), "<f4"),
            "actions": ((8, 1), "<f4"),
            "rewards": ((8,), "<f4"),
            "costs": ((8,), "<f4"),
            "terminals": ((8,), "|b1"),
            "timeouts": ((8,), "|b1"),
        }
        assert np.flatnonzero(file["terminals"]).tolist() == [4]
        assert np.flatnonzero(file["timeouts"]).tolist() == [3, 7]
    again = import_dataset(str(path), tmp_path / "again", format="dsrl")
    assert again.digest == data.digest
    assert again.episodes == data.episodes
    with pytest.raises(DatasetError, match="exists already: name another file"):
        export_dataset(tmp_path / "d", str(path), format="dsrl")


def test_what_dsrl_cannot_hold_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "d", RICH)
    with pytest.raises(DatasetError, match=r"one vector as observation.* has image \[32, 32, 3\], speed \[1\]"):
        export_dataset(tmp_path / "d", str(tmp_path / "f.hdf5"), format="dsrl")
    assert not (tmp_path / "f.hdf5").exists()


def test_d4rl_files_without_next_observations(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = flat(tmp_path / "f.hdf5", without=("next_observations", "costs"))
    data = import_dataset(path, tmp_path / "d", format="d4rl", options=ImportOptions(no_cost=True))
    # The terminated episode repeats its last observation; the truncated one loses its last action.
    assert [(e.length, e.terminated) for e in data.episodes] == [(3, True), (1, False)]
    assert data.episode(0).observation["state"][:, 0].tolist() == [0, 1, 2, 2]
    assert data.episode(1).observation["state"][:, 0].tolist() == [10, 11]
    assert "the last action of 1 truncated episodes is left out, and 1 terminated ones have" in caplog.text
    assert "all costs are 0, so that a safe agent learns nothing from them" in caplog.text


def far(observation: dict[str, np.ndarray]) -> np.ndarray:
    return (observation["state"][:, 0] > 2).astype(float)


def test_costs_are_computed_where_the_file_has_none(tmp_path: Path) -> None:
    path = flat(tmp_path / "f.hdf5", without=("costs",))
    options = ImportOptions(cost_rule=find_cost_rule(f"{__name__}:far"))
    data = import_dataset(path, tmp_path / "d", format="d4rl", options=options)
    assert data.column("cost", 0)[:, 0].tolist() == [0, 0, 0, 1]  # Of the observations 1, 2, 3 that were reached.
    with pytest.raises(DatasetError, match="there is no cost function 'nowhere:f'"):
        find_cost_rule("nowhere:f")
    with pytest.raises(UsageError, match="give one of --cost-key"):
        Import(path, "d4rl", tmp_path / "e", no_cost=True, cost_key="costs").run()


ONES = np.ones(5, np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"without": ("rewards", "costs")}, "lacks rewards, costs; it has actions, next_observations, obs"),
        ({"rewards": np.ones(4, np.float32)}, r"different lengths, .*'rewards': 4"),
        ({"actions": np.ones((5, 1, 1), np.float32)}, r"actions \(5, 1, 1\) has another number of axes"),
        ({"rewards": np.array([0, np.nan, 1, np.inf, 2])}, "rewards is not finite in 2 rows, first in row 1"),
        ({"terminals": 0 * ONES, "timeouts": 0 * ONES}, "no episode ends: terminals and timeouts are 0 in all 5 rows"),
        ({"next_observations": np.zeros((5, 2))}, r"next_observations\[0\] is not observations\[1\].* shuffled"),
        ({"costs": -ONES}, "costs is negative in 5 rows, first in row 0: a cost is what must stay small"),
        ({"actions": 2 * ONES[:, None]}, r"actions is outside of \[-1, 1\] in 5 rows, first in row 0 \(2\)"),
    ],
)
def test_what_is_wrong_with_a_flat_file_is_said(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = flat(tmp_path / "f.hdf5", **changes)
    with pytest.raises(DatasetError, match=message):
        import_dataset(path, tmp_path / "d", format="dsrl")
    assert [p.name for p in tmp_path.iterdir()] == ["f.hdf5"]


def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.hdf5").write_text("no")
    with pytest.raises(DatasetError, match="cannot be read as HDF5"):
        import_dataset(str(tmp_path / "f.hdf5"), tmp_path / "d", format="dsrl")


def test_an_unfinished_episode_is_kept_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = flat(tmp_path / "f.hdf5", timeouts=0 * ONES)
    data = import_dataset(path, tmp_path / "kept", format="dsrl")
    assert [(e.length, e.terminated) for e in data.episodes] == [(3, True), (2, False)]
    assert "the last 2 transitions end no episode: they are kept as a truncated one (--drop-incomplete" in caplog.text
    data = import_dataset(path, tmp_path / "left", format="dsrl", options=ImportOptions(drop_incomplete=True))
    assert [e.length for e in data.episodes] == [3]
    assert "the last 2 transitions end no episode: they are left out" in caplog.text


def test_terminal_wins_over_timed_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = flat(tmp_path / "f.hdf5", timeouts=np.array([0, 0, 1, 0, 1]))
    data = import_dataset(path, tmp_path / "d", format="dsrl", options=ImportOptions(limit=1))
    assert [e.terminated for e in data.episodes] == [True]
    assert "1 transitions are terminal and timed out: they are taken as terminal" in caplog.text


def test_the_file_has_to_be_of_the_task(tmp_path: Path) -> None:
    path = flat(tmp_path / "f.hdf5")
    with pytest.raises(DatasetError, match=r"has observation state float32\[2\].*; probe/cost has obs"):
        import_dataset(path, tmp_path / "d", format="dsrl", env=configure("probe/cost"))
    data = import_dataset(path, tmp_path / "d", format="dsrl", env=configure("probe/memory"))
    assert data.env is not None
    assert data.env["task"] == "probe/memory"
    assert data.spaces.episode_steps is not None


def test_formats_without_costs_ask_for_them(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"this format has no costs: say where they are \(--cost-key\)"):
        import_dataset(flat(tmp_path / "f.hdf5"), tmp_path / "d", format="d4rl")


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DatasetError, match=r"h5py is not installed, .*: pip install 'prudence-rl\[datasets\]'"):
        common.needed("h5py")


@pytest.mark.parametrize("spaces", [VECTOR, RICH])
def test_minari_reads_what_is_exported_and_it_comes_back_equal(tmp_path: Path, spaces: Spaces) -> None:
    data = write(tmp_path / "d", spaces)
    path = export_dataset(tmp_path / "d", str(tmp_path / "toy-v0"), format="minari")
    found = minari.MinariDataset(path / "data")
    assert (found.total_episodes, found.total_steps) == (3, 8)
    first, rows = found[0], data.episode(0)
    for name, value in rows.observation.items():
        np.testing.assert_array_equal(first.observations[name], value)
    np.testing.assert_array_equal(first.rewards, rows.reward[1:])
    assert found[1].terminations.tolist() == [True]
    assert first.truncations.tolist() == [False, False, False, True]
    keys = ("cost",) if spaces is VECTOR else ("cost_hazards", "cost_time")
    for index, key in enumerate(keys):
        np.testing.assert_array_equal(first.infos[key], rows.cost[:, index])
    again = import_dataset(str(path), tmp_path / "again", format="minari")
    assert again.digest == data.digest
    assert again.spaces.costs == keys
    with pytest.raises(DatasetError, match="exists already: name another version"):
        export_dataset(tmp_path / "d", str(path), format="minari")
    assert not list(tmp_path.glob(".*"))


def test_minari_datasets_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "root"))
    data = write(tmp_path / "d", VECTOR)
    path = export_dataset(tmp_path / "d", "robot/reach-v0", format="minari")
    assert path == tmp_path / "root/robot/reach-v0"
    assert list(minari.list_local_datasets()) == ["robot/reach-v0"]
    assert import_dataset("robot/reach-v0", tmp_path / "again", format="minari").digest == data.digest
    with pytest.raises(DatasetError, match=r"robot/other-v0 is no Minari dataset on this machine. There are: rob"):
        import_dataset("robot/other-v0", tmp_path / "other", format="minari")
    with pytest.raises(DatasetError, match="is no name of a Minari dataset"):
        export_dataset(tmp_path / "d", "reach", format="minari")


def collected(path: Path, observation: gym.Space, episodes: list[dict[str, Any]], *, jpeg: bool = True) -> str:
    """A dataset as Minari itself writes it."""
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    path.mkdir()
    action = gym.spaces.Box(np.float32([0]), np.float32([4]))
    storage = MinariStorage.new(path / "data", observation, action, jpeg_encoding=jpeg)
    storage.update_metadata({"dataset_id": path.name, "minari_version": minari.__version__})
    storage.update_episodes([EpisodeBuffer(id=i, **episode) for i, episode in enumerate(episodes)])
    return str(path)


def two(observations: Any = None, *, end: bool = True, **infos: Any) -> dict[str, Any]:
    """An episode of two decisions."""
    return {
        "observations": np.zeros((3, 2), np.float32) if observations is None else observations,
        "actions": np.float32([[0], [3]]),
        "rewards": np.float32([1, 2]),
        "terminations": np.array([False, False]),
        "truncations": np.array([False, end]),
        "infos": infos,
    }


STATE = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)


def test_minari_costs_with_and_without_that_of_the_reset(tmp_path: Path) -> None:
    for name, costs in (("with-v0", [np.nan, 0.5, 1.0]), ("without-v0", [0.5, 1.0])):
        path = collected(tmp_path / name, STATE, [two(cost=np.float32(costs))])
        data = import_dataset(path, tmp_path / f"d-{name}", format="minari")
        assert data.column("cost", 0)[:, 0].tolist() == [0, 0.5, 1]
        # Actions are scaled from [0, 4].
        assert data.column("prev_action", 0)[:, 0].tolist() == [0, -1, 0.5]


def test_nested_observations_are_joined_and_pictures_in_jpeg_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    eye = gym.spaces.Box(0, 255, (32, 32, 3), np.uint8)
    space = gym.spaces.Dict({"arm": gym.spaces.Dict({"joints": STATE}), "eye": eye})
    seen = {"arm": {"joints": np.ones((3, 2), np.float32)}, "eye": np.full((3, 32, 32, 3), 7, np.uint8)}
    path = collected(tmp_path / "a-v0", space, [two(seen, cost=np.ones(2))])
    data = import_dataset(path, tmp_path / "d", format="minari")
    assert list(data.spaces.observations) == ["arm_joints", "eye"]
    assert data.column("observation/eye", 0).dtype == np.uint8
    assert "has pictures as JPEG, which is lossy" in caplog.text


@pytest.mark.parametrize(
    ("observation", "episode", "message"),
    [
        (STATE, two(cost=np.ones(4)), "infos/cost has 4 rows, and 2 decisions have 2 costs, or 3 with the reset's"),
        (STATE, two(cost=np.ones(3)), "infos/cost begins with 1.0, and a reset costs nothing"),
        (STATE, two(fuel=np.ones(2)), "has no costs in infos, which has fuel: say where they are"),
        (STATE, two(cost=-np.ones(2)), "infos/cost is negative in 2 rows"),
        (gym.spaces.Discrete(3), two(np.zeros(3, int), cost=np.ones(2)), "observation state is a Discrete"),
        (
            gym.spaces.Box(0, 255, (3, 8, 8), np.uint8),
            two(np.zeros((3, 3, 8, 8), np.uint8), cost=np.ones(2)),
            r"observation state is a picture \[channels, height, width\] \[3, 8, 8\]: transpose it",
        ),
    ],
)
def test_what_is_wrong_with_a_minari_dataset_is_said(
    tmp_path: Path, observation: gym.Space, episode: dict[str, Any], message: str
) -> None:
    path = collected(tmp_path / "a-v0", observation, [episode], jpeg=False)
    with pytest.raises(DatasetError, match=message):
        import_dataset(path, tmp_path / "d", format="minari")
    assert [p.name for p in tmp_path.iterdir()] == ["a-v0"]


def test_a_minari_episode_without_a_decision_is_refused(tmp_path: Path) -> None:
    path = collected(tmp_path / "a-v0", STATE, [two(cost=np.ones(2)), two(cost=np.ones(2))])
    with h5py.File(tmp_path / "a-v0/data/main_data.hdf5", "a") as file:  # Minari itself cannot write one.
        for name, number in {
            "observations": 1,
            "actions": 0,
            "rewards": 0,
            "terminations": 0,
            "truncations": 0,
        }.items():
            file["episode_1"][name].resize(number, axis=0)
    with pytest.raises(DatasetError, match="episode 1 has no decision: leave it out"):
        import_dataset(path, tmp_path / "d", format="minari")


def test_an_unfinished_minari_episode_is_kept_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = collected(tmp_path / "a-v0", STATE, [two(cost=np.ones(2)), two(cost=np.ones(2), end=False)])
    assert len(import_dataset(path, tmp_path / "kept", format="minari").episodes) == 2
    assert "episode 1 does not end: it is kept as a truncated one" in caplog.text
    options = ImportOptions(drop_incomplete=True)
    assert len(import_dataset(path, tmp_path / "left", format="minari", options=options).episodes) == 1


@pytest.mark.slow
@pytest.mark.parametrize("format", ["dsrl", "minari", "import", "mix"])
def test_a_kill_leaves_nothing_that_looks_finished(tmp_path: Path, format: str) -> None:
    write(tmp_path / "d", VECTOR)
    file = flat(tmp_path / "f.hdf5")
    script = """
        import os, signal, sys
        from pathlib import Path
        from prudence.data.dataset import Dataset
        from prudence.datasets.exchange import export_dataset, import_dataset
        from prudence.datasets.mix import mix_datasets
        kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        data, file, to, format = sys.argv[1:]
        if format == "import":
            import_dataset(file, to, format="dsrl", progress=kill)
        if format == "mix":
            mix_datasets([data], to, progress=kill)
        episode = Dataset.episode
        Dataset.episode = lambda self, index: kill() if index == 2 else episode(self, index)
        export_dataset(data, to, format=format)
    """
    to = tmp_path / "out-v0"
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "d"), file, str(to), format]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    left = {path.name for path in tmp_path.iterdir()} - {"d", "f.hdf5"}
    ours = format in ("import", "mix")
    assert left == ({"out-v0.partial"} if ours else {".out-v0.partial"})
    if not ours:  # The next one clears what was left.
        export_dataset(tmp_path / "d", str(to), format=format)  # pyright: ignore
        assert {path.name for path in tmp_path.iterdir()} - {"d", "f.hdf5"} == {"out-v0"}
