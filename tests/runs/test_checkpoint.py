"""Checkpoints: bit for bit, atomic, and refused where they do not belong."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, PRNGKeyArray

from prudence.data.spaces import spaces_to_json
from prudence.runs import checkpoint
from prudence.runs.checkpoint import CheckpointError, CheckpointMismatch
from prudence.types import ActionSpec, CostFunction, ObservationSpec, Spaces

SPACES = Spaces((("state", ObservationSpec((3,), "float32")),), ActionSpec("continuous", 2), ("hazards", "vases"), 250)
META: dict[str, Any] = {"task": "Goal", "spaces": spaces_to_json(SPACES)}


class State(eqx.Module):
    net: eqx.nn.MLP
    low: Float[Array, "2 3"]
    key: PRNGKeyArray
    keys: PRNGKeyArray
    weak: Float[Array, ""]
    count: Any
    host: Any


def make_state(seed: int = 0, width: int = 4) -> State:
    keys = jax.random.split(jax.random.key(seed), 4)
    return State(
        net=eqx.nn.MLP(3, 2, width, 1, key=keys[0]),
        low=jax.random.normal(keys[1], (2, 3), jnp.bfloat16),
        key=keys[2],
        keys=jax.random.split(keys[3], 3),
        weak=jnp.asarray(0.1 + seed),
        count=(seed, 0.1 + seed, seed > 0),
        host={"i64": np.arange(3) + seed, "empty": np.zeros((0, 2), bool), "scalar": np.float64(seed / 3)},
    )


def assert_same_bits(left: Any, right: Any) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        if isinstance(b, jax.Array) and jnp.issubdtype(b.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        if isinstance(b, jax.Array | np.ndarray | np.generic):
            assert type(a) is type(b)
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert getattr(a, "weak_type", None) == getattr(b, "weak_type", None)
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
        else:
            assert a == b
            assert type(a) is type(b)


def test_a_state_returns_bit_for_bit(tmp_path: Path) -> None:
    state = make_state(3)
    checkpoint.save(tmp_path, 10, state, META)
    loaded, meta = checkpoint.load(tmp_path, make_state(0))
    assert_same_bits(loaded, state)
    assert meta == {**META, "step": 10}


def test_shapes_suffice_to_load(tmp_path: Path) -> None:
    state = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(1))
    checkpoint.save(tmp_path, 1, state, {})
    like = eqx.filter_eval_shape(lambda: eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(2)))
    loaded, _ = checkpoint.load(tmp_path, like)
    assert_same_bits(eqx.filter(loaded, eqx.is_array), eqx.filter(state, eqx.is_array))


def test_special_values_survive(tmp_path: Path) -> None:
    bits = np.array([0x7FC00001, 0xFF800000, 0x80000000, 1], np.uint32).view(np.float32)  # NaN, -inf, -0, subnormal
    checkpoint.save(tmp_path, 1, {"x": bits, "y": float("inf")}, {})
    loaded, _ = checkpoint.load(tmp_path, {"x": np.zeros(4, np.float32), "y": 0.0})
    assert loaded["x"].tobytes() == bits.tobytes()
    assert loaded["y"] == float("inf")


def test_meta_holds_arrays_and_large_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    meta = {"rng": rng.bit_generator.state, "env": [{"actions": np.arange(6.0).reshape(2, 3)}], "nothing": None}
    checkpoint.save(tmp_path, 1, {}, {**meta, "pair": (1, "a")})
    _, loaded = checkpoint.load(tmp_path, {})
    assert loaded["rng"] == meta["rng"]
    assert loaded["pair"] == [1, "a"]
    np.testing.assert_array_equal(loaded["env"][0]["actions"], meta["env"][0]["actions"], strict=True)
    loaded["env"][0]["actions"][0, 0] = 1.0  # Writable.


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"a": {"b": [object()]}}, r"meta\.a\.b\[0\] is a object"),
        ({"a": {1: 2}}, r"meta\.a has the key 1"),
        ({"a": np.array([object()])}, "dtype object"),
    ],
)
def test_meta_that_cannot_be_stored_is_named(tmp_path: Path, meta: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        checkpoint.save(tmp_path, 1, {}, meta)
    assert checkpoint.latest(tmp_path) is None


def test_a_weakly_typed_array_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"state\['scale'\] is weakly typed"):
        checkpoint.save(tmp_path, 1, {"scale": jnp.broadcast_to(jnp.asarray(1.0), (3,))}, {})


def test_only_the_newest_are_kept_and_left_histories_go(tmp_path: Path) -> None:
    def steps() -> list[int]:
        return sorted(int(path.stem) for path in tmp_path.iterdir())

    for step in (10, 20, 30):
        checkpoint.save(tmp_path, step, {}, {}, keep=2)
    assert steps() == [20, 30]
    checkpoint.save(tmp_path, 25, {}, {}, keep=2)  # The run resumed from 20, say since 30 was damaged.
    assert steps() == [20, 25]
    assert checkpoint.latest(tmp_path) == tmp_path / "000000000025.ckpt"


def _truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flipped(content: bytes) -> bytes:
    position = content.rindex(b"\x00\x01\x02\x03\x04\x05\x06\x07")
    return content[:position] + b"\x40" + content[position + 1 :]


@pytest.mark.parametrize("damage", [_truncated, _flipped, lambda content: b"", lambda content: b"\xff" * 100])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"x": np.arange(100, dtype=np.uint8), "step": step}, META)
    newest = tmp_path / "000000000002.ckpt"
    newest.write_bytes(damage(newest.read_bytes()))
    state, meta = checkpoint.load(tmp_path, {"x": np.zeros(100, np.uint8), "step": 0})
    assert state["step"] == meta["step"] == 1
    assert "000000000002.ckpt is damaged" in caplog.text
    assert checkpoint.read_meta(tmp_path)["step"] == 1


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, bytes]], Any]) -> None:
    """Changes manifest and members of a checkpoint, which stays a valid zip file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    change(manifest, members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in {"manifest.json": json.dumps(manifest).encode(), **members}.items():
            archive.writestr(name, member)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda manifest, members: members.clear(), "the file has no member state/00000"),
        (lambda manifest, members: members.update({"state/00000": b"short"}), "has 5 bytes instead of 8"),
        (lambda manifest, members: manifest.pop("format"), "its manifest has no format"),
        (lambda manifest, members: manifest.pop("meta"), "its manifest has no meta"),
        (lambda manifest, members: manifest.pop("leaves"), "its manifest has no leaves"),
        (lambda manifest, members: manifest["leaves"][0].pop("path"), "a leaf without a path"),
        (lambda manifest, members: manifest["leaves"][0].pop("stored"), "its shape or dtype cannot be read"),
        (lambda manifest, members: manifest["leaves"][0].update(stored=["object", [1]]), "of dtype object"),
        (lambda manifest, members: manifest["leaves"][0].update(stored=["nonsense", [1]]), "cannot be read"),
        (lambda manifest, members: manifest["leaves"][0].update(stored=["int64", [-1]]), r"shape \[-1\]"),
        (lambda manifest, members: manifest["meta"].update(x={"$array": 3}), "meta: its shape or dtype"),
    ],
)
def test_a_checkpoint_that_lacks_a_part_falls_back_to_the_one_before(
    tmp_path: Path, change: Any, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"x": np.array([step])}, META)
    rewrite(tmp_path / "000000000002.ckpt", change)
    state, meta = checkpoint.load(tmp_path, {"x": np.zeros(1, int)})
    assert state["x"] == meta["step"] == 1
    assert re.search(f"000000000002.ckpt is damaged .*{fault}", caplog.text)
    rewrite(tmp_path / "000000000001.ckpt", change)
    with pytest.raises(CheckpointError, match=rf"all are damaged: 000000000002\.ckpt \(.*{fault}"):
        checkpoint.load(tmp_path, {"x": np.zeros(1, int)})


