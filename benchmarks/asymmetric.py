"""Time of a privileged world model: one gradient step of AsymDreamer, compared with one of BSRP-Lag.

    python benchmarks/asymmetric.py [--preset cpu] [--repeats 20]

The preset's agents see a 60-dim vector; AsymDreamer also sees the 24 privileged numbers of the paper's Tables 7 and 8.
The agents are timed in turn, so that other load of the machine affects all of them. Prints medians and minima of
repeats after warm-up, the median processor time, which is more reliable on a busy machine, and the overhead of
AsymDreamer. Writes JSON with --out.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rows import show
from update import UPDATES, VECTOR, batches_of

from prudence.envs.base import EnvConfig
from prudence.presets import preset
from prudence.systems import find_system
from prudence.types import ActionSpec, ObservationSpec, Spaces

PRIVILEGED = 24
NAMES = ("safedreamer-bsrp-lag", "asymdreamer-s", "asymdreamer")


def stepper_of(name: str, preset_name: str) -> Any:
    """A function that makes four gradient steps, always from the same state."""
    config = preset(preset_name, name, EnvConfig("SafetyPointGoal1-v0"))
    seen = (("state", ObservationSpec((VECTOR,), "float32")), ("privileged", ObservationSpec((PRIVILEGED,), "float32")))
    spaces = Spaces(seen, ActionSpec("continuous", 2), ("cost",), 200, privileged=("privileged",))
    agent = find_system(name).agent(spaces, config.agent)
    batches = batches_of(config.loop.batch_length)
    hidden = np.random.default_rng(1).random((*batches.reward.shape, PRIVILEGED), dtype=np.float32)
    batches = batches._replace(observation={**batches.observation, "privileged": jax.device_put(hidden)})
    state = agent.init(key=jax.random.key(0))
    return lambda: agent.update(state, batches, key=jax.random.key(1))


def measure(preset_name: str, repeats: int) -> list[dict[str, Any]]:
    steppers = {name: stepper_of(name, preset_name) for name in NAMES}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    for repeat in range(repeats + 1):
        for name, step in steppers.items():
            before = time.perf_counter(), time.process_time()
            jax.block_until_ready(step())
            if repeat:  # The first compiles.
                wall, processor = time.perf_counter() - before[0], time.process_time() - before[1]
                times[name].append((1e3 * wall / UPDATES, 1e3 * processor / UPDATES))
    rows = [{"agent": name, "preset": preset_name, **_summary(np.array(own))} for name, own in times.items()]

    def overhead(row: dict[str, Any], column: str) -> str:
        """Excess over the first agent."""
        return f"{row[column] / rows[0][column] - 1:.0%}"

    return [row | {f"{c}_overhead": overhead(row, c) for c in ("least_ms", "processor_ms")} for row in rows]


def _summary(times: np.ndarray) -> dict[str, float]:
    """Summary of wall and processor milliseconds ``[n, 2]``."""
    (wall, processor), least = np.median(times, 0), times[:, 0].min()
    return {"update_ms": round(wall, 2), "least_ms": round(least, 2), "processor_ms": round(processor, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    show(measure(a.preset, a.repeats), a.out)


if __name__ == "__main__":
    main()
