"""Recorded policies: the part of a run that acting needs, kept with a record.

``results/<record>/policies/seed-<seed>/`` is a directory like that of a run. It holds ``config.json``,
``provenance.json``, the recorded ``evaluation.json`` and a compressed checkpoint ``policy/<step>.ckpt``. It has no
optimiser states, no replay, and no networks that acting does not use.

There is no list of the parts that acting needs. Instead, the agent's ``act`` is traced, and also its ``preview`` if it
acts by plans. Arrays of the state that neither of them reads are left out.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax import export

from prudence.cores.base import Agent
from prudence.cores.dreamer.dreamer import Dreamer
from prudence.runs import checkpoint, provenance
from prudence.runs.checkpoint import CheckpointMismatch
from prudence.runs.directory import POLICIES, RunDirectory, RunDirectoryError
from prudence.runs.files import safe_name

LIMIT_MB = 2.0
"""Default size limit of a recorded policy, in 10⁶ bytes. It is small because records are kept in Git."""


def acting_parts(agent: Agent, state: Any) -> Any:
    """``state`` with None in place of every array that acting does not read.

    Acting is ``act`` in evaluation, and also ``preview`` for an agent that acts by plans. Both are traced, and
    everything that their results do not depend on is removed. The arrays that remain are the ones they read.
    """
    leaves, structure = jax.tree.flatten(state)
    arrays = [index for index, leaf in enumerate(leaves) if eqx.is_array(leaf)]
    # Even if it does not plan yet: a checkpoint is read into a fresh state, whose counters are 0.
    planner = agent if isinstance(agent, Dreamer) and agent.config.planning is not None else None

    def acting(some: list[Any], carry: Any, observation: Any, is_first: Any) -> Any:
        given = dict(zip(arrays, some, strict=True))
        full = jax.tree.unflatten(structure, [given.get(i, leaf) for i, leaf in enumerate(leaves)])
        key, other = jax.random.split(jax.random.key(0))
        found = agent.act(full, carry, observation, is_first, key=key, mode="evaluate")
        return found, None if planner is None else planner.preview(full, carry, observation, is_first, key=other)

    struct = jax.ShapeDtypeStruct
    observation = {name: struct((1, *s.shape), np.dtype(s.dtype)) for name, s in agent.spaces.unprivileged.items()}
    some, carry = jax.tree.map(lambda x: struct(x.shape, x.dtype), ([leaves[i] for i in arrays], agent.init_carry(1)))
    read = export.export(jax.jit(acting))(some, carry, observation, struct((1,), bool)).module_kept_var_idx
    dropped = {index for place, index in enumerate(arrays) if place not in read}
    return jax.tree.unflatten(structure, [None if i in dropped else leaf for i, leaf in enumerate(leaves)])


def write_policies(
    runs: Sequence[tuple[RunDirectory, Agent, Any]], record: Path, *, limit_mb: float = LIMIT_MB
) -> tuple[Path, ...]:
    """Writes the policy of each run into ``record / "policies"``. They replace earlier policies there.

    Args:
        runs: directory, agent and state of each run, from its newest checkpoint.
        limit_mb: size limit of each policy, in 10⁶ bytes.

    Raises:
        ValueError: a policy is larger. Nothing is changed then.
    """
    final, partial = record / POLICIES, record / f".{POLICIES}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        names = [_write(partial, *run, limit_mb) for run in runs]
        shutil.rmtree(final, ignore_errors=True)
        if names:
            partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return tuple(final / name for name in names)


def load_acting(path: Path, agent: Agent, expect: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Loads what acting reads of the agent's state (:func:`acting_parts`), with the checkpoint's ``meta``.

    Everything else comes from ``agent.init``. So a checkpoint may lack it, or have it in another form.

    Args:
        path: a directory of checkpoints, such as ``policy/``.
        expect: arguments of :func:`prudence.runs.checkpoint.check_compatible`.

    Raises:
        CheckpointError: there is no checkpoint, or no checkpoint can be read.
        CheckpointMismatch: as :func:`prudence.runs.checkpoint.load`, or the checkpoint lacks what acting reads.
    """
    fresh = agent.init(key=jax.random.key(0))
    read = acting_parts(agent, fresh)
    (state, _), meta = checkpoint.load(path, (read, None), expect=expect, partly=True)
    kept = checkpoint.leaf_paths(path)
    wanted = [
        f"[0]{jax.tree_util.keystr(p)}" for p, leaf in jax.tree_util.tree_leaves_with_path(read) if eqx.is_array(leaf)
    ]
    missing = [name for name in wanted if name not in kept]
    if missing:
        raise CheckpointMismatch(
            f"the policy in {path} lacks what acting reads: {', '.join(missing[:3])}. Another version of prudence "
            "wrote it: record its run again"
        )
    return eqx.combine(state, fresh), meta


