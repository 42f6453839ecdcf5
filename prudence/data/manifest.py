"""``dataset.json``: what a dataset holds, and where it comes from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np

from prudence.data.spaces import spaces_from_json, spaces_to_json
from prudence.types import Spaces

FORMAT_VERSION = 1
FILE = "dataset.json"
_LIBRARIES = ("prudence-rl", "numpy", "h5py", "minari")


class DatasetError(ValueError):
    """A dataset cannot be read, written or used as asked. The message says what to do."""


class Episode(NamedTuple):
    """A whole episode of a dataset.

    Attributes:
        first_row: the row of its first observation. Its T decisions lie in the T rows after it.
        length: T, number of decisions.
        episode_return: sum of its rewards.
        costs: ``[C]`` sums of its costs.
        terminated: whether it ended by termination, and not by truncation.
        source: index into the dataset's sources.
    """

    first_row: int
    length: int
    episode_return: float
    costs: tuple[float, ...]
    terminated: bool
    source: int

    @property
    def stop(self) -> int:
        """The row after its last."""
        return self.first_row + self.length + 1


@dataclass(frozen=True)
class Source:
    """Where a part of a dataset's episodes comes from.

    Attributes:
        name: what tables and figures call it, such as ``safe``.
        command: the command that made it.
        run: the run whose policy acted, or the file that was imported.
        step: the step of the policy's checkpoint.
        mode: how it acted: ``evaluate``, ``train``, ``random``, ``scripted``, ``replay`` or ``imported``.
        commit: the commit of Prudence that made it.
        seed: seed of the episodes.
    """

    name: str
    command: str = ""
    run: str | None = None
    step: int | None = None
    mode: str | None = None
    commit: str | None = None
    seed: int | None = None


def _versions() -> dict[str, str]:
    return {d.metadata["Name"]: d.version for name in _LIBRARIES for d in metadata.distributions(name=name)}


@dataclass(frozen=True)
class Manifest:
    """The content of ``dataset.json``.

    Attributes:
        spaces: of its rows.
        env: the environment's configuration as JSON; None if nobody knows it.
        interface: the mapping of the environment's own observations and actions, as JSON
            (:meth:`prudence.envs.interface.Interface.content`), which a policy from this data takes over; None if
            nobody knows it.
        episodes: in the order of their rows.
        sources: where the episodes come from.
        digest: of all rows; see :func:`digest_of`.
        versions: of the libraries that wrote it.
        licence: of the data; None if nobody said.
        note: what a reader must know of the data.
    """

    spaces: Spaces
    env: dict[str, Any] | None
    episodes: tuple[Episode, ...]
    sources: tuple[Source, ...]
    digest: str
    licence: str | None = None
    note: str = ""
    interface: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=_versions)

    def to_json(self) -> str:
        content = {
            "format": FORMAT_VERSION,
            "spaces": spaces_to_json(self.spaces),
            "env": self.env,
            "interface": self.interface,
            "sources": [asdict(source) for source in self.sources],
            "digest": self.digest,
            "versions": self.versions,
            "licence": self.licence,
            "note": self.note,
        }
        # An episode a line, for people who look into the file.
        head = json.dumps(content, indent=1).removesuffix("\n}")
        episodes = ",\n".join(f"  {json.dumps(episode)}" for episode in self.episodes)
        return f'{head},\n "episodes": [\n{episodes}\n ]\n}}\n'

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Raises DatasetError: it is not what :meth:`to_json` writes, or what another version writes."""
        try:
            content = json.loads(text)
            version = content["format"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DatasetError(f"it is no manifest of a dataset ({error!r})") from error
        if version != FORMAT_VERSION:
            raise DatasetError(
                f"it has format {version}, and this version of prudence reads format {FORMAT_VERSION}; it was written "
                f"with {content.get('versions')}: use that version, or make the dataset anew"
            )
        try:
            manifest = cls(
                spaces=spaces_from_json(content["spaces"]),
                env=content["env"],
                episodes=tuple(_episode(entry) for entry in content["episodes"]),
                sources=tuple(Source(**entry) for entry in content["sources"]),
                digest=content["digest"],
                licence=content["licence"],
                note=content["note"],
                interface=content.get("interface"),  # Older datasets do not have it.
                versions=content["versions"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"it is damaged or was changed ({error!r})") from error
        manifest._check()
        return manifest

    def _check(self) -> None:
        row = 0
        for number, episode in enumerate(self.episodes):
            if episode.first_row != row or episode.length < 1 or not 0 <= episode.source < len(self.sources):
                raise DatasetError(f"its episode {number} does not fit ({episode}): the file was changed")
            row = episode.stop


def digest_of(chunks: Iterable[tuple[str, bytes, np.ndarray]]) -> str:
    """SHA-256 over the name, the header and the checksums ``[rows]`` of every chunk, in the order of their rows."""
    digest = hashlib.sha256()
    for name, header, checksums in chunks:
        digest.update(name.encode())
        digest.update(header)
        digest.update(np.ascontiguousarray(checksums, "<u4").tobytes())
    return digest.hexdigest()


def _episode(entry: Any) -> Episode:
    first_row, length, episode_return, costs, terminated, source = entry
    return Episode(int(first_row), int(length), float(episode_return), tuple(costs), bool(terminated), int(source))
