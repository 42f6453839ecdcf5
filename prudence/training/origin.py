"""The start of a run: its directory, and the run from which it may be copied."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from typing import Any

from prudence.envs import registry
from prudence.loops import MixedLoop, OfflineLoop, ReplayLoop, RolloutLoop
from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.config import ConfigError, config_from, differences, read_config, write_config
from prudence.runs.directory import RunDirectory
from prudence.runs.metrics import read_metrics
from prudence.runs.provenance import FILE as PROVENANCE

_LEARNS = {
    OfflineLoop: "learns offline, from a data set",
    MixedLoop: "goes on online from an offline run",
    ReplayLoop: "learns in an environment, from its replay",
    RolloutLoop: "learns in an environment, from rollouts",
}


def claim(run: RunDirectory, config: RunConfig, origin: RunDirectory | None = None) -> None:
    """Writes the configuration, or checks that the run in the directory has the same one.

    The length may differ, so that a run can be extended.

    Args:
        origin: the run from which a new run is copied.

    Raises:
        ConfigError: the directory has a run with another configuration, or a run that lost its checkpoints.
    """
    if checkpoint.latest(run.checkpoints) is None:
        # A run that never reached its first checkpoint starts again. A failed first attempt does not count as a run.
        _refuse_lost_checkpoints(run, config, origin)
        write_config(run.config, config)
        return
    saved = read_config(run.config, RunConfig) if run.exists else _config_of_checkpoint(run)
    extended = dataclasses.replace(saved, loop=saved.loop.continued(config.loop))
    if extended != config:
        raise ConfigError(
            f"{run.path} has a run with another configuration:\n  {differences(extended, config)}\nRepeat its command "
            "to resume it. Name another directory with --out to train this one, or begin anew with --restart"
        )
    write_config(run.config, config)


def _config_of_checkpoint(run: RunDirectory) -> RunConfig:
    """The configuration of a run whose ``config.json`` is lost."""
    saved = checkpoint.read_meta(run.checkpoints).get(checkpoint.CONFIG)
    if saved is None:
        raise ConfigError(
            f"{run.path} has checkpoints, but no config.json that says of what: put it back to resume the run, or "
            "begin anew with --restart"
        )
    return config_from(saved, RunConfig)


def _refuse_lost_checkpoints(run: RunDirectory, config: RunConfig, origin: RunDirectory | None) -> None:
    """Refuses to overwrite a run without checkpoints whose metrics go on after its first checkpoint was due."""
    found = run.metrics.read_bytes() if run.metrics.exists() else b""
    if origin is not None and origin.metrics.exists() and origin.metrics.read_bytes().startswith(found):
        return  # The copying was interrupted. The original is whole.
    noted = run.saved.exists()
    if not noted and not run.metrics.exists() and not any(run.replay.glob("*.chunk")):
        return
    loop = _saved_or(run, config).loop
    steps = sorted({row["step"] for row in read_metrics(run.metrics)}) if run.metrics.exists() else [float(loop.length)]
    # The iteration that passes the mark writes its metrics before its checkpoint. A second one comes after it.
    passed = [step for step in steps if loop.checkpoint_every and step >= loop.checkpoint_every]
    if noted or len(passed) > 1 or (steps and steps[-1] >= loop.length):
        what = f"metrics up to step {steps[-1]:,.0f}" if run.metrics.exists() and steps else "experience (replay/)"
        raise ConfigError(
            f"{run.path} has {what}, but no checkpoint to go on from: {run.checkpoints} was moved or deleted, or the "
            "run was killed before its first checkpoint. Put the checkpoints back to resume the run. Repeat the "
            "command with --restart (in Python: restart=True) to delete what is left and begin anew, or name another "
            "directory with --out"
        )


def _saved_or(run: RunDirectory, config: RunConfig) -> RunConfig:
    try:
        return read_config(run.config, RunConfig) if run.exists else config
    except ConfigError:
        return config


def check_restart(run: RunDirectory, config: RunConfig, origin: RunDirectory | None = None) -> None:
    """Checks that a run that begins anew can be copied from ``origin``, since what is deleted is gone.

    Raises:
        ConfigError: the run would be deleted before it is copied from, or it cannot start from ``origin``.
    """
    if origin is not None:
        if origin.path.resolve() == run.path.resolve():
            raise ConfigError(f"{run.path} cannot start from itself and begin anew: omit --restart or --start-from")
        _require_origin(origin, config)


def goes_online(origin: RunDirectory, config: RunConfig) -> bool:
    """Whether a run with ``config`` goes on in an environment from the offline run ``origin``."""
    offline = isinstance(read_config(origin.config, RunConfig).loop, OfflineLoop)
    return offline and isinstance(config.loop, MixedLoop)


def take_over(origin: RunDirectory, run: RunDirectory, config: RunConfig, meanwhile: contextlib.ExitStack) -> None:
    """Copies experience, metrics and provenance of ``origin`` to ``run``, which has no checkpoint yet.

    A run in an environment that goes on from an offline one begins its own metrics.

    Args:
        origin: the run to copy.
        run: the new run.
        config: the configuration of the new run.
        meanwhile: holds the lock of ``origin``. No other process can then train it, so its checkpoint and its replay
            belong together.

    Raises:
        ConfigError: ``origin`` has no checkpoint, or its configuration does not allow the copy.
    """
    _require_origin(origin, config)
    meanwhile.enter_context(origin.lock())
    if origin.replay.exists():
        shutil.copytree(origin.replay, run.replay, dirs_exist_ok=True)
    for name in (PROVENANCE,) if goes_online(origin, config) else (origin.metrics.name, PROVENANCE):
        shutil.copy(origin.path / name, run.path / name)


def _require_origin(origin: RunDirectory, config: RunConfig) -> None:
    """Refuses an ``origin`` from which a run with ``config`` cannot start."""
    if not origin.exists or checkpoint.latest(origin.checkpoints) is None:
        raise ConfigError(f"there is no run with a checkpoint in {origin.path} to start from")
    source = read_config(origin.config, RunConfig)
    if goes_online(origin, config) and type(source.agent) is type(config.agent):
        return _require_data(origin, source, config)
    if type(source.agent) is not type(config.agent):
        raise ConfigError(f"{origin.path} is a run of {source.agent_name}: {config.agent_name} cannot start from it")
    if type(source.loop) is not type(config.loop):
        raise ConfigError(
            f"{origin.path} {_LEARNS[type(source.loop)]}, and this run {_LEARNS[type(config.loop)]}: a run in an "
            "environment can start from an offline one (--start-from without --dataset), and otherwise from one that "
            "learns as it does. To train the run itself for longer, repeat its command with more steps"
        )
    kept: dict[str, tuple[Any, Any]] = {"env": (source.env, config.env)}
    for name in ("num_envs", "updates_per_decision", "prefill"):
        kept[f"loop.{name}"] = getattr(source.loop, name, None), getattr(config.loop, name, None)
    changed = [name for name, (there, here) in kept.items() if there != here]
    if changed:
        raise ConfigError(
            f"a run that starts from {origin.path} must have the same {', '.join(changed)}, because it continues with "
            "the experience and the number of gradient steps of that run"
        )


def _require_data(origin: RunDirectory, source: RunConfig, config: RunConfig) -> None:
    """Refuses to go on from an offline run with other data, another robot, or decisions of another length."""
    assert isinstance(source.loop, OfflineLoop)
    assert isinstance(config.loop, MixedLoop)
    # Two robots may have observations and actions of the same shapes.
    there, here = (registry.find_suite(env.task).robot(env.task) for env in (source.env, config.env))
    if there is not None and here is not None and there != here:
        raise ConfigError(
            f"{origin.path} has learned how a {there} moves, and {config.env.task} has a {here}, whose sensors and "
            f"actions mean something else: go on in a task of the {there}"
        )
    if source.loop.digest != config.loop.digest:
        raise ConfigError(
            f"{origin.path} learned from the data set {source.loop.dataset} (digest {source.loop.digest[:12]}), and "
            f"not from {config.loop.dataset} (digest {config.loop.digest[:12]}): go on with the data of that run"
        )
    if source.env.action_repeat != config.env.action_repeat:
        raise ConfigError(
            f"a decision lasts {source.env.action_repeat} steps in the data of {origin.path}, and "
            f"{config.env.action_repeat} here: give --env.action-repeat {source.env.action_repeat}"
        )
