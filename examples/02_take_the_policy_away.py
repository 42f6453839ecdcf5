"""Train on a custom environment, and use the policy without it.

The debug preset takes seconds and learns almost nothing, but its run has all parts: metrics, checkpoints and a policy.
For a useful policy choose ``preset="cpu"`` and some hundred thousand steps.
"""

from __future__ import annotations

import importlib
import sys
import tempfile

import prudence

TASK = "01_custom_environment:SpeedLimit"


def main(directory: str) -> None:
    # The budget is five steps above the speed limit, in an episode of a hundred steps.
    run = prudence.train(
        "safedreamer-bsrp-lag", TASK, preset="debug", steps=400, cost_limit=5.0, out=f"{directory}/run"
    )
    # The policy needs only the directory of the run, neither the task nor a simulator. It takes the environment's own
    # observations and returns its own actions, whatever their bounds, shapes and names are.
    policy = prudence.load_policy(run)

    module, name = TASK.split(":")
    env = getattr(importlib.import_module(module), name)()
    (observation, _), total_reward, total_cost, truncated = env.reset(seed=0), 0.0, 0.0, False
    policy.reset()
    while not truncated:
        observation, reward, _, truncated, info = env.step(policy(observation))
        total_reward, total_cost = total_reward + reward, total_cost + info["cost"]
    print(f"one episode: return {total_reward:.2f}, cost {total_cost:.0f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(scratch)
