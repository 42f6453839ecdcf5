"""A run is a directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

POLICIES = "policies"
RECORD = "result.json"


class RunDirectoryError(RuntimeError):
    """The directory is in use, or is not that of a run."""


@dataclass(frozen=True)
class RunDirectory:
    """Where the parts of a run lie; nothing is made until something is written."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation.json"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def replay(self) -> Path:
        return self.path / "replay"

    @property
    def videos(self) -> Path:
        return self.path / "videos"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def policy(self) -> Path:
        """A checkpoint of what acting needs, in the place of ``checkpoints``, if that is all that was kept of a run."""
        return self.path / "policy"

    @property
    def policies(self) -> Path:
        """Of a record: such directories, one for each run."""
        return self.path / POLICIES

    @property
    def ships(self) -> bool:
        """Whether this is a policy that was kept with a record, and no run."""
        return self.policy.is_dir()

    @property
    def is_record(self) -> bool:
        """Whether `prudence record` wrote this, and it is no run."""
        return (self.path / RECORD).exists() and not self.exists

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.config.exists()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second process from training into this directory; the system frees it when this one ends, however.

        Raises:
            RunDirectoryError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        # The file stays: deleting it would let two processes lock two files of the same name.
        with open(self.path / ".lock", "a+") as file:
            try:
                # lockf, since children that environments run in must not inherit the lock and outlive us with it.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                raise RunDirectoryError(
                    f"{self.path} is in use by process {file.read() or 'unknown'}: wait for it to end, "
                    "or name another directory"
                ) from error
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
