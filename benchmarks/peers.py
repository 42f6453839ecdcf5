"""Time of one gradient step of DreamerV3, in this library and in popular PyTorch implementations.

    python benchmarks/peers.py --python TORCH_PYTHON --dreamerv3-torch CHECKOUT --r2dreamer CHECKOUT

All have batch 16x64, deter = units = 256, 16x16 latents, a vector of 60 numbers, all 1024 imagination starts, horizon
15, and the same cores or the same GPU (--device cuda). The checkouts are github.com/NM512/dreamerv3-torch and
github.com/NM512/r2dreamer. TORCH_PYTHON is an interpreter with torch, numpy, tensorboard, tensordict, omegaconf and
ruamel.yaml. PyTorch runs eagerly (torch.compile off). Each implementation runs alone in its own process. Rounds are
repeated, so that a slow period of the machine affects all of them.

r2dreamer is measured in float32, twice: with its released loss (its own representation loss without a decoder; one
layer in the reward and continue heads, three in actor and critic), and with rep_loss=dreamer, which reconstructs like
the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

DREAMERV3_TORCH = """
import sys, time, types
from argparse import Namespace
import numpy as np, ruamel.yaml, torch
device, checkout, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.path.insert(0, checkout)
import models, networks
begin = networks.MLP.__init__  # Its default device is a GPU, and some callers do not pass a device.
begin.__defaults__ = tuple(device if value == "cuda" else value for value in begin.__defaults__)
d = ruamel.yaml.YAML(typ="safe", pure=True).load(open(checkout + "/configs.yaml"))["defaults"]
vectors = dict(mlp_keys=".*", cnn_keys="$^", mlp_layers=2, mlp_units=256)
d.update(device=device, compile=False, dyn_hidden=256, dyn_deter=256, dyn_stoch=16, dyn_discrete=16, units=256,
         num_actions=2, encoder={**d["encoder"], **vectors}, decoder={**d["decoder"], **vectors})
for name in ("opt_eps", "model_lr", "grad_clip"): d[name] = float(d[name])
for part in ("actor", "critic"):
    for name in ("lr", "eps", "grad_clip"): d[part][name] = float(d[part][name])
d["actor"]["entropy"] = float(d["actor"]["entropy"])
space = types.SimpleNamespace(spaces={"state": np.zeros(60)})
world = models.WorldModel(space, None, 0, Namespace(**d))
behaviour = models.ImagBehavior(Namespace(**d), world)
world.to(device); behaviour.to(device)
world.requires_grad_(False); behaviour.requires_grad_(False)
rng, lead = np.random.default_rng(0), (16, 64)
f = lambda *more: rng.random((*lead, *more)).astype(np.float32)
data = dict(state=f(60), action=f(2), reward=f(), is_first=np.zeros(lead, np.float32),
            is_terminal=np.zeros(lead, np.float32), image=np.zeros((*lead, 1), np.float32))
objective = lambda feat, state, action: world.heads["reward"](world.dynamics.get_feat(state)).mode()
def step():
    post, _, _ = world._train(dict(data))
    behaviour._train(post, objective)
wait = torch.cuda.synchronize if device == "cuda" else lambda: None
for _ in range(2): step()
wait()
for _ in range(repeats):
    start = time.perf_counter(); step(); wait(); print(f"ms {1e3 * (time.perf_counter() - start)}")
"""

R2DREAMER = """
import contextlib, sys, time, types
import numpy as np, torch
from omegaconf import OmegaConf
from tensordict import TensorDict
device, checkout, repeats, rep_loss = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
sys.path.insert(0, checkout)
import dreamer
dreamer.autocast = lambda **_: contextlib.nullcontext()  # With float16 a step takes minutes on a CPU.
torch.set_default_device(device)
c = OmegaConf.load(checkout + "/configs/model/_base_.yaml")
c.update(OmegaConf.create(dict(deter=256, hidden=256, discrete=16, depth=16, units=256, act="SiLU", norm=True)))
c.rssm.stoch, c.compile, c.rep_loss = 16, False, rep_loss
env = dict(encoder=dict(mlp_keys=".*", cnn_keys="$^"), decoder=dict(mlp_keys=".*", cnn_keys="$^"))
full = OmegaConf.create(dict(device=device, env=env, model=c))
OmegaConf.resolve(full)
space = types.SimpleNamespace(spaces={"state": np.zeros(60)})
agent = dreamer.Dreamer(full.model, space, types.SimpleNamespace(shape=(2,)))
f = lambda *more: torch.rand(16, 64, *more)
zero = torch.zeros(16, 64, 1, dtype=torch.bool)
data = TensorDict(dict(state=f(60), action=f(2), reward=f(1), is_first=zero, is_last=zero, is_terminal=zero), (16, 64))
class Buffer:
    def sample(self): return data.clone(), None, (torch.zeros(16, 16, 16), torch.zeros(16, 256))
    def update(self, *_): pass
wait = torch.cuda.synchronize if device == "cuda" else lambda: None
for _ in range(2): agent.update(Buffer())
wait()
for _ in range(repeats):
    start = time.perf_counter(); agent.update(Buffer()); wait(); print(f"ms {1e3 * (time.perf_counter() - start)}")
"""

OURS = """
import sys, time
sys.path.insert(0, sys.argv[1])
import jax, update
agent, length = update.agent_of("peers", "discrete", sys.argv[3])
state, batches, key = agent.init(key=jax.random.key(0)), update.batches_of(length), jax.random.key(1)
step = lambda: jax.block_until_ready(agent.update(state, batches, key=key))
step()
for _ in range(int(sys.argv[2])):
    start = time.perf_counter(); step(); print(f"ms {1e3 * (time.perf_counter() - start) / update.UPDATES}")
"""


def milliseconds(python: str, code: str, *arguments: str) -> list[float]:
    done = subprocess.run([python, "-c", code, *arguments], capture_output=True, text=True, check=False)
    times = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("ms ")]
    if done.returncode or not times:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter with torch and what the checkouts import")
    parser.add_argument("--dreamerv3-torch", type=Path, required=True)
    parser.add_argument("--r2dreamer", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=5, help="timed steps in each round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="PyTorch's; JAX takes its first one")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    here, repeats = str(Path(__file__).parent), str(options.repeats)
    r2dreamer = (options.python, R2DREAMER, options.device, str(options.r2dreamer), repeats)
    contestants = {
        "prudence, BSRP-Lag, pathwise": (sys.executable, OURS, here, repeats, "pathwise"),
        "prudence, BSRP-Lag, reinforce": (sys.executable, OURS, here, repeats, "reinforce"),
        "dreamerv3-torch, pathwise": (
            options.python,
            DREAMERV3_TORCH,
            options.device,
            str(options.dreamerv3_torch),
            repeats,
        ),
        "r2dreamer, reinforce": (*r2dreamer, "r2dreamer"),
        "r2dreamer, reinforce, decoder": (*r2dreamer, "dreamer"),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, arguments in contestants.items():
            times[name] += milliseconds(*arguments)
            print(f"{name:32} {np.median(times[name]):8.0f} ms (least {min(times[name]):.0f})", flush=True)
    if options.out:
        result = {name: {"median_ms": float(np.median(t)), "least_ms": min(t)} for name, t in times.items()}
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
