"""The start of a run: its directory, and the run from which it may be copied."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from typing import Any

from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.config import ConfigError, read_config, write_config
from prudence.runs.directory import RunDirectory
from prudence.runs.provenance import FILE as PROVENANCE


def claim(run: RunDirectory, config: RunConfig) -> None:
    """Writes the configuration, or checks that the run in the directory has the same one.

    The number of steps may differ, so that a run can be extended.

    Raises:
        ConfigError: the directory has a run with another configuration.
    """
    if not run.exists or checkpoint.latest(run.checkpoints) is None:
        # Without a checkpoint nothing can be resumed or lost. A failed first attempt does not count as a run.
        write_config(run.config, config)
        return
    saved = read_config(run.config, RunConfig)
    extended = dataclasses.replace(saved, loop=dataclasses.replace(saved.loop, steps=config.loop.steps))
    if extended != config:
        changed = ", ".join(_differences(extended, config))
        raise ConfigError(
            f"{run.path} has a run with another configuration ({changed}). Repeat its command to resume it, "
            "or name another directory with --out"
        )
    write_config(run.config, config)


def take_over(origin: RunDirectory, run: RunDirectory, config: RunConfig, meanwhile: contextlib.ExitStack) -> None:
    """Copies experience, metrics and provenance of ``origin`` to ``run``, which has no checkpoint yet.

    Args:
        origin: the run to copy.
        run: the new run.
        config: the configuration of the new run.
        meanwhile: holds the lock of ``origin``. No other process can then train it, so its checkpoint and its replay
            belong together.

    Raises:
        ConfigError: ``origin`` has no checkpoint, or its configuration does not allow the copy.
    """
    if not origin.exists or checkpoint.latest(origin.checkpoints) is None:
        raise ConfigError(f"there is no run with a checkpoint in {origin.path} to start from")
    source = read_config(origin.config, RunConfig)
    if type(source.loop) is not type(config.loop) or type(source.agent) is not type(config.agent):
        raise ConfigError(f"{origin.path} is a run of {source.agent_name}: {config.agent_name} cannot start from it")
    kept: dict[str, tuple[Any, Any]] = {"env": (source.env, config.env)}
    for name in ("num_envs", "updates_per_decision", "prefill"):
        kept[f"loop.{name}"] = getattr(source.loop, name, None), getattr(config.loop, name, None)
    changed = [name for name, (there, here) in kept.items() if there != here]
    if changed:
        raise ConfigError(
            f"a run that starts from {origin.path} must have the same {', '.join(changed)}, because it continues with "
            "the experience and the number of gradient steps of that run"
        )
    meanwhile.enter_context(origin.lock())
    if origin.replay.exists():
        shutil.copytree(origin.replay, run.replay, dirs_exist_ok=True)
    for name in (origin.metrics.name, PROVENANCE):
        shutil.copy(origin.path / name, run.path / name)


def _differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    for f in dataclasses.fields(a):
        x, y, name = getattr(a, f.name), getattr(b, f.name), f"{path}{f.name}"
        if dataclasses.is_dataclass(x) and type(x) is type(y):
            yield from _differences(x, y, f"{name}.")
        elif x != y:
            yield f"{name}: {x} there, {y} now"
