"""The known answers that the probes' docstrings state."""

from __future__ import annotations

import numpy as np
import pytest

from prudence.envs import probes
from prudence.envs.base import EnvConfig
from prudence.envs.registry import make, spaces_of


def play(task, policy, costs="total"):
    """Return, costs, length and termination of one episode under ``policy(observation)``."""
    env = make(EnvConfig(task, costs=costs))
    observation, _ = env.reset(seed=1)
    total, cost, length, over = 0.0, 0.0, 0, False
    while not over:
        observation, reward, terminated, truncated, info = env.step(policy(next(iter(observation.values()))))
        total, cost, length, over = total + reward, cost + info["cost"], length + 1, terminated or truncated
    return total, np.atleast_1d(cost), length, terminated


def constant(action):
    return lambda _: action if isinstance(action, int) else np.array(action, np.float32)


def test_value_never_terminates_and_terminal_does():
    assert play("probe/value", constant([0.3]))[::3] == (20.0, False)
    assert play("probe/terminal", constant([0.3]))[::3] == (10.0, True)


def test_policy_is_solved_by_following_the_sign():
    assert play("probe/policy", lambda s: s / 2)[0] == pytest.approx(20.0)
    assert play("probe/policy-discrete", lambda s: int(s[0] > 0))[0] == 20.0
    assert play("probe/policy", constant([0.0]))[0] == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("task", "now", "wait"), [("probe/discount", [1.0], [-1.0]), ("probe/discount-discrete", 1, 0)]
)
def test_discount_pays_half_now_or_one_at_the_end(task, now, wait):
    assert play(task, constant(now))[0] == 0.5
    assert play(task, constant(wait))[0] == 1.0
    assert play(task, constant(wait))[2:] == (5, True)


def test_memory_shows_the_sign_once():
    env = make(EnvConfig("probe/memory-discrete"))
    observation, _ = env.reset(seed=3)
    sign = observation["state"][0]
    assert abs(sign) == 1
    seen = [env.step(int(sign > 0)) for _ in range(5)]
    assert [row[0]["state"][0] for row in seen] == [0.0] * 5
    assert [row[0]["state"][1] for row in seen] == [0, 0, 0, 1, 0]
    assert [row[1] for row in seen] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("task", "action", "total", "cost"),
    [
        ("probe/cost", [1.0], 20.0, 20.0),
        ("probe/cost", [-0.5], 10.0, 0.0),
        ("probe/cost", [0.25], 12.5, 5.0),
        ("probe/cost-discrete", 1, 20.0, 20.0),
        ("probe/cost-discrete", 0, 10.0, 0.0),
    ],
)
def test_cost_pays_more_on_the_unsafe_arm(task, action, total, cost):
    episode = play(task, constant(action))
    assert episode[0] == pytest.approx(total)
    np.testing.assert_allclose(episode[1], [cost], rtol=1e-6)


@pytest.mark.parametrize(
    ("task", "action", "total", "costs"),
    [
        ("probe/conflict", [1.0], 20.0, [0.0, 15.0]),
        ("probe/conflict", [-1.0], 20.0, [15.0, 0.0]),
        ("probe/conflict", [0.25], 5.0, [0.0, 0.0]),
        ("probe/conflict-discrete", 0, 20.0, [20.0, 0.0]),
        ("probe/conflict-discrete", 1, 5.0, [0.0, 0.0]),
        ("probe/conflict-discrete", 2, 20.0, [0.0, 20.0]),
    ],
)
def test_conflict_has_two_costs_that_forbid_opposite_directions(task, action, total, costs):
    episode = play(task, constant(action), costs="separate")
    assert episode[0] == pytest.approx(total)
    np.testing.assert_allclose(episode[1], costs, rtol=1e-6)


@pytest.mark.parametrize(("arm", "total", "cost"), [(0, 0.0, 0.0), (1, 10.0, 0.0), (2, 20.0, 20.0)])
def test_the_ledge_pays_most_and_alone_costs(arm, total, cost):
    assert play("probe/ledge", constant(arm))[:2] == (total, [cost])


def test_no_two_steps_of_the_ledge_look_alike():
    seen = []
    play("probe/ledge", lambda noise: seen.append(float(noise[0])) or 0)
    assert len(set(seen)) == 20


def locate(picture):
    """Horizontal position in [-1, 1] of the white square."""
    columns = np.flatnonzero((picture == 255).all(-1).any(0))
    return columns[0] / (picture.shape[1] - len(columns)) * 2 - 1


@pytest.mark.parametrize("task", ["probe/pixels", "probe/pixels-16"])
@pytest.mark.parametrize(("moves", "end", "total", "cost"), [([1] * 6, 0.5, 22.0, 22), ([1, 1, 1, 0.49], 0.0, 11.6, 0)])
def test_pixels_pay_and_cost_by_the_half(task, moves, end, total, cost):
    seen, plan = [], iter(moves)

    def policy(picture):
        seen.append(locate(picture))
        return np.array([next(plan, 0), 0], np.float32)

    reward, costs, *_ = play(task, policy)
    assert reward == pytest.approx(total, abs=0.06)
    assert costs[0] == cost
    assert seen[0] == pytest.approx(-0.7, abs=0.08)
    assert seen[-1] == pytest.approx(end, abs=0.08)


def test_alike_is_told_apart_at_both_ends_and_by_what_is_privileged():
    env = make(EnvConfig("probe/alike"))
    assert spaces_of(env, EnvConfig("probe/alike")).privileged == ("sign",)
    signs = set()
    for seed in range(8):
        seen = [env.reset(seed=seed)[0]]
        rows = [env.step(np.array([0.5], np.float32)) for _ in range(10)]
        seen += [row[0] for row in rows]
        sign = float(seen[0]["sign"][0])
        signs.add(sign)
        assert [float(o["state"][0]) for o in seen] == [sign, *[0.0] * 9, sign]
        assert {float(o["sign"][0]) for o in seen} == {sign}
        assert sum(row[1] for row in rows) == pytest.approx(7.5)
        assert sum(float(row[4]["cost"][0]) for row in rows) == pytest.approx(5.0 if sign > 0 else 0.0)
        assert rows[-1][2:4] == (False, True)
    assert signs == {-1.0, 1.0}


def test_the_state_follows_from_the_seed():
    for task in probes.TASKS:
        first, second = make(EnvConfig(task)), make(EnvConfig(task))
        second.reset(seed=9)
        for key, value in first.reset(seed=5)[0].items():
            np.testing.assert_array_equal(value, second.reset(seed=5)[0][key])
