"""Anatomy of episodes: traps between goals, where they lose return, and costly events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from prudence.inspection.trace import Trace

TRAP = 2.5
"""An interval between goals is a trap if it is longer than this many times the median one."""
WARNING = 2
"""Number of decisions before the first costly one of an event, at which predictions are examined."""


class Intervals(NamedTuple):
    """Intervals between goals in all episodes, in decisions.

    Attributes:
        reached: ``[n]`` lengths of intervals that end with a goal. They begin at the start of an episode or after the
            goal before. Several goals of one decision count as one.
        cut: ``[m]`` lengths of intervals from the last goal of an episode to its end, if not 0. They reached no goal.
    """

    reached: np.ndarray
    cut: np.ndarray


class Traps(NamedTuple):
    """Time in traps: intervals between goals that are unusually long.

    Attributes:
        median: median length of the intervals that reached a goal, in decisions.
        number: number of traps, which are intervals longer than ``TRAP`` medians. Intervals that were cut off count.
        of: number of all intervals.
        share: share of all decisions that are in traps.
    """

    median: float
    number: int
    of: int
    share: float


class Event(NamedTuple):
    """A costly event. It begins with a costly decision and lasts until two or more decisions in a row have no cost.

    Attributes:
        episode: index of the episode.
        start: its first costly decision.
        length: decisions from the first to the last costly one.
        cost: sum of their costs.
        speed: speed at the first costly decision; None if unknown.
        warned: prediction of the cost critic ``WARNING`` decisions before the first costly one; None if unknown, or if
            the episode began later.
        foreseen: cost of H decisions in one imagined future at that moment; None in the same cases.
        came: real cost of these H decisions; None in the same cases.
    """

    episode: int
    start: int
    length: int
    cost: float
    speed: float | None
    warned: float | None
    foreseen: float | None
    came: float | None


@dataclass(frozen=True)
class Anatomy:
    """Intervals between goals, traps and costly events of a set of episodes. Costs are summed over constraints.

    Attributes:
        episodes, decisions: number of episodes and decisions.
        goals: mean number of goals of an episode; None if the environment does not report goals.
        intervals: intervals between goals; None if the environment does not report goals.
        traps: time in traps; None if the environment does not report goals, or if no goal was reached.
        events: costly events in order.
        speed: mean speed over all decisions; None if unknown.
    """

    episodes: int
    decisions: int
    goals: float | None
    intervals: Intervals | None
    traps: Traps | None
    events: tuple[Event, ...]
    speed: float | None


def dissect(traces: Sequence[Trace]) -> Anatomy:
    """Computes the anatomy of at least one episode."""
    goals = [trace.goals for trace in traces if trace.goals is not None]
    known = len(goals) == len(traces)
    intervals = goal_intervals(goals) if known else None
    speeds = [trace.speed for trace in traces if trace.speed is not None]
    return Anatomy(
        episodes=len(traces),
        decisions=sum(len(trace.rewards) for trace in traces),
        goals=float(np.mean([g.sum() for g in goals])) if known else None,
        intervals=intervals,
        traps=None if intervals is None else find_traps(intervals),
        events=tuple(event for i, trace in enumerate(traces) for event in events_of(trace, i)),
        speed=float(np.concatenate(speeds).mean()) if len(speeds) == len(traces) else None,
    )


def goal_intervals(goals: Sequence[Float[np.ndarray, " _"]]) -> Intervals:
    """Intervals between goals, from the number of goals that each decision of several episodes reached."""
    reached, cut = [], []
    for episode in goals:
        ends = np.flatnonzero(episode > 0) + 1
        reached.append(np.diff(ends, prepend=0))
        cut.append(len(episode) - (ends[-1] if len(ends) else 0))
    return Intervals(np.concatenate(reached), np.array([length for length in cut if length > 0], int))


def find_traps(intervals: Intervals) -> Traps | None:
    """Finds the traps among intervals. Returns None if no interval reached a goal."""
    if not len(intervals.reached):
        return None
    median, lengths = float(np.median(intervals.reached)), np.concatenate(intervals)
    long = lengths > TRAP * median
    return Traps(median, int(long.sum()), len(lengths), float(lengths[long].sum() / lengths.sum()))


def costly_stretches(costs: Float[np.ndarray, " T"]) -> list[tuple[int, int]]:
    """First and last costly decision of each event. An event has at most one decision in a row without cost.

    >>> costly_stretches(np.array([0.0, 3, 0, 2, 0, 0, 5]))
    [(1, 3), (6, 6)]
    """
    costly = np.flatnonzero(costs > 0)
    if not len(costly):
        return []
    groups = np.split(costly, np.flatnonzero(np.diff(costly) > 2) + 1)
    return [(int(group[0]), int(group[-1])) for group in groups]


def events_of(trace: Trace, episode: int = 0) -> list[Event]:
    """The costly events of one episode."""
    costs = trace.costs.sum(-1)
    return [_event(trace, costs, episode, *ends) for ends in costly_stretches(costs)]


def _event(trace: Trace, costs: Float[np.ndarray, " T"], episode: int, start: int, end: int) -> Event:
    before, foreseen, came = start - WARNING, None, None
    if trace.foreseen is not None and before >= 0:
        foreseen = float(trace.foreseen[before].sum())
        came = float(costs[before : before + trace.foreseen.shape[1]].sum())
    warned = None if trace.cost_value is None or before < 0 else float(trace.cost_value[before].sum())
    speed = None if trace.speed is None else float(trace.speed[start])
    return Event(episode, start, end - start + 1, float(costs[start : end + 1].sum()), speed, warned, foreseen, came)


def around_events(
    traces: Sequence[Trace], events: Sequence[Event], before: int, after: int
) -> dict[str, Float[np.ndarray, " W"]]:
    """Means over events, from ``before`` decisions before their first costly one to ``after`` decisions after it.

    Returns:
        The real ``cost`` and, if known, ``speed`` and ``cost_value``. Each mean is over the events that have such a
        decision in their episode.
    """
    sources = {
        "cost": [trace.costs.sum(-1) for trace in traces],
        "speed": [trace.speed for trace in traces],
        "cost_value": [None if trace.cost_value is None else trace.cost_value.sum(-1) for trace in traces],
    }
    return {
        name: np.array([_mean_at(values, events, offset) for offset in range(-before, after + 1)])
        for name, values in sources.items()
        if events and all(value is not None for value in values)
    }


def _mean_at(values: Sequence[np.ndarray | None], events: Sequence[Event], offset: int) -> float:
    found = []
    for event in events:
        episode, at = values[event.episode], event.start + offset
        if episode is not None and 0 <= at < len(episode):
            found.append(episode[at])
    return float(np.mean(found)) if found else float("nan")
