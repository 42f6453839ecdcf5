"""Scores of systems. A system is a group of runs, from run directories or records, that differ only in the seed.

The scores are return and costs of evaluation episodes, cost regret of training, and LAMBDA's normalised scores (As et
al., 2022, section 5.1 and appendix H, after Ray et al., 2019). Unknown scores are None.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from prudence.evidence import plot, record
from prudence.evidence.content import Verdict, read_entries, verdicts
from prudence.evidence.statistics import Interval, hierarchical_interval, interquartile_mean
from prudence.runs.curves import Series
from prudence.runs.directory import RunDirectory, RunDirectoryError


@dataclass(frozen=True)
class Run:
    """One run, with N evaluation episodes (0 if it was not evaluated yet) and C constraints.

    Attributes:
        source: the directory from which it was read: its own or that of a record.
        config: its ``config.json``.
        raw_steps, minutes: raw steps and minutes of training; None for an agent that does not learn.
        curves: metrics over raw environment steps; empty for an agent that does not learn.
        returns, costs: ``[N]`` and ``[N, C]``, sums over each evaluation episode.
        cost_names: names of the C constraints.
        budgets: ``[C]`` budgets of the agent; None if it ignores costs.
        verdicts: ``[C]`` what the evaluation shows of them; empty if it ignores costs, or was not evaluated yet.
        evaluation_seed: seed of the evaluation; None if unknown.
        explored: whether the policy explored in the evaluation as in training.
    """

    source: str
    config: Mapping[str, Any]
    raw_steps: int | None
    minutes: float | None
    curves: Mapping[str, Series]
    returns: Float[np.ndarray, " N"]
    costs: Float[np.ndarray, "N C"]
    cost_names: tuple[str, ...]
    budgets: tuple[float, ...] | None
    verdicts: tuple[Verdict, ...]
    evaluation_seed: int | None
    explored: bool

    @property
    def seed(self) -> Any:
        """Seed of training."""
        return self.config.get("seed")

    @property
    def task(self) -> str:
        """Name of the task, with the options that change it."""
        env = self.config.get("env") or {}
        changed = {name: env[name] for name in ("time_limit", "kwargs") if env.get(name)}
        name = str(env.get("task", "a task without a name"))
        return f"{name} with {json.dumps(changed)}" if changed else name


@dataclass(frozen=True)
class Score:
    """Mean and interquartile mean over the evaluation episodes of all runs, with 95 % bootstrap intervals."""

    mean: Interval
    iqm: Interval


@dataclass(frozen=True)
class CostScore:
    """Scores of one constraint.

    Attributes:
        name: name of the constraint.
        budget: its budget; None if no run has one.
        score: episode costs.
        within: share of episodes whose cost is at most the budget; None without a budget.
        regret: mean of the runs' :func:`cost_regret`; None unless all of them are known.
    """

    name: str
    budget: float | None
    score: Score
    within: float | None
    regret: float | None


@dataclass(frozen=True)
class System:
    """The runs of one system with their label and scores."""

    label: str
    runs: tuple[Run, ...]
    returns: Score
    costs: tuple[CostScore, ...]

    @property
    def means(self) -> Float[np.ndarray, "S K"]:
        """``[S, 1 + C]`` mean return and costs of each run."""
        return np.stack([np.array([run.returns.mean(), *run.costs.mean(0)]) for run in self.runs])


class Normalised(NamedTuple):
    """Scores relative to those of a reference: return, and for each constraint excess cost and cost regret."""

    returns: float | None
    costs: tuple[float | None, ...]
    regrets: tuple[float | None, ...]


def load_runs(source: Path | str, *, evaluated: bool = True) -> list[Run]:
    """Loads the run of a run directory, or all runs of a record directory.

    Args:
        evaluated: requires that the runs were evaluated.

    Raises:
        RunDirectoryError: the directory is neither a run nor a record, or an evaluation is required but missing.
        ValueError: a file cannot be read. The message names it.
    """
    path, directory = Path(source) / record.FILE, RunDirectory(Path(source))
    if path.exists():
        return [_run(source, entry) for entry in read_entries(path, evaluated=evaluated)]
    if directory.exists:
        return [_run(source, record.describe(directory, evaluated=evaluated))]
    raise RunDirectoryError(
        f"{source} holds neither a run (config.json) nor a record ({record.FILE}): name directories that "
        "`prudence train` or `prudence record` wrote"
    )


def score_systems(runs: Sequence[Run], budget: Sequence[float] | None = None, by: Sequence[str] = ()) -> list[System]:
    """Groups runs of one task by system (:func:`group_systems`), and scores the systems.

    Args:
        budget: budget for all systems, one number or one for each constraint. By default the runs' own budget.
        by: settings by which systems are told apart, too (:func:`group_systems`).

    Raises:
        ValueError: the runs differ in task, constraints or budget, or a run is given twice.
    """
    groups = group_systems(runs, by)
    budgets = _budgets(runs, budget)
    return [_score_system(label, group, budgets) for label, group in groups.items()]


def group_systems(runs: Sequence[Run], by: Sequence[str] = ()) -> dict[str, list[Run]]:
    """Groups runs of one task by their label (:func:`prudence.evidence.plot.system_labels`).

    Args:
        by: settings that are part of the label, such as ``agent.horizon``.

    Raises:
        ValueError: the runs differ in task or constraints, a run is given twice, or none has a setting of ``by``.
    """
    _require_same(runs, "tasks", lambda run: run.task, "compare one task at a time")
    _require_same(runs, "constraints", lambda run: ", ".join(run.cost_names), "give all runs the same --env.costs")
    for name in by:
        if not any(plot.stated(run.config, name) for run in runs):
            raise ValueError(f"no run has the setting '{name}': give its name as in config.json, such as agent.horizon")
    groups: dict[str, list[Run]] = {}
    for run, label in zip(runs, plot.system_labels([run.config for run in runs], by)[1], strict=True):
        groups.setdefault(label, []).append(run)
    for group in groups.values():
        _require_distinct(group)
    return groups


def cost_regret(costs: Series) -> float | None:
    """Cost regret ρ = Σ_t c_t / T (As et al., 2022, section 5.1), in cost for each raw environment step.

    The costs are those of finished training episodes, so T is the step at which the last of them ended.

    Args:
        costs: cost of every training episode, at the step at which it ended.

    Returns:
        The regret, or None if no episode has finished.
    """
    return float(costs.values.sum() / costs.steps[-1]) if len(costs.steps) and costs.steps[-1] > 0 else None


def normalise(system: System, reference: System) -> Normalised:
    """Scores relative to those of an unconstrained reference (As et al., 2022, appendix H, equation 13).

    J̄ = J / J', J̄c = max(0, Jc - d) / (Jc' - d), ρ̄c = ρc / ρc', with the reference's J', Jc' and ρc' and the budget d.

    A ratio without meaning is None: the reference's return or regret is not positive, or the reference keeps a budget
    that the system exceeds (the paper divides by at least 1e-6 there).
    """
    pairs = list(zip(system.costs, reference.costs, strict=True))
    return Normalised(
        _ratio(system.returns.mean.estimate, reference.returns.mean.estimate),
        tuple(_excess_ratio(ours, theirs) for ours, theirs in pairs),
        tuple(_ratio(ours.regret, theirs.regret) for ours, theirs in pairs),
    )


def differences(runs: Sequence[Run]) -> list[str]:
    """Names of the settings in which the configurations of runs differ, except the seed and the number of steps.

    Settings that only some configurations have are ignored. They are newer, and their default is the old behaviour.
    """
    settings = [dict(_settings(run.config)) for run in runs]
    shared = [name for name in settings[0] if all(name in other for other in settings)]
    return [n for n in shared if n not in ("seed", "loop.steps") and any(s[n] != settings[0][n] for s in settings)]


def curve_names(constraints: Sequence[str]) -> list[str]:
    """Names of the metrics for return and costs of training episodes, in the order of ``constraints``."""
    costs = ["episode/cost"] if len(constraints) == 1 else [f"episode/cost_{name}" for name in constraints]
    return ["episode/return", *costs]


def _run(source: Path | str, entry: Mapping[str, Any]) -> Run:
    found = entry["evaluation"] or _not_evaluated(entry)
    curves = {name: np.array(points, dtype=float) for name, points in entry["curves"].items() if points}
    budgets = found.get("budgets")
    return Run(
        source=str(source),
        config=entry["config"],
        raw_steps=entry["raw_steps"],
        minutes=entry["training_minutes"],
        curves={name: Series(points[:, 0], points[:, 1]) for name, points in curves.items()},
        returns=np.array(found["returns"], dtype=float),
        costs=np.array(found["costs"], dtype=float).reshape(-1, len(found["cost_names"])),
        cost_names=tuple(found["cost_names"]),
        budgets=None if budgets is None else tuple(map(float, budgets)),
        verdicts=verdicts(found),
        evaluation_seed=found.get("seed"),
        explored=found.get("mode") == "train",
    )


def _not_evaluated(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation without episodes. Names of constraints come from the curves, budgets from the configuration."""
    several = sorted(n.removeprefix("episode/cost_") for n in entry["curves"] if n.startswith("episode/cost_"))
    names = several if len(several) > 1 else ["cost"]
    budgets = plot.budgets_of(entry["config"]) or None
    if budgets is not None and len(budgets) == 1:
        budgets = budgets * len(names)
    return {"returns": [], "costs": [], "cost_names": names, "budgets": budgets}


