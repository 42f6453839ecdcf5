"""Time of one decision of SafeDreamer's planner (OSRP-Lag), filtering included.

    python benchmarks/planning.py [--search 500x15x6 ...] [--envs 1 4 16] [--size trial peers] [--latent discrete]

A search is plans x horizon x iterations. Sizes are those of `benchmarks/update.py`. A decision is one compiled call for
all environments. Prints the median of repeats after warm-up, and writes JSON with --out.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rows import show
from update import SIZES, VECTOR, agent_of, median_ms

from prudence.constraints import PIDLagrangian
from prudence.cores.dreamer.planning import PlanningConfig
from prudence.planners import CrossEntropy


def measure(search: str, envs: int, size: str, latent: str, repeats: int) -> dict[str, Any]:
    plans, horizon, iterations = map(int, search.split("x"))
    method = CrossEntropy(horizon=horizon, plans=plans, elites=max(1, plans // 10), iterations=iterations)
    agent, _ = agent_of(size, latent, "pathwise")
    agent = replace(agent, config=replace(agent.config, planning=PlanningConfig(method, PIDLagrangian())))
    state, carry = agent.init(key=jax.random.key(0)), agent.init_carry(envs)
    observation, first = {"state": np.zeros((envs, VECTOR), np.float32)}, np.zeros(envs, bool)
    key = jax.random.key(1)
    median, least = median_ms(lambda: agent.act(state, carry, observation, first, key=key, mode="evaluate")[0], repeats)
    return {
        "search": search,
        "environments": envs,
        "size": size,
        "latent": latent,
        "decision_ms": round(median, 1),
        "decision_ms_least": round(least, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", nargs="*", default=["64x6x3", "500x15x6"])
    parser.add_argument("--envs", nargs="*", type=int, default=[1, 4, 16])
    parser.add_argument("--size", nargs="*", default=["trial"], choices=list(SIZES))
    parser.add_argument("--latent", nargs="*", default=["gaussian"], choices=["gaussian", "discrete"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    cases = itertools.product(a.size, a.latent, a.search, a.envs)
    rows = (measure(search, envs, size, latent, a.repeats) for size, latent, search, envs in cases)
    show(rows, a.out)


if __name__ == "__main__":
    main()