def test_a_member_lost_from_the_directory_of_the_file_falls_back(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"x": np.array([step]), "y": np.array([step])}, META)
    newest = tmp_path / "000000000002.ckpt"
    rewrite(newest, lambda manifest, members: members.pop("state/00001"))
    assert checkpoint.load(tmp_path, {"x": np.zeros(1, int), "y": np.zeros(1, int)})[1]["step"] == 1


def test_a_manifest_that_does_not_make_a_state_is_a_checkpoint_error(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 1, {"key": jax.random.key(0)}, META)
    rewrite(path, lambda manifest, members: manifest["leaves"][0].update(impl="nonsense"))
    with pytest.raises(CheckpointError, match="its manifest was changed"):
        checkpoint.load(tmp_path, {"key": jax.random.key(0)})


@pytest.mark.parametrize(
    "spaces",
    [None, {}, [], {**META["spaces"], "observation": [["state", [3], "object"]]}, {**META["spaces"], "action": [1]}],
)
def test_spaces_that_cannot_be_read_are_a_checkpoint_error(spaces: Any) -> None:
    with pytest.raises(CheckpointError, match="spaces cannot be read"):
        checkpoint.spaces_from_json(spaces)
    with pytest.raises(CheckpointError, match="spaces cannot be read"):
        checkpoint.check_compatible({"spaces": spaces}, spaces=SPACES)


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), OSError(errno.EIO, "Input/output error"), MemoryError()]
)
def test_an_error_that_passes_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the run would go on from an older checkpoint, and delete the good one."""
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {}, META)

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "read", fail)
        with pytest.raises(type(error), match="may be intact" if isinstance(error, OSError) else None):
            checkpoint.load(tmp_path, {})
    assert not caplog.text
    assert checkpoint.load(tmp_path, {})[1]["step"] == 2


def test_copies_of_a_user_are_ignored(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 20, {}, META)
    copies = ("000000000020-best.ckpt", "000000000030 (1).ckpt", "best.ckpt", "³.ckpt")
    for name in copies:
        (tmp_path / name).write_bytes(b"mine")
    assert checkpoint.latest(tmp_path) == tmp_path / "000000000020.ckpt"
    checkpoint.save(tmp_path, 21, {}, META, keep=1)
    assert checkpoint.load(tmp_path, {})[1]["step"] == 21
    assert {path.name for path in tmp_path.iterdir()} == {*copies, "000000000021.ckpt"}


def test_nothing_to_load_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint in"):
        checkpoint.load(tmp_path, {})
    checkpoint.save(tmp_path, 1, {}, {})
    (tmp_path / "000000000001.ckpt").write_bytes(b"no zip")
    with pytest.raises(CheckpointError, match=r"all are damaged: 000000000001\.ckpt"):
        checkpoint.load(tmp_path, {})


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, 1, {"x": 1}, META)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left.*The one before is intact") as caught:
        checkpoint.save(tmp_path, 2, {"x": 2}, META)
    assert caught.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == ["000000000001.ckpt"]


WRITER = """
import sys
from pathlib import Path
import numpy as np
from prudence.runs import checkpoint

