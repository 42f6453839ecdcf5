"""What Prudence survives: kills, damaged files, full disks, misbehaving environments, and hours.

Each part prints one line with what it tried and what failed, and the whole exits with 1 if anything did. Run it from
the root of the repository; without arguments it takes some minutes:

    .venv/bin/python tools/soak.py kills 500 datasets 200 damage 5000 disks environments settings 2000 memory 120

- ``kills N``: SIGKILL at random moments of training, evaluating, saving and copying (``--start-from``), of an agent
  with a rollout and one with a replay. Every run that ends must equal an uninterrupted one, bit for bit.
- ``datasets N``: SIGKILL at random moments of ``prudence dataset`` record, mix, export and import. Nothing that is left
  may look finished, and the same command must then make the whole data set.
- ``damage N``: a checkpoint or a chunk of replay with random damage is loaded. It must return what was saved, fall
  back, or be refused.
- ``disks``: each writer meets a full disk. It must raise OSError and leave the file before as it was.
- ``environments``: each misbehaving environment must be refused (EnvError) at its start or after three crashes.
- ``settings N``: random configurations (tools/random_settings.py).
- ``memory M``: memory over M minutes of training, of an agent with a rollout and of one with a replay, side by side.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
from misbehaving import MISBEHAVING

from prudence.cli.api import configure
from prudence.cli.main import main as main_of_prudence
from prudence.data import chunks
from prudence.data.dataset import Dataset
from prudence.envs.base import EnvConfig, EnvError
from prudence.envs.vector import make_vector, require_end
from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.files import write_text_atomically
from prudence.runs.metrics import Logger, read_metrics
from prudence.types import ActionSpec, ObservationSpec, Spaces

DEFAULTS = {"kills": 20, "datasets": 20, "damage": 500, "disks": 0, "environments": 0, "settings": 100, "memory": 1}
AGENTS = ("ppo-lag", "safedreamer-bsrp-lag")
"""One that learns from rollouts, and one that learns from a replay."""
_FORK = multiprocessing.get_context("fork")  # This process only imports JAX, so that a child begins at once.


# ---- kills -----------------------------------------------------------------------------------------------------------


def config(agent: str, steps: int) -> RunConfig:
    """A short run that evaluates and saves often."""
    made = configure(agent, "probe/cost", preset_name="debug")
    often = {"evaluate_every": 64, "checkpoint_every": 32, "log_every": 16, "evaluate_episodes": 2}
    return replace(made, loop=replace(made.loop, steps=steps, **often))


def train(made: RunConfig, directory: Path, origin: Path | None) -> None:
    """Trains in a child, silently, with compiled programs that its successors find again."""
    import jax

    from prudence.training import trainer

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    jax.config.update("jax_compilation_cache_dir", str(directory.parent / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    trainer.train(made, directory, start_from=origin)


def started(*arguments: Any) -> Any:
    process = _FORK.Process(target=train, args=arguments)
    process.start()
    return process


def kills(number: int, rng: random.Random) -> Iterator[str]:
    """Failures, where a run that was killed differs from one that was not."""
    with tempfile.TemporaryDirectory() as scratch:
        place, killed, usual = Path(scratch), 0, {}
        cases = [  # The uninterrupted run, its configuration and its origin.
            (place / f"{agent}-{steps}", config(agent, steps), place / f"{agent}-256" if steps > 256 else None)
            for agent in AGENTS
            for steps in (256, 512)
        ]
        for whole, made, origin in cases:
            for attempt in (whole, place / "warm"):  # The second finds the compiled programs, as the victims do.
                began = time.monotonic()
                process = started(made, attempt, origin)
                process.join()
                usual[whole] = time.monotonic() - began
                if process.exitcode:
                    yield f"the uninterrupted run {whole.name} failed with status {process.exitcode}"
                    return
            shutil.rmtree(place / "warm")
        for whole, made, origin in itertools.cycle(cases):
            if killed == number:
                return
            victim = place / "victim"
            while True:
                process = started(made, victim, origin)
                process.join(rng.uniform(0, usual[whole]))
                if process.exitcode is not None or killed == number:
                    process.join()
                    break
                process.kill()
                process.join()
                killed += 1
            if process.exitcode:
                yield f"a run like {whole.name} ended with status {process.exitcode} after a kill"
            elif content(victim) != content(whole):
                yield f"a run that was killed differs from {whole.name}"
            shutil.rmtree(victim)


def content(run: Path) -> list[Any]:
    """The newest checkpoint and the metrics, but for the clock."""
    path = checkpoint.latest(run / "checkpoints")
    assert path is not None
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members.pop("manifest.json"))
    del manifest["meta"]["counters"]["seconds"]
    rows = read_metrics(run / "metrics.jsonl")
    return [manifest, members, [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]]


# ---- data sets -------------------------------------------------------------------------------------------------------


def command(arguments: list[str]) -> None:
    """Runs ``prudence``, silently."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.exit(main_of_prudence(arguments))


