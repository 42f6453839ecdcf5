"""Export of a policy to one file that runs without Prudence.

The file is a zip archive with two members. ``policy.stablehlo`` is the compiled ``Agent.act`` in evaluation, for one
environment, with its weights (``jax.export``). It has no weights that acting does not use, such as those of decoders,
heads, critics and privileged world models. The program takes the environment's own observations and returns its own
actions (:mod:`prudence.envs.interface`). ``policy.json`` describes inputs and outputs. examples/04_run_exported.py runs
the file.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Array

from prudence.cores.base import Agent
from prudence.deploy.policy import load_interface, load_run
from prudence.deploy.shipped import find_policy, output_directory
from prudence.envs.interface import Interface, OwnObservation

FORMAT_VERSION = 2
"""In format 1 observations and actions were the agent's: vectors, and actions in [-1, 1] or one-hot."""
PLATFORMS = ("cpu", "cuda")
PROGRAM, ABOUT = "policy.stablehlo", "policy.json"


@dataclass(frozen=True)
class ExportedPolicy:
    """An exported policy.

    Attributes:
        path: the file.
        size: size of the file in bytes.
        latency: median seconds of a decision by the exported program, on this machine.
        about: the content of ``policy.json``.
    """

    path: Path
    size: int
    latency: float
    about: dict[str, Any]


def export_run(directory: Path | str, out: Path | str | None = None, *, trust: bool = False) -> ExportedPolicy:
    """Exports the policy of a run's newest checkpoint.

    Args:
        directory: as for :func:`prudence.deploy.policy.load_run`.
        out: a file, or a directory for ``policy.zip``. By default it is the directory of the run, and
            :func:`prudence.deploy.shipped.output_directory` for a recorded policy.
        trust: calls the cost function that the checkpoint names, whatever it is.

    Raises:
        RunDirectoryError, CheckpointError, CheckpointMismatch, EnvError: as :func:`prudence.deploy.policy.load_run`.
        ImportError: flatbuffers is missing. JAX stores programs with it.
    """
    run, _ = find_policy(Path(directory))
    path = (output_directory(run) / "policy.zip" if out is None else Path(out)).absolute()
    config, agent, state, steps = load_run(directory, trust=trust)
    path = path / "policy.zip" if path.is_dir() else path
    interface = load_interface(directory, agent.spaces, trust=trust)
    exported = program(agent, state, interface)
    about = describe(agent, interface, exported) | {
        "agent": config.agent_name,
        "task": config.env.task,
        "steps": steps,
        "cost_limit": np.asarray(getattr(agent, "cost_limits", ())).tolist(),
    }
    _write(path, {ABOUT: json.dumps(about, indent=1).encode(), PROGRAM: bytes(exported.serialize())})
    return ExportedPolicy(path, path.stat().st_size, _latency(exported), about)


def program(agent: Agent, state: Any, interface: Interface, platforms: tuple[str, ...] = PLATFORMS) -> export.Exported:
    """The program ``(memory, observation, is_first, seed, step) -> (action, memory)``, exported for ``platforms``.

    ``memory`` is a list of arrays: the leaves of the agent's carry. They are zeros at the start of an episode. The
    other arguments have no axis of environments. Observations and actions are the environment's own, in 32 bits: the
    caller converts them from and to the environment's dtypes, and clips actions to their bounds. The program draws the
    same random numbers as :class:`prudence.deploy.policy.Policy` with ``seed`` at decision number ``step``, so both
    take the same actions.
    """
    memory, structure = jax.tree.flatten(agent.init_carry(1))

    def decide(
        memory: list[Array], observation: dict[str, Array], is_first: Array, seed: Array, step: Array
    ) -> tuple[Array, list[Array]]:
        carry = jax.tree.unflatten(structure, memory)
        seen = {own.name: own.encode(observation[own.name], jnp)[None] for own in _seen(agent, interface)}
        key = jax.random.fold_in(jax.random.key(seed), step)
        action, carry, _ = agent.act(state, carry, seen, is_first[None], key=key, mode="evaluate")
        return interface.action.decode(action[0], jnp), jax.tree.leaves(carry)

    struct, number = jax.ShapeDtypeStruct, jax.ShapeDtypeStruct((), jnp.uint32)
    observation = {own.name: struct(own.shape, _dtype(own)) for own in _seen(agent, interface)}
    like = [struct(leaf.shape, leaf.dtype) for leaf in memory]
    return export.export(jax.jit(decide), platforms=platforms)(like, observation, struct((), bool), number, number)


def _seen(agent: Agent, interface: Interface) -> list[OwnObservation]:
    """The environment's own observations that the policy needs."""
    return [own for own in interface.observations if own.name in agent.spaces.unprivileged]


def _dtype(own: OwnObservation) -> str:
    """The dtype in which the program takes an observation: JAX has no numbers of 64 bits by default."""
    if own.kind == "choices":
        return "int32"
    return "uint8" if own.kind == "picture" and own.dtype == "uint8" else "float32"


def describe(agent: Agent, interface: Interface, exported: export.Exported) -> dict[str, Any]:
    """Describes the inputs and outputs of an exported program in JSON-able values.

    ``observation`` and ``action`` are the environment's own. ``action_repeat`` is how many of its steps each action is
    for.
    """
    spaces, memory, action = agent.spaces, jax.tree.leaves(agent.init_carry(1)), interface.action
    return {
        "format": FORMAT_VERSION,
        "observation": {own.name: [list(own.shape), _dtype(own)] for own in _seen(agent, interface)},
        "action": {
            "shape": list(action.shape),
            "dtype": action.dtype,
            "low": np.reshape(action.low, action.shape).tolist(),
            "high": np.reshape(action.high, action.shape).tolist(),
        },
        "action_repeat": interface.action_repeat,
        "memory": [[list(leaf.shape), leaf.dtype.name] for leaf in memory],
        "costs": list(spaces.costs),
        "platforms": list(exported.platforms),
        "versions": {name: metadata.version(name) for name in ("prudence-rl", "jax", "jaxlib", "numpy")},
    }


def _latency(exported: export.Exported, repeats: int = 200) -> float:
    """Median seconds of a call. The first call compiles and does not count."""
    call = jax.jit(exported.call)
    memory, observation, *_ = jax.tree.unflatten(exported.in_tree, exported.in_avals)[0]

    def zeros_like(tree: Any) -> Any:
        return jax.tree.map(lambda aval: np.zeros(aval.shape, aval.dtype), tree)

    memory, observation, seconds = zeros_like(memory), zeros_like(observation), []
    for step in range(repeats + 1):
        start = time.perf_counter()
        action, memory = call(memory, observation, np.array(step == 0), np.uint32(0), np.uint32(step))
        action.block_until_ready()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def _write(path: Path, members: dict[str, bytes]) -> None:
    """Writes a zip archive atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    os.replace(partial, path)
