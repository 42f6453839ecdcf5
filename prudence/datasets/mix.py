"""Joining datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from prudence.data.dataset import Dataset
from prudence.data.dataset_writer import DatasetWriter, check_vacant
from prudence.data.manifest import DatasetError, Episode
from prudence.data.spaces import interface, spaces_in_words


def mix_datasets(
    datasets: Sequence[Path | str],
    out: Path | str,
    *,
    episodes: Sequence[int] | None = None,
    max_cost: float | None = None,
    min_return: float | None = None,
    seed: int = 0,
    note: str = "",
    progress: Callable[[int], None] | None = None,
) -> Dataset:
    """Joins datasets of one environment. It copies episodes, and keeps what is known of their sources.

    Args:
        datasets: directories.
        out: directory of the new dataset.
        episodes: how many of each, drawn without replacement; None takes all.
        max_cost: only episodes whose costs add up to at most this.
        min_return: only episodes whose return is at least this.
        seed: of the draw.
        note: for the manifest.
        progress: is called with the number of episodes so far.

    Raises:
        DatasetError: the datasets do not fit together, or have too few such episodes, or ``out`` exists.
    """
    check_vacant(Path(out))
    if not datasets:
        raise DatasetError("name at least one dataset to mix")
    numbers: Sequence[int | None] = [None] * len(datasets) if episodes is None else episodes
    if len(numbers) != len(datasets):
        raise DatasetError(
            f"--episodes has {len(numbers)} numbers, and there are {len(datasets)} datasets: give one for each"
        )
    opened = [Dataset(directory) for directory in datasets]
    _require_same_spaces(opened)
    env = _known(opened, lambda data: data.env)
    own = _known(opened, lambda data: data.manifest.interface)
    keep = lambda episode: _within(episode, max_cost, min_return)
    rng = np.random.default_rng(seed)
    chosen = [_choose(data, number, keep, rng) for data, number in zip(opened, numbers, strict=True)]
    licences = sorted({data.manifest.licence for data in opened if data.manifest.licence})
    spaces = replace(opened[0].spaces, episode_steps=_longest([data.spaces.episode_steps for data in opened]))
    licence = ", ".join(licences) or None
    with DatasetWriter(out, spaces, env=env, interface=own, licence=licence, note=note) as writer:
        for data, indices in zip(opened, chosen, strict=True):
            for index in indices:
                source = data.sources[data.episodes[index].source]
                writer.add(data.episode(index), writer.source(source))
                if progress is not None:
                    progress(len(writer.episodes))
    return Dataset(out)


def _within(episode: Episode, max_cost: float | None, min_return: float | None) -> bool:
    cheap = max_cost is None or sum(episode.costs) <= max_cost
    return cheap and (min_return is None or episode.episode_return >= min_return)


def _choose(data: Dataset, number: int | None, keep: Callable[[Episode], bool], rng: np.random.Generator) -> list[int]:
    held = [index for index, episode in enumerate(data.episodes) if keep(episode)]
    if number is None:
        return held
    if number > len(held):
        raise DatasetError(
            f"{data.directory} has {len(held)} such episodes (of {len(data.episodes)}), fewer than the {number} asked "
            "for: ask for fewer, or loosen --max-cost and --min-return"
        )
    return sorted(rng.choice(held, number, replace=False).tolist())


def _require_same_spaces(opened: Sequence[Dataset]) -> None:
    first = opened[0]
    for data in opened[1:]:
        if interface(data.spaces) != interface(first.spaces):
            raise DatasetError(
                f"{first.directory} and {data.directory} have different spaces: {spaces_in_words(first.spaces)}; and "
                f"{spaces_in_words(data.spaces)}. Mix datasets of the same observations, actions and costs"
            )


def _known(opened: Sequence[Dataset], fact: Callable[[Dataset], dict[str, Any] | None]) -> dict[str, Any] | None:
    """A fact about the environment that all datasets share, as far as they know it."""
    knowing = [data for data in opened if fact(data) is not None]
    for data in knowing[1:]:
        first, other = fact(knowing[0]) or {}, fact(data) or {}
        if other != first:
            keys = sorted(key for key in {*first, *other} if first.get(key) != other.get(key))
            differences = ", ".join(f"{key} ({first.get(key)} and {other.get(key)})" for key in keys)
            raise DatasetError(
                f"{knowing[0].directory} and {data.directory} are of different environments, by {differences}: mix "
                "datasets of one environment"
            )
    return fact(knowing[0]) if knowing else None


def _longest(lengths: Sequence[int | None]) -> int | None:
    known = [length for length in lengths if length is not None]
    return max(known) if len(known) == len(lengths) else None