def datasets(number: int, rng: random.Random) -> Iterator[str]:
    """Failures, where a killed command leaves what looks finished and is not, or cannot be repeated."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        source, file = str(place / "record-whole"), str(place / "export-whole")
        record = ["record", "random", "--task", "probe/cost", "--episodes", "300", "--out"]
        commands = {
            "record": record,
            "mix": ["mix", source, source, "--out"],
            "export": ["export", source, "--format", "dsrl", "--to"],
            "import": ["import", file, "--format", "dsrl", "--out"],
        }
        usual: dict[str, float] = {}
        for name, words in commands.items():
            began = time.monotonic()
            process = _FORK.Process(target=command, args=(["dataset", *words, str(place / f"{name}-whole")],))
            process.start()
            process.join()
            usual[name] = time.monotonic() - began
            if process.exitcode:
                yield f"the uninterrupted {name} ended with status {process.exitcode}"
                return
        for trial in range(number):
            name = list(commands)[trial % len(commands)]
            whole, victim = place / f"{name}-whole", place / f"{name}-{trial}"
            for killed in (True, False):
                process = _FORK.Process(target=command, args=(["dataset", *commands[name], str(victim)],))
                process.start()
                process.join(rng.uniform(0, usual[name]) if killed else None)
                process.kill()
                process.join()
                if victim.exists() and data_of(victim) != data_of(whole):
                    yield f"{name} left something that looks finished"
                if victim.exists():
                    break
            else:
                yield f"{name} could not be repeated after a kill"
            for path in place.glob(f"{victim.name}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def data_of(path: Path) -> Any:
    """What a data set, or a file of DSRL, holds."""
    if path.is_dir():
        return Dataset(path).digest
    with h5py.File(path) as file:
        return {name: file[name][()].tobytes() for name in sorted(file)}


# ---- damaged files ---------------------------------------------------------------------------------------------------

SPACES = Spaces((("state", ObservationSpec((3,), "float32")),), ActionSpec("continuous", 2))
LAYOUT = chunks.Layout.of(SPACES, 2)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Flips, a cut, zeros, foreign bytes, or something inserted."""
    data, at = bytearray(content), rng.randrange(len(content))
    kind = rng.choice(("flip", "flip", "flips", "cut", "zeros", "random", "insert"))
    length = rng.randint(1, 200)
    if kind.startswith("flip"):
        for _ in range(1 if kind == "flip" else 20):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = rng.randbytes(length)
    else:
        data[at : at + length] = bytes(length) if kind == "zeros" else rng.randbytes(length)
    return bytes(data)


