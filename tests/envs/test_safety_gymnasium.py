"""The adapter against the suite's own classes, for the same seeds and actions."""

from __future__ import annotations

import re

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("mujoco")

from prudence.envs.base import EnvConfig, EnvError
from prudence.envs.registry import configure, layout_of, make, spaces_of
from prudence.envs.safety_gymnasium import TASKS
from prudence.envs.safety_gymnasium.loader import suite

SOME = ["SafetyPointGoal1-v0", "SafetyCarButton1-v0"]
MANY = [
    "SafetyPointGoal2-v0", "SafetyCarGoal1-v0", "SafetyRacecarPush2-v0", "SafetyDoggoGoal1-v0", "SafetyAntPush1-v0",
    "SafetyPointButton2-v0", "SafetyPointCircle2-v0", "SafetyCarRun0-v0", "SafetyPointFadingEasy2-v0",
    "SafetyCarFadingHard1-v0",
]  # fmt: skip


# The suite's own agents do what NumPy and Gymnasium warn of.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning:safety_gymnasium"),
    pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning:gymnasium"),
]


def suites_own(task):
    agent = re.match("Safety(Point|Car|Racecar|Doggo|Ant)", task).group(1)
    return suite().builder.Builder(task, {"agent_name": agent})


def compare(task, seeds, steps):
    """Steps both side by side; returns what the episodes were worth, so that a test can see that they differed."""
    own, ours = suites_own(task), make(EnvConfig(task))
    low, high = own.action_space.low, own.action_space.high
    rng, total_cost = np.random.default_rng(0), 0.0
    for seed in seeds:
        expected, _ = own.reset(seed=seed)
        observation, _ = ours.reset(seed=seed)
        np.testing.assert_allclose(observation["lidar"], expected, rtol=1e-6, atol=1e-6)
        bias = rng.uniform(-1, 1, ours.action_space.shape)
        for _ in range(steps):
            action = np.clip(bias + rng.uniform(-0.5, 0.5, bias.shape), -1, 1)
            control = (low + high) / 2 + (high - low) / 2 * action
            expected, reward, cost, terminated, truncated, _ = own.step(control)
            observation, our_reward, *flags, info = ours.step(action)
            np.testing.assert_array_equal(ours.unwrapped._task.data.qpos, own.task.data.qpos)
            np.testing.assert_allclose(observation["lidar"], expected, rtol=1e-6, atol=1e-6)
            assert our_reward == float(reward)
            assert info["cost"] == cost
            assert flags == [terminated, truncated]
            total_cost += cost
            if terminated or truncated:
                break
    return total_cost


@pytest.mark.parametrize("task", SOME)
def test_episodes_are_the_suites_own(task):
    compare(task, seeds=[1], steps=60)


@pytest.mark.slow
@pytest.mark.parametrize("task", SOME + MANY)
def test_long_episodes_are_the_suites_own(task):
    compare(task, seeds=[2, 3], steps=250)


@pytest.mark.slow
def test_costs_are_the_suites_own_where_there_are_some():
    assert compare("SafetyPointGoal2-v0", seeds=range(4), steps=200) > 0
    assert compare("SafetyPointButton2-v0", seeds=range(4), steps=200) > 0
    assert compare("SafetyPointPush2-v0", seeds=range(4), steps=200) > 0
    assert compare("SafetyPointCircle2-v0", seeds=range(2), steps=200) > 0


def test_a_decision_sums_its_raw_steps():
    single, repeated = make(EnvConfig(SOME[0])), make(EnvConfig(SOME[0], action_repeat=5))
    single.reset(seed=4), repeated.reset(seed=4)
    action = np.array([1.0, 0.2], np.float32)
    rewards, costs = 0.0, 0.0
    for _ in range(5):
        observation, reward, _, _, info = single.step(action)
        rewards, costs = rewards + reward, costs + info["cost"]
    after, reward, _, _, info = repeated.step(action)
    np.testing.assert_array_equal(after["lidar"], observation["lidar"])
    assert reward == rewards
    np.testing.assert_array_equal(info["cost"], costs)


