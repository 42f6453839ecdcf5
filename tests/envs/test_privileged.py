"""What training sees and the robot does not: the AsymDreamer paper's Tables 4 and 6 to 9, and lidar ahead."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mujoco")

from prudence.envs.base import EnvConfig, EnvError
from prudence.envs.registry import configure, layout_of, make, spaces_of

MOTION = [("velocimeter", (2,)), ("accelerometer", (1,)), ("gyro", (1,))]
TABLES = {
    "SafetyPointPush1-v0": [
        ("hazards", (2, 2)), *MOTION, ("goal", (2,)), ("robot_m", (2,)), ("push_box", (2,)), ("push_box_mat", (2,)),
        ("push_box_vel", (2,)),
    ],
    "SafetyPointGoal2-v0": [("hazards", (10, 2)), ("vases", (10, 2)), *MOTION, ("goal", (2,))],
    "SafetyRacecarGoal1-v0": [("hazards", (8, 2)), ("vases", (1, 2)), *MOTION, ("goal", (2,))],
    "SafetyCarGoal1-v0": [("hazards", (8, 2)), ("vases", (1, 2)), *MOTION, ("goal", (2,))],
    "SafetyPointButton1-v0": [
        ("hazards", (4, 2)), *MOTION, ("goal", (2,)), ("gremlins", (4, 2)), ("buttons", (4, 2)),
    ],
}  # fmt: skip
SIZES = [18, 46, 24, 24, 30]


def entry(env, observation, name, key="privileged"):
    place = next(e for e in layout_of(env)[key] if e.name == name)
    return observation[key][place.start : place.stop].reshape(place.shape)


@pytest.mark.parametrize(("task", "size"), list(zip(TABLES, SIZES, strict=True)))
def test_it_holds_what_the_papers_table_lists(task, size):
    config = EnvConfig(task, privileged="paper")
    env = make(config)
    spaces, layout = spaces_of(env, config), layout_of(env)["privileged"]
    assert [(e.name, e.shape) for e in layout] == TABLES[task]
    assert spaces.observations["privileged"].shape == (size,)
    assert spaces.privileged == ("privileged",)
    assert list(spaces.unprivileged) == ["lidar"]


def test_its_values_are_those_of_coordinates():
    env = make(EnvConfig("SafetyPointPush1-v0", obs=("coordinates",), privileged="paper", action_repeat=5))
    env.reset(seed=3)
    for _ in range(10):
        observation, *_ = env.step(np.array([0.5, 0.4], np.float32))
    pairs = {"hazards": "hazards", "goal": "goal", "robot_m": "rotation", "push_box_mat": "push_box_rotation"}
    for theirs, ours in {**pairs, "push_box": "push_box", "push_box_vel": "push_box_velocity", "gyro": "gyro"}.items():
        np.testing.assert_array_equal(
            entry(env, observation, theirs), entry(env, observation, ours, "coordinates"), strict=True
        )
    task = env.unwrapped._task
    rotation = task.agent.mat
    np.testing.assert_allclose(entry(env, observation, "robot_m"), rotation[0, :2], rtol=1e-6)
    box = (task.push_box.pos - task.agent.pos) @ rotation
    np.testing.assert_allclose(entry(env, observation, "push_box"), box[:2], rtol=1e-5)


def test_levels_have_what_they_have_and_other_tasks_are_refused():
    assert [e.name for e in layout_of(make(EnvConfig("SafetyPointGoal0-v0", privileged="paper")))["privileged"]] == [
        "velocimeter", "accelerometer", "gyro", "goal",
    ]  # fmt: skip
    for task in ("SafetyDoggoGoal1-v0", "SafetyPointCircle1-v0"):
        with pytest.raises(EnvError, match=r"with privileged=\('coordinates',\)"):
            make(EnvConfig(task, privileged="paper"))


def test_an_observation_of_the_suite_can_be_privileged_by_name():
    config = EnvConfig("SafetyPointGoal1-v0", obs=("lidar", "coordinates"), privileged=("coordinates",))
    spaces = spaces_of(make(config), config)
    assert spaces.privileged == ("coordinates",)
    assert list(spaces.unprivileged) == ["lidar"]
    assert spaces.cost_function is None  # Nobody will decode coordinates.


@pytest.mark.parametrize("agent", ["Point", "Car"])  # A car drives and looks along -y.
def test_the_lidar_can_be_made_to_look_ahead_only(agent):
    whole, ahead = (
        make(configure(f"Safety{agent}Goal1-v0", obs=("lidar", "coordinates"), lidar_arc=arc)) for arc in (360.0, 120.0)
    )
    hidden = 0
    for seed in range(8):
        (wide, _), (narrow, _) = whole.reset(seed=seed), ahead.reset(seed=seed)
        x, y = entry(whole, wide, "goal", "coordinates")
        forward, aside = (-y, x) if agent == "Car" else (x, y)
        seen = abs(np.arctan2(aside, forward)) <= np.pi / 3
        goal = entry(ahead, narrow, "goal_lidar", "lidar")
        np.testing.assert_array_equal(goal, seen * entry(whole, wide, "goal_lidar", "lidar"))
        assert (narrow["lidar"] <= wide["lidar"]).all()
        np.testing.assert_array_equal(entry(ahead, narrow, "gyro", "lidar"), entry(whole, wide, "gyro", "lidar"))
        hidden += not seen
    assert 0 < hidden < 8
    with pytest.raises(EnvError, match="lidar_arc=0 must be above 0 and at most 360"):
        configure("SafetyPointGoal1-v0", lidar_arc=0)
