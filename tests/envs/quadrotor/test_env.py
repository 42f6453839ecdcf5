"""The environment: for Gymnasium, for Prudence, and for a pilot."""

from __future__ import annotations

import runpy
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("mujoco")

from gymnasium.utils.env_checker import check_env

from prudence.envs.base import EnvConfig, EnvError
from prudence.envs.quadrotor import TASKS
from prudence.envs.quadrotor.env import QuadrotorEnv
from prudence.envs.registry import configure, layout_of, make, spaces_of
from prudence.envs.vector import make_vector
from prudence.inspection.video import write_video
from prudence.types import ActionSpec

TASK, VELOCITY = "SafetyQuadrotorGoal1-v0", "SafetyQuadrotorVelocityGoal1-v0"
HOVER = np.zeros(4, np.float32)
EXAMPLE = Path(__file__).parents[3] / "examples" / "03_fly_the_quadrotor.py"


def own(task=TASK, **kwargs):
    """As somebody without Prudence makes it, but for the wrappers."""
    return gym.make(f"prudence.envs.quadrotor:{task}", **({"obs": ("coordinates",)} | kwargs)).unwrapped


def entry(env, observation, name, key="coordinates"):
    place = next(e for e in layout_of(env)[key] if e.name == name)
    return observation[key][place.start : place.stop].reshape(place.shape)


@pytest.mark.filterwarnings("ignore:.*A Box observation space m[a-z]+ value is -?infinity.*:UserWarning")
@pytest.mark.parametrize("task", TASKS)
def test_gymnasium_finds_no_fault(task):
    check_env(gym.make(task, obs=("vision", "lidar"), paper_privileged=True, image_size=16, render_size=64).unwrapped)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_steps_and_renders(task):
    config = configure(
        task, obs=("vision", "lidar", "coordinates"), cameras="both", privileged="paper", action_repeat=2
    )
    env = make(config)
    observation, _ = env.reset(seed=0)
    assert spaces_of(env, config).privileged == ("privileged",)
    assert spaces_of(env, config).action == ActionSpec("continuous", 4)
    assert spaces_of(env, config).episode_steps == 500
    pictures = [env.render()]
    for _ in range(5):
        observation, reward, _, _, info = env.step(np.full(4, 0.05, np.float32))
        assert env.observation_space.contains(observation)
        assert np.isfinite(reward)
        assert info["cost"].shape == (1,)
    pictures.append(env.render())
    assert observation["image"].shape == (64, 64, 6)
    assert observation["image"][..., :3].std() > 5
    assert observation["image"][..., 3:].std() > 5
    assert pictures[0].shape == (256, 256, 3)
    assert (pictures[0] != pictures[1]).any()


@pytest.mark.parametrize(("level", "hazards"), [(0, 0), (1, 8), (2, 14)])
def test_privileged_is_the_papers_table_5(level, hazards):
    env = make(EnvConfig(f"SafetyQuadrotorGoal{level}-v0", privileged="paper"))
    past = [(f"past_{i}_action", (4,)) for i in (1, 2, 3)]
    assert [(e.name, e.shape) for e in layout_of(env)["privileged"]] == [
        ("hazards", (hazards, 3)), ("velocimeter", (3,)), ("accelerometer", (3,)), ("gyro", (3,)), ("goal", (3,)),
        ("robot_m", (3, 3)), *past, ("euler", (2,)),
    ]  # fmt: skip
    assert env.observation_space["privileged"].shape == (3 * hazards + 35,)


def test_privileged_values():
    env = own(paper_privileged=True)
    env.reset(seed=2)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-0.2, 0.2, (4, 4)).astype(np.float32)
    for action in actions:
        observation, *_ = env.step(action)
    flight = env.flight
    rotation = entry(env, observation, "robot_m", "privileged")
    np.testing.assert_allclose(rotation, flight.rotation, atol=1e-6)
    for name, where in (("goal", flight.goal), ("hazards", flight.hazards)):
        seen = entry(env, observation, name, "privileged")
        np.testing.assert_allclose(seen @ rotation.T + flight.position, where, atol=1e-5)
    np.testing.assert_allclose(
        entry(env, observation, "velocimeter", "privileged"), flight.rotation.T @ flight.velocity, atol=1e-6
    )
    past = [entry(env, observation, f"past_{i}_action", "privileged") for i in (1, 2, 3)]
    np.testing.assert_array_equal(past, actions[:0:-1])
    roll, pitch = entry(env, observation, "euler", "privileged")
    # Roll about x after pitch about y: the world's z axis in the body is (-sin p, sin r cos p, cos r cos p).
    up = [-np.sin(pitch), np.sin(roll) * np.cos(pitch), np.cos(roll) * np.cos(pitch)]
    np.testing.assert_allclose(up, flight.rotation[2], atol=1e-6)
    first = env.reset(seed=3)[0]
    assert not entry(env, first, "past_1_action", "privileged").any()


