"""Random search and early stopping, by Ray Tune, and the objective of both.

Ray Tune's ranges draw the samples, and its ASHA scheduler decides who is stopped. Its ``Tuner`` is not used: that would
keep checkpoints and a state of its own beside those of the runs, and the two could disagree after a kill. Here all that
ASHA has to know is read again from the metrics of the runs.
"""

from __future__ import annotations

import importlib
import math
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

RANGES = ("uniform", "loguniform", "randint", "choice")
"""Ray Tune's names of ranges. ``randint`` excludes its upper end."""
MILESTONES = (10, 30, 90)
"""Percent of a trial's steps after which ASHA compares it with the others."""
_KEPT = 3
"""One trial in so many goes on at each milestone."""
_INFEASIBLE = -1e9
"""Below every return of a trial within its budget."""


def objective(episode_return: float, costs: Sequence[float], budgets: Sequence[float]) -> float:
    """The highest return among those whose cost is within the budget, as one number to maximise.

    It is the return, if every cost is within its budget. Otherwise it is -1e9 minus the violation Σ max(0, cost -
    budget), below every return that is within. So trials within their budgets are ordered by return, the others by how
    much they exceed them, and all of the former come before all of the latter.

    Args:
        episode_return: mean return of an episode.
        costs: ``[C]`` mean costs of an episode.
        budgets: ``[C]`` what they may be, or one for all. Empty for an agent that ignores costs: then every cost is
            within.
    """
    limits = each_budget(budgets, len(costs)) or (math.inf,) * len(costs)
    violation = sum(max(0.0, cost - limit) for cost, limit in zip(costs, limits, strict=True))
    return _INFEASIBLE - violation if violation > 0 else max(episode_return, _INFEASIBLE)


def each_budget(budgets: Sequence[float], constraints: int) -> tuple[float, ...]:
    """A budget for each constraint, where one may be given for all. Empty without budgets."""
    return tuple(budgets) * (constraints if len(budgets) == 1 else 1)


def require(module: str) -> Any:
    """``ray`` or a part of it.

    Raises:
        ImportError: Ray is not installed. The message has the remedy.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"sweeps need Ray ({error}): pip install 'prudence-rl[sweep]'") from error


def range_fault(kind: str, ends: Any) -> str | None:
    """What is wrong with a range; None if nothing is."""
    if kind == "choice":
        return None if isinstance(ends, list) and ends else "give a list of choices"
    number = int if kind == "randint" else int | float
    if not (isinstance(ends, list) and len(ends) == 2 and all(_is(end, number) for end in ends)):
        return f"give its {'whole ' if kind == 'randint' else ''}lowest and highest number, [low, high]"
    if not ends[0] < ends[1] or not np.isfinite(ends).all():
        return "its low end must be below its high end"
    return "its low end must be above 0" if kind == "loguniform" and ends[0] <= 0 else None


def draw(ranges: Mapping[str, Mapping[str, Any]], number: int, seed: int) -> list[dict[str, Any]]:
    """Samples of ranges, such as ``{"agent.discount": {"uniform": [0.9, 1.0]}}``. Floats have four digits.

    Each setting has a random sequence of its own. So a larger ``number`` adds samples to the same first ones.

    Raises:
        ImportError: Ray is not installed.
    """
    tune = require("ray.tune")
    columns: dict[str, list[Any]] = {}
    for name, described in ranges.items():
        [(kind, ends)] = described.items()
        domain = getattr(tune, kind)(*([ends] if kind == "choice" else ends))
        random = np.random.default_rng([seed, zlib.crc32(name.encode())])
        columns[name] = [_plain(domain.sample(random_state=random)) for _ in range(number)]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


class EarlyStopping:
    """ASHA (Li et al. 2020, "A system for massively parallel hyperparameter tuning"), by Ray Tune.

    At each milestone a trial goes on if it is among the best third of those that reached it before. Only trials of one
    group, which is a task and a budget, are compared. Nothing is kept: a driver that starts again tells it of all
    trials again.
    """

    def __init__(self) -> None:
        self._schedulers = require("ray.tune.schedulers")
        self._of: dict[Hashable, Any] = {}
        self._seen: set[tuple[str, int]] = set()

    def judge(self, name: str, group: Hashable, share: float, score: Callable[[float], float | None]) -> str | None:
        """Compares a trial at each milestone that it has passed since the last call.

        Args:
            name: of the trial.
            group: trials of the same group are compared.
            share: of its steps that the trial has made.
            score: the objective at a share of the steps; None if no episode had ended by then.

        Returns:
            Why the trial has to stop; None if it goes on.
        """
        trial = SimpleNamespace(trial_id=name)
        for milestone in MILESTONES:
            if 100 * share < milestone or (name, milestone) in self._seen:
                continue
            value = score(milestone / 100)
            if value is None:
                continue
            self._seen.add((name, milestone))
            asha = self._scheduler(group, trial)
            if asha.on_trial_result(None, trial, {"percent": milestone, "objective": value}) == "STOP":
                return f"ASHA: not among the best third at {milestone} % of the steps (objective {value:.4g})"
        return None

    def _scheduler(self, group: Hashable, trial: Any) -> Any:
        if group not in self._of:
            self._of[group] = self._schedulers.ASHAScheduler(
                time_attr="percent",
                metric="objective",
                mode="max",
                max_t=100,
                grace_period=MILESTONES[0],
                reduction_factor=_KEPT,
            )
        self._of[group].on_trial_add(None, trial)
        return self._of[group]


def _is(value: Any, number: Any) -> bool:
    return isinstance(value, number) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return float(f"{value:.4g}") if isinstance(value, float) else value
