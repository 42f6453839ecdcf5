"""Check environments before training on them: CartPole with a cost, and an environment with five faults.

The same from the command line, in the folder of this file:

    prudence check 05_check_your_environment:CarefulCartPole
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np

import prudence


class CarefulCartPole(gym.Wrapper):
    """CartPole-v1, and a cost of 1 for every step more than 20 cm off the centre."""

    cost_names = ("off_centre",)

    def __init__(self, render_mode=None):
        super().__init__(gym.make("CartPole-v1", render_mode=render_mode))

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated, truncated, {**info, "cost": float(abs(observation[0]) > 0.2)}


class FiveFaults(gym.Env):
    """A sensor on a turntable, with a fault in each of five places."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Box(0.0, 100.0, (1,), np.float32)
    running = 0

    def __init__(self):
        if FiveFaults.running:
            raise RuntimeError("the simulator runs in this process already")  # 1: there can be only one.
        FiveFaults.running += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        # 2: not drawn from self.np_random, so that the seed decides nothing.
        self.angle = np.random.uniform(-1, 1)  # noqa: NPY002
        return self.observe(), {}

    def step(self, action):
        self.angle += 0.01 * float(action[0])
        cost = 1.0 if np.cos(self.angle) > 0.9 else -0.1  # 3: a negative cost.
        return self.observe(), float(np.sin(self.angle)), False, False, {"cost": cost}  # 4: it never ends.

    def observe(self):
        return np.array([np.sin(self.angle), self.angle], np.float32)  # 5: the angle leaves [-1, 1].

    def close(self):
        FiveFaults.running -= 1


if __name__ == "__main__":
    for name in ("CarefulCartPole", "FiveFaults"):
        report = prudence.check(f"05_check_your_environment:{name}", seconds=1.0)
        print(f"{name}\n{report}\ntraining would be {'possible' if report.trainable else 'refused'}\n")