def _require_same(runs: Sequence[Run], what: str, key: Callable[[Run], str], remedy: str) -> None:
    sources: dict[str, list[str]] = {}
    for run in runs:
        sources.setdefault(key(run), []).append(run.source)
    if len(sources) > 1:
        found = "; ".join(f"{value} in {', '.join(dict.fromkeys(where))}" for value, where in sources.items())
        raise ValueError(f"these runs have different {what}: {found}. Therefore {remedy}")


def _require_distinct(runs: Sequence[Run]) -> None:
    """Refuses a run that is given twice. Counted as two seeds, it would make the intervals too narrow."""
    for index, run in enumerate(runs):
        for other in runs[:index]:
            same = (run.seed, run.evaluation_seed) == (other.seed, other.evaluation_seed)
            if same and not differences([run, other]):
                raise ValueError(f"{other.source} and {run.source} hold the same run, of seed {run.seed}: name it once")


def _budgets(runs: Sequence[Run], budget: Sequence[float] | None) -> list[float] | list[None]:
    number = len(runs[0].cost_names)
    if budget is not None:
        if len(budget) not in (1, number):
            raise ValueError(f"{len(budget)} budgets for the {number} constraints {', '.join(runs[0].cost_names)}")
        return [float(limit) for limit in budget] * (number if len(budget) == 1 else 1)
    minding = [run for run in runs if run.budgets is not None]
    _require_same(minding, "budgets", _budget, "give --budget what to hold all of them against")
    return list(minding[0].budgets or ()) if minding else [None] * number


