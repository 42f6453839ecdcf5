"""Traces of episodes: outcomes and the agent's expectations at every decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from prudence.cores.base import Agent, Foreseeing, Outlook
from prudence.envs.base import EnvConfig, Layout
from prudence.evidence.evaluate import Step, evaluate_agent
from prudence.types import Observation

VELOCITY = "velocimeter"
"""Name of the entry of a vector observation (in its ``layout``) that is the agent's velocity."""


class Trace(NamedTuple):
    """Trace of one episode of T decisions. Index t belongs to decision t. Unknown values are None.

    Attributes:
        rewards, costs: ``[T]`` and ``[T, C]``, which arrived after decision t, summed over its raw steps.
        goals: ``[T]`` number of goals that decision t reached.
        speed: ``[T]`` speed of the agent at decision t, in the unit of the observation ``velocimeter``.
        value, cost_value: ``[T]`` and ``[T, C]`` predictions of the critics at decision t.
        foreseen: ``[T, H, C]`` costs of decisions t to t + H - 1 in one imagined future.
    """

    rewards: Float[np.ndarray, " T"]
    costs: Float[np.ndarray, "T C"]
    goals: Float[np.ndarray, " T"] | None
    speed: Float[np.ndarray, " T"] | None
    value: Float[np.ndarray, " T"] | None
    cost_value: Float[np.ndarray, "T C"] | None
    foreseen: Float[np.ndarray, "T H C"] | None


class Tracer:
    """A ``witness`` of :func:`~prudence.evidence.evaluate.evaluate_agent` that records traces."""

    def __init__(self, agent: Agent, state: Any, *, seed: int = 0) -> None:
        """``seed`` is the seed of the imagined futures."""
        self._agent, self._state, self._seed = agent if isinstance(agent, Foreseeing) else None, state, seed
        self._steps = 0
        self._open: dict[int, list[dict[str, np.ndarray | None]]] = {}
        self.traces: list[Trace] = []

    def __call__(self, step: Step) -> None:
        outlook, speed = self._outlook(step.carry), speed_of(step.before.observation, step.envs.layout)
        self._steps += 1
        for i in np.flatnonzero(step.counts):
            self._open.setdefault(int(i), []).append(_decision(step, outlook, speed, i))
            if step.after.is_last[i]:
                self.traces.append(_joined(self._open.pop(int(i))))

    def _outlook(self, carry: Any) -> Outlook | None:
        if self._agent is None:
            return None
        key = jax.random.fold_in(jax.random.key(self._seed), self._steps)
        return jax.tree.map(np.asarray, self._agent.foresee(self._state, carry, key=key))


def trace_episodes(agent: Agent, state: Any, env: EnvConfig, *, episodes: int, seed: int) -> list[Trace]:
    """Traces of the episodes of an evaluation with this number of episodes and this seed."""
    tracer = Tracer(agent, state, seed=seed)
    evaluate_agent(agent, state, env, episodes=episodes, seed=seed, witness=tracer)
    return tracer.traces


def speed_of(observation: Observation, layout: Layout) -> Float[np.ndarray, " E"] | None:
    """Speed in E environments: the norm of the entry ``velocimeter`` of a vector observation. None if there is none."""
    for name, parts in layout.items():
        for entry in parts:
            if entry.name == VELOCITY:
                vector = np.asarray(observation[name]).reshape(len(observation[name]), -1)
                return np.linalg.norm(vector[:, entry.start : entry.stop].astype(np.float64), axis=1)
    return None


def _decision(
    step: Step, outlook: Outlook | None, speed: np.ndarray | None, index: int | np.integer
) -> dict[str, np.ndarray | None]:
    """One decision of one environment: the fields of a trace without the axis T."""
    value, cost_value, foreseen = (None, None, None) if outlook is None else outlook
    goals = None if np.isnan(step.goals[index]) else step.goals
    fields = {"rewards": step.after.reward, "costs": step.after.cost, "goals": goals, "speed": speed}
    fields |= {"value": value, "cost_value": cost_value, "foreseen": foreseen}
    return {name: None if x is None else np.asarray(x[index], np.float64) for name, x in fields.items()}


def _joined(decisions: Sequence[dict[str, np.ndarray | None]]) -> Trace:
    """Stacks decisions along T. A field that one of them lacks is None."""
    columns: dict[str, Any] = {}
    for name in Trace._fields:
        column = [decision[name] for decision in decisions]
        columns[name] = None if any(x is None for x in column) else np.stack([x for x in column if x is not None])
    return Trace(**columns)
