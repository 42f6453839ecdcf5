"""What a GPU makes of Prudence: updates and decisions at the papers' sizes, then a run from pixels. See gpu.sh.

    python benchmarks/gpu.py --out gpu-report [--minutes 9] [--agents NAME ...] [--dreamerv3-torch DIR --r2dreamer DIR]

The first part measures every world-model agent of the preset in bfloat16 and float32: time of an update, of a decision
and of compilation, and the memory that the update's program needs. Programs are compiled side by side and run one after
another, those of the papers' main systems first. What its share of the time does not suffice for is left out, and said
so. The second part trains for the rest of the time. The report is OUT/gpu.json and OUT/gpu.md, and the run is OUT/run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

MEASURING = 0.6
"""The share of the time that measurements may take. The rest is the run's."""
ENDING = 20.0
"""Seconds that a run has for its last checkpoint and its curve."""
FIRST = ("safedreamer-bsrp-lag", "safedreamer-osrp-lag", "dreamerv3", "lambda", "asymdreamer", "fosp")
DTYPES = ("bfloat16", "float32")
TASK = "SafetyPointGoal1-v0"
RUN = "safedreamer-bsrp-lag"


# --- the first part, in a process of its own ------------------------------------------------------------------------


def world_model_agents() -> list[str]:
    """The systems that learn from replay, those of ``FIRST`` before the others."""
    from prudence.loops import ReplayLoop
    from prudence.systems import SYSTEMS

    names = [name for name, system in SYSTEMS.items() if isinstance(system.published(True).loop, ReplayLoop)]
    return sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def compiled(name: str, dtype: str, preset_name: str) -> tuple[dict[str, Any], Callable[[], Any], Callable[[], Any]]:
    """Compiles an agent's update and decision from two cameras.

    Returns:
        What is known before they run, a dispatch of updates, and a decision in one environment.
    """
    import jax
    import numpy as np

    from prudence.envs.base import EnvConfig
    from prudence.presets import preset
    from prudence.systems import find_system
    from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition

    config = preset(preset_name, name, EnvConfig(TASK, obs=("vision",)))
    config, loop = replace(config, agent=replace(config.agent, compute_dtype=dtype)), config.loop
    seen = {"image": ObservationSpec((64, 64, 6), "uint8")}
    hidden = {"privileged": ObservationSpec((60,), "float32")} if find_system(name).needs.privileged else {}
    spaces = Spaces(
        tuple((seen | hidden).items()), ActionSpec("continuous", 2), ("cost",), 250, privileged=tuple(hidden)
    )
    agent, rng = config.make_agent(spaces), np.random.default_rng(0)

    def drawn(*lead: int) -> dict[str, Any]:
        return {
            name: rng.integers(0, 256, (*lead, *spec.shape), np.uint8)
            if spec.is_image
            else rng.random((*lead, *spec.shape), np.float32)
            for name, spec in spaces.observation
        }

    lead = (loop.updates_per_dispatch, loop.batch_size, loop.batch_length)
    off, numbers = np.zeros(lead, bool), lambda *more: rng.random((*lead, *more), np.float32)
    batches = jax.device_put(Transition(drawn(*lead), numbers(2), numbers(), numbers(1), off, off, off))
    state, carry, key = agent.init(key=jax.random.key(0)), agent.init_carry(1), jax.random.key(1)
    observation, first = drawn(1), np.zeros(1, bool)

    started = time.perf_counter()
    update = jax.jit(lambda state, batches: agent.update(state, batches, key=key)).lower(state, batches).compile()
    seconds = time.perf_counter() - started
    act = jax.jit(lambda *given: agent.act(*given, key=key, mode="train")[0])
    decide = act.lower(state, carry, observation, first).compile()
    about = {
        "agent": name,
        "dtype": dtype,
        "batch": "x".join(map(str, lead[1:])),
        "updates_per_dispatch": lead[0],
        "compile_s": round(seconds, 1),
        "memory_gb": memory_of(update),
    }
    return about, lambda: update(state, batches), lambda: decide(state, carry, observation, first)


