"""Checkpoints. Each is one zip file, written atomically and without pickles.

``<step>.ckpt`` holds ``manifest.json`` (format and library versions; path, shape and dtype of every leaf; the caller's
``meta``) and one raw little-endian member for each array. A zip file has a CRC-32 of each member, and its table of
contents is at the end. Corruption and truncation are therefore both detected. ``unzip -p 000000001000.ckpt
manifest.json`` shows the content of a checkpoint.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import math
import operator
import os
import platform
import re
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from prudence.data.spaces import interface, spaces_in_words
from prudence.data.spaces import spaces_from_json as parse_spaces
from prudence.runs.config import config_from, differences
from prudence.types import Spaces

log = logging.getLogger(__name__)

FORMAT_VERSION = 1
SUFFIX = ".ckpt"
INTERFACE = "interface"
"""The entry of ``meta`` with the mapping between the environment's observations and actions and the agent's."""
CONFIG = "config"
"""The entry of ``meta`` with the configuration of the run."""
_MOST_GROWTH, _SMALL = 100, 64 * 10**6
"""A file may hold this many times its own size, or this many bytes. More is meant to exhaust the memory."""
_MANIFEST = "manifest.json"
_ARRAY = "$array"
_LIBRARIES = ("prudence-rl", "jax", "jaxlib", "equinox", "optax", "numpy")
_SHOWN_DIFFERENCES = 8

_Members = dict[str, bytes | memoryview]


class CheckpointError(RuntimeError):
    """There is no checkpoint, or no checkpoint can be read."""


class CheckpointMismatch(ValueError):
    """The checkpoint is intact, but of another task, other spaces or another configuration."""


class _Damaged(Exception):
    pass


# ---- writing -------------------------------------------------------------------------------------------------------


def save(
    directory: Path, step: int, state: Any, meta: Mapping[str, Any], *, keep: int = 2, compress: bool = False
) -> Path:
    """Writes ``<directory>/<step>.ckpt`` atomically and durably, then deletes all but the ``keep`` newest.

    Checkpoints of later steps are deleted, too: the run resumed from a step before them, so they are obsolete.

    Args:
        directory: is created if it does not exist.
        step: orders the checkpoints of a run.
        state: a pytree. Arrays of any dtype, typed PRNG keys and Python numbers are stored. Other leaves (functions)
            are not stored; ``load`` takes them from ``like``.
        meta: JSON-able, and may contain NumPy arrays. Tuples are read back as lists. ``check_compatible`` reads its
            ``task`` and its ``spaces`` (from :mod:`prudence.data.spaces`).
        keep: number of checkpoints to keep, at least 1.
        compress: deflates the members. This is slow and saves little space for trained weights.

    Raises:
        TypeError: a value cannot be stored; the message names it.
        OSError: the disk is full or failed. Earlier checkpoints are intact.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for leftover in directory.glob(f".*{SUFFIX}.partial"):
        leftover.unlink()
    path = directory / f"{step:012d}{SUFFIX}"
    partial = directory / f".{path.name}.partial"
    members = _encode(step, state, meta)
    try:
        with open(partial, "wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for name, content in members.items():
                    how = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
                    archive.writestr(zipfile.ZipInfo(name), content, how)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(
            error.errno,
            f"cannot write a checkpoint: {error.strerror}. The one before is intact: make room and repeat the command",
            str(directory),
        ) from error
    _sync(directory)
    _prune(directory, step, keep)
    return path


def _encode(step: int, state: Any, meta: Mapping[str, Any]) -> _Members:
    members: _Members = {}
    leaves = [_encode_leaf(path, leaf, members) for path, leaf in _named_leaves(state)]
    manifest = {
        "format": FORMAT_VERSION,
        "step": step,
        "versions": _versions(),
        "leaves": [leaf for leaf in leaves if leaf is not None],
        "meta": _encode_meta(meta, "meta", members),
    }
    # The manifest comes first, for people who look into the file.
    return {_MANIFEST: json.dumps(manifest, indent=1).encode(), **members}


def _encode_leaf(path: str, leaf: Any, members: _Members) -> dict[str, Any] | None:
    if not _is_stored(leaf):
        return None
    entry = {"path": path, **_describe(leaf)}
    if _is_number(leaf):
        return {**entry, "value": leaf}
    member = f"state/{len(members):05d}"
    if entry["kind"] == "key":
        data = np.asarray(jax.random.key_data(leaf))
        return {**entry, "impl": str(jax.random.key_impl(leaf)), **_store(data, member, members)}
    weak = getattr(leaf, "weak_type", False)
    if weak and leaf.ndim:
        raise TypeError(f"state{path} is weakly typed, which a checkpoint cannot hold: give the array a dtype")
    return {**entry, "weak": weak, **_store(np.asarray(leaf), member, members)}


def _store(array: np.ndarray, member: str, members: _Members) -> dict[str, Any]:
    if array.dtype.hasobject or array.dtype.names:
        raise TypeError(f"{member}: an array of dtype {array.dtype} cannot be stored; only plain numbers can")
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    members[member] = np.ascontiguousarray(little).reshape(-1).view(np.uint8).data
    return {"member": member, "stored": [array.dtype.name, list(array.shape)]}


def _encode_meta(value: Any, path: str, members: _Members) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return {_ARRAY: _store(np.asarray(value), f"meta/{len(members):05d}", members)}
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str) or key == _ARRAY]
        if wrong:
            raise TypeError(f"{path} has the key {wrong[0]!r}; keys must be strings other than {_ARRAY!r}")
        return {key: _encode_meta(item, f"{path}.{key}", members) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode_meta(item, f"{path}[{index}]", members) for index, item in enumerate(value)]
    raise TypeError(f"{path} is a {type(value).__name__}; a checkpoint's meta holds JSON values and NumPy arrays")