def test_the_nearest_hazard_may_come_first_but_for_the_papers_critics():
    env = own(nearest_first=True, paper_privileged=True)
    seen = env.reset(seed=2)[0]
    ordered, fixed = entry(env, seen, "hazards"), entry(env, seen, "hazards", "privileged")
    distances = np.linalg.norm(fixed, axis=1)
    assert (np.diff(distances) < 0).any()
    np.testing.assert_array_equal(ordered, fixed[np.argsort(distances)])


def test_the_lidar_is_level_and_may_look_ahead_only():
    env, ahead = own(obs=("lidar", "coordinates")), own(obs=("lidar",), lidar_arc=120.0)
    hidden = 0
    for seed in range(6):
        observation, narrow = env.reset(seed=seed)[0], ahead.reset(seed=seed)[0]
        x, y, z = entry(env, observation, "goal")
        ring = entry(env, observation, "goal_lidar", "lidar")
        assert ring.max() == pytest.approx(max(0.0, 1 - np.hypot(x, y) / 3), abs=1e-6)
        assert entry(env, observation, "goal_height", "lidar") == pytest.approx(z, abs=1e-6)
        seen = abs(np.arctan2(y, x)) <= np.pi / 3
        np.testing.assert_array_equal(entry(ahead, narrow, "goal_lidar", "lidar"), ring * seen)
        hidden += not seen
        # Rolling moves neither ring nor height.
        env.flight.data.qpos[3:] = quaternion_times_roll(env.flight.data.qpos[3:], 0.6)
        tilted = env._observe()
        assert abs(entry(env, tilted, "goal")[1:] - (y, z)).max() > 0.05
        np.testing.assert_allclose(entry(env, tilted, "goal_lidar", "lidar"), ring, atol=1e-6)
        assert entry(env, tilted, "goal_height", "lidar") == pytest.approx(z, abs=1e-6)
    assert 0 < hidden < 6


def quaternion_times_roll(quaternion, angle):
    w, x, y, z = quaternion
    c, s = np.cos(angle / 2), np.sin(angle / 2)
    return np.array([w * c - x * s, x * c + w * s, y * c + z * s, z * c - y * s])


def test_a_reached_goal_pays_and_moves():
    env = own()
    env.reset(seed=0)
    before = env.flight.goal.copy()
    env.flight.data.qpos[:3] = before
    env._last_distance = env._distance()
    _, reward, terminated, truncated, info = env.step(HOVER)
    assert info["goals"] == 1
    assert 4.0 < reward < 4.1
    assert not terminated
    assert not truncated
    assert np.linalg.norm(env.flight.goal[:2] - before[:2]) > 0.4
    _, reward, _, _, info = env.step(HOVER)
    assert abs(reward) < 0.1  # That the next goal is far away is not held against it.
    assert info["goals"] == 0


def test_costs_count_raw_steps_in_hazards():
    env = own(action_repeat=3)
    env.reset(seed=0)
    env.flight.data.qpos[:3] = env.flight.hazards[4] + [0.1, 0.0, 0.2]
    assert env.step(HOVER)[-1]["cost"] == 3.0
    env.flight.data.qpos[2] = 1.2
    assert env.step(HOVER)[-1]["cost"] == 0.0


@pytest.mark.parametrize("place", [(0.0, 0.0, 0.01), (2.6, 0.0, 1.0), (0.0, -2.6, 1.0), (0.0, 0.0, 2.6), None], ids=str)
def test_crashes_terminate_and_pay_nothing_for_being_alive(place):
    env = own("SafetyQuadrotorGoal0-v0")
    env.reset(seed=1)
    if place is None:
        env.flight.data.qpos[3:] = np.cos(0.8), np.sin(0.8), 0.0, 0.0  # Rolled by 92°.
    else:
        env.flight.data.qpos[:3] = place
    env._last_distance = env._distance()
    _, reward, terminated, truncated, _ = env.step(HOVER)
    assert terminated
    assert not truncated
    assert reward < 0.03  # At most .025 for looking, and progress.


def test_time_is_up_after_a_thousand_raw_steps():
    env = make(EnvConfig(VELOCITY, action_repeat=300))
    env.reset(seed=0)
    env.unwrapped.flight.data.qpos[:2] = 0
    ends = [env.step(HOVER)[2:4] for _ in range(4)]
    assert ends == [(False, False)] * 3 + [(False, True)]
    short = make(EnvConfig(VELOCITY, time_limit=5))
    short.reset(seed=0)
    assert [short.step(HOVER)[3] for _ in range(5)] == [False] * 4 + [True]


