"""Speed of steps and resets of environments, compared with the suite's own observations and resets.

    python benchmarks/environments.py [--json FILE] [--repeats 5] [--task SafetyPointGoal1-v0]
    python benchmarks/environments.py --task SafetyQuadrotorGoal1-v0
    python benchmarks/environments.py --task SafeReach-v0

Each number is the median of the repeats, without the first one. There are two rates: by wall time, and by processor
time of this thread, which is the rate of one core even on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from prudence.envs import safety_gymnasium
from prudence.envs.registry import configure, find_suite, make, options_of
from prudence.envs.safety_gymnasium.loader import suite

DECISIONS = 200  # An episode of PointGoal1, if actions are repeated five times.
AGENTS = "Point|Car|Racecar|Doggo|Ant"


def measure(run: Callable[[], int], repeats: int) -> tuple[float, float]:
    """Median units per second of wall time and of this thread's processor time. ``run`` returns its number of units."""
    rates = []
    for _ in range(repeats + 1):
        wall, core = time.perf_counter(), time.thread_time()
        units = run()
        rates.append((units / (time.perf_counter() - wall), units / (time.thread_time() - core)))
    by_wall, by_core = zip(*rates[1:], strict=True)
    return statistics.median(by_wall), statistics.median(by_core)


def ours(task: str, repeats: int, **config: Any) -> dict[str, tuple[float, float]]:
    """Decisions and raw steps per second under random actions, including resets, and resets per second."""
    env = make(configure(task, **config))
    repeat = config["action_repeat"]
    rng = np.random.default_rng(0)
    env.reset(seed=0)

    def decide() -> int:
        env.reset()
        for _ in range(DECISIONS):
            _, _, terminated, truncated, _ = env.step(rng.uniform(-1, 1, env.action_space.shape))
            if terminated or truncated:
                env.reset()
        return DECISIONS

    def resets() -> int:
        for _ in range(10):
            env.reset()
        return 10

    by_wall, by_core = measure(decide, repeats)
    raw = (by_wall * repeat, by_core * repeat)
    return {"decisions/s": (by_wall, by_core), "raw steps/s": raw, "resets/s": measure(resets, repeats)}


def suites(task: str, repeats: int, steps: int = 200) -> dict[str, tuple[float, float]]:
    """Steps and resets per second of the suite's own environment, with its own observation."""
    agent = re.match(f"Safety({AGENTS})", task)
    assert agent is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = suite().builder.Builder(task, {"agent_name": agent.group(1)})
    rng = np.random.default_rng(0)
    env.reset(seed=0)

    def episode() -> int:
        env.steps = 0  # Avoids resets, which are slow and measured separately.
        for _ in range(steps):
            env.step(rng.uniform(-1, 1, env.action_space.shape))
        return steps

    def reset() -> int:
        env.reset()
        return 1

    return {"raw steps/s": measure(episode, repeats), "resets/s": measure(reset, repeats)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="SafetyPointGoal1-v0")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    task, repeats = options.task, options.repeats
    rows = {"the suite's own": suites(task, repeats)} if task in safety_gymnasium.TASKS else {}
    offered = find_suite(task)
    vectors = [name for name in ("lidar", "coordinates") if name in offered.observations]
    rows |= {f"{name}, repeat 5": ours(task, repeats, obs=(name,), action_repeat=5) for name in vectors}
    both = {"cameras": "both"} if "cameras" in options_of(offered) else {}
    name = f"vision{' front and back' if both else ''}, repeat 4"
    rows[name] = ours(task, repeats, obs=("vision",), action_repeat=4, **both)
    print(f"{task}: by wall clock | by processor time (resets counted, but for the suite's)")
    for name, figures in rows.items():
        cells = ", ".join(f"{key} {wall:,.0f} | {core:,.0f}" for key, (wall, core) in figures.items())
        print(f"  {name:32s} {cells}; a reset {1e3 / figures['resets/s'][1]:.1f} ms")
    if options.json is not None:
        about = {"task": task, "machine": platform.processor() or platform.machine(), "mujoco": mujoco.__version__}
        options.json.write_text(json.dumps({**about, "repeats": repeats, "figures": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