def _prune(directory: Path, step: int, keep: int) -> None:
    paths = _paths(directory)
    kept = [path for path in paths if int(path.stem) <= step][:keep]
    for path in paths:
        if path not in kept:
            path.unlink(missing_ok=True)


# ---- reading -------------------------------------------------------------------------------------------------------


def latest(directory: Path) -> Path | None:
    """The newest checkpoint of a directory, or None. It may be damaged."""
    return next(iter(_paths(Path(directory))), None)


def load(
    directory: Path, like: Any, *, expect: Mapping[str, Any] | None = None, partly: bool = False
) -> tuple[Any, dict[str, Any]]:
    """Loads the state and the ``meta`` of the newest readable checkpoint, bit for bit as saved.

    If a checkpoint is truncated or corrupt, the one before it is loaded, with a warning. An error that may pass (too
    many open files, a device that does not answer) says nothing of a checkpoint, and is raised.

    Args:
        directory: directory of the checkpoints, or the file of one checkpoint.
        like: a state of the same structure (arrays or ``jax.ShapeDtypeStruct``). It determines where leaves belong.
        expect: arguments of ``check_compatible``: ``task``, ``spaces``.
        partly: allows different leaves. Leaves that the checkpoint lacks stay as in ``like``; leaves that only the
            checkpoint has are ignored. Leaves that both have must still agree in shape and dtype.

    Returns:
        The state, and ``meta`` with the checkpoint's ``step`` added.

    Raises:
        CheckpointError: there is no checkpoint, or no checkpoint can be read.
        CheckpointMismatch: the checkpoint is of another task, other spaces or another configuration of the agent.
        OSError, MemoryError: the newest checkpoint cannot be read now, and may be intact.
    """
    path, manifest, members = _newest_readable(Path(directory))
    meta = _decode_manifest_meta(manifest, members)
    check_compatible(meta, **(expect or {}))
    try:
        return _decode_state(path, manifest, members, like, partly), meta
    except CheckpointMismatch:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read, its manifest was changed ({error!r}): use another one"
        ) from error


