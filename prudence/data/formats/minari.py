"""Minari's datasets (minari.farama.org), with costs in ``infos``, which is a convention and no part of its format."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from prudence.data.dataset import Dataset
from prudence.data.formats.common import (
    ImportOptions,
    Opened,
    as_costs,
    checked_costs,
    cost_names,
    costs_of,
    episode,
    needed,
    require_finite,
    unit_actions,
)
from prudence.data.manifest import DatasetError
from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition

log = logging.getLogger(__name__)

_COST = "cost"
_EPISODES_AT_ONCE = 20


@contextlib.contextmanager
def open_file(source: str, options: ImportOptions) -> Iterator[Opened]:
    """Opens a dataset by its id, or by the directory that has its ``data``.

    Raises:
        DatasetError: it is not on this machine, or has other spaces than Prudence reads.
    """
    minari = needed("minari")
    data = _load(minari, source, options)
    names = _Names(data.observation_space, options.observation_name)
    if data.storage.jpeg_encoding and any(space.dtype == np.uint8 for space in names.spaces.values()):
        log.warning("%s has pictures as JPEG, which is lossy: they are not quite those that the policy saw", source)
    first = next(iter(data.iterate_episodes([data.episode_indices[0]])), None) if data.total_episodes else None
    if first is None:
        raise DatasetError(f"{source} has no episodes")
    keys = _cost_keys(source, first.infos or {}, options)
    recorded = None if keys is None else _recorded(f"{source}: episode 0", first, keys)
    names_of_costs = cost_names(1 if recorded is None else recorded.shape[1])
    if keys is not None and len(keys) > 1:
        names_of_costs = keys
    yield Opened(
        Spaces(names.specs, _action_spec(source, data.action_space), names_of_costs),
        _episodes(source, data, names, keys, options),
    )


def export(data: Dataset, to: str) -> Path:
    """Writes a dataset to Minari's local datasets, or to a path that begins with ``.`` or ``/``. Returns its directory.

    Raises:
        DatasetError: the name has no version, or is taken.
    """
    minari = needed("minari")
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    path = _place(minari, to)
    partial = path.with_name(f".{path.name}.partial")  # Minari does not list hidden directories.
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / "data").parent.mkdir(parents=True)
        storage = MinariStorage.new(
            partial / "data", _observation_space(data.spaces), _action_space(data.spaces), jpeg_encoding=False
        )
        storage.update_metadata(
            {
                "dataset_id": to if _is_id(to) else path.name,
                "minari_version": minari.__version__,
                "description": f"{data.manifest.note} Exported from Prudence; costs are in infos.".strip(),
                "licence": data.manifest.licence or "unknown",
            }
        )
        for start in range(0, len(data.episodes), _EPISODES_AT_ONCE):
            indices = range(start, min(start + _EPISODES_AT_ONCE, len(data.episodes)))
            storage.update_episodes([EpisodeBuffer(id=i, **_buffer(data, i)) for i in indices])
        os.rename(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


class _Names:
    """Prudence's names of Minari's observations: nested names are joined by ``_``."""

    def __init__(self, space: gym.Space, unnamed: str):
        self.spaces: dict[str, gym.spaces.Box] = {}
        self._paths: dict[str, tuple[str, ...]] = {}
        self._add(space, (), unnamed)

    def _add(self, space: gym.Space, path: tuple[str, ...], unnamed: str) -> None:
        name = "_".join(path) or unnamed
        if isinstance(space, gym.spaces.Dict):
            for key, inner in space.spaces.items():
                self._add(inner, (*path, key), unnamed)
        elif not isinstance(space, gym.spaces.Box):
            raise DatasetError(f"observation {name} is a {type(space).__name__}, and only Box and Dict are read")
        else:
            picture = space.dtype == np.uint8 and len(space.shape) == 3
            if picture and space.shape[0] in (1, 3) and space.shape[2] not in (1, 3):
                raise DatasetError(
                    f"observation {name} is a picture [channels, height, width] {list(space.shape)}: transpose it to "
                    "[height, width, channels] before (numpy.moveaxis(picture, -3, -1))"
                )
            self.spaces[name], self._paths[name] = space, path

    @property
    def specs(self) -> tuple[tuple[str, ObservationSpec], ...]:
        kind = lambda space: "uint8" if space.dtype == np.uint8 else "float32"
        return tuple((name, ObservationSpec(tuple(space.shape), kind(space))) for name, space in self.spaces.items())

    def __call__(self, observations: Any) -> dict[str, np.ndarray]:
        found = {}
        for name, path in self._paths.items():
            value = observations
            for key in path:
                value = value[key]
            found[name] = np.asarray(value)
        return found


def _episodes(
    source: str, data: Any, names: _Names, keys: tuple[str, ...] | None, options: ImportOptions
) -> Iterator[Transition]:
    for number, found in enumerate(data.iterate_episodes(data.episode_indices[: options.limit])):
        where = f"{source}: episode {number}"
        length, observation = len(found.rewards), names(found.observations)
        if not length:
            raise DatasetError(f"{where} has no decision: leave it out")
        for name, values in observation.items():
            if len(values) != length + 1:
                raise DatasetError(f"{where}: {name} has {len(values)} rows, and {length} decisions need {length + 1}")
            require_finite(f"{where}: {name}", values)
        require_finite(f"{where}: rewards", found.rewards)
        terminated = bool(found.terminations[-1])
        if not terminated and not found.truncations[-1]:
            if options.drop_incomplete:
                log.warning("%s does not end: it is left out", where)
                continue
            log.warning("%s does not end: it is kept as a truncated one (--drop-incomplete leaves it out)", where)
        recorded = None if keys is None else _recorded(where, found, keys)
        costs = costs_of(options, recorded, {name: values[1:] for name, values in observation.items()})
        actions = _actions(where, data.action_space, found.actions)
        yield episode(observation, actions, found.rewards, costs, terminated)


def _load(minari: Any, source: str, options: ImportOptions) -> Any:
    place = Path(source) / "data"
    try:
        if place.is_dir():
            return minari.MinariDataset(place)
        return minari.load_dataset(source, download=options.download)
    except FileNotFoundError as error:
        known = ", ".join(minari.list_local_datasets()) or "none"
        raise DatasetError(
            f"{source} is no Minari dataset on this machine. There are: {known}. Get it with "
            f"`minari download {source}`, or give --download"
        ) from error
    except (ValueError, KeyError) as error:
        raise DatasetError(f"{source} cannot be read by Minari: {error}") from error


def _cost_keys(source: str, infos: Mapping[str, Any], options: ImportOptions) -> tuple[str, ...] | None:
    """Where the costs are in ``infos``; None if they are computed or there are none."""
    if options.no_cost or options.cost_rule is not None:
        return None
    if options.cost_key is not None or _COST in infos:
        key = options.cost_key or _COST
        keys = (key,) if key in infos else ()
    else:
        keys = tuple(sorted(key for key in infos if key.startswith("cost_")))
    if not keys:
        raise DatasetError(
            f"{source} has no costs in infos, which has {', '.join(sorted(infos)) or 'nothing'}: say where they are "
            "(--cost-key), how they are computed (--cost-function), or that there are none (--no-cost)"
        )
    return keys


def _recorded(where: str, found: Any, keys: tuple[str, ...]) -> np.ndarray:
    """Costs ``[T, C]``. An array of T + 1 has the cost of the reset first, which is none."""
    length, columns = len(found.rewards), []
    for key in keys:
        values = np.asarray((found.infos or {}).get(key, ()))
        if len(values) == length + 1:
            if np.nan_to_num(values[0]).any():
                raise DatasetError(f"{where}: infos/{key} begins with {values[0]}, and a reset costs nothing")
            values = values[1:]
        if len(values) != length:
            raise DatasetError(
                f"{where}: infos/{key} has {len(values)} rows, and {length} decisions have {length} costs, or "
                f"{length + 1} with the reset's"
            )
        columns.append(as_costs(values, length))
    return checked_costs(f"{where}: infos/{', '.join(keys)}", np.concatenate(columns, axis=1))


def _action_spec(source: str, space: gym.Space) -> ActionSpec:
    if isinstance(space, gym.spaces.Discrete):
        return ActionSpec("discrete", int(space.n))
    if isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and np.isfinite([space.low, space.high]).all():
        return ActionSpec("continuous", space.shape[0])
    raise DatasetError(f"{source}: actions are {space}, and only Discrete and bounded Box [A] are read")


def _actions(where: str, space: gym.Space, actions: Any) -> np.ndarray:
    if isinstance(space, gym.spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[np.asarray(actions, int) - int(space.start)]
    assert isinstance(space, gym.spaces.Box)
    middle, half = (space.high + space.low) / 2, (space.high - space.low) / 2
    return unit_actions(
        f"{where}: actions, scaled from the bounds of their space", (np.asarray(actions) - middle) / half
    )


def _is_id(to: str) -> bool:
    return not to.startswith((".", "/", "~"))


def _place(minari: Any, to: str) -> Path:
    from minari.dataset.minari_dataset import DATASET_ID_RE

    path = Path(to).expanduser()
    found = DATASET_ID_RE.fullmatch(to if _is_id(to) else path.name)
    if found is None or found.group("version") is None:
        raise DatasetError(
            f"{to} is no name of a Minari dataset: give an id such as robot/reach-v0, or a path such as ./reach-v0"
        )
    if _is_id(to):
        from minari.storage.datasets_root_dir import get_dataset_path

        path = get_dataset_path(to)
    if path.exists():
        raise DatasetError(f"{path} exists already: name another version")
    return path


def _observation_space(spaces: Spaces) -> gym.Space:
    box = lambda spec: (
        gym.spaces.Box(0, 255, spec.shape, np.uint8)
        if spec.dtype == "uint8"
        else gym.spaces.Box(-np.inf, np.inf, spec.shape, np.float32)
    )
    return gym.spaces.Dict({name: box(spec) for name, spec in spaces.observation})


def _action_space(spaces: Spaces) -> gym.Space:
    size = spaces.action.size
    return gym.spaces.Discrete(size) if spaces.action.kind == "discrete" else gym.spaces.Box(-1, 1, (size,), np.float32)


def _buffer(data: Dataset, index: int) -> dict[str, Any]:
    rows = data.episode(index)
    actions = np.asarray(rows.prev_action)[1:]
    ends, terminal = np.asarray(rows.is_last)[1:], np.asarray(rows.is_terminal)[1:]
    names = data.spaces.costs
    keys = (_COST,) if len(names) == 1 else tuple(n if n.startswith("cost_") else f"cost_{n}" for n in names)
    return {
        "observations": dict(rows.observation),
        "actions": actions.argmax(1) if data.spaces.action.kind == "discrete" else actions,
        "rewards": np.asarray(rows.reward)[1:],
        "terminations": terminal,
        "truncations": ends & ~terminal,
        "infos": {key: np.asarray(rows.cost)[:, i] for i, key in enumerate(keys)},
    }