def damage(number: int, rng: random.Random) -> Iterator[str]:
    """Failures, where a damaged file is taken as something else than it was, or ends in another error."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        state = {"x": np.arange(300, dtype=np.float32), "n": 7}
        meta = {"replay": np.arange(50), "name": "whole"}
        saved = checkpoint.save(place, 1, state, meta).read_bytes()
        rows = filled(place / "chunks")
        for index in range(number):
            fault = _checkpoint_fault if index % 2 else _chunk_fault
            said = fault(place, damaged(saved if index % 2 else rows, rng), state, meta)
            if said:
                yield said


def filled(directory: Path) -> bytes:
    """The bytes of a chunk of 40 rows, whose number is their reward."""
    directory.mkdir()
    chunk = chunks.OpenChunk(directory, LAYOUT, 0, 40)
    for row in range(40):
        chunk.append({name: np.full(target.shape[1:], row % 2 if target.dtype == bool else row, target.dtype)
                      for name, target in chunk.fields.items()})  # fmt: skip
    chunk.write()
    return chunk.path.read_bytes()


def _checkpoint_fault(place: Path, data: bytes, state: dict[str, Any], meta: dict[str, Any]) -> str | None:
    path = place / "damaged.ckpt"
    path.write_bytes(data)
    try:
        found, kept = checkpoint.load(path, state)
    except (checkpoint.CheckpointError, checkpoint.CheckpointMismatch):
        return None
    except Exception as error:
        return f"a checkpoint raised {type(error).__name__}: {error}"
    same = np.array_equal(found["x"], state["x"]) and found["n"] == 7
    same &= np.array_equal(kept["replay"], meta["replay"]) and kept["name"] == "whole"
    return None if same else "a damaged checkpoint returned something else"


def _chunk_fault(place: Path, data: bytes, *_: Any) -> str | None:
    path = place / "chunks" / "000000000000.chunk"
    path.write_bytes(data)
    try:
        for chunk in chunks.scan_chunks(path.parent, LAYOUT):
            reward = chunks.map_chunk(chunk, LAYOUT)["reward"]
            if not np.array_equal(reward, np.repeat(np.arange(chunk.rows)[:, None], 2, 1)):
                return "a damaged chunk returned other rows"
    except chunks.ReplayLayoutError:
        return None
    except Exception as error:
        return f"a chunk raised {type(error).__name__}: {error}"
    return None


# ---- full disks ------------------------------------------------------------------------------------------------------


def disks(number: int, rng: random.Random) -> Iterator[str]:
    """Failures of writers that may write no file beyond a kilobyte."""
    for writer in WRITERS:
        with tempfile.TemporaryDirectory() as scratch:
            process = _FORK.Process(target=_meets_full_disk, args=(writer, Path(scratch)))
            process.start()
            process.join(60)
            if process.exitcode is None:
                process.kill()
            if process.exitcode:
                yield f"{writer.__name__} did not survive a full disk (status {process.exitcode})"


def _meets_full_disk(writer: Callable[[Path, int], None], place: Path) -> None:
    """Ends with status 1 unless the second, larger write raises OSError and the files before stay as they were."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    writer(place, 1)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    largest = max(map(len, before.values()))
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    try:
        writer(place, 1000)
    except OSError:
        kept = all(path.exists() and path.read_bytes().startswith(content) for path, content in before.items())
        os._exit(0 if kept else 2)
    os._exit(3)


def write_checkpoint(place: Path, size: int) -> None:
    checkpoint.save(place, size, {"x": np.zeros(10 * size)}, {})


def write_report(place: Path, size: int) -> None:
    write_text_atomically(place / "evaluation.json", json.dumps(list(range(10 * size))))


def write_metrics(place: Path, size: int) -> None:
    logger = Logger(place, tensorboard=False)
    for step in range(size):
        logger.write(step, {"a": 1.0})
    logger.flush()


def write_tensorboard(place: Path, size: int) -> None:
    logger = Logger(place / str(size))
    for step in range(20 * size):
        logger.write(step, {"a": 1.0})
    logger.flush()