@pytest.mark.parametrize("task", [TASK, "SafetyQuadrotorVelocityGoal2-v0"])
def test_a_decision_is_its_raw_steps(task):
    slow, quick = own(task, action_repeat=4), own(task)
    slow.reset(seed=4)
    quick.reset(seed=4)
    action = np.array([0.2, 0.1, -0.05, 0.0], np.float32)
    total = [quick.step(action)[:2] for _ in range(4)]
    seen, reward, *_ = slow.step(action)
    np.testing.assert_array_equal(seen["coordinates"], total[-1][0]["coordinates"])
    assert reward == pytest.approx(sum(r for _, r in total))


def test_episodes_are_restored_by_repeating_their_actions():
    config = configure(VELOCITY, obs=("vision", "lidar"), privileged="paper", action_repeat=4, image_size=16)
    rng = np.random.default_rng(0)
    first, second = make_vector(config, 2, seed=7), make_vector(config, 2, seed=7)
    first.reset()
    actions = rng.uniform(-1, 1, (15, 2, 4)).astype(np.float32)
    for action in actions[:10]:
        first.step(action)
    second.restore(first.state())
    for action in actions[10:]:
        left, right = first.step(action), second.step(action)
        for name, value in left.observation.items():
            np.testing.assert_array_equal(value, right.observation[name])
        np.testing.assert_array_equal(left.reward, right.reward)
    np.testing.assert_array_equal(left.is_first, right.is_first)


def test_the_view_from_above_shows_the_quadrotor_where_it_is():
    env = make(EnvConfig("SafetyQuadrotorGoal0-v0", action_repeat=4))
    for seed in range(3):
        env.reset(seed=seed)
        view = env.unwrapped.overhead()
        column, row = np.rint(view.pixels(view.position)).astype(int)
        assert view.picture[row - 1 : row + 2, column - 1 : column + 2].mean() < 120  # Its body is dark, not the floor.
        column, row = np.rint(view.pixels(view.world(np.array([0.055, 0.0])))).astype(int)
        nose = view.picture[row - 1 : row + 2, column - 1 : column + 2].astype(int)
        assert (nose[..., 0] - nose[..., 2]).max() > 60  # Orange.
        assert view.seconds == pytest.approx(0.08)
        np.testing.assert_allclose(view.position, env.unwrapped.flight.position[:2])


def test_the_example_flies_it():
    """A hand-written controller reaches goals, and does not enter hazards."""
    fly = runpy.run_path(str(EXAMPLE))["fly"]
    _, cost, goals, steps = fly(own(paper_privileged=True, time_limit=250), 0, None)
    assert (cost, steps) == (0, 250)
    assert goals >= 2


def test_flights_are_filmed(tmp_path):
    film = []
    env = own(obs=("vision",), paper_privileged=True, time_limit=20, image_size=64, render_size=64)
    runpy.run_path(str(EXAMPLE))["fly"](env, 0, film)
    assert [frame.shape for frame in film] == [(64, 64, 6)] * 4  # From outside and from on board.
    assert write_video(film, tmp_path / "flight.mp4").stat().st_size > 0
    envs = make_vector(EnvConfig(TASK), 1, seed=0)
    envs.reset()
    assert envs.render().shape == (256, 256, 3)


@pytest.mark.slow
@pytest.mark.parametrize(("level", "least", "most"), [(0, 10, 0), (1, 8, 0), (2, 6, 5)])
def test_the_example_flies_whole_episodes(level, least, most):
    fly = runpy.run_path(str(EXAMPLE))["fly"]
    env = own(f"SafetyQuadrotorGoal{level}-v0", paper_privileged=True)
    flown = np.array([fly(env, seed, None) for seed in range(5)])
    assert flown[:, 2].mean() >= least
    assert flown[:, 1].max() <= most
    assert (flown[:, 3] == 1000).all()


def test_what_it_cannot_observe_is_refused():
    with pytest.raises(EnvError, match="any of lidar, coordinates, vision"):
        own(obs=("sonar",))


# Words are refused by their annotations where these are checked, as in tests.
@pytest.mark.parametrize("wrong", [{"level": 3}, {"lidar_arc": 0.0}])
def test_what_there_is_not_is_refused(wrong):
    with pytest.raises(EnvError, match=next(iter(wrong))):
        QuadrotorEnv(**wrong)


def test_a_setting_is_not_made_twice():
    with pytest.raises(
        EnvError, match="actions, and it takes render_mode, render_size: use the task's name and the other settings"
    ):
        make(EnvConfig(TASK, kwargs={"actions": "velocity"}))
    assert make(EnvConfig(TASK, kwargs={"render_size": 32})).render().shape == (32, 32, 3)


def test_gymnasium_lets_the_task_choose_its_time_limit():
    env = gym.make("SafetyQuadrotorVelocityGoal0-v0", obs=("lidar",), time_limit=3)
    env.reset(seed=0)
    assert [env.step(np.zeros(4, np.float32))[3] for _ in range(3)] == [False, False, True]
