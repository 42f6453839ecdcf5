"""Run directories: a run is a directory with fixed names of its parts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

POLICIES = "policies"
RECORD = "result.json"
_OTHERS = ("inspection.json", "provenance.json", "wandb_id")


class RunDirectoryError(RuntimeError):
    """The directory is in use, or is not a run directory."""


@dataclass(frozen=True)
class RunDirectory:
    """Paths of the parts of a run. Nothing is created until something is written."""

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
        """A checkpoint with only what acting needs. A recorded policy has it instead of ``checkpoints``."""
        return self.path / "policy"

    @property
    def policies(self) -> Path:
        """Recorded policies of a record, one directory for each run."""
        return self.path / POLICIES

    @property
    def ships(self) -> bool:
        """Whether this is a recorded policy and not a run."""
        return self.policy.is_dir()

    @property
    def is_record(self) -> bool:
        """Whether this is a record of `prudence record` and not a run."""
        return (self.path / RECORD).exists() and not self.exists

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.config.exists()

    def wipe(self) -> None:
        """Deletes all that a run wrote here, and nothing else. The checkpoints go first: a run that is half deleted
        cannot be resumed by mistake."""
        parts = [self.checkpoints, self.replay, self.metrics, self.tensorboard, self.evaluation, self.videos]
        parts += [self.report, *(self.path / name for name in _OTHERS), *self.path.glob("*.png"), self.config]
        for part in parts:
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Prevents a second process from training in this directory.

        The operating system releases the lock when this process ends, even by a crash.

        Raises:
            RunDirectoryError: another process holds the lock.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        # The file is never deleted. Otherwise two processes could lock two files of the same name.
        with open(self.path / ".lock", "a+") as file:
            try:
                # Worker processes do not inherit a lock of lockf, so they cannot hold it after this process ends.
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
