"""Time and memory of a posterior over models: one gradient step of LAMBDA with N samples.

    python benchmarks/posterior.py [--samples 0 1 2 5 10] [--starts 32]

Uses the cpu preset with a 60-dim vector. N = 0 has no posterior, which is BSRP-Lag with a Bernoulli cost head.
``state`` is the size of a checkpoint, and ``temporary`` the memory of the compiled update besides its arguments, both
in MB.
Prints the median of repeats after warm-up, and writes JSON with --out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from rows import show
from update import UPDATES, VECTOR, batches_of, median_ms

from prudence.cores.dreamer.dreamer import Dreamer
from prudence.envs.base import EnvConfig
from prudence.presets import preset
from prudence.types import ActionSpec, ObservationSpec, Spaces


def agent_of(samples: int, starts: int) -> tuple[Dreamer, int]:
    config = preset("cpu", "lambda", EnvConfig("SafetyPointGoal1-v0"))
    uncertainty = config.agent.uncertainty
    assert uncertainty is not None
    several = replace(uncertainty, posterior=replace(uncertainty.posterior, samples=max(samples, 1)))
    agent = replace(config.agent, imagination_starts=starts, uncertainty=several if samples else None)
    spaces = Spaces((("state", ObservationSpec((VECTOR,), "float32")),), ActionSpec("continuous", 2), ("cost",), 200)
    return Dreamer(spaces, agent), config.loop.batch_length


def megabytes(tree: Any) -> float:
    return round(sum(x.nbytes for x in jax.tree.leaves(eqx.filter(tree, eqx.is_array))) / 1e6, 1)


def measure(samples: int, starts: int, repeats: int) -> dict[str, Any]:
    agent, length = agent_of(samples, starts)
    state, batches, key = agent.init(key=jax.random.key(0)), batches_of(length), jax.random.key(1)
    update: Any = type(agent).update
    memory = update.lower(agent, state, batches, key=key).compile().memory_analysis()
    median, least = median_ms(lambda: agent.update(state, batches, key=key), repeats)
    return {
        "samples": samples,
        "starts": starts,
        "update_ms": round(median / UPDATES, 1),
        "update_ms_least": round(least / UPDATES, 1),
        "state_mb": megabytes(state),
        "temporary_mb": round(memory.temp_size_in_bytes / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="*", default=[0, 1, 2, 5, 10])
    parser.add_argument("--starts", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    show((measure(n, a.starts, a.repeats) for n in a.samples), a.out)


if __name__ == "__main__":
    main()
