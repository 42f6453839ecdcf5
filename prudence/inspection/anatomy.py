"""Where episodes lose return and where their costs come from: traps between goals, and costly events."""

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
"""Decisions before an event's first costly one at which is asked what was foreseen."""


class Intervals(NamedTuple):
    """Decisions between goals, over all episodes.

    Attributes:
        reached: ``[n]`` decisions from an episode's beginning, or from the goal before, up to and including the one
            that reached a goal. Several goals of one decision count as one.
        cut: ``[m]`` decisions after an episode's last goal, where there were any: their goal was never reached.
    """

    reached: np.ndarray
    cut: np.ndarray


class Traps(NamedTuple):
    """How much time goes where goals take unusually long.

    Attributes:
        median: decisions of an interval that reached its goal.
        number, of: intervals longer than ``TRAP`` medians, with those that were cut off, and of how many.
        share: of all decisions that lie in them.
    """

    median: float
    number: int
    of: int
    share: float


class Event(NamedTuple):
    """A costly event: from one costly decision on, until two or more in a row cost nothing.

    Attributes:
        episode, start: which, and its first costly decision.
        length: decisions from there to its last costly one, with a costless one between two costly ones.
        cost: all that they cost together.
        speed: when the first of them was taken; None where it is not known.
        warned: what the cost critic said ``WARNING`` decisions before the first; None where it is not known, or where
            the episode was younger.
        foreseen: the cost that one imagined future foresaw then, over H decisions; likewise.
        came: the cost that came in these H decisions; likewise.
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
    """What a set of episodes consists of. Costs are summed over constraints.

    Attributes:
        episodes, decisions: how many.
        goals: by episode; None where the environment does not say.
        traps: None where it does not, or where no goal was reached.
        events: in order.
        speed: mean over all decisions; None where it is not known.
    """

    episodes: int
    decisions: int
    goals: float | None
    intervals: Intervals | None
    traps: Traps | None
    events: tuple[Event, ...]
    speed: float | None


def dissect(traces: Sequence[Trace]) -> Anatomy:
    """The anatomy of at least one episode."""
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
    """From the goals that each decision of several episodes reached."""
    reached, cut = [], []
    for episode in goals:
        ends = np.flatnonzero(episode > 0) + 1
        reached.append(np.diff(ends, prepend=0))
        cut.append(len(episode) - (ends[-1] if len(ends) else 0))
    return Intervals(np.concatenate(reached), np.array([length for length in cut if length > 0], int))


def find_traps(intervals: Intervals) -> Traps | None:
    """The intervals longer than ``TRAP`` medians of those that reached their goal; None where none did."""
    if not len(intervals.reached):
        return None
    median, lengths = float(np.median(intervals.reached)), np.concatenate(intervals)
    long = lengths > TRAP * median
    return Traps(median, int(long.sum()), len(lengths), float(lengths[long].sum() / lengths.sum()))


def costly_stretches(costs: Float[np.ndarray, " T"]) -> list[tuple[int, int]]:
    """First and last costly decision of each event: costly decisions at most one costless one apart are one event.

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
    """Means over events at ``before`` decisions before their first costly one to ``after`` after it: the ``cost`` that
    came and, where they are known, ``speed`` and ``cost_value``; over the events of which there is such a decision.
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
