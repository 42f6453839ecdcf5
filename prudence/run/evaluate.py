"""Evaluation: episodes on seeds that training never sees, and what they say about return and cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float

from prudence.agents.base import Agent, Mode
from prudence.envs.base import EnvConfig
from prudence.envs.vector import VectorEnv, episode_seed, make_vector
from prudence.run.realtime import RealTime
from prudence.run.statistics import CostBound, Interval, bootstrap_interval, cost_bound
from prudence.types import Key, Metrics, Transition

_SEED_OFFSET = 1_000_000
"""Evaluation's episodes are drawn from seeds this far from training's."""
_PARALLEL = 10


@dataclass(frozen=True)
class Evaluation:
    """Finished episodes of one policy.

    Attributes:
        task: what was evaluated.
        seed: of the episodes.
        returns: ``[N]`` sums of rewards.
        costs: ``[N, C]`` sums of costs.
        lengths: ``[N]`` decisions.
        goals: ``[N]`` that were reached, or None where the environment does not say (``info["goals"]``).
        cost_names: C constraints.
        budgets: ``[C]`` or None where the agent minds no costs.
        mode: how the agent acted: as it is evaluated, or as in training.
        real_time: how a deadline was kept (:meth:`prudence.run.realtime.RealTime.summary`), if there was one.
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

    @property
    def interval(self) -> Interval:
        """Mean return with its bootstrap interval."""
        return bootstrap_interval(self.returns)

    @property
    def bounds(self) -> tuple[CostBound, ...]:
        """Per constraint, what is known of the expected episode cost against its budget."""
        budgets = self.budgets or (float("inf"),) * len(self.cost_names)
        return tuple(cost_bound(self.costs[:, i], budget) for i, budget in enumerate(budgets))

    def metrics(self) -> Metrics:
        """Means, for the log."""
        metrics = {
            "evaluation/return_mean": float(self.returns.mean()),
            "evaluation/cost_mean": float(self.costs.sum(1).mean()),
            "evaluation/length_mean": float(self.lengths.mean()),
        }
        if self.goals is not None:
            metrics["evaluation/goals_mean"] = float(self.goals.mean())
        if len(self.cost_names) > 1:
            metrics |= {
                f"evaluation/cost_{n}": float(c) for n, c in zip(self.cost_names, self.costs.mean(0), strict=True)
            }
        return metrics

    def one_line(self) -> str:
        """Means in a line."""
        costs = ", ".join(f"{name} {cost:.2f}" for name, cost in zip(self.cost_names, self.costs.mean(0), strict=True))
        return f"return {self.returns.mean():.2f}, {costs} over {len(self.returns)} episodes"

    def summary(self) -> str:
        """Several lines for a person: the return's interval, and each budget's verdict."""
        lines = [
            f"{self.task}: {len(self.returns)} episodes on seeds apart from training's (seed {self.seed})"
            + ("" if self.mode == "evaluate" else ", acting as in training"),
            f"  return  {self.interval} (mean, 95 % bootstrap interval)",
        ]
        if self.goals is not None:
            lines.append(f"  goals   {bootstrap_interval(self.goals)}")
        for name, column, bound in zip(self.cost_names, self.costs.T, self.bounds, strict=True):
            lines.append(f"  {name:<7} {bootstrap_interval(column)}")
            if self.budgets is not None:
                lines.append(f"          {bound.verdict}")
        if self.real_time is not None:
            lines.append(
                "  by a deadline of {deadline_ms:g} ms: {iterations_mean:.1f} iterations of the search on average, at "
                "least {iterations_least:.0f}; {late_share:.1%} of decisions were late".format(**self.real_time)
            )
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """All episodes and statistics as JSON."""
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
        }
        if self.budgets is not None:
            content["bounds"] = [asdict(bound) | {"verdict": bound.verdict} for bound in self.bounds]
        path.write_text(json.dumps(content, indent=1) + "\n")


def episode_seeds(episodes: int, seed: int) -> list[int]:
    """What the episodes of :func:`evaluate_agent` are reset with, in the order of its results."""
    quota = _quota(episodes, _PARALLEL)
    return [episode_seed(seed + _SEED_OFFSET, i, k) for i, count in enumerate(quota) for k in range(count)]


class Moment(NamedTuple):
    """A step of an evaluation, before the agent acts: what ``act`` will be given (its key a copy, to be used once)."""

    envs: VectorEnv
    row: Transition
    carry: Any
    key: Key


