"""A custom environment: any Gymnasium environment that reports ``info["cost"]``.

A cart moves on a line. Its reward is its speed, and a speed above 0.5 has a cost. Run this file to step the
environment. To train on it, name it ``module:Class`` and run the command in the folder of this file:

    prudence train safedreamer-bsrp-lag --task 01_custom_environment:SpeedLimit
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np


class SpeedLimit(gym.Env):
    """Observation: position, velocity. Reward: speed. Cost: 1 for every step above the limit."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    time_limit = 100  # It truncates itself, and says so: nothing else tells how long an episode is.

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.time = np.zeros(2, np.float32), 0
        return self.state.copy(), {}

    def step(self, action):
        self.state[1] = 0.9 * self.state[1] + 0.1 * action[0]
        self.state[0] += 0.1 * self.state[1]
        self.time += 1
        speed = abs(float(self.state[1]))
        return self.state.copy(), speed, False, self.time >= self.time_limit, {"cost": float(speed > 0.5)}


if __name__ == "__main__":
    from prudence.envs.base import EnvConfig
    from prudence.envs.vector import make_vector

    envs = make_vector(EnvConfig("01_custom_environment:SpeedLimit"), num_envs=2, seed=0)
    rows = envs.reset()
    total_reward, total_cost = np.zeros(2), np.zeros(2)
    while not rows.is_last.all():
        rows = envs.step(np.array([[1.0], [0.4]], np.float32))  # Full throttle and a careful driver.
        total_reward, total_cost = total_reward + rows.reward, total_cost + rows.cost[:, 0]
    print(f"spaces: {envs.spaces}")
    print(f"full throttle: return {total_reward[0]:.1f}, cost {total_cost[0]:.0f}")
    print(f"careful:       return {total_reward[1]:.1f}, cost {total_cost[1]:.0f}")
    envs.close()