def read_meta(directory: Path) -> dict[str, Any]:
    """The ``meta`` of the newest readable checkpoint, with its ``step``.

    Callers use it to build the agent into which they then load the checkpoint.

    Raises:
        CheckpointError: there is no checkpoint, or no checkpoint can be read.
    """
    _, manifest, members = _newest_readable(Path(directory))
    return _decode_manifest_meta(manifest, members)


def leaf_paths(directory: Path) -> frozenset[str]:
    """Paths of all leaves in the newest readable checkpoint, such as ``[0].actor.module``.

    Raises:
        CheckpointError: there is no checkpoint, or no checkpoint can be read.
    """
    _, manifest, _ = _newest_readable(Path(directory))
    return frozenset(entry["path"] for entry in manifest["leaves"])


def _newest_readable(source: Path) -> tuple[Path, dict[str, Any], dict[str, bytes]]:
    candidates = [source] if source.is_file() else _paths(source)
    if not candidates:
        raise CheckpointError(f"there is no checkpoint in {source}: train first, or name the directory of a run")
    faults: dict[Path, _Damaged] = {}
    for path in candidates:
        try:
            return path, *_read_file(path)
        except _Damaged as error:
            log.warning("checkpoint %s is damaged (%s); trying the one before", path, error)
            faults[path] = error
    names = ", ".join(f"{path.name} ({fault})" for path, fault in faults.items())
    raise CheckpointError(
        f"no checkpoint in {source} can be read, all are damaged: {names}. Put a whole one there, or begin anew "
        "(prudence train --restart)"
    )


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest and the arrays of a checkpoint.

    Raises:
        _Damaged: the content is damaged.
        OSError, MemoryError: the content may be intact, and cannot be read now.
        CheckpointMismatch: another version of prudence wrote it in another format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size, held = path.stat().st_size, sum(member.file_size for member in archive.infolist())
            if held > max(_SMALL, _MOST_GROWTH * size):
                raise _Damaged(f"its {size / 1e3:,.0f} kB would become {held / 1e6:,.0f} MB")
            members = {name: archive.read(name) for name in archive.namelist()}
        manifest = json.loads(members.pop(_MANIFEST))
    except (MemoryError, _Damaged):
        raise
    except Exception as error:  # zipfile can raise almost any exception on arbitrary bytes.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: damaged offsets.
            raise OSError(
                error.errno,
                f"a checkpoint cannot be read: {error.strerror}. It may be intact, so no older one is taken: remove "
                "the cause and repeat the command",
                str(path),
            ) from error
        raise _Damaged(f"{type(error).__name__}: {error}") from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise _Damaged("its manifest has no format")
    if manifest["format"] != FORMAT_VERSION:
        raise CheckpointMismatch(
            f"{path} has format {manifest['format']}, this version of prudence reads {FORMAT_VERSION}; "
            f"it was written with {manifest.get('versions')}"
        )
    _check_manifest(manifest, members)
    return manifest, members


def _check_manifest(manifest: Mapping[str, Any], members: Mapping[str, bytes]) -> None:
    """Raises _Damaged if a part of the manifest or the whole of an array is missing."""
    for name, kind in (("step", int), ("versions", dict), ("leaves", list), ("meta", dict)):
        if not isinstance(manifest.get(name), kind):
            raise _Damaged(f"its manifest has no {name}")
    for entry in manifest["leaves"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str) or "kind" not in entry:
            raise _Damaged("its manifest has a leaf without a path or a kind")
        if "value" not in entry:
            _check_array(entry, members, entry["path"])
    _check_meta(manifest["meta"], members)