for step in range(10**9):
    checkpoint.save(Path(sys.argv[1]), step, {"x": np.full(200_000, step)}, {})
    print(step, flush=True)
"""


def test_a_kill_while_saving_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout is not None
        saved = [int(writer.stdout.readline()) for _ in range(20)]
        writer.kill()
    state, meta = checkpoint.load(tmp_path, {"x": np.zeros(200_000, np.int64)})
    assert meta["step"] >= saved[-1]
    assert (state["x"] == meta["step"]).all()
    checkpoint.save(tmp_path, 10**9, {}, {})
    assert not list(tmp_path.glob(".*"))  # What the kill left half written is gone.


def test_another_configuration_is_refused_by_leaf(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"net": make_state().net, "old": 1, "n": 1}, META)
    with pytest.raises(CheckpointMismatch) as caught:
        checkpoint.load(tmp_path, {"net": make_state(width=5).net, "new": np.zeros(2), "n": 1.0})
    message = str(caught.value)
    assert (
        "['net'].layers[0].weight: array float32[4, 3] in the checkpoint, array float32[5, 3] in this agent" in message
    )
    assert "['new']: not in the checkpoint" in message
    assert "['old']: only in the checkpoint" in message
    assert "['n']: a Python int in the checkpoint, a Python float in this agent" in message
    assert f"'jax': '{jax.__version__}'" in message


def test_another_task_is_refused_by_name(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {}, META)
    checkpoint.load(tmp_path, {}, expect={"task": "Goal", "spaces": SPACES})
    with pytest.raises(CheckpointMismatch, match="trained on task 'Goal'; asked for task 'Push'"):
        checkpoint.load(tmp_path, {}, expect={"task": "Push"})


def test_other_spaces_are_refused_by_name() -> None:
    other = Spaces((("image", ObservationSpec((64, 64, 3), "uint8")),), SPACES.action, ("cost",))
    with pytest.raises(CheckpointMismatch) as caught:
        checkpoint.check_compatible(META, task="Goal", spaces=other)
    assert "'Goal' with observation state float32[3], continuous action [2], costs ['hazards', 'vases']" in str(
        caught.value
    )
    assert "asked for task 'Goal' with observation image uint8[64, 64, 3]" in str(caught.value)


def test_spaces_return_from_json() -> None:
    assert checkpoint.spaces_from_json(json.loads(json.dumps(spaces_to_json(SPACES)))) == SPACES


def test_a_cost_function_returns_from_json_and_older_spaces_had_none() -> None:
    reads = CostFunction("some.module:function", (("name", "state"), ("radius", 0.25)))
    spaces = replace(SPACES, cost_function=reads)
    written = spaces_to_json(spaces)
    assert checkpoint.spaces_from_json(json.loads(json.dumps(written))) == spaces
    del written["cost_function"]
    assert checkpoint.spaces_from_json(written) == SPACES


def test_precise_entries_return_from_json_and_change_no_interface() -> None:
    spaces = replace(SPACES, precise=(("state", (0, 2)),))
    written = json.loads(json.dumps(spaces_to_json(spaces)))
    assert checkpoint.spaces_from_json(written) == spaces
    del written["precise"]
    assert checkpoint.spaces_from_json(written) == SPACES
    checkpoint.check_compatible(META, spaces=spaces)


def test_what_is_privileged_returns_from_json_and_went_by_name_before() -> None:
    parts = (*SPACES.observation, ("contacts", ObservationSpec((2,), "float32")))
    spaces = replace(SPACES, observation=parts, privileged=("contacts",))
    written = json.loads(json.dumps(spaces_to_json(spaces)))
    assert checkpoint.spaces_from_json(written) == spaces
    del written["privileged"]
    assert checkpoint.spaces_from_json(written).privileged == ()
    written["observation"][1][0] = "privileged"
    assert checkpoint.spaces_from_json(written).privileged == ("privileged",)


def test_spaces_of_which_other_parts_are_privileged_are_refused() -> None:
    parts = (*SPACES.observation, ("contacts", ObservationSpec((2,), "float32")))
    spaces = replace(SPACES, observation=parts)
    meta = {**META, "spaces": spaces_to_json(spaces)}
    checkpoint.check_compatible(meta, spaces=spaces)
    with pytest.raises(CheckpointMismatch, match=r"state float32\[3\], privileged contacts float32\[2\]"):
        checkpoint.check_compatible(meta, spaces=replace(spaces, privileged=("contacts",)))


def test_anyone_can_look_into_a_checkpoint(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, {"x": np.zeros((2, 3), np.float32)}, META)
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["step"] == 7
    assert manifest["versions"]["jax"] == jax.__version__
    assert [(leaf["path"], leaf["dtype"], leaf["shape"]) for leaf in manifest["leaves"]] == [
        ("['x']", "float32", [2, 3])
    ]


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT_VERSION", 99)
        checkpoint.save(tmp_path, 1, {}, {})
    with pytest.raises(CheckpointMismatch, match="has format 99"):
        checkpoint.load(tmp_path, {})


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """A compressed member of 200 MB of zeros, in a file of 200 kB."""
    path = checkpoint.save(tmp_path, 1, {"x": np.zeros(3)}, {})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("meta/00099", "w") as member:
        for _ in range(200):
            member.write(bytes(10**6))
    with pytest.raises(CheckpointError, match=r"its \d+ kB would become 200 MB"):
        checkpoint.read_meta(tmp_path)
