"""What a privileged world model costs: one gradient step of AsymDreamer beside one of BSRP-Lag.

    python benchmarks/asymmetric.py [--preset cpu] [--repeats 20]

The preset's agents on a 60-dim vector and, for AsymDreamer, the 24 privileged numbers of the paper's Tables 7 and 8.
They are timed in turn, so that whatever else the machine does falls on all of them. Prints medians and minima of
repeats after warm-up, the median of the processor time, which waits for nobody and so is to be trusted where the
machine is shared, and by how much AsymDreamer's exceed BSRP-Lag's; writes JSON with --out.
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
    """Does four gradient steps from the same state."""
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
    above = lambda row, which: f"{row[which] / rows[0][which] - 1:.0%}"
    return [row | {f"{w}_overhead": above(row, w) for w in ("least_ms", "processor_ms")} for row in rows]


def _summary(times: np.ndarray) -> dict[str, float]:
    """Of wall and processor milliseconds ``[n, 2]``."""
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