def find_policy(directory: Path, name: str | None = None) -> tuple[RunDirectory, tuple[str, ...]]:
    """Finds the run or recorded policy of a directory. Also returns the names of all policies if it is a record.

    Args:
        directory: a run, a recorded policy, or a record (``results/<name>``) with policies.
        name: name of a policy of the record: ``seed-2``, or ``2``. By default the first.

    Raises:
        RunDirectoryError: the record has no policies or no policy ``name``; or ``name`` is given, but the directory is
            not a record.
    """
    record = RunDirectory(directory)
    if not record.is_record:
        if name is not None:
            raise RunDirectoryError(f"{directory} is not a record, so it has no policy '{name}': omit --policy")
        return record, ()
    names = tuple(sorted(p.name for p in record.policies.glob("*") if RunDirectory(p).ships))
    if not names:
        raise RunDirectoryError(
            f"{directory} is a record without policies: evaluate a run, or record its runs again with `prudence record`"
        )
    chosen = names[0] if name is None else next((n for n in names if name in (n, n.removeprefix("seed-"))), None)
    if chosen is None:
        raise RunDirectoryError(f"{directory} has no policy '{name}': choose from {', '.join(names)}")
    return RunDirectory(record.policies / chosen), names


def output_directory(run: RunDirectory) -> Path:
    """Directory for files that are made from a run: the run directory itself.

    For a recorded policy it is ``runs/<record>-<policy>-evaluation``, because records are not changed.
    """
    if not run.ships:
        return run.path
    path = run.path.resolve()
    names = [path.name] if path.parent.name != POLICIES else [path.parent.parent.name, path.name]
    return Path("runs") / "-".join([*names, "evaluation"])


def require_trainable(run: RunDirectory) -> None:
    """Refuses directories in which nothing can be trained.

    Raises:
        RunDirectoryError: the directory is a recorded policy or a record.
    """
    if run.ships or run.is_record:
        what = "a policy, without optimiser and replay" if run.ships else "a record of runs"
        raise RunDirectoryError(
            f"{run.path} holds {what}, so training cannot continue there. Name the run from which it was recorded, or "
            "another directory. `prudence evaluate` and `prudence export` accept it"
        )


def _write(policies: Path, run: RunDirectory, agent: Agent, state: Any, limit_mb: float) -> str:
    """Writes one policy, and returns its name."""
    meta = checkpoint.read_meta(run.checkpoints)
    seed = safe_name(str(json.loads(run.config.read_text()).get("seed", 0)))
    taken = len(list(policies.glob(f"seed-{seed}*")))
    target = RunDirectory(policies / (f"seed-{seed}" + f"-{taken + 1}" * bool(taken)))
    about = {name: meta[name] for name in ("task", "agent", "spaces", checkpoint.INTERFACE) if name in meta}
    path = checkpoint.save(target.policy, meta["step"], (acting_parts(agent, state), None), about, compress=True)
    size = path.stat().st_size / 1e6
    if size > limit_mb:
        raise ValueError(
            f"the policy of {run.path} takes {size:.1f} MB, more than {limit_mb:g}: give --policy-limit "
            f"{size + 0.1:.1f} to keep it anyway, or --no-policies to record without policies"
        )
    config = provenance.config_anywhere(json.loads(run.config.read_text()))
    target.config.write_text(json.dumps(config, indent=2) + "\n")
    if run.evaluation.exists():
        shutil.copy(run.evaluation, target.evaluation)
    (target.path / provenance.FILE).write_text(json.dumps(provenance.anywhere(run.path), indent=1) + "\n")
    return target.path.name
