"""Run a policy that `prudence export RUN` wrote. It needs only NumPy, JAX and flatbuffers, not Prudence.

    python 04_run_exported.py policy.zip

Copy the class ``Policy`` to the robot. It takes the environment's own observations and returns its own actions.
Without a file, this example first trains and exports a tiny agent, which needs Prudence.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile

import jax
import numpy as np
from jax import export


class Policy:
    """An exported policy. ``seed`` determines its samples. Call ``reset`` when an episode begins, and the policy once
    for each of the environment's steps."""

    def __init__(self, file: str, seed: int = 0) -> None:
        with zipfile.ZipFile(file) as archive:
            self.about = json.loads(archive.read("policy.json"))
            if self.about["format"] != 2:
                raise ValueError(f"{file} has format {self.about['format']} instead of 2: export its run again")
            program = export.deserialize(bytearray(archive.read("policy.stablehlo")))
        self._decide, self._seed, self._step = jax.jit(program.call), np.uint32(seed), 0
        self.reset()

    def reset(self) -> None:
        self._memory = [np.zeros(shape, jax.numpy.dtype(dtype)) for shape, dtype in self.about["memory"]]
        self._first, self._left = True, 0

    def __call__(self, observation):
        if not self._left:  # Else the last action goes on.
            self._action, self._left = self._decided(observation), self.about["action_repeat"]
        self._left -= 1
        return self._action

    def _decided(self, observation):
        if not isinstance(observation, dict):  # There is one, by itself.
            observation = dict.fromkeys(self.about["observation"], observation)
        seen = {name: self._checked(name, observation) for name in self.about["observation"]}
        step, first = np.uint32(self._step), np.array(self._first)
        action, self._memory = self._decide(self._memory, seen, first, self._seed, step)
        self._step, self._first = self._step + 1, False
        own = self.about["action"]  # The program computes in 32 bits.
        return np.clip(np.asarray(action, np.float64), own["low"], own["high"]).astype(own["dtype"])

    def _checked(self, name: str, observation) -> np.ndarray:
        """Checks an observation. A NaN would stay in the memory, and a picture in [0, 1] would appear black."""
        shape, dtype = self.about["observation"][name]
        value = np.asarray(observation[name]).astype(dtype, casting="same_kind")
        if value.shape != tuple(shape) or not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite and have shape {shape}; it has shape {value.shape}")
        return value


def main(file: str) -> None:
    policy = Policy(file)
    nothing = {name: np.zeros(shape, dtype) for name, (shape, dtype) in policy.about["observation"].items()}
    print(f"{policy.about['agent']} on {policy.about['task']} sees {', '.join(nothing)}")
    for _ in range(3):
        print("action", policy(nothing))


def trained(directory: str) -> str:
    import prudence
    from prudence.deploy.export import export_run

    run = prudence.train("safedreamer-bsrp-lag", "probe/cost", preset="debug", steps=100, out=f"{directory}/run")
    return str(export_run(run).path)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(trained(scratch))