@pytest.mark.parametrize(("limit", "repeat", "decisions"), [(None, 5, 200), (12, 5, 3)])
def test_episodes_end_at_the_time_limit(limit, repeat, decisions):
    config = EnvConfig(SOME[0], obs=("coordinates",), action_repeat=repeat, time_limit=limit)
    env = make(config)
    assert spaces_of(env, config).episode_steps == decisions
    env.reset(seed=0)
    flags = [env.step(np.zeros(2, np.float32))[2:4] for _ in range(decisions)]
    assert flags == [(False, False)] * (decisions - 1) + [(False, True)]


def test_a_later_episode_equals_a_first_one():
    fresh, used = make(EnvConfig("SafetyPointButton1-v0")), make(EnvConfig("SafetyPointButton1-v0"))
    used.reset(seed=1)
    for _ in range(20):
        used.step(np.ones(2, np.float32))
    np.testing.assert_array_equal(used.reset(seed=8)[0]["lidar"], fresh.reset(seed=8)[0]["lidar"])
    for _ in range(20):
        left, right = used.step(np.ones(2, np.float32)), fresh.step(np.ones(2, np.float32))
        np.testing.assert_array_equal(left[0]["lidar"], right[0]["lidar"])


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("SafetyPointGoal1-v0", ("cost_hazards",)),
        ("SafetyPointGoal2-v0", ("cost_hazards", "cost_vases_contact", "cost_vases_velocity")),
        ("SafetyPointButton1-v0", ("cost_buttons", "cost_hazards", "cost_gremlins")),
        ("SafetyPointPush2-v0", ("cost_hazards", "cost_pillars")),
        ("SafetyPointCircle1-v0", ("cost_out_of_boundary",)),
    ],
)
def test_separate_costs_are_named_as_in_the_suite(task, names):
    config = EnvConfig(task, costs="separate")
    env = make(config)
    assert spaces_of(env, config).costs == names
    own = suites_own(task)
    own.reset(seed=0)
    keys = {key for _ in range(12) for key in own.step(np.zeros(2))[-1] if key.startswith("cost_")} - {"cost_sum"}
    assert keys == set(names)


def test_costs_that_a_task_lacks_are_refused():
    with pytest.raises(EnvError, match=r"reports cost_hazards, not cost_vases"):
        make(EnvConfig("SafetyPointGoal1-v0", costs=("cost_vases",)))
    with pytest.raises(EnvError, match=r"no cost at all"):
        make(EnvConfig("SafetyPointGoal0-v0", costs="separate"))


def entry(env, observation, name):
    place = next(e for e in layout_of(env)["coordinates"] if e.name == name)
    return observation["coordinates"][place.start : place.stop].reshape(place.shape)


def test_coordinates_are_positions_in_the_agents_frame():
    env = make(EnvConfig("SafetyPointGoal1-v0", obs=("coordinates",)))
    env.reset(seed=6)
    for _ in range(10):
        observation, *_ = env.step(np.array([0.3, 1.0], np.float32))
    task = env.unwrapped._task
    cos, minus_sin = entry(env, observation, "rotation")
    np.testing.assert_allclose(cos**2 + minus_sin**2, 1.0, rtol=1e-5)
    for i, hazard in enumerate(task.hazards.pos):
        x, y = (hazard - task.agent.pos)[:2]
        expected = [cos * x - minus_sin * y, minus_sin * x + cos * y]
        np.testing.assert_allclose(entry(env, observation, "hazards")[i], expected, rtol=1e-4, atol=1e-5)
    distance = np.linalg.norm(entry(env, observation, "goal"))
    np.testing.assert_allclose(distance, task.dist_goal(), rtol=1e-5)
    np.testing.assert_allclose(entry(env, observation, "gyro"), task.agent.get_sensor("gyro")[2:], rtol=1e-5)


def test_the_nearest_may_come_first():
    """The objects of each kind, here hazards and vases, are those of the fixed order, sorted by distance."""
    fixed, ordered = (
        make(configure("SafetyPointGoal2-v0", obs=("coordinates",), nearest_first=first)) for first in (False, True)
    )
    before, after = (env.reset(seed=3)[0] for env in (fixed, ordered))
    for kind in ("hazards", "vases"):
        there, here = entry(fixed, before, kind), entry(ordered, after, kind)
        distances = np.linalg.norm(there, axis=1)
        assert (np.diff(distances) < 0).any()
        np.testing.assert_array_equal(here, there[np.argsort(distances)])
    for name in ("velocimeter", "rotation", "goal"):
        np.testing.assert_array_equal(entry(ordered, after, name), entry(fixed, before, name))


