"""Environment steps per second of model-free training, end to end, and the shares of simulation and learning.

    python benchmarks/on_policy.py [--agent ppo-lag] [--envs 1 8 32] [--workers 1] [--rollouts 4] [--out FILE]

Trains SafetyPointGoal1 from lidar with the suite's protocol (rollouts of 20,000 steps) in a temporary directory. The
first two rollouts and updates include compilation and do not count. Shares are of wall time: ``simulate_share`` for
stepping the environments, ``act_share`` for choosing actions, and ``learn_share`` for updates. The rest is logging.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from rows import show

from prudence.cli.api import configure, train
from prudence.runs.metrics import METRICS_FILE, read_metrics

_WARM = 2


def measure(agent: str, num_envs: int, workers: int, rollouts: int) -> dict[str, Any]:
    config = configure(agent, "SafetyPointGoal1-v0", preset_name="suite")
    size = config.loop.decisions_per_iteration
    loop = replace(
        config.loop,
        num_envs=num_envs,
        workers=min(workers, num_envs - 1),
        steps=(_WARM + rollouts) * size,
        evaluate_every=0,
        checkpoint_every=0,
    )
    with tempfile.TemporaryDirectory() as directory:
        run = train(config=replace(config, loop=loop), out=Path(directory) / "run")
        rows = [row for row in read_metrics(run / METRICS_FILE) if "time/wall" in row]
    first, last = rows[_WARM - 1], rows[-1]
    seconds = last["time/wall"] - first["time/wall"]

    def share(name: str) -> float:
        spent = [row[f"time/{name}_share"] * row["time/wall"] for row in (first, last)]
        return round((spent[1] - spent[0]) / seconds, 2)

    simulate, collect = share("simulate"), share("collect")
    return {
        "agent": agent,
        "environments": num_envs,
        "workers": loop.workers,
        "steps_per_second": round((last["step"] - first["step"]) / seconds),
        "simulate_share": simulate,
        "act_share": round(collect - simulate, 2),
        "learn_share": round(1 - collect - share("idle"), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", nargs="*", default=["ppo-lag"])
    parser.add_argument("--envs", nargs="*", type=int, default=[1, 8, 32])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rollouts", type=int, default=4)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    show((measure(agent, n, a.workers, a.rollouts) for agent in a.agent for n in a.envs), a.out)


if __name__ == "__main__":
    main()
