"""Time of one decision of mpc-sim, which searches plans in the true simulator over all cores.

    python benchmarks/simulate.py [--task SafetyPointGoal1-v0 ...] [--search 150x15x6 ...] [--awake]

A search is plans x horizon x iterations. A decision lasts 5 raw steps. Seconds are wall time, and processor time of all
threads, which is more reliable on a busy machine. Prints the median of repeats after warm-up, and writes JSON with
--out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rows import show

from prudence.envs.base import EnvConfig
from prudence.envs.registry import make, spaces_of
from prudence.evidence.mpc_sim import decide
from prudence.planners import CrossEntropy


def measure(task: str, search: str, sleeping: bool, repeats: int) -> dict[str, Any]:
    plans, horizon, iterations = map(int, search.split("x"))
    method = CrossEntropy(horizon, plans, max(1, plans // 10), iterations)
    config = EnvConfig(task, action_repeat=5)
    env: Any = make(config)
    env.reset(seed=0)
    spaces, roll = spaces_of(env, config), env.rollouts(sleeping=sleeping)
    plan, first, times = jnp.zeros((horizon, spaces.action.size)), jnp.asarray(True), []
    for index in range(repeats + 1):
        clock, processor = time.perf_counter(), time.process_time()
        key = jax.random.key(index)
        action, plan = decide(method, roll, jnp.array([2.0]), spaces.episode_steps or 1, plan, first, key=key)
        env.step(np.asarray(action))
        times.append((time.perf_counter() - clock, time.process_time() - processor))
        first = jnp.asarray(False)
    clock, processor = np.median(times[1:], axis=0)
    return {
        "task": task,
        "search": search,
        "sleeping": sleeping,
        "decision_s": round(float(clock), 2),
        "processor_s": round(float(processor), 2),
        "decisions_per_s": round(1 / float(clock), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="*", default=["SafetyPointGoal1-v0"])
    parser.add_argument("--search", nargs="*", default=["64x15x3", "150x15x6"])
    parser.add_argument("--awake", action="store_true", help="simulate objects at rest, too")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    rows = (measure(task, search, not a.awake, a.repeats) for task in a.task for search in a.search)
    show(rows, a.out)


if __name__ == "__main__":
    main()
