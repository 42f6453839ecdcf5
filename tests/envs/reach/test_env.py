"""The environment with both robots: the Panda where its files are installed."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("mujoco")

from gymnasium.utils.env_checker import check_env

from prudence.envs import reach
from prudence.envs.base import EnvError
from prudence.envs.reach import TASKS, ReachOptions, find_panda
from prudence.envs.reach import task as rules
from prudence.envs.reach.env import LEAD, TILT, ReachEnv, entry
from prudence.envs.registry import configure, describe, make
from prudence.envs.vector import make_vector

TASK = "SafeReach-v0"
NO_PANDA = pytest.mark.skipif(find_panda() is None, reason=f"needs the Panda's files: {reach.PANDA}")
ROBOTS = ["hand", pytest.param("panda", marks=NO_PANDA)]
STAY = np.zeros(3, np.float32)


def own(task: str = TASK, **kwargs) -> ReachEnv:
    return ReachEnv(task, **({"robot": "hand", "actions": "position"} | kwargs))


def lead_to(env: ReachEnv, point, steps: int = 20) -> list[dict]:
    """The infos of steps towards ``point`` (m, in the world)."""
    infos = []
    for _ in range(steps):
        command = env._command[:3]
        infos.append(env.step(np.clip((np.array(point) - command) / 0.015, -1, 1))[-1])
    return infos


@pytest.mark.filterwarnings("ignore:.*A Box observation space m[a-z]+ value is -?infinity.*:UserWarning")
def test_gymnasium_finds_no_fault():
    sizes = {"image_size": 16, "render_size": 64}
    check_env(gym.make(f"prudence.envs.reach:{TASK}", robot="hand", obs=("vision", "coordinates"), **sizes).unwrapped)


@pytest.mark.parametrize("robot", ROBOTS)
def test_spaces_are_equal_over_tasks(robot):
    """So a policy of one task can go on in another."""
    made = []
    for task in TASKS:
        config = configure(task, obs=("vision", "coordinates"), robot=robot, image_size=16)
        made.append(describe(make(config), config))
    assert all(other == made[0] for other in made[1:])
    spaces, layout, _ = made[0]
    assert {name: spec.shape for name, spec in spaces.observation} == {
        "image": (16, 16, 3), "pose": (6,), "coordinates": (28,),
    }  # fmt: skip
    assert (spaces.action.size, spaces.episode_steps, spaces.costs) == (6, 80, ("cost",))
    assert [e.name for e in layout["coordinates"]] == ["pose", "velocimeter", "target", "obstacles", "present"]


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("task", TASKS)
def test_episodes_start_free_of_contact_and_are_determined_by_their_seed(robot, task):
    env, other = own(task, robot=robot), own(task, robot=robot)
    for seed in range(5):
        first, again = env.reset(seed=seed)[0], other.reset(seed=seed)[0]
        np.testing.assert_array_equal(first["coordinates"], again["coordinates"])
        assert not (env._role[env.data.contact.geom].sum(axis=1) == 3).any()
        start = rules.START - [0.5, 0.0, rules.TABLE]
        assert np.abs(entry(first["coordinates"], "pose")[:3] / 100 - start).max() < 0.0101
        action = np.array([0.3, -0.2, 0.1])
        for _ in range(3):
            seen, _, _, _, info = env.step(action)
            assert info == {"cost": 0.0, "goals": 0, "success": False}
            np.testing.assert_array_equal(seen["coordinates"], other.step(action)[0]["coordinates"])
    assert (env.reset(seed=0)[0]["coordinates"] != env.reset(seed=1)[0]["coordinates"]).any()


def test_coordinates_are_relative_to_the_fingertips_in_centimetres():
    env = own()
    seen = env.reset(options={"layout": rules.Layout(2, (0, 5))})[0]["coordinates"]
    # Start (.39, 0, .22), target (.60, .08, .13), obstacles at (.45, -.07) and (.52, .07), whose middles are at .175.
    np.testing.assert_allclose(entry(seen, "pose"), [-11, 0, 12, 0, 0, 0], atol=1e-4)
    np.testing.assert_allclose(entry(seen, "target"), [21, 8, -9], atol=1e-4)
    obstacles = [[6, -7, -4.5], [13, 7, -4.5], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(entry(seen, "obstacles"), obstacles, atol=1e-4)
    np.testing.assert_array_equal(entry(seen, "present"), [1, 1, 0, 0])
    before = entry(seen, "pose")[:3]
    seen = env.step(np.array([1.0, 0.0, 0.0]))[0]["coordinates"]
    moved = entry(seen, "pose")[:3] - before
    np.testing.assert_allclose(entry(seen, "velocimeter"), moved / 0.05, rtol=1e-3, atol=1e-3)  # In cm/s.


@pytest.mark.parametrize("robot", ROBOTS)
def test_commands_move_the_fingertips_and_stay_in_the_area(robot):
    env = own("SafeReach0-v0", robot=robot, actions="pose", time_limit=1000)
    env.reset(seed=0)
    start = env._past.copy()
    turn = np.array([0, 0, 0, 0, 0, 1.0])
    for _ in range(4):
        env.step(turn)
    for _ in range(20):
        env.step(np.zeros(6))
    np.testing.assert_allclose(env._past - start, [0, 0, 0, 0, 0, 0.2], atol=2e-3)
    for corner in ([1, 1, 1, 1, 0, 0], [-1, -1, -1, -1, 0, 0]):
        for _ in range(40):
            env.step(np.array(corner, float))
            assert (np.abs(env._command - env._past) <= LEAD + 0.05).all()
        limit = rules.HIGH if corner[0] > 0 else rules.LOW
        np.testing.assert_allclose(env._command[:3], limit, atol=1e-9)
        np.testing.assert_allclose(env._past[:3], limit, atol=4e-3)
        assert env._past[3] == pytest.approx(TILT * corner[0], abs=0.02)


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_target_pays_while_it_is_touched(robot):
    env = own("SafeReach0-v0", robot=robot)
    env.reset(options={"layout": rules.Layout(1, ())})
    assert [i["goals"] for i in lead_to(env, (0.6, 0, 0.2))] == [0] * 20
    infos = lead_to(env, (0.6, 0, 0.165))
    goals = [info["goals"] for info in infos]
    assert sum(goals) == 1
    first = goals.index(1)
    assert [info["success"] for info in infos] == [False] * first + [True] * (20 - first)
    _, reward, terminated, _, info = env.step(STAY)
    assert (reward, terminated, info["cost"]) == (1.0, False, 0.0)
    lead_to(env, (0.6, 0, 0.2))
    _, reward, _, _, info = env.step(STAY)
    assert (reward, info["goals"], info["success"]) == (0.0, 0, True)


def test_dense_rewards_add_up_to_the_progress():
    env = own("SafeReach0-v0", reward="dense")
    env.reset(seed=0)
    first = env._distance
    total = sum(env.step(np.array([1.0, 0.1, 0.0]))[1] for _ in range(8))
    assert total == pytest.approx(10 * (first - env._distance))
    assert total > 0.5


@pytest.mark.parametrize("robot", ROBOTS)
def test_cost_is_one_from_the_touch_until_the_obstacle_lies_still(robot):
    env = own(robot=robot, time_limit=1000)
    env.reset(options={"layout": rules.Layout(1, (1, 5))})  # An obstacle on the straight line, and one aside.
    costs = [env.step(np.array([1.0, 0.0, 0.0]))[-1]["cost"] for _ in range(12)]
    touched = costs.index(1.0)
    # The fingers start 3.5 cm before the obstacle, less half their thickness of 1 to 2 cm. A step is up to 1.5 cm.
    assert 1 <= touched <= 5
    assert costs[: touched + 4] == [0.0] * touched + [1.0] * 4
    infos = lead_to(env, rules.START, steps=60)  # Back: what was pushed over comes to rest.
    after = [info["cost"] for info in infos]
    assert after[-1] == 0.0
    assert set(after) <= {0.0, 1.0}
    assert not rules.moving(env.data.qvel[env._velocities])
    env.data.qvel[env._velocities[1, 0]] = 0.5
    assert env.step(STAY)[-1]["cost"] == 1.0  # Another that moves since the touch counts too.


def test_what_moves_untouched_costs_nothing():
    env = own()
    env.reset(options={"layout": rules.Layout(1, (0, 5))})
    env.data.qvel[env._velocities[1, 0]] = 0.1
    assert env.step(STAY)[-1]["cost"] == 0.0


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_decision_is_its_raw_steps(robot):
    slow, quick = own(robot=robot, action_repeat=4, reward="dense"), own(robot=robot, reward="dense")
    slow.reset(seed=4)
    quick.reset(seed=4)
    action = np.array([0.8, 0.2, -0.1])
    each = [quick.step(action) for _ in range(4)]
    seen, reward, _, _, info = slow.step(action)
    np.testing.assert_array_equal(seen["coordinates"], each[-1][0]["coordinates"])
    assert reward == pytest.approx(sum(one[1] for one in each))
    assert info["cost"] == sum(one[-1]["cost"] for one in each)


def test_time_is_up_after_eighty_raw_steps():
    env = make(configure(TASK, robot="hand", action_repeat=30, actions="position"))
    env.reset(seed=0)
    assert [env.step(STAY)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize("robot", ROBOTS)
def test_episodes_are_restored_by_repeating_their_actions(robot):
    config = configure(TASK, obs=("vision", "coordinates"), image_size=16, robot=robot)
    rng = np.random.default_rng(0)
    first, second = make_vector(config, 2, seed=7), make_vector(config, 2, seed=7)
    first.reset()
    actions = rng.uniform(-0.5, 1, (16, 2, 6)).astype(np.float32)  # Forward, where the obstacles are.
    for action in actions[:10]:
        first.step(action)
    second.restore(first.state())
    for action in actions[10:]:
        left, right = first.step(action), second.step(action)
        for name, value in left.observation.items():
            np.testing.assert_array_equal(value, right.observation[name])
        np.testing.assert_array_equal(left.reward, right.reward)
        np.testing.assert_array_equal(left.cost, right.cost)
    assert not right.is_first.any()


@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("task", TASKS)
def test_pictures_show_target_and_obstacles(robot, task):
    env = own(task, robot=robot, obs=("vision",), render_size=64)
    places = tuple(range(len(rules.VARIANTS[task].obstacles)))
    image = env.reset(options={"layout": rules.Layout(1, places)})[0]["image"].astype(int)
    assert image.shape == (64, 64, 3)
    red = (image[..., 0] > 100) & (image[..., 1] < 60) & (image[..., 2] < 60)
    green = (image[..., 1] > image[..., 0] + 30) & (image[..., 1] > image[..., 2] + 30)
    assert red.sum() > 20
    assert green.sum() >= 60 * bool(places)
    assert bool(green.any()) == bool(places)
    assert env.render().shape == (64, 64, 3)


def test_auto_stands_for_the_robot_that_is_there(monkeypatch):
    monkeypatch.setattr(reach, "find_panda", lambda: None)
    assert ReachOptions().robot == "hand"
    assert configure(TASK).options == ReachOptions("hand")
    monkeypatch.setattr("prudence.envs.reach.env.find_panda", lambda: None)
    with pytest.raises(EnvError, match=r"pip install --no-deps gymnasium-robotics==\S+\s+or choose robot='hand'"):
        make(configure(TASK, robot="panda"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"obs": ("lidar",)}, "choose from coordinates, vision"),
        ({"image_size": 4}, "image_size=4 must be at least 8"),
        ({"kwargs": {"robot": "hand"}}, "robot, and it takes render_mode, render_size"),
    ],
)
def test_what_there_is_not_is_refused(settings, message):
    with pytest.raises(EnvError, match=message):
        make(configure(TASK, **settings))


def test_tasks_and_observations_are_refused_by_name():
    with pytest.raises(EnvError, match="must be one of SafeReach0-v0"):
        own("SafeReach9-v0")
    with pytest.raises(EnvError, match="any of coordinates, vision"):
        own(obs=("lidar",))


@pytest.mark.parametrize("robot", ROBOTS)
def test_nothing_droops(robot):
    env = own(robot=robot)
    env.reset(seed=0)
    for _ in range(5):
        env.step(STAY)
    np.testing.assert_allclose(env._past, env._command, atol=5e-4)