def _check_meta(value: Any, members: Mapping[str, bytes]) -> None:
    if isinstance(value, list):
        for item in value:
            _check_meta(item, members)
    elif isinstance(value, dict) and _ARRAY in value:
        _check_array(value[_ARRAY], members, "meta")
    elif isinstance(value, dict):
        for item in value.values():
            _check_meta(item, members)


def _check_array(entry: Any, members: Mapping[str, bytes], name: str) -> None:
    try:
        dtype, shape = jnp.dtype(entry["stored"][0]), [operator.index(length) for length in entry["stored"][1]]
        member = entry["member"]
    except (KeyError, TypeError, IndexError) as error:
        raise _Damaged(f"{name}: its shape or dtype cannot be read ({error})") from error
    if dtype.hasobject or dtype.names or not dtype.itemsize or min(shape, default=0) < 0:
        raise _Damaged(f"{name}: an array of dtype {dtype} and shape {shape} is none that is stored")
    if member not in members:
        raise _Damaged(f"{name}: the file has no member {member}")
    size = dtype.itemsize * math.prod(shape)
    if len(members[member]) != size:
        raise _Damaged(f"{name}: {member} has {len(members[member])} bytes instead of {size}")


def _decode_manifest_meta(manifest: dict[str, Any], members: dict[str, bytes]) -> dict[str, Any]:
    return {**_decode_meta(manifest["meta"], members), "step": manifest["step"]}


