"""Importing and exporting datasets of other projects (prudence/data/formats)."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from prudence.data.dataset import Dataset
from prudence.data.dataset_writer import DatasetWriter, check_vacant
from prudence.data.formats import d4rl, dsrl, minari
from prudence.data.formats.common import CostRule, ImportOptions
from prudence.data.manifest import DatasetError, Source
from prudence.data.spaces import interface, spaces_in_words
from prudence.envs.base import EnvConfig
from prudence.envs.interface import Interface
from prudence.envs.vector import make_vector
from prudence.runs.config import to_json
from prudence.runs.provenance import describe
from prudence.types import Spaces

log = logging.getLogger(__name__)

ImportFormat = Literal["dsrl", "d4rl", "minari"]
ExportFormat = Literal["dsrl", "minari"]
_READERS = {"dsrl": dsrl.open_file, "d4rl": d4rl.open_file, "minari": minari.open_file}
_WRITERS = {"dsrl": dsrl.export, "minari": minari.export}


def import_dataset(
    source: str,
    out: Path | str,
    *,
    format: ImportFormat,
    env: EnvConfig | None = None,
    options: ImportOptions | None = None,
    name: str | None = None,
    licence: str | None = None,
    note: str = "",
    progress: Callable[[int], None] | None = None,
) -> Dataset:
    """Makes a dataset of another project's file. It has raw steps: their action repeat is 1.

    Args:
        source: a file, or the id of a Minari dataset.
        out: directory of the new dataset.
        format: whose file it is.
        env: the environment that the data are of. Its spaces must be those of the file, whose costs get its names.
        options: how to read it.
        name: of the source; by default that of the file.
        licence, note: for the manifest.
        progress: is called with the number of episodes so far.

    Raises:
        DatasetError: the file is damaged, no such file, or not of this environment; or ``out`` exists.
        EnvError: the environment cannot be made.
    """
    check_vacant(Path(out))
    told = describe()
    about = Source(
        name or Path(source).stem,
        command=told["command"],
        run=Path(source).name,
        mode="imported",
        commit=told["commit"],
    )
    with _READERS[format](source, options or ImportOptions()) as opened:
        spaces, known = opened.spaces, {}
        if env is not None:
            spaces, own = _of_environment(source, opened.spaces, env)
            known = {"env": to_json(env), "interface": own.content()}
        with DatasetWriter(out, spaces, **known, licence=licence, note=note) as writer:
            index = writer.source(about)
            for number, rows in enumerate(opened.episodes, start=1):
                writer.add(rows, index)
                if progress is not None:
                    progress(number)
    data = Dataset(out)
    if not any(cost for episode in data.episodes for cost in episode.costs):
        log.warning("%s: all costs are 0, so that a safe agent learns nothing from them", out)
    return data


def export_dataset(directory: Path | str, to: str, *, format: ExportFormat) -> Path:
    """Writes a dataset in another project's format. Returns where it is.

    Raises:
        DatasetError: the format cannot hold it, or ``to`` exists.
    """
    return _WRITERS[format](Dataset(directory), to)


def find_cost_rule(name: str) -> CostRule:
    """The function ``module:function`` that computes costs from observations.

    Raises:
        DatasetError: there is no such function.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise DatasetError(
            f"there is no cost function {name!r} ({error}): name a function of the observations, as module:function"
        ) from error


def _of_environment(source: str, found: Spaces, env: EnvConfig) -> tuple[Spaces, Interface]:
    """The environment's spaces, if the file's are the same but for the names of costs and what is privileged; and its
    own observations and actions."""
    with contextlib.closing(make_vector(env, 1, seed=0)) as envs:
        spaces, own = envs.spaces, envs.interface
    named = replace(found, privileged=spaces.privileged)
    if len(named.costs) == len(spaces.costs):
        named = replace(named, costs=spaces.costs)
    if interface(named) != interface(spaces):
        raise DatasetError(
            f"{source} has {spaces_in_words(found)}; {env.task} has {spaces_in_words(spaces)}. Name other observations "
            "(--obs), give the only one its name (--observation-name), or name another task. Data of raw steps have "
            "--action-repeat 1"
        )
    return spaces, own
