"""Acting by a deadline: a planner searches for as long as it has time."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float

from prudence.cores.base import Agent
from prudence.cores.dreamer.dreamer import Dreamer
from prudence.systems import SYSTEMS
from prudence.types import Key, Metrics, Observation

_RECENT = 20


class RealTime:
    """Acts for a planning agent by a deadline. Each search has as many iterations as fit, and at least one.

    The time of the next iteration is estimated by the slowest of the last 20 iterations. The time after the last
    iteration is estimated in the same way. Everything is compiled before the first decision.

    Attributes:
        deadline: seconds from an observation to its action.
        iterations: number of decisions by their number of iterations.
        late: number of decisions that missed the deadline.
    """

    def __init__(self, agent: Agent, state: Any, deadline: float, num_envs: int = 1) -> None:
        """
        Raises:
            ValueError: the agent does not act by plans, or not yet; or the deadline is not positive.
        """
        if deadline <= 0:
            raise ValueError(f"a deadline of {deadline * 1000:g} ms leaves no time: give a positive one")
        self._agent, self._state, self.deadline = planner_of(agent, state), state, deadline
        self._iterating: deque[float] = deque(maxlen=_RECENT)
        self._ending: deque[float] = deque(maxlen=_RECENT)
        self.iterations, self.late = Counter[int](), 0
        nothing = {k: np.zeros((num_envs, *spec.shape), spec.dtype) for k, spec in agent.spaces.unprivileged.items()}
        for _ in range(2):  # The first call compiles. The second is as fast as later ones.
            self._iterating.clear()
            self._ending.clear()
            self.act(agent.init_carry(num_envs), nothing, np.ones(num_envs, bool), key=jax.random.key(0))
        self.iterations.clear()
        self.late = 0

    def act(
        self, carry: Any, observation: Observation, is_first: Bool[Array | np.ndarray, " E"], *, key: Key
    ) -> tuple[Float[Array, "E A"], Any, Metrics]:
        """As the agent's ``act``. The metrics include ``plan/iterations`` and ``plan/late``."""
        start = time.perf_counter()
        seen = {name: observation[name] for name in self._agent.spaces.unprivileged}  # The compiled function's inputs.
        search_state = self._agent.begin_search(self._state, carry, seen, is_first, key=key)
        jax.block_until_ready(search_state)
        index, metrics = 0, {}
        while not index or time.perf_counter() - start + self._next() <= self.deadline:
            before = time.perf_counter()
            search_state, metrics = jax.block_until_ready(self._agent.iterate_search(self._state, search_state, index))
            self._iterating.append(time.perf_counter() - before)
            index += 1
        before = time.perf_counter()
        action, carry = jax.block_until_ready(self._agent.end_search(self._state, search_state))
        end = time.perf_counter()
        self._ending.append(end - before)
        late = end - start > self.deadline
        self.iterations[index] += 1
        self.late += late
        number = len(is_first)
        return (
            action,
            carry,
            metrics
            | {
                "plan/iterations": np.full(number, float(index)),
                "plan/late": np.full(number, float(late)),
            },
        )

    def summary(self) -> dict[str, float]:
        """Statistics of all decisions: mean and minimum of iterations, and the share that missed the deadline."""
        decisions = self.iterations.total()
        return {
            "deadline_ms": 1000 * self.deadline,
            "iterations_mean": sum(self.iterations.elements()) / decisions,
            "iterations_least": float(min(self.iterations)),
            "late_share": self.late / decisions,
        }

    def _next(self) -> float:
        """Estimated seconds for another iteration and the end of the decision."""
        return max(self._iterating) + max(self._ending, default=0.0)


def planner_of(agent: Agent, state: Any) -> Dreamer:
    """Returns ``agent`` if it acts by plans.

    Raises:
        ValueError: the agent acts by its policy, always or at this stage of training.
    """
    planning = agent.config.planning if isinstance(agent, Dreamer) else None
    if not isinstance(agent, Dreamer) or planning is None:
        raise ValueError(f"this agent does not plan every decision. Agents that do are {', '.join(_planners())}")
    if state.step < planning.start:
        raise ValueError(
            f"there are no plans yet: the agent plans after {planning.start} gradient steps, of which this "
            f"checkpoint has {int(state.step)}. Continue training, or set --agent.planning.start"
        )
    return agent


def _planners() -> list[str]:
    """The systems that act by plans."""
    return [s.name for s in SYSTEMS.values() if getattr(s.compose(s.published(False).agent), "planning", None)]