def memory_of(program: Any) -> float | None:
    """Arguments, results and working memory of a compiled program, in GB; None where the platform does not say."""
    found = program.memory_analysis()
    if found is None:
        return None
    parts = (found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes)
    return round((sum(parts) - found.alias_size_in_bytes) / 1e9, 2)


def milliseconds(function: Callable[[], Any], repeats: int) -> float:
    """Median time of a call, after one that warms up."""
    import jax

    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        jax.block_until_ready(function())
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[1:])


def measure(agents: Sequence[str], preset_name: str, side_by_side: int, repeats: int) -> None:
    """Prints the device, then a row for each agent and dtype, as JSON."""
    from prudence.runs.provenance import describe

    print(json.dumps({"about": describe()}), flush=True)
    cases = list(itertools.product(agents, DTYPES))
    with ThreadPoolExecutor(side_by_side) as pool:
        for start in range(0, len(cases), side_by_side):
            wave = cases[start : start + side_by_side]
            programs = [pool.submit(compiled, *case, preset_name) for case in wave]
            wait(programs)  # Nothing is compiled while something is timed.
            for case, program in zip(wave, programs, strict=True):
                print(json.dumps(timed(*case, program, repeats)), flush=True)


def timed(name: str, dtype: str, program: Future, repeats: int) -> dict[str, Any]:
    """The row of an agent. A failure is a row, too, and leaves the others to be measured."""
    try:
        about, update, decide = program.result()
        update_ms = milliseconds(update, repeats) / about["updates_per_dispatch"]
        return {**about, "update_ms": round(update_ms, 2), "decision_ms": round(milliseconds(decide, repeats), 2)}
    except Exception as error:
        return {"agent": name, "dtype": dtype, "error": f"{type(error).__name__}: {str(error)[:200]}"}


# --- the report, in this process, which computes nothing --------------------------------------------------------------


def rows_of(command: Sequence[str], seconds: float, log: Path) -> list[dict[str, Any]]:
    """The rows that ``command`` prints within its time."""
    with log.open("w") as errors:
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        timer = threading.Timer(seconds, program.kill)
        timer.start()
        assert program.stdout is not None
        rows = [json.loads(line) for line in program.stdout if line.startswith("{") and line.endswith("}\n")]
        program.wait()
        timer.cancel()
    return rows