Watch = Callable[[Moment], None]


class Step(NamedTuple):
    """One decision of an evaluation in all E environments, and what came of it.

    Attributes:
        before: the row that it answered.
        carry: what the agent remembers after it.
        after: the row that came.
        goals: ``[E]`` that it reached, NaN where the environment does not say.
        counts: ``[E]`` whether it belongs to an episode of the evaluation; others are there to be stepped with them.
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
    parallel: int = _PARALLEL,
    deadline: float | None = None,
    watch: Watch | None = None,
    witness: Witness | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Runs ``episodes`` whole episodes.

    Every environment contributes the same number of episodes (the last round may be cut), since counting
    whichever finish first would favour short ones.

    Args:
        seed: the run's; evaluation's episodes differ from training's, and repeat for the same seed.
        mode: how the agent acts; ``train`` explores as in training.
        parallel: environments that are stepped together.
        deadline: seconds that a planner has for a decision; then a single environment is stepped, so that the episodes
            are not the same ones.
        watch: called before every decision while the first environment's first episode lasts, to film it.
        witness: called after every decision of all environments, to keep a record of the episodes.
        progress: called with the number of finished episodes.
    """
    quota = _quota(episodes, 1 if deadline is not None else parallel)
    parallel = len(quota)
    by_deadline = None if deadline is None else RealTime(agent, state, deadline)
    act = partial(agent.act, state, mode=mode) if by_deadline is None else by_deadline.act
    with closing(make_vector(env, parallel, seed=seed + _SEED_OFFSET)) as envs:
        finished = _run_episodes(act, agent.init_carry(parallel), envs, quota, seed, watch, witness, progress)
        spaces = envs.spaces
    limits = getattr(agent, "cost_limits", None)
    returns, costs, lengths, goals = (np.array(column) for column in zip(*finished, strict=True))
    budgets = None if limits is None else tuple(float(limit) for limit in limits)
    kept = None if by_deadline is None else by_deadline.summary()
    reached = None if np.isnan(goals).any() else goals
    return Evaluation(env.task, seed, returns, costs, lengths, spaces.costs, budgets, mode, kept, reached)


def _quota(episodes: int, parallel: int) -> np.ndarray:
    """Episodes of each environment."""
    if episodes < 1:
        raise ValueError(f"episodes={episodes} must be at least 1")
    parallel = min(parallel, episodes)
    return np.array([len(range(i, episodes, parallel)) for i in range(parallel)])


def _run_episodes(
    act: Callable[..., tuple[Any, Any, Metrics]],
    carry: Any,
    envs: VectorEnv,
    quota: np.ndarray,
    seed: int,
    watch: Watch | None,
    witness: Witness | None,
    progress: Callable[[int], None] | None,
) -> list[tuple[float, np.ndarray, int, float]]:
    number = envs.num_envs
    finished: list[list[tuple[float, np.ndarray, int, float]]] = [[] for _ in range(number)]
    returns, costs, lengths = np.zeros(number), np.zeros((number, envs.spaces.num_costs)), np.zeros(number, int)
    row, key, step = envs.reset(), jax.random.key(seed), 0
    while any(len(f) < q for f, q in zip(finished, quota, strict=True)):
        if watch is not None and not finished[0]:
            watch(Moment(envs, row, carry, jax.random.fold_in(key, step)))
        action, carry, _ = act(carry, row.observation, row.is_first, key=jax.random.fold_in(key, step))
        before, reached = row, envs.goals.copy()
        row, step = envs.step(np.asarray(action)), step + 1
        if witness is not None:
            counts = ~np.asarray(row.is_first) & np.array([len(f) < q for f, q in zip(finished, quota, strict=True)])
            witness(Step(envs, before, carry, row, envs.goals - reached, counts))
        returns = np.where(row.is_first, 0, returns) + row.reward
        costs = np.where(row.is_first[:, None], 0, costs) + row.cost
        lengths = np.where(row.is_first, 0, lengths + 1)
        for i in np.flatnonzero(row.is_last):
            if len(finished[i]) < quota[i]:
                finished[i].append((float(returns[i]), costs[i].copy(), int(lengths[i]), float(envs.goals[i])))
                if progress is not None:
                    progress(sum(map(len, finished)))
    return [episode for episodes in finished for episode in episodes]
