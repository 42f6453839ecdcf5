"""Collecting experience: an agent acts in the environments, and their episodes are summarised."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from prudence.cores.base import Agent
from prudence.envs.vector import VectorEnv
from prudence.training.progress import ACT, Counters, Keys
from prudence.types import ActionSpec, EpisodeSummary, Key, Metrics, Observation, Spaces, Transition


@functools.lru_cache(maxsize=8)
def decider(agent: Agent, structure: Any) -> Callable[..., tuple[Any, Any, Metrics]]:
    """``agent.act`` in training as one dispatch. Its first argument has the leaves of a state with this structure.

    With small networks, a decision takes less time than the preparation of its call, which flattens modules and derives
    the key. So a state is flattened once for all decisions with it, and the key is derived inside the dispatch.
    """

    def decide(
        leaves: list[Any], carry: Any, observation: Observation, is_first: Any, root: Key, index: Any
    ) -> tuple[Any, Any, Metrics]:
        state, key = jax.tree.unflatten(structure, leaves), jax.random.fold_in(root, index)
        return agent.act(state, carry, observation, is_first, key=key, mode="train")

    return jax.jit(decide)


class Collector:
    """The environments of a run, the agent's carry, and the sums of the unfinished episodes.

    Attributes:
        env: the environments.
        last: the latest row.
        carry: the agent's carry.
        finished: the episodes that have ended since :meth:`begin`.
        recent: the last ten episodes.
        acting: the latest diagnostics of ``act``.
        simulating: time spent in the environments, in seconds.
    """

    last: Transition

    def __init__(self, agent: Agent, env: VectorEnv, spaces: Spaces, counters: Counters, keys: Keys, seed: int):
        self._agent, self._spaces, self._counters, self._keys, self._seed = agent, spaces, counters, keys, seed
        self.env = env
        self.carry: Any = agent.init_carry(env.num_envs)
        self.finished: list[EpisodeSummary] = []
        self.recent: deque[EpisodeSummary] = deque(maxlen=10)
        self.acting: Metrics = {}
        self.simulating = 0.0
        self._held: Any = None
        self._returns, self._lengths = np.zeros(env.num_envs), np.zeros(env.num_envs, int)
        self._costs = np.zeros((env.num_envs, spaces.num_costs))

    def start(self) -> None:
        """Starts the first episodes."""
        self.last = self.env.reset()

    def begin(self) -> None:
        """Begins an iteration: clears the finished episodes and the flattened state of the agent."""
        self.finished, self._held = [], None

    def act(self, state: Any) -> np.ndarray:
        """The agent's actions."""
        if self._held is not state:
            self._leaves, structure = jax.tree.flatten(state)
            self._held, self._decide = state, decider(self._agent, structure)
        last, index = self.last, self._counters.decisions
        action, self.carry, self.acting = self._decide(
            self._leaves, self.carry, last.observation, last.is_first, self._keys.roots[ACT], index
        )
        return np.asarray(action)

    def explore(self) -> np.ndarray:
        """Random actions."""
        return random_actions(self._spaces.action, self.env.num_envs, (self._seed, self._counters.decisions))

    def step(self, actions: np.ndarray) -> Transition:
        """Executes the actions. Returns the new row and stores it in :attr:`last`."""
        started = time.perf_counter()
        self.last = self.env.step(actions)
        self.simulating += time.perf_counter() - started
        self._counters.decisions += self.env.num_envs
        self._count(self.last)
        return self.last

    def _count(self, row: Transition) -> None:
        self._lengths += 1
        if row.is_first.any():
            for sums in (self._returns, self._costs, self._lengths):
                sums[row.is_first] = 0
        self._returns += row.reward
        self._costs += row.cost
        for i in np.flatnonzero(row.is_last):
            summary = EpisodeSummary(float(self._returns[i]), self._costs[i].copy(), int(self._lengths[i]))
            self.finished.append(summary)
            self.recent.append(summary)

    def saved(self) -> dict[str, Any]:
        """The collector's part of a checkpoint. The carry is stored with the agent's state, not here."""
        return {
            "env": self.env.state(),
            "episodes": {"return": self._returns, "cost": self._costs, "length": self._lengths},
            "recent": [[s.episode_return, s.episode_cost, s.length] for s in self.recent],
        }

    def restore(self, meta: Mapping[str, Any], carry: Any) -> bool:
        """Restores the result of :meth:`saved`. Returns whether every environment was restored.

        If one was not, all environments begin a new episode, because a row belongs to all of them.
        """
        self.carry = carry
        self.last = self.env.restore(meta["env"])
        episodes = meta["episodes"]
        self._returns, self._costs = np.array(episodes["return"]), np.array(episodes["cost"])
        self._lengths = np.array(episodes["length"])
        self.recent.extend(EpisodeSummary(r, np.asarray(c), n) for r, c, n in meta["recent"])
        if (self.env.state()["episode"] == meta["env"]["episode"]).all():
            return True
        self.last = self.env.reset()
        self._count(self.last)
        return False


def random_actions(action: ActionSpec, num_envs: int, seed: tuple[int, ...]) -> np.ndarray:
    """Uniform actions ``[E, A]`` over the whole action space."""
    rng = np.random.default_rng(seed)
    if action.kind == "discrete":
        return np.eye(action.size, dtype=np.float32)[rng.integers(action.size, size=num_envs)]
    return rng.uniform(-1, 1, (num_envs, action.size)).astype(np.float32)
