"""Run directories: a run is a directory with fixed names of its parts."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)

POLICIES = "policies"
RECORD = "result.json"
_OTHERS = ("inspection.json", "provenance.json", "wandb_id")


class RunDirectoryError(RuntimeError):
    """The directory is in use, or is not a run directory."""


@dataclass(frozen=True)
class RunDirectory:
    """Paths of the parts of a run. Nothing is created until something is written.

    The path is made absolute at once: an environment may change the working directory.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(os.path.abspath(self.path)))

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
    def saved(self) -> Path:
        """Exists as soon as the run has written a checkpoint, so that lost checkpoints are noticed."""
        return self.path / "saved"

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
        named = [self.path / name for name in _OTHERS]
        parts += [self.saved, self.report, *named, *self.path.glob("*.png"), self.config]
        for part in parts:
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Prevents others from training in this directory: other processes, and other threads of this one.

        The operating system releases the lock when this process ends, even by a crash. Where the file system has no
        locks, a warning says so.

        Raises:
            RunDirectoryError: somebody else holds the lock.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        # The file is never deleted. Otherwise two processes could lock two files of the same name.
        with open(self.path / ".lock", "a+") as file:
            try:
                # A lock of this opened file, not of the process (lockf): so it holds within the process, and closing
                # another handle does not free it. Spawned workers do not inherit the handle.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                holder = file.read() or "unknown"
                who = "this process already" if holder == str(os.getpid()) else f"process {holder}"
                raise RunDirectoryError(
                    f"{self.path} is in use by {who}: wait for it to end, or name another directory"
                ) from error
            except OSError as error:
                _log.warning(
                    "%s: this file system has no locks (%s). See to it yourself that nothing else trains there",
                    self.path, error.strerror,
                )  # fmt: skip
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield
