"""Traps and costly events of episodes made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from prudence.inspection.anatomy import (
    Event,
    Intervals,
    Traps,
    around_events,
    costly_stretches,
    dissect,
    events_of,
    find_traps,
    goal_intervals,
)
from prudence.inspection.trace import Trace


def goals(length: int, *reached: int) -> np.ndarray:
    """An episode in which these decisions, counted from 1, reached a goal each."""
    found = np.zeros(length)
    found[[decision - 1 for decision in reached]] = 1
    return found


def trace(costs: list[float], **known: np.ndarray) -> Trace:
    fields = {"goals": None, "speed": None, "value": None, "cost_value": None, "foreseen": None} | known
    return Trace(np.zeros(len(costs)), np.array(costs, float)[:, None], **fields)


def test_intervals_end_with_goals_and_the_last_is_cut() -> None:
    found = goal_intervals([goals(20, 3, 8, 9), goals(10, 10), goals(5)])
    assert found.reached.tolist() == [3, 5, 1, 10]
    assert found.cut.tolist() == [11, 5], "none where the last decision reached a goal"


def test_two_goals_of_one_decision_end_one_interval() -> None:
    found = goal_intervals([np.array([0, 2, 0, 1.0])])
    assert found.reached.tolist() == [2, 2]


def test_a_trap_is_longer_than_two_and_a_half_medians() -> None:
    # The median of 2, 4, 4, 4, 30 is 4: 10 is none, 11 and 30 are traps, and 41 of 59 + 6 decisions lie in them.
    found = find_traps(Intervals(np.array([2, 4, 4, 4, 30]), np.array([10, 11])))
    assert found == Traps(median=4, number=2, of=7, share=41 / 65)


def test_without_goals_there_are_no_traps_to_speak_of() -> None:
    assert find_traps(goal_intervals([goals(9), goals(9)])) is None
    assert dissect([trace([0, 0])]).traps is None
    assert dissect([trace([0, 0])]).goals is None


@pytest.mark.parametrize(
    ("costs", "stretches"),
    [
        ([0, 0], []),
        ([1], [(0, 0)]),
        ([0, 3, 2, 0, 0], [(1, 2)]),
        ([0, 3, 0, 2, 0], [(1, 3)]),  # One costless decision does not end an event,
        ([3, 0, 0, 2], [(0, 0), (3, 3)]),  # and two do.
        ([1, 0, 1, 0, 1, 0, 0, 1], [(0, 4), (7, 7)]),
    ],
)
def test_a_costless_decision_in_between_does_not_end_an_event(costs, stretches) -> None:
    assert costly_stretches(np.array(costs, float)) == stretches


def test_an_event_has_what_was_foreseen_two_decisions_before() -> None:
    values = np.arange(8.0)
    foreseen = np.zeros((8, 3, 1))
    foreseen[2] = [[0.5], [0.25], [0]]
    costs = [0.0, 0, 0, 0, 5, 0, 4, 0]
    known = {"speed": values / 10, "cost_value": values[:, None], "foreseen": foreseen}
    (event,) = events_of(trace(costs, **known), episode=3)
    # Foreseen from decision 2 on are decisions 2, 3 and 4, of which the last cost 5.
    assert event == Event(3, start=4, length=3, cost=9, speed=0.4, warned=2, foreseen=0.75, came=5)


def test_an_event_at_the_beginning_had_no_warning() -> None:
    known = {"cost_value": np.ones((3, 1)), "foreseen": np.ones((3, 2, 1))}
    (event,) = events_of(trace([0, 2, 0], **known))
    assert (event.warned, event.foreseen, event.came, event.speed) == (None, None, None, None)


def test_costs_are_those_of_all_constraints() -> None:
    both = Trace(np.zeros(3), np.array([[0, 0], [1, 2], [0, 4.0]]), None, None, None, None, None)
    (event,) = events_of(both)
    assert (event.cost, event.length) == (7, 2)


def test_an_anatomy_by_hand() -> None:
    a = trace([0, 0, 1, 0], goals=goals(4, 2, 4), speed=np.array([1.0, 2, 3, 4]))
    b = trace([0, 0, 0, 6], goals=goals(4, 1), speed=np.zeros(4))
    found = dissect([a, b])
    assert (found.episodes, found.decisions, found.goals, found.speed) == (2, 8, 1.5, 1.25)
    assert [(event.episode, event.start, event.cost) for event in found.events] == [(0, 2, 1), (1, 3, 6)]
    assert found.traps == Traps(median=2, number=0, of=4, share=0)


def test_means_around_events_leave_out_what_lies_beyond_an_episode() -> None:
    traces = [trace([0, 0, 1, 3]), trace([5, 0, 0, 0])]
    found = around_events(traces, dissect(traces).events, before=1, after=2)
    # One before: only the first event has it. Two after: only the second.
    np.testing.assert_allclose(found["cost"], [0, (1 + 5) / 2, (3 + 0) / 2, 0])
    assert set(found) == {"cost"}
    assert around_events(traces, [], 1, 1) == {}
