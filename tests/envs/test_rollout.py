"""Plans rolled out, beside the same plans stepped."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mujoco")

import mujoco

from prudence.envs.base import EnvConfig, EnvError
from prudence.envs.registry import make

# The suite's own agents do what NumPy and Gymnasium warn of.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning:safety_gymnasium"),
    pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning:gymnasium"),
]


def step(env, plan):
    """Rewards ``[H]`` and costs ``[H, C]``, 0 after the episode's end, and the decision that first reached a goal."""
    task, met = env.unwrapped._task, []
    original = type(task).update_world
    task.update_world = lambda: (met.append(None), original(task))
    rewards, costs, end = np.zeros(len(plan)), np.zeros((len(plan), len(env.cost_names))), len(plan)
    for i, action in enumerate(plan):
        _, rewards[i], terminated, truncated, info = env.step(action)
        costs[i] = info["cost"]
        end = min(end, i) if met else end
        if terminated or truncated:
            break
    del task.update_world
    return rewards, costs, end


def plans_of(env, number, length, seed):
    """Each with a direction that it mostly holds on to, so that it gets somewhere."""
    rng, size = np.random.default_rng(seed), env.action_space.shape[0]
    bias = rng.uniform(-1, 1, (number, 1, size))
    bias[::2, :, 0] = 1.0
    return np.clip(bias + rng.uniform(-0.4, 0.4, (number, length, size)), -1, 1).astype(np.float32)


def compare(task, *, seeds, number=4, length=12, repeat=5, lead=3, time_limit=None):
    """Rolls plans out ``lead`` decisions into each episode, then steps each. Returns the costs and goals compared."""
    env = make(EnvConfig(task, action_repeat=repeat, costs="separate", time_limit=time_limit))
    rollouts, total_cost, goals = env.rollouts(sleeping=False), 0.0, 0
    for seed in seeds:
        before, plans = plans_of(env, 1, lead, seed)[0], plans_of(env, number, length, seed + 100)
        outcome = None
        for i, plan in enumerate(plans):
            env.reset(seed=seed)
            for action in before:
                env.step(action)
            outcome = outcome or rollouts(plans)
            rewards, costs, end = step(env, plan)
            # A decision of several raw steps that reaches a goal goes on towards one that nobody can foresee.
            end += repeat == 1
            np.testing.assert_allclose(outcome.rewards[i, :end], rewards[:end], rtol=1e-9, atol=1e-9)
            np.testing.assert_array_equal(outcome.costs[i, :end], costs[:end])
            total_cost, goals = total_cost + costs[:end].sum(), goals + (end < length)
    rollouts.close()
    return total_cost, goals


def test_what_is_rolled_out_is_what_is_stepped():
    cost, goals = compare("SafetyPointGoal1-v0", seeds=range(6), length=20)
    assert cost > 0
    assert goals > 0


def test_contacts_and_speeds_cost_as_when_stepped():
    cost, _ = compare("SafetyPointGoal2-v0", seeds=[0], number=2, length=20)
    assert cost > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "costly", "options"),
    [
        ("SafetyPointGoal2-v0", True, {"length": 20}),
        ("SafetyPointPush2-v0", True, {"length": 25}),
        ("SafetyCarPush1-v0", True, {"length": 15}),
        ("SafetyPointCircle2-v0", True, {"length": 20}),
        ("SafetyCarRun0-v0", True, {"length": 15}),
        ("SafetyPointButton1-v0", True, {"length": 15}),
        ("SafetyPointButton2-v0", True, {"length": 60, "repeat": 1}),
        ("SafetyPointFadingEasy2-v0", True, {}),
        ("SafetyRacecarGoal2-v0", True, {}),
        ("SafetyDoggoGoal1-v0", False, {}),
        ("SafetyAntGoal1-v0", False, {"length": 15}),
    ],
)
def test_every_kind_of_task_is_rolled_out_as_it_is_stepped(task, costly, options):
    cost, _ = compare(task, seeds=range(4), **options)
    assert (cost > 0) == costly


def test_nothing_is_earned_after_the_time_limit():
    # The limit of 23 leaves 8 raw steps after the 3 decisions before: of the plans' 4 decisions 2 count, one in part.
    compare("SafetyPointCircle1-v0", seeds=[1], length=4, time_limit=23)
    env = make(EnvConfig("SafetyPointCircle1-v0", action_repeat=5, time_limit=8))
    env.reset(seed=0)
    rollouts, plans = env.rollouts(), np.ones((1, 4, 2), np.float32)
    np.testing.assert_array_equal(rollouts(plans).rewards[0] != 0, [True, True, False, False])
    for action in plans[0, :2]:
        env.step(action)
    with pytest.raises(ValueError, match="the episode is over"):
        rollouts(plans)


def ahead(env, metres):
    """A place so far ahead of the agent."""
    data = env.unwrapped._task.data
    body = data.body("agent")
    return body.xpos + metres * body.xmat.reshape(3, 3)[:, 0]


