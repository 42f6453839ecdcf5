"""Evaluation: episodes on seeds that training never uses, with statistics of return and costs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from prudence.cores.base import Agent, Mode
from prudence.deploy.deadline import RealTime
from prudence.envs.base import EnvConfig
from prudence.envs.vector import VectorEnv, episode_seed, make_vector, require_end
from prudence.evidence.sequential import METHOD, Decision, meaning, planned_looks
from prudence.evidence.statistics import CostBound, Interval, Status, bootstrap_interval, cost_bound
from prudence.runs.files import write_text_atomically
from prudence.types import Key, Metrics, Transition

_SEED_OFFSET = 1_000_000
"""Distance of the seeds of evaluation from the seeds of training."""
PARALLEL = 10
"""Default number of environments that an evaluation steps together."""
EPISODES, MOST_EPISODES = 20, 400
"""Default numbers of episodes: the fixed number, and the maximum when evaluating until decided."""


@dataclass(frozen=True)
class Evaluation:
    """N finished episodes of one policy.

    Attributes:
        task: name of the task.
        seed: seed of the evaluation.
        returns: ``[N]`` sum of rewards of each episode.
        costs: ``[N, C]`` sum of costs of each episode.
        lengths: ``[N]`` decisions of each episode.
        cost_names: names of the C constraints.
        budgets: ``[C]``, or None if the agent ignores costs.
        mode: how the agent acted: ``evaluate``, or ``train`` as in training.
        real_time: statistics of the deadline (:meth:`prudence.deploy.deadline.RealTime.summary`); None without one.
        goals: ``[N]`` goals reached in each episode; None if the environment does not report them (``info["goals"]``).
        decisions: one for each constraint if the evaluation ran until decided, else None. ``bounds`` are for a fixed
            number of episodes and do not hold for an evaluation until decided.
    """

    task: str
    seed: int
    returns: Float[np.ndarray, " N"]
    costs: Float[np.ndarray, "N C"]
    lengths: np.ndarray
    cost_names: tuple[str, ...]
    budgets: tuple[float, ...] | None
    mode: Mode = "evaluate"
    real_time: dict[str, float] | None = None
    goals: Float[np.ndarray, " N"] | None = None
    decisions: tuple[Decision, ...] | None = None

    @property
    def interval(self) -> Interval:
        """Mean return with its 95 % bootstrap interval."""
        return bootstrap_interval(self.returns)

    @property
    def bounds(self) -> tuple[CostBound, ...]:
        """Bounds on the expected episode cost of each constraint."""
        budgets = self.budgets or (float("inf"),) * len(self.cost_names)
        return tuple(cost_bound(self.costs[:, i], budget) for i, budget in enumerate(budgets))

    @property
    def violations(self) -> float:
        """Share of the episodes that cost anything (FOSP's constraint violation rate, CV)."""
        return float((self.costs > 0).any(axis=1).mean())

    @property
    def success(self) -> float | None:
        """Share of the episodes that reached a goal (FOSP's success rate, SR). None if goals are not reported."""
        return None if self.goals is None else float((self.goals > 0).mean())

    @property
    def verdicts(self) -> tuple[tuple[Status, str], ...]:
        """Status and one-line result of each constraint. It is empty if the agent ignores costs."""
        if self.budgets is None:
            return ()
        return tuple((found.status, found.verdict) for found in self.decisions or self.bounds)

    def metrics(self) -> Metrics:
        """Means as metrics for the log."""
        metrics = {
            "evaluation/return_mean": float(self.returns.mean()),
            "evaluation/cost_mean": float(self.costs.sum(1).mean()),
            "evaluation/length_mean": float(self.lengths.mean()),
            "evaluation/violations": self.violations,
        }
        if self.goals is not None:
            metrics["evaluation/goals_mean"] = float(self.goals.mean())
            metrics["evaluation/success"] = float((self.goals > 0).mean())
        if len(self.cost_names) > 1:
            metrics |= {
                f"evaluation/cost_{n}": float(c) for n, c in zip(self.cost_names, self.costs.mean(0), strict=True)
            }
        return metrics

    def one_line(self) -> str:
        """Means in one line of text."""
        costs = ", ".join(f"{name} {cost:.2f}" for name, cost in zip(self.cost_names, self.costs.mean(0), strict=True))
        return f"return {self.returns.mean():.2f}, {costs} over {len(self.returns)} episodes"

    def summary(self) -> str:
        """A summary in several lines of text: intervals of return and costs, and the verdict on each budget."""
        lines = [
            f"{self.task}: {len(self.returns)} episodes on seeds apart from training's (seed {self.seed})"
            + ("" if self.mode == "evaluate" else ", acting as in training"),
            f"  return  {self.interval} (mean, 95 % bootstrap interval)",
        ]
        if self.goals is not None:
            lines.append(f"  goals   {bootstrap_interval(self.goals)}; {self.success:.0%} of episodes reach one")
        verdicts = self.verdicts or ((None, None),) * len(self.cost_names)
        for name, column, (_, verdict) in zip(self.cost_names, self.costs.T, verdicts, strict=True):
            lines.append(f"  {name:<7} {bootstrap_interval(column)}")
            if verdict is not None:
                lines.append(f"          {verdict}")
        lines.append(f"  {self.violations:.0%} of episodes cost anything")
        if self.decisions:
            lines.append(f"  {meaning(self.decisions[0])}")
        if self.real_time is not None:
            lines.append(
                "  by a deadline of {deadline_ms:g} ms: {iterations_mean:.1f} iterations of the search on average, at "
                "least {iterations_least:.0f}; {late_share:.1%} of decisions were late".format(**self.real_time)
            )
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Writes all episodes and statistics as JSON, atomically.

        Raises:
            OSError: the disk is full or failed. An earlier evaluation is intact.
        """
        content = {
            "task": self.task,
            "seed": self.seed,
            "mode": self.mode,
            "real_time": self.real_time,
            "returns": self.returns.tolist(),
            "costs": self.costs.tolist(),
            "lengths": self.lengths.tolist(),
            "goals": None if self.goals is None else self.goals.tolist(),
            "cost_names": list(self.cost_names),
            "budgets": None if self.budgets is None else list(self.budgets),
            "return_mean": float(self.returns.mean()),
            "return_interval": [self.interval.low, self.interval.high],
            "cost_mean": self.costs.mean(0).tolist(),
            "violations": self.violations,
            "success": self.success,
        }
        if self.decisions is not None:
            content["until_decided"] = {
                "method": METHOD,
                "confidence": self.decisions[0].confidence,
                "planned_looks": list(self.decisions[0].plan),
                "decisions": [decision.content() for decision in self.decisions],
            }
        elif self.budgets is not None:
            content["bounds"] = [asdict(bound) | {"verdict": bound.verdict} for bound in self.bounds]
        write_text_atomically(path, json.dumps(content, indent=1) + "\n")


def episode_seeds(episodes: int, seed: int) -> list[int]:
    """Seeds with which :func:`evaluate_agent` resets its episodes, in the order of its results."""
    quota = _quota(episodes, PARALLEL)
    return [episode_seed(seed + _SEED_OFFSET, i, k) for i, count in enumerate(quota) for k in range(count)]


def common_episodes(first: int, second: int) -> list[tuple[int, int]]:
    """Pairs of indices of the common episodes of two evaluations with the same seed.

    There are none if the evaluations step different numbers of environments together, because these share their random
    numbers.

    Args:
        first, second: numbers of episodes of the evaluations.
    """
    here, there = _quota(first, PARALLEL), _quota(second, PARALLEL)
    if len(here) != len(there):
        return []
    starts = zip(np.cumsum(here) - here, np.cumsum(there) - there, np.minimum(here, there), strict=True)
    return [(int(a) + k, int(b) + k) for a, b, count in starts for k in range(int(count))]


class Moment(NamedTuple):
    """A step of an evaluation before the agent acts: the arguments of ``act``. Use the copy of its key only once."""

    envs: VectorEnv
    row: Transition
    carry: Any
    key: Key


class _Episode(NamedTuple):
    """Sums over a finished episode. ``costs`` is ``[C]``; ``goals`` is NaN if the environment does not report goals."""

    returns: float
    costs: np.ndarray
    length: int
    goals: float


Watch = Callable[[Moment], None]


class Step(NamedTuple):
    """One decision of an evaluation in all E environments, with its outcome.

    Attributes:
        before: the transition before the decision.
        carry: the memory of the agent after the decision.
        after: the transition after the decision.
        goals: ``[E]`` goals that the decision reached; NaN if the environment does not report them.
        counts: ``[E]`` whether the decision belongs to an episode of the evaluation. Other episodes run only because
            all environments are stepped together.
    """

    envs: VectorEnv
    before: Transition
    carry: Any
    after: Transition
    goals: Float[np.ndarray, " E"]
    counts: Bool[np.ndarray, " E"]


Witness = Callable[[Step], None]


def evaluate_agent(
    agent: Agent,
    state: Any,
    env: EnvConfig,
    *,
    episodes: int,
    seed: int,
    mode: Mode = "evaluate",
    parallel: int = PARALLEL,
    workers: int = 0,
    deadline: float | None = None,
    until_decided: bool = False,
    watch: Watch | None = None,
    witness: Witness | None = None,
    progress: Callable[[int], None] | None = None,
    looked: Callable[[tuple[Decision, ...]], None] | None = None,
) -> Evaluation:
    """Runs ``episodes`` whole episodes, or fewer with ``until_decided``.

    Every environment contributes the same number of episodes (the last round may be incomplete). Counting the episodes
    that finish first would favour short ones. If an evaluation stops after n episodes because everything is decided, it
    equals an evaluation with ``episodes=n``: the same episodes in the same order.

    Args:
        seed: seed of the run. Episodes differ from those of training, and are the same for the same seed.
        mode: how the agent acts; ``train`` explores as in training.
        parallel: number of environments that are stepped together.
        workers: number of additional processes that step them; see :func:`prudence.envs.vector.make_vector`.
        deadline: seconds that a planner has for a decision. A single environment is then stepped, so the episodes
            differ from those without a deadline.
        until_decided: makes ``episodes`` a maximum. The costs are tested after the numbers of episodes of
            :func:`prudence.evidence.sequential.planned_looks`. The evaluation stops when every budget is shown to hold
            or to be exceeded.
        watch: called before every decision of the first episode of the first environment, to film it.
        witness: called after every decision of all environments, to record the episodes.
        progress: called with the number of finished episodes.
        looked: called with the decisions after each look.

    Raises:
        ValueError: ``episodes`` is below 1, or nothing can be decided (:func:`open_decisions`).
        EnvError: an environment does not work, or has no time limit.
    """
    limits = getattr(agent, "cost_limits", None)
    budgets = None if limits is None else tuple(float(limit) for limit in limits)
    decider = _Decider(open_decisions(budgets, episodes), looked) if until_decided else None
    parallel = min(episodes, 1 if deadline is not None else parallel)
    quotas = [_quota(number, parallel) for number in ((episodes,) if decider is None else decider.plan)]
    by_deadline = None if deadline is None else RealTime(agent, state, deadline)
    act = partial(agent.act, state, mode=mode) if by_deadline is None else by_deadline.act
    with closing(make_vector(env, parallel, seed=seed + _SEED_OFFSET, workers=workers)) as envs:
        require_end(envs)
        stream = _stream(act, agent.init_carry(parallel), envs, quotas[-1], seed, watch, witness)
        finished = _run_episodes(stream, quotas, progress, decider)
        spaces = envs.spaces
    returns, costs, lengths, goals = (np.array(column) for column in zip(*finished, strict=True))
    kept = None if by_deadline is None else by_deadline.summary()
    reached = None if np.isnan(goals).any() else goals
    decisions = None if decider is None else decider.decisions
    return Evaluation(env.task, seed, returns, costs, lengths, spaces.costs, budgets, mode, kept, reached, decisions)


def open_decisions(budgets: Sequence[float] | None, most: int) -> tuple[Decision, ...]:
    """The open decisions about each budget, for at most ``most`` episodes.

    Raises:
        ValueError: there are no budgets, or ``most`` is too small.
    """
    if not budgets:
        raise ValueError(
            "this agent has no budget, so there is nothing to decide: evaluate a fixed number of episodes (--episodes)"
        )
    plan = planned_looks(most)
    return tuple(Decision(budget, plan) for budget in budgets)


class _Decider:
    """Tests the costs of the episodes so far, and decides when they are enough."""

    def __init__(self, decisions: tuple[Decision, ...], looked: Callable[[tuple[Decision, ...]], None] | None):
        self.decisions, self.plan, self._looked = decisions, decisions[0].plan, looked

    def enough(self, costs: Float[np.ndarray, "N C"]) -> bool:
        self.decisions = tuple(d.look(column) for d, column in zip(self.decisions, costs.T, strict=True))
        if self._looked is not None:
            self._looked(self.decisions)
        return all(decision.status != "open" for decision in self.decisions)


def _quota(episodes: int, parallel: int) -> np.ndarray:
    """Number of episodes of each environment."""
    if episodes < 1:
        raise ValueError(f"episodes={episodes} must be at least 1")
    parallel = min(parallel, episodes)
    return np.array([len(range(i, episodes, parallel)) for i in range(parallel)])


def _run_episodes(
    stream: Iterator[tuple[int, _Episode]],
    quotas: Sequence[np.ndarray],
    progress: Callable[[int], None] | None,
    decider: _Decider | None,
) -> list[_Episode]:
    """The episodes of the first quota that is enough for the decider, or of the last quota."""
    finished: list[list[_Episode]] = [[] for _ in quotas[-1]]
    counted: list[_Episode] = []
    for quota in quotas:
        while any(len(f) < q for f, q in zip(finished, quota, strict=True)):
            index, episode = next(stream)
            # An episode beyond this quota belongs to the next one, because an environment's episodes count in order.
            finished[index].append(episode)
            if progress is not None and len(finished[index]) <= quota[index]:
                progress(int(sum(np.minimum([len(f) for f in finished], quota))))
        counted = [episode for f, q in zip(finished, quota, strict=True) for episode in f[:q]]
        if decider is not None and decider.enough(np.array([episode.costs for episode in counted])):
            break
    return counted


def _stream(
    act: Callable[..., tuple[Any, Any, Metrics]],
    carry: Any,
    envs: VectorEnv,
    quota: np.ndarray,
    seed: int,
    watch: Watch | None,
    witness: Witness | None,
) -> Iterator[tuple[int, _Episode]]:
    """Yields episodes as they finish, with the number of their environment, without end.

    The witness is told that the episodes within the ``quota`` of their environment count.
    """
    number, ended = envs.num_envs, np.zeros(envs.num_envs, int)
    returns, costs, lengths = np.zeros(number), np.zeros((number, envs.spaces.num_costs)), np.zeros(number, int)
    row, key = envs.reset(), jax.random.key(seed)
    for step in itertools.count():
        if watch is not None:
            watch(Moment(envs, row, carry, jax.random.fold_in(key, step)))
        action, carry, _ = act(carry, row.observation, row.is_first, key=jax.random.fold_in(key, step))
        before, reached = row, envs.goals.copy()
        row = envs.step(np.asarray(action))
        if witness is not None:
            witness(Step(envs, before, carry, row, envs.goals - reached, ~np.asarray(row.is_first) & (ended < quota)))
        returns = np.where(row.is_first, 0, returns) + row.reward
        costs = np.where(row.is_first[:, None], 0, costs) + row.cost
        lengths = np.where(row.is_first, 0, lengths + 1)
        if row.is_last[0]:
            watch = None
        for i in np.flatnonzero(row.is_last):
            ended[i] += 1
            yield int(i), _Episode(float(returns[i]), costs[i].copy(), int(lengths[i]), float(envs.goals[i]))