def write_replay(place: Path, size: int) -> None:
    chunk = chunks.OpenChunk(place, LAYOUT, size, 10 * size)
    for _ in range(10 * size):
        chunk.append({name: np.zeros(target.shape[1:], target.dtype) for name, target in chunk.fields.items()})
    chunk.write()


WRITERS = (write_checkpoint, write_report, write_metrics, write_tensorboard, write_replay)


# ---- misbehaving environments ----------------------------------------------------------------------------------------


def environments(number: int, rng: random.Random) -> Iterator[str]:
    """Failures of environments that are neither refused nor lose their episodes."""
    for name in ("Good", *MISBEHAVING):
        try:
            refused = _refused(f"misbehaving:{name}")
        except Exception as error:
            yield f"{name} raised {type(error).__name__}: {error}"
            continue
        if refused == (name == "Good"):
            yield f"{name} was {'refused' if refused else 'accepted'}"


def _refused(task: str) -> bool:
    try:
        with contextlib.closing(make_vector(EnvConfig(task), 1, seed=0)) as envs:
            require_end(envs)
            envs.reset()
            for _ in range(20):
                envs.step(np.zeros((1, 1), np.float32))
    except EnvError:
        return True
    return False


# ---- settings and memory ---------------------------------------------------------------------------------------------


def settings(number: int, rng: random.Random) -> Iterator[str]:
    """Failures of random configurations, which are printed as they come."""
    import random_settings

    if random_settings.main(number, rng.randrange(2**31)):
        yield "some configurations failed, see above"


def memory(minutes: int, rng: random.Random) -> Iterator[str]:
    """A failure if memory grows by more than 5 % from the second quarter of the time to the last."""
    with tempfile.TemporaryDirectory() as scratch:
        trained = {name: started(config(name, 10**9), Path(scratch) / name, None) for name in AGENTS}
        found: dict[str, list[float]] = {name: [] for name in AGENTS}
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end and all(process.is_alive() for process in trained.values()):
            for name, process in trained.items():
                found[name].append(psutil.Process(process.pid).memory_info().rss / 1e6)
            time.sleep(1)
        for name, process in trained.items():
            alive = process.is_alive()
            process.kill()
            process.join()
            if not alive:
                yield f"training of {name} ended with status {process.exitcode}"
                continue
            quarter = max(1, len(found[name]) // 4)
            early, late = np.mean(found[name][quarter : 2 * quarter]), np.mean(found[name][-quarter:])
            steps = read_metrics(Path(scratch) / name / "metrics.jsonl")[-1]["step"]
            print(
                f"  memory of {name}: {early:.1f} MB in the second quarter, {late:.1f} MB in the last; {steps:,} steps"
            )
            if late > 1.05 * early:
                yield f"memory of {name} grew from {early:.1f} to {late:.1f} MB"


PARTS = {
    "kills": kills,
    "datasets": datasets,
    "damage": damage,
    "disks": disks,
    "environments": environments,
    "settings": settings,
    "memory": memory,
}


def main(words: list[str]) -> int:
    """Runs the parts that ``words`` name, each with its number; all with small numbers without words."""
    asked: dict[str, int] = {}
    for word in words:
        if word.isdigit():
            asked[list(asked)[-1]] = int(word)
        else:
            asked[word] = DEFAULTS[word]
    logging.disable(logging.WARNING)  # Of what is damaged on purpose.
    warnings.simplefilter("ignore")  # JAX warns of a fork, before which nothing was computed.
    failed = 0
    for name, number in (asked or DEFAULTS).items():
        start = time.monotonic()
        failures = Counter(PARTS[name](number, random.Random(0)))
        failed += failures.total()
        tried = {"disks": len(WRITERS), "environments": 1 + len(MISBEHAVING)}.get(name, number)
        print(f"{name}: {tried} tried, {failures.total()} failed, {time.monotonic() - start:.0f} s", flush=True)
        for failure, count in failures.most_common(10):
            print(f"  {count} x {failure}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