def _budget(run: Run) -> str:
    return " ".join(f"{limit:g}" for limit in run.budgets or ())


def _score_system(label: str, runs: Sequence[Run], budgets: Sequence[float | None]) -> System:
    costs = [_score_cost(runs, index, budget) for index, budget in enumerate(budgets)]
    return System(label, tuple(runs), _score([run.returns for run in runs]), tuple(costs))


def _score_cost(runs: Sequence[Run], index: int, budget: float | None) -> CostScore:
    episodes, curve = np.concatenate([run.costs[:, index] for run in runs]), curve_names(runs[0].cost_names)[1 + index]
    regrets = [cost_regret(run.curves[curve]) if curve in run.curves else None for run in runs]
    known = [regret for regret in regrets if regret is not None]
    return CostScore(
        name=runs[0].cost_names[index],
        budget=budget,
        score=_score([run.costs[:, index] for run in runs]),
        within=None if budget is None else float(np.mean(episodes <= budget)),
        regret=float(np.mean(known)) if len(known) == len(runs) else None,
    )


def _score(samples: Sequence[Float[np.ndarray, " _"]]) -> Score:
    return Score(hierarchical_interval(samples), hierarchical_interval(samples, interquartile_mean))


def _ratio(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None or reference <= 0 else value / reference


def _excess_ratio(cost: CostScore, reference: CostScore) -> float | None:
    if cost.budget is None:
        return None
    excess = max(0.0, cost.score.mean.estimate - cost.budget)
    return 0.0 if excess == 0 else _ratio(excess, reference.score.mean.estimate - cost.budget)


def _settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
