"""What pictures cost on a CPU: an update with each codec, and one picture on its way from the renderer to the model.

    python benchmarks/pictures.py [--codecs patches half convolutions] [--cores 1] [--parts update picture] [--out FILE]

``update``: a gradient step of DreamerV3 of the preset cpu, on 16x16 pictures of 64x64x6. ``patches`` is its codec,
``half`` reconstructs at half the resolution, ``convolutions`` have depth 8. ``picture``: front and back camera of
SafetyPointGoal1 drawn, stored and gathered by the replay, and encoded and decoded with gradients.

Times are of the processor, over all threads, so that other work on the machine does not count; it still takes its part
of the caches. Each codec has a process of its own. ``program_mb`` is what the update's program needs, and ``peak_mb``
the largest memory of the process, with what compiling took.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

SIDE, CHANNELS, FRAMES = 64, 6, (16, 16)
CODECS = ("patches", "half", "convolutions")


def processor_ms(function: Callable[[], Any], repeats: int) -> float:
    """Median processor time of a call, in milliseconds, after one that warms up."""
    import jax

    times = []
    for _ in range(repeats + 1):
        started = time.process_time()
        jax.block_until_ready(function())
        times.append(1e3 * (time.process_time() - started))
    return statistics.median(times[1:])


def world_model_config(codec: str) -> Any:
    """The configuration of a run of DreamerV3 with this codec."""
    from prudence.envs.base import EnvConfig
    from prudence.models.pictures import Patches
    from prudence.presets import preset

    config = preset("cpu", "dreamerv3", EnvConfig("SafetyPointGoal1-v0", obs=("vision",)))
    patches = None if codec == "convolutions" else Patches(half=codec == "half")
    model = replace(config.agent.world_model, patches=patches)
    return replace(config, agent=replace(config.agent, world_model=model))


def pictures(*lead: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (*lead, SIDE, SIDE, CHANNELS), np.uint8)


def update(codec: str, repeats: int) -> dict[str, Any]:
    """A gradient step, encoder and decoder alone with their gradients, and memory."""
    import jax
    import numpy as np

    from prudence.models.pictures import picture_decoder, picture_encoder
    from prudence.types import ActionSpec, ObservationSpec, Spaces, Transition

    config, lead = world_model_config(codec), (1, *FRAMES)
    shape, off = (SIDE, SIDE, CHANNELS), np.zeros(lead, bool)
    spaces = Spaces((("image", ObservationSpec(shape, "uint8")),), ActionSpec("continuous", 2), ("cost",), 200)
    floats = lambda *more: np.random.default_rng(1).random((*lead, *more), np.float32)
    batches = Transition({"image": pictures(*lead)}, floats(2), floats(), floats(1), off, off, off)
    agent, batches = config.make_agent(spaces), jax.device_put(batches)
    state, key = agent.init(key=jax.random.key(0)), jax.random.key(1)
    started = time.process_time()
    step = jax.jit(lambda state, batches: agent.update(state, batches, key=key)).lower(state, batches).compile()
    compiling, needs = time.process_time() - started, step.memory_analysis()
    update_ms = processor_ms(lambda: step(state, batches), repeats)

    model, image = config.agent.world_model, batches.observation["image"][0]
    features = jax.random.normal(key, (*FRAMES, model.rssm.feature_size))
    encoder = picture_encoder(shape, model.patches, model.cnn_depth, key=key)
    decoder = picture_decoder(features.shape[-1], shape, model.patches, model.cnn_depth, key=key)
    encode = jax.jit(jax.grad(lambda net: net(image).sum()))
    decode = jax.jit(jax.grad(lambda net, features: net.error(features, image).sum(), (0, 1)))
    frames = FRAMES[0] * FRAMES[1]
    return {
        "codec": codec,
        "update_ms": round(update_ms),
        "encode_us": round(1e3 * processor_ms(lambda: encode(encoder), repeats) / frames),
        "decode_us": round(1e3 * processor_ms(lambda: decode(decoder, features), repeats) / frames),
        "compile_s": round(compiling, 1),
        "program_mb": None if needs is None else round(needs.temp_size_in_bytes / 2**20),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def picture(decisions: int) -> dict[str, Any]:
    """Microseconds of the processor for each picture (of six channels): drawing, storing and gathering."""
    import numpy as np

    from prudence.data.replay import Replay
    from prudence.envs.registry import configure, make, spaces_of
    from prudence.types import Transition

    config = configure("SafetyPointGoal1-v0", obs=("vision",), cameras="both", action_repeat=4)
    env, plain = make(config), make(configure("SafetyPointGoal1-v0", obs=("lidar",), action_repeat=4))
    rng = np.random.default_rng(0)

    def stepping(env: Any) -> float:
        env.reset(seed=0)
        started = time.process_time()
        for _ in range(decisions):
            if any(env.step(rng.uniform(-1, 1, 2))[2:4]):
                env.reset()
        return 1e6 * (time.process_time() - started) / decisions

    stepping(env), stepping(plain)  # Warms up.
    decision, without = stepping(env), stepping(plain)
    off, zeros = np.zeros(1, bool), np.zeros(1, np.float32)
    row = Transition({"image": pictures(1)}, np.zeros((1, 2), np.float32), zeros, zeros[None], off, off, off)
    with tempfile.TemporaryDirectory() as directory:
        replay = Replay(Path(directory), spaces_of(env, config), 1, capacity=4096, seed=0)
        started = time.process_time()
        for _ in range(4096):
            replay.add(row)
        replay.flush()
        storing = 1e6 * (time.process_time() - started) / 4096
        gathering = 1e3 * processor_ms(lambda: replay.gather(replay.draw(*FRAMES)).reward, 20) / (FRAMES[0] * FRAMES[1])
    return {
        "decision_us": round(decision),
        "decision_of_lidar_us": round(without),
        "decisions_per_second": round(1e6 / decision),
        "storing_us": round(storing, 1),
        "gathering_us": round(gathering, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codecs", nargs="*", default=list(CODECS), choices=CODECS)
    parser.add_argument("--parts", nargs="*", default=["update", "picture"], choices=["update", "picture"])
    parser.add_argument("--cores", type=int, help="by default all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--decisions", type=int, default=500)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: a.cores])
    if a.alone:
        print(json.dumps(update(a.codecs[0], a.repeats) if "update" in a.parts else picture(a.decisions)))
        return
    parts = [["update", "--codecs", codec] for codec in a.codecs] if "update" in a.parts else []
    parts += [["picture"]] if "picture" in a.parts else []
    rows = []
    for part in parts:
        command = [sys.executable, __file__, "--alone", "--repeats", str(a.repeats), "--decisions", str(a.decisions)]
        done = subprocess.run([*command, "--parts", *part], stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print("  ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
    if a.out is not None:
        from prudence.runs.provenance import describe

        a.out.write_text(json.dumps({"rows": rows, **describe()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