@pytest.mark.parametrize(
    ("task", "size"),
    [
        ("SafetyPointGoal1-v0", 2 + 1 + 1 + 2 + 2 + 16 + 2),
        ("SafetyPointPush1-v0", 2 + 1 + 1 + 2 + 2 + 4 + 2 + 2 + 2 + 2),
        ("SafetyPointButton1-v0", 2 + 1 + 1 + 2 + 8 + 2 + 8 + 8),
        ("SafetyPointCircle2-v0", 2 + 1 + 1 + 2 + 2 + 4),
    ],
)
def test_coordinates_have_named_entries(task, size):
    env = make(EnvConfig(task, obs=("coordinates",)))
    layout = layout_of(env)["coordinates"]
    assert layout[-1].stop == size == env.observation_space["coordinates"].shape[0]
    assert [e.start for e in layout[1:]] == [e.stop for e in layout[:-1]]


@pytest.mark.parametrize(
    ("task", "obs"), [("SafetyPointGoal1-v0", ("lidar",)), ("SafetyPointGoal2-v0", ("coordinates",))]
)
def test_costs_that_are_not_seen_are_not_read_off(task, obs):
    # Goal2's vases cost by touch.
    assert spaces_of(make(EnvConfig(task, obs)), EnvConfig(task, obs)).cost_function is None


def test_the_cost_is_read_off_coordinates():
    config = EnvConfig("SafetyPointGoal1-v0", ("coordinates",), action_repeat=3)
    env = make(config)
    reads, place = spaces_of(env, config).cost_function, layout_of(env)["coordinates"]
    start = next(entry.start for entry in place if entry.name == "hazards")
    seen, rng, costly = env.reset(seed=0)[0]["coordinates"], np.random.default_rng(0), 0
    for _ in range(330):
        forward = np.array([1.0, 0.3 * rng.normal()])
        seen, _, _, over, info = env.step(forward)
        read = float(reads({"coordinates": seen["coordinates"]})[0])
        nearest = np.linalg.norm(seen["coordinates"][start : start + 16].reshape(8, 2), axis=1).min()
        assert read == (3.0 if nearest <= 0.25 else 0.0)
        if nearest <= 0.2:  # The decision ended in a hazard: it did cost.
            assert info["cost"][0] > 0
            costly += 1
        if over:
            break
    assert costly


def test_the_boundary_is_how_far_the_walls_are():
    env = make(EnvConfig("SafetyPointCircle2-v0", obs=("coordinates",)))
    observation, _ = env.reset(seed=0)
    x, y = env.unwrapped._task.agent.pos[:2]
    np.testing.assert_allclose(
        entry(env, observation, "boundary"), [1.125 - x, 1.125 + x, 1.125 - y, 1.125 + y], rtol=1e-5
    )


def test_missing_suite_says_how_to_install_it(monkeypatch):
    suite.cache_clear()
    monkeypatch.setattr("importlib.import_module", lambda name: (_ for _ in ()).throw(ImportError("none here")))
    with pytest.raises(EnvError, match=r"--no-deps safety-gymnasium==1\.0\.0"):
        suite()
    monkeypatch.undo()
    suite.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task_steps_and_renders(task):
    config = configure(task, obs=("lidar", "coordinates", "vision"), cameras="both", action_repeat=2)
    env = make(config)
    observation, _ = env.reset(seed=0)
    pictures = [env.render()]
    for _ in range(15):
        observation, reward, *_ = env.step(np.ones(env.action_space.shape, np.float32))
        assert isinstance(env.observation_space, gym.spaces.Dict)
        assert env.observation_space.contains(observation)
        assert np.isfinite(reward)
    pictures.append(env.render())
    assert observation["image"].shape == (64, 64, 6)
    assert observation["image"][..., :3].std() > 5  # Something is seen, to the front and to the back.
    assert observation["image"][..., 3:].std() > 5
    assert pictures[0].shape == (256, 256, 3)
    assert (pictures[0] != pictures[1]).any()