def _decode_meta(value: Any, members: dict[str, bytes]) -> Any:
    if isinstance(value, list):
        return [_decode_meta(item, members) for item in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        return _fetch(value[_ARRAY], members)
    return {key: _decode_meta(item, members) for key, item in value.items()}


def _fetch(entry: dict[str, Any], members: dict[str, bytes]) -> np.ndarray:
    dtype, shape = entry["stored"]
    dtype = jnp.dtype(dtype).newbyteorder("<")
    return np.frombuffer(members[entry["member"]], dtype).reshape(shape).copy()


def _decode_state(
    path: Path, manifest: dict[str, Any], members: dict[str, bytes], like: Any, partly: bool = False
) -> Any:
    saved = {entry["path"]: entry for entry in manifest["leaves"]}
    wanted = {name: _describe(leaf) for name, leaf in _named_leaves(like) if _is_stored(leaf)}
    if partly:
        saved, wanted = ({name: of[name] for name in of if name in saved and name in wanted} for of in (saved, wanted))
    _refuse_differences(path, saved, wanted, manifest["versions"])
    leaves = [_decode_leaf(saved[name], leaf, members) if name in saved else leaf for name, leaf in _named_leaves(like)]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _decode_leaf(entry: dict[str, Any], like: Any, members: dict[str, bytes]) -> Any:
    if "value" in entry:
        return entry["value"]
    array = _fetch(entry, members)
    if entry["kind"] == "key":
        return jax.random.wrap_key_data(jnp.array(array), impl=entry["impl"])
    if isinstance(like, np.ndarray | np.generic):
        return array if isinstance(like, np.ndarray) else array[()]
    # Only Python numbers give weakly typed arrays.
    return jnp.asarray(array.item()) if entry["weak"] else jnp.array(array)


def _refuse_differences(path: Path, saved: dict[str, Any], wanted: dict[str, Any], versions: dict[str, str]) -> None:
    differences = [f"{name}: not in the checkpoint" for name in wanted if name not in saved]
    differences += [f"{name}: only in the checkpoint" for name in saved if name not in wanted]
    for name in saved.keys() & wanted.keys():
        was, now = _in_words(saved[name]), _in_words(wanted[name])
        if was != now:
            differences.append(f"{name}: {was} in the checkpoint, {now} in this agent")
    if differences:
        shown = sorted(differences)[:_SHOWN_DIFFERENCES]
        more = f"\n  and {len(differences) - len(shown)} more" if len(differences) > len(shown) else ""
        raise CheckpointMismatch(
            f"{path} was saved by another agent or with another configuration:\n  "
            + "\n  ".join(shown)
            + f"{more}\nUse the configuration of its training (written with {versions})."
        )


# ---- compatibility -------------------------------------------------------------------------------------------------


def check_compatible(saved_meta: Mapping[str, Any], *, task: str | None = None, spaces: Spaces | None = None) -> None:
    """Refuses a checkpoint of another task or of other spaces.

    Args:
        saved_meta: as saved, with ``task`` and ``spaces`` (see :mod:`prudence.data.spaces`).
        task: the requested task; None skips its comparison.
        spaces: the requested spaces; None skips their comparison. Observations, action, costs and the names of
            privileged observations are compared. The length of an episode may differ.

    Raises:
        CheckpointMismatch: the task or the spaces differ. The message names both.
    """
    saved = spaces_from_json(saved_meta.get("spaces")) if spaces is not None else None
    same_task = task is None or task == saved_meta.get("task")
    same_spaces = saved is None or spaces is None or interface(saved) == interface(spaces)
    if not (same_task and same_spaces):
        was = f"task {saved_meta.get('task')!r}" + (f" with {spaces_in_words(saved)}" if saved else "")
        words = [*([f"task {task!r}"] if task else []), *([spaces_in_words(spaces)] if spaces else [])]
        which = "the task it was trained on" if task else "a task with these observations, actions and costs"
        raise CheckpointMismatch(
            f"the checkpoint was trained on {was}; asked for {' with '.join(words)}. Use {which}, or another run"
        )


def check_config(saved_meta: Mapping[str, Any], config: Any) -> None:
    """Refuses a checkpoint of a run with other settings, such as another budget. The length of the run may differ.

    Args:
        saved_meta: as saved, with ``config`` (its :func:`prudence.runs.config.content`). Older checkpoints lack it.
        config: the run's configuration.

    Raises:
        CheckpointMismatch: the message names the settings.
    """
    if CONFIG not in saved_meta:
        return
    try:
        there = config_from(saved_meta[CONFIG], type(config))
    except ValueError as error:
        raise CheckpointMismatch(f"the checkpoint's configuration cannot be read: {error}") from error
    there = dataclasses.replace(there, loop=there.loop.continued(config.loop))
    if there != config:
        raise CheckpointMismatch(
            f"the checkpoint is of a run with other settings than config.json:\n  {differences(there, config)}\n"
            "Put the checkpoint of this run there, or begin anew (prudence train --restart)"
        )


def spaces_from_json(value: Any) -> Spaces:
    """The spaces in a checkpoint's ``meta``.

    Raises:
        CheckpointError: ``value`` is no such result.
    """
    try:
        return parse_spaces(value)
    except ValueError as error:
        raise CheckpointError(
            f"the checkpoint's spaces cannot be read ({error}): it is damaged or was changed. Use another checkpoint"
        ) from error


# ---- shared --------------------------------------------------------------------------------------------------------


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _is_stored(leaf: Any) -> bool:
    kinds = (bool, int, float, jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
    return isinstance(leaf, kinds)


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, bool | int | float) and not isinstance(leaf, np.generic)


def _describe(leaf: Any) -> dict[str, Any]:
    if _is_number(leaf):
        return {"kind": type(leaf).__name__}
    return {"kind": "key" if _is_key(leaf) else "array", "dtype": leaf.dtype.name, "shape": list(leaf.shape)}


def _in_words(entry: dict[str, Any]) -> str:
    return f"{entry['kind']} {entry['dtype']}{entry['shape']}" if "shape" in entry else f"a Python {entry['kind']}"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _paths(directory: Path) -> list[Path]:
    """Checkpoints, newest first. Files of other names, such as a user's copies, are not among them."""
    found = [path for path in directory.glob(f"*{SUFFIX}") if re.fullmatch("[0-9]+", path.stem)]
    return sorted(found, key=lambda path: int(path.stem), reverse=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
