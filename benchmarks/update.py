"""Time of one gradient step of BSRP-Lag (world model, actor, multiplier, both critics), and of one decision.

    python benchmarks/update.py [--size trial|peers] [--latent discrete|gaussian] [--gradient pathwise|reinforce]

``trial``: batch 16x32, deter = units = 128, 16x8 latents, 128 imagination starts, horizon 15, 60-dim vector.
``peers``: batch 16x64, deter = units = 256, 16x16 latents, all 1024 starts, horizon 15, 60-dim vector. peers.py uses
this size to compare with PyTorch implementations of DreamerV3.

Prints the median of repeats after warm-up, and writes JSON with --out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rows import show

from prudence.constraints import AugmentedLagrangian
from prudence.cores.dreamer.dreamer import Dreamer, DreamerConfig
from prudence.cores.dreamer.sizes import sizes
from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition

UPDATES = 4
VECTOR = 60
SIZES = {
    "trial": {"deter": 128, "units": 128, "stoch": 16, "classes": 8, "bins": 63, "length": 32, "starts": 128},
    "peers": {"deter": 256, "units": 256, "stoch": 16, "classes": 16, "bins": 255, "length": 64, "starts": None},
}


def agent_of(size: str, latent: str, gradient: str) -> tuple[Dreamer, int]:
    s = dict(SIZES[size])
    length, starts = s.pop("length"), s.pop("starts")
    if latent == "gaussian":
        s["stoch"] = 32
    model, actor, critic = sizes(**s, latent=latent)
    config = DreamerConfig(
        model, actor, critic, critic, constraint=AugmentedLagrangian(), imagination_starts=starts, gradient=gradient
    )
    spaces = Spaces((("state", ObservationSpec((VECTOR,), "float32")),), ActionSpec("continuous", 2), ("cost",), 200)
    return Dreamer(spaces, config), length


def batches_of(length: int) -> Transition:
    rng, shape = np.random.default_rng(0), (UPDATES, 16, length)
    off = np.zeros(shape, bool)

    def floats(*more: int) -> np.ndarray:
        return rng.random((*shape, *more), dtype=np.float32)

    return jax.device_put(Transition({"state": floats(VECTOR)}, floats(2), floats(), floats(1), off, off, off))


def median_ms(function: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Median and minimum time of a call, in milliseconds, after one warm-up call."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times)), min(times)


def measure(size: str, latent: str, gradient: str, repeats: int) -> dict[str, Any]:
    agent, length = agent_of(size, latent, gradient)
    state, batches, key = agent.init(key=jax.random.key(0)), batches_of(length), jax.random.key(1)
    start = time.perf_counter()
    jax.block_until_ready(agent.update(state, batches, key=key))
    compile_seconds = time.perf_counter() - start
    median, least = median_ms(lambda: agent.update(state, batches, key=key), repeats)
    carry, observation, first = agent.init_carry(1), {"state": np.zeros((1, VECTOR), np.float32)}, np.zeros(1, bool)
    act, _ = median_ms(lambda: agent.act(state, carry, observation, first, key=key, mode="train")[0], 200)
    return {
        "size": size,
        "latent": latent,
        "gradient": gradient,
        "update_ms": round(median / UPDATES, 1),
        "update_ms_least": round(least / UPDATES, 1),
        "act_ms": round(act, 2),
        "compile_s": round(compile_seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="*", default=["trial"], choices=list(SIZES))
    parser.add_argument("--latent", nargs="*", default=["discrete", "gaussian"])
    parser.add_argument("--gradient", nargs="*", default=["pathwise", "reinforce"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    rows = (measure(s, z, g, a.repeats) for s in a.size for z in a.latent for g in a.gradient)
    show(rows, a.out)


if __name__ == "__main__":
    main()
