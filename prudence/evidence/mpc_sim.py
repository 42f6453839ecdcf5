"""mpc-sim: planning in the true simulator, SafeDreamer's baseline MPC:sim (section 5.1; 150 plans, H 15, 6 rounds).

It learns nothing. Its search is that of the planning agents, with constrained elites. Its forecast is the outcome in
the simulator. It shows what planning can reach with a perfect model of the full state, over the next H decisions and
without a value function for the time after them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from prudence.envs.base import EnvConfig, EnvError, Outcome
from prudence.envs.registry import complete, make, spaces_of
from prudence.evidence.evaluate import Evaluation, episode_seeds
from prudence.planners import CrossEntropy, Forecast
from prudence.types import Key

NAME = "mpc-sim"
SUMMARY = "SafeDreamer's MPC:sim: the same search in the true simulator; does not learn (`prudence simulate`)"

Roll = Callable[[Float[np.ndarray, "N H A"]], Outcome]
"""Simulates plans from the current state of an environment and returns their outcome."""


@dataclass(frozen=True)
class SimulatedPlanning:
    """Configuration of planning in the simulator.

    Attributes:
        search: the cross-entropy method. The paper does not give the number of elites.
        cost_limit: the budget on the cost of an episode, one for all constraints or one for each.
    """

    search: CrossEntropy = field(default_factory=lambda: CrossEntropy(plans=150, elites=15))
    cost_limit: float | tuple[float, ...] = 2.0


@dataclass(frozen=True)
class SimulationConfig:
    """The complete configuration of mpc-sim, stored as its ``config.json``."""

    env: EnvConfig
    agent: SimulatedPlanning = field(default_factory=SimulatedPlanning)
    episodes: int = 5
    seed: int = 0
    agent_name: Literal["mpc-sim"] = NAME

    def __post_init__(self) -> None:
        object.__setattr__(self, "env", complete(self.env))


def simulate(
    config: SimulationConfig,
    *,
    watch: Callable[[np.ndarray], None] | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Evaluation:
    """Runs whole episodes, one after the other. They are those of an evaluation with the same number and seed.

    Args:
        watch: called with an image of the arena before every decision of the first episode.
        progress: called with the number of finished episodes, and the share of the current episode that is over.

    Raises:
        EnvError: plans cannot be simulated in this task.
        ValueError: the number of budgets differs from the number of costs.
    """
    env: Any = make(config.env)
    if not hasattr(env, "rollouts"):
        raise EnvError(
            f"{config.env.task} cannot be rolled out: mpc-sim plans in MuJoCo itself and works only with "
            "Safety-Gymnasium's tasks (`prudence list --tasks`). Agents that learn a model work with every task: "
            "`prudence train`"
        )
    spaces, key = spaces_of(env, config.env), jax.random.key(config.seed)
    limits, steps = _budgets(config.agent.cost_limit, spaces.costs), spaces.episode_steps
    assert steps is not None  # All tasks of the suite have a time limit.
    returns, goals = np.zeros((2, config.episodes))
    costs, lengths = np.zeros((config.episodes, spaces.num_costs)), []
    with closing(env), closing(env.rollouts()) as roll:
        for i, seed in enumerate(episode_seeds(config.episodes, config.seed)):
            env.reset(seed=seed)
            plan, over, length = jnp.zeros((config.agent.search.horizon, spaces.action.size)), False, 0
            while not over:
                if watch is not None and i == 0:
                    watch(env.render())
                action, plan = decide(
                    config.agent.search,
                    roll,
                    limits,
                    steps,
                    plan,
                    jnp.asarray(length == 0),
                    key=jax.random.fold_in(jax.random.fold_in(key, i), length),
                )
                _, reward, terminated, truncated, info = env.step(np.asarray(action))
                over, length = terminated or truncated, length + 1
                returns[i], costs[i] = returns[i] + reward, costs[i] + info["cost"]
                goals[i] += info.get("goals", np.nan)
                if progress is not None:
                    progress(i + over, 0.0 if over else length / steps)
            lengths.append(length)
    budgets = tuple(float(limit) for limit in limits)
    return Evaluation(
        config.env.task,
        config.seed,
        returns,
        costs,
        np.array(lengths),
        spaces.costs,
        budgets,
        goals=None if np.isnan(goals).any() else goals,
    )


def decide(
    search: CrossEntropy,
    roll: Roll,
    limits: Float[Array, " C"],
    episode_steps: int,
    last: Float[Array, "H A"],
    is_first: Bool[Array, ""],
    *,
    key: Key,
) -> tuple[Float[Array, " A"], Float[Array, "H A"]]:
    """One decision: the action to execute, and the plan from which the next search starts.

    The iterations are those of :meth:`~prudence.planners.CrossEntropy.plan`. They run in Python, because the simulator
    is not written in JAX.
    """
    search_key, action_key = jax.random.split(key)
    found = _begin(search, last, is_first)
    nobodys = jnp.zeros((0, *last.shape))
    for index in range(search.iterations):
        plans = _propose(search, found, nobodys, key=jax.random.fold_in(search_key, index))
        seen = forecast(roll(np.asarray(plans)), episode_steps)
        found, _ = _refine(search, found, plans, seen, limits)
        if search.is_done(seen, limits, index + 1):
            break
    if search.execute == "checked":  # The last mean has not been simulated yet.
        plans = search.finalists(found)
        found = search.decide(found, plans, forecast(roll(np.asarray(plans)), episode_steps), limits)
    return _action(search, found, key=action_key), search.executed(found)


def forecast(outcome: Outcome, episode_steps: int) -> Forecast:
    r"""Score and costs of simulated plans (SafeDreamer Algorithm 1).

    The score is the sum of rewards. The cost is :math:`\frac{T}{H}\sum_t c_t`: the cost of an episode of T decisions
    that continues at this rate.
    """
    length = outcome.rewards.shape[1]
    cost = outcome.costs.sum(1) * (episode_steps / length)
    return Forecast(jnp.asarray(outcome.rewards.sum(1), jnp.float32), jnp.asarray(cost, jnp.float32))


_begin = jax.jit(CrossEntropy.begin, static_argnums=0)
_propose = jax.jit(CrossEntropy.propose, static_argnums=0)
_refine = jax.jit(CrossEntropy.refine, static_argnums=0)
_action = jax.jit(CrossEntropy.action, static_argnums=0)


def _budgets(limit: float | tuple[float, ...], names: tuple[str, ...]) -> Float[Array, " C"]:
    if isinstance(limit, tuple) and len(limit) != len(names):
        raise ValueError(
            f"{len(limit)} budgets are named, but the environment reports {len(names)} costs: {', '.join(names)}"
        )
    return jnp.broadcast_to(jnp.asarray(limit, jnp.float32), (len(names),))
