"""Safe reinforcement learning with world models.

>>> import prudence
>>> run = prudence.train("safedreamer-bsrp-lag", "SafetyPointGoal1-v0", cost_limit=2.0)  # doctest: +SKIP
>>> policy = prudence.load_policy(run)  # doctest: +SKIP
>>> action = policy(observation)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prudence.cli.api import train
    from prudence.data.dataset import Dataset
    from prudence.datasets.record import record_dataset
    from prudence.deploy.policy import Policy, load_policy
    from prudence.envs.check import check

__all__ = ["Dataset", "Policy", "check", "load_policy", "record_dataset", "train"]


def __getattr__(name: str) -> Any:
    # Late, so that taking one part of the library does not import all of it.
    if name == "train":
        from prudence.cli.api import train

        return train
    if name == "check":
        from prudence.envs.check import check

        return check
    if name in ("Policy", "load_policy"):
        from prudence.deploy import policy

        return getattr(policy, name)
    if name == "Dataset":
        from prudence.data.dataset import Dataset

        return Dataset
    if name == "record_dataset":
        from prudence.datasets.record import record_dataset

        return record_dataset
    raise AttributeError(f"module 'prudence' has no attribute '{name}'")