def train(out: Path, agent: str, task: str, preset_name: str, seconds: float, extra: Sequence[str]) -> dict[str, Any]:
    """Trains for so long, and stops as by Ctrl-C, which saves. Says what came of it, and how busy the GPU was."""
    command = [sys.executable, "-m", "prudence.cli.main", "train", agent, "--task", task, "--preset", preset_name]
    command += ["--obs", "vision"] if task == TASK else []
    command += ["--out", str(out / "run"), *extra]
    busy: list[float] = []
    with (out / "run.log").open("w") as log:
        program = subprocess.Popen(command, stdout=log, stderr=log)
        end, asked = time.monotonic() + seconds, False
        while program.poll() is None:
            time.sleep(1)
            busy += utilisation()
            if time.monotonic() > end + ENDING:
                program.kill()
            elif time.monotonic() > end and not asked:
                asked = True
                program.send_signal(signal.SIGINT)
    lines = (out / "run" / "metrics.jsonl").read_text().splitlines() if (out / "run" / "metrics.jsonl").exists() else []
    last: dict[str, Any] = {}
    for line in lines:
        last |= json.loads(line)
    shown = ("step", "time/updates_per_second", "time/steps_per_second", "time/idle_share", "episode/return")
    found = {name: last[name] for name in (*shown, "episode/cost") if name in last}
    if program.returncode not in (0, 130):  # Of an end, and of one that Ctrl-C asked for.
        found["said"] = ((out / "run.log").read_text().splitlines() or [""])[-1][:300]
    steady = busy[len(busy) // 2 :]  # The first half has compilation in it.
    waits = {"gpu_waits_share": round(1 - statistics.mean(steady) / 100, 3)} if steady else {}
    return {"command": " ".join(command[1:]), "exit_code": program.returncode, **found, **waits}


def utilisation() -> list[float]:
    """The share of the last moments in which a kernel ran, in percent, of the first GPU; nothing without one."""
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return [float(subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout)]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def peers(options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Updates of PyTorch implementations of DreamerV3 beside ours (peers.py), where their checkouts are given."""
    if options.dreamerv3_torch is None or options.r2dreamer is None:
        return {"left_out": "no checkouts were given (--dreamerv3-torch, --r2dreamer)"}
    script, result = Path(__file__).with_name("peers.py"), options.out / "peers.json"
    command = [sys.executable, script, "--python", options.torch_python, "--device", "cuda", "--rounds", "1"]
    command += ["--dreamerv3-torch", options.dreamerv3_torch, "--r2dreamer", options.r2dreamer, "--out", result]
    try:
        subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=seconds, check=True)
        return json.loads(result.read_text())
    except subprocess.CalledProcessError as error:
        return {"left_out": error.stderr.strip()[-300:]}
    except subprocess.TimeoutExpired:
        return {"left_out": f"it took more than {seconds:.0f} seconds"}


def markdown(report: dict[str, Any]) -> str:
    """The report as tables."""
    machine = report["about"].get("machine", {})
    columns = ("agent", "dtype", "batch", "update_ms", "decision_ms", "compile_s", "memory_gb", "error")
    present = [c for c in columns if any(c in row for row in report["updates"])]
    lines = [
        f"{', '.join(machine.get('devices', ['?']))}, {machine.get('cores', '?')} cores, JAX "
        f"{report['about'].get('versions', {}).get('jax', '?')}, preset `{report['preset']}`.",
        "",
    ]
    if report["updates"]:
        lines += ["| " + " | ".join(present) + " |", "|" + "---|" * len(present)]
        lines += ["| " + " | ".join(str(row.get(c, "")) for c in present) + " |" for row in report["updates"]]
        lines.append("")
    if report["left_out"]:
        lines += [f"Left out, since the time ended: {', '.join(report['left_out'])}.", ""]
    for title, part in (("The run", report["run"]), ("Beside PyTorch", report["peers"])):
        lines += [f"{title}:", "", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in part.items()), ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-report"))
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything")
    parser.add_argument("--agents", nargs="*", default=None, help="those to measure; by default all world-model agents")
    parser.add_argument("--preset", default="gpu")
    parser.add_argument("--task", default=TASK, help="what the run is trained on")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument(
        "--side-by-side", type=int, default=min(8, os.cpu_count() or 1), help="programs compiled at once"
    )
    parser.add_argument("--dreamerv3-torch", type=Path, help="a checkout; see peers.py")
    parser.add_argument("--r2dreamer", type=Path, help="a checkout; see peers.py")
    parser.add_argument("--torch-python", default=sys.executable, help="the interpreter with PyTorch")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options, extra = parser.parse_known_args()  # The rest are settings of the run.
    agents = options.agents or world_model_agents()
    if options.measure:
        measure(agents, options.preset, options.side_by_side, options.repeats)
        return
    started, total = time.monotonic(), 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--measure", "--preset", options.preset, "--agents", *agents]
    command += ["--repeats", str(options.repeats), "--side-by-side", str(options.side_by_side)]
    rows = rows_of(command, MEASURING * total, options.out / "measure.log")
    about = next((row["about"] for row in rows if "about" in row), {})
    updates = [row for row in rows if "agent" in row]
    done = {(row["agent"], row["dtype"]) for row in updates}
    beside = peers(options, 0.5 * (total - (time.monotonic() - started)))
    left = total - (time.monotonic() - started) - ENDING
    report = {
        "preset": options.preset,
        "about": about,
        "updates": updates,
        "left_out": [f"{a} {d}" for a, d in itertools.product(agents, DTYPES) if (a, d) not in done],
        "peers": beside,
        "run": train(options.out, RUN, options.task, options.preset, left, extra),
        "seconds": round(time.monotonic() - started),
    }
    (options.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    text = markdown(report)
    (options.out / "gpu.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