def place_goal(env, position):
    task = env.unwrapped._task
    task._set_goal(position[:2])
    mujoco.mj_forward(task.model, task.data)
    task.last_dist_goal = task.dist_goal()
    if hasattr(task, "push_box"):
        task.last_box_goal = task.dist_box_goal()


@pytest.mark.parametrize("task", ["SafetyPointGoal1-v0", "SafetyPointPush1-v0"])
def test_a_reached_goal_is_rewarded_once(task):
    env = make(EnvConfig(task))
    env.reset(seed=3)
    rollouts, plan = env.rollouts(), np.tile(np.float32([1, 0]), (1, 60, 1))
    rollouts(plan)  # The goal then moves in the same episode, as one that was reached does.
    box = env.unwrapped._task.data.body("push_box").xpos + np.array([0, 0.2, 0]) if "Push" in task else None
    place_goal(env, ahead(env, 0.5) if box is None else box)
    foreseen = rollouts(plan).rewards[0]
    rewards, _, end = step(env, plan[0])
    assert end < 60
    assert rewards[end] > 0.9
    np.testing.assert_allclose(foreseen[: end + 1], rewards[: end + 1], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(foreseen[end + 1 :], 0)


def test_after_the_goal_button_every_button_is_a_wrong_one():
    env = make(EnvConfig("SafetyPointButton1-v0", costs=("cost_buttons",)))
    env.reset(seed=3)
    task = env.unwrapped._task
    button = task.model.body(f"button{task.buttons.goal_button}")
    rollouts, plan = env.rollouts(), np.tile(np.float32([1, 0]), (1, 60, 1))
    rollouts(plan)
    button.pos[:2] = ahead(env, 0.3)[:2]  # What stands still may be moved between two searches.
    place_goal(env, button.pos)
    outcome = rollouts(plan)
    rewards, _, end = step(env, plan[0])
    np.testing.assert_allclose(outcome.rewards[0, : end + 1], rewards[: end + 1], rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(outcome.rewards[0, end + 1 :], 0)
    # The agent keeps pushing. The timer, set to 10 as the button is pressed, is seen at 10, 9, ... 1 before it is 0.
    np.testing.assert_array_equal(outcome.costs[0, : end + 11], 0)
    assert outcome.costs[0, end + 11 :].mean() > 0.5


def test_rolling_out_disturbs_nothing():
    watched, left_alone = (make(EnvConfig("SafetyPointButton1-v0", action_repeat=5)) for _ in range(2))
    rollouts, plans = watched.rollouts(), plans_of(watched, 3, 4, seed=0)
    for seed in (1, 2):
        watched.reset(seed=seed), left_alone.reset(seed=seed)
        for i in range(6):
            rollouts(plans)
            if i == 3:  # The next goal is drawn from the suite's random stream.
                watched.unwrapped._task.update_world(), left_alone.unwrapped._task.update_world()
            left, right = watched.step(plans[0, i % 4]), left_alone.step(plans[0, i % 4])
            np.testing.assert_array_equal(left[0]["lidar"], right[0]["lidar"])
            assert left[1] == right[1]
            np.testing.assert_array_equal(left[4]["cost"], right[4]["cost"])


def test_a_clock_that_profiles_is_left_alone():
    env = make(EnvConfig("SafetyPointGoal1-v0"))
    env.reset(seed=0)
    rollouts, plans, read = env.rollouts(), plans_of(env, 2, 2, seed=0), []
    rollouts(plans)  # Compiles the model, which reads the clock.
    mujoco.set_mjcb_time(clock := lambda: read.append(None) or 0.0)
    try:
        rollouts(plans)
        assert not read
        assert mujoco.get_mjcb_time() is clock
    finally:
        mujoco.set_mjcb_time(None)


def test_sleeping_objects_change_little():
    env = make(EnvConfig("SafetyPointGoal2-v0", action_repeat=5))
    env.reset(seed=0)
    plans = plans_of(env, 6, 15, seed=100)
    awake, asleep = env.rollouts(sleeping=False)(plans), env.rollouts()
    first = asleep(plans)
    assert awake.costs.sum() > 0  # Vases are run into, too.
    np.testing.assert_allclose(first.rewards, awake.rewards, atol=2e-2)
    assert np.mean(first.costs != awake.costs) < 0.05
    again = asleep(plans[::-1])  # Other threads take other plans, after others.
    np.testing.assert_array_equal(first.rewards, again.rewards[::-1])
    np.testing.assert_array_equal(first.costs, again.costs[::-1])


def test_a_task_whose_rewards_are_unknown_is_refused():
    env = make(EnvConfig("SafetyPointGoal1-v0"))
    task = env.unwrapped._task
    task.__class__ = type("Chase", (object,), {"__init__": lambda self: None})
    with pytest.raises(EnvError, match=r"SafetyPointGoal1-v0 cannot be rolled out.*Known are Goal, Button, Push"):
        env.rollouts()
