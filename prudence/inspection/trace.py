"""Episodes decision by decision: what came, and what the agent had expected."""

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
"""The entry of a vector observation (its ``layout``) that is taken for the agent's velocity."""


class Trace(NamedTuple):
    """One episode of T decisions. Index t is of decision t; what is None is not known.

    Attributes:
        rewards, costs: ``[T]`` and ``[T, C]`` that arrived after decision t, summed over its raw steps.
        goals: ``[T]`` that it reached.
        speed: ``[T]`` at which the agent moved when it decided, in the unit of the observation ``velocimeter``.
        value, cost_value: ``[T]`` and ``[T, C]`` what the critics said when it decided.
        foreseen: ``[T, H, C]`` costs of decisions t to t + H - 1, as one imagined future had them.
    """

    rewards: Float[np.ndarray, " T"]
    costs: Float[np.ndarray, "T C"]
    goals: Float[np.ndarray, " T"] | None
    speed: Float[np.ndarray, " T"] | None
    value: Float[np.ndarray, " T"] | None
    cost_value: Float[np.ndarray, "T C"] | None
    foreseen: Float[np.ndarray, "T H C"] | None


class Tracer:
    """A witness of an evaluation (see :func:`~prudence.evidence.evaluate.evaluate_agent`) that keeps traces."""

    def __init__(self, agent: Agent, state: Any, *, seed: int = 0) -> None:
        """``seed`` is of the imagined futures."""
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
    """Traces of the episodes that an evaluation of as many with this seed has."""
    tracer = Tracer(agent, state, seed=seed)
    evaluate_agent(agent, state, env, episodes=episodes, seed=seed, witness=tracer)
    return tracer.traces


def speed_of(observation: Observation, layout: Layout) -> Float[np.ndarray, " E"] | None:
    """The length of the entry ``velocimeter`` of E environments' vector observations; None where none has one."""
    for name, parts in layout.items():
        for entry in parts:
            if entry.name == VELOCITY:
                vector = np.asarray(observation[name]).reshape(len(observation[name]), -1)
                return np.linalg.norm(vector[:, entry.start : entry.stop].astype(np.float64), axis=1)
    return None


def _decision(
    step: Step, outlook: Outlook | None, speed: np.ndarray | None, index: int | np.integer
) -> dict[str, np.ndarray | None]:
    """One decision of one environment: a trace's fields without the axis T."""
    value, cost_value, foreseen = (None, None, None) if outlook is None else outlook
    goals = None if np.isnan(step.goals[index]) else step.goals
    fields = {"rewards": step.after.reward, "costs": step.after.cost, "goals": goals, "speed": speed}
    fields |= {"value": value, "cost_value": cost_value, "foreseen": foreseen}
    return {name: None if x is None else np.asarray(x[index], np.float64) for name, x in fields.items()}


def _joined(decisions: Sequence[dict[str, np.ndarray | None]]) -> Trace:
    """Stacks decisions along T; what one of them lacks is None."""
    columns: dict[str, Any] = {}
    for name in Trace._fields:
        column = [decision[name] for decision in decisions]
        columns[name] = None if any(x is None for x in column) else np.stack([x for x in column if x is not None])
    return Trace(**columns)
