"""A trial of a sweep: what it trains, the name of its directory, and its commands."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prudence.runs.files import safe_name

_LONGEST = 100


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        agent, task, preset, seed: as of `prudence train`.
        obs: names of observations; empty for the task's first ones.
        budget: allowed cost of an episode, one for all constraints or one for each; empty for the preset's.
        steps: raw environment steps; None for the preset's.
        settings: further settings by name, such as ``("agent.horizon", 10)``. A tuple is a setting of several values.
    """

    agent: str
    task: str
    preset: str = "cpu"
    obs: tuple[str, ...] = ()
    budget: tuple[float, ...] = ()
    steps: int | None = None
    seed: int = 0
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """The name of the run's directory. It depends on the trial alone, not on the others of the sweep.

        >>> Trial("ppo-lag", "SafetyPointGoal1-v0", obs=("lidar",), budget=(25.0,)).name
        'ppo-lag-SafetyPointGoal1-v0-lidar-budget-25-seed-0'
        >>> Trial("ppo-lag", "my_robot:Arm", settings=(("agent.discount", 0.9),)).name
        'ppo-lag-my_robot-Arm-agent.discount-0.9-seed-0'
        """
        parts = [self.agent, self.task, *self.obs]
        parts += ["budget", *(f"{limit:g}" for limit in self.budget)] if self.budget else []
        parts += [f"{name}-{'-'.join(_words(value))}" for name, value in self.settings]
        whole = "-".join([*parts, "seed", str(self.seed)])
        if len(whole) <= _LONGEST:
            return safe_name(whole)
        digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
        return f"{safe_name(whole)[: _LONGEST - 9]}-{digest}"

    def train(self, out: Path) -> list[str]:
        """The arguments of ``prudence`` that train the trial, or go on with it, in the directory ``out``."""
        given = ["train", self.agent, "--task", self.task, "--preset", self.preset]
        given += ["--obs", *self.obs] if self.obs else []
        given += ["--cost-limit", *(f"{limit:g}" for limit in self.budget)] if self.budget else []
        given += [] if self.steps is None else ["--steps", str(self.steps)]
        return [*given, "--seed", str(self.seed), "--out", str(out), *self.setting_arguments]

    def evaluate(self, out: Path, episodes: int) -> list[str]:
        """The arguments of ``prudence`` that evaluate the run in ``out``. The task is named, so it is trusted."""
        return ["evaluate", str(out), "--episodes", str(episodes), "--task", self.task]

    @property
    def setting_arguments(self) -> list[str]:
        """The settings as arguments of `prudence train`.

        >>> Trial("ppo", "a", settings=(("env.flag", False), ("agent.unit_sizes", (8, 8)))).setting_arguments
        ['--env.no-flag', '--agent.unit-sizes', '8', '8']
        """
        given: list[str] = []
        for name, value in self.settings:
            group, _, last = name.replace("_", "-").rpartition(".")
            prefix = f"--{group}." if group else "--"
            if isinstance(value, bool):
                given.append(f"{prefix}{'' if value else 'no-'}{last}")
            else:
                given += [f"{prefix}{last}", *_words(value)]
        return given


def _words(value: Any) -> list[str]:
    """The words of a setting's value.

    >>> _words((1, "soft")), _words(True), _words(1e-4)
    (['1', 'soft'], ['true'], ['0.0001'])
    """
    values = value if isinstance(value, tuple) else (value,)
    return [item if isinstance(item, str) else json.dumps(item) for item in values]
