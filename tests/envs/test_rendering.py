from __future__ import annotations

import sys
import threading

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("mujoco")

from envs.test_safety_gymnasium import suites_own

from prudence.envs import rendering
from prudence.envs.registry import configure, make
from prudence.envs.vector import make_vector
from prudence.ops.kinematics import dead_reckoning

TASK = "SafetyPointGoal1-v0"


def picture(seed=3, **changes):
    env = make(configure(TASK, obs=("vision",), **changes))
    return env, env.reset(seed=seed)[0]["image"]


def test_front_and_back_are_stacked_and_differ():
    _, front = picture()
    _, both = picture(cameras="both", image_size=32)
    assert front.shape == (64, 64, 3)
    assert both.shape == (32, 32, 6)
    assert np.abs(both[..., :3].astype(int) - both[..., 3:]).mean() > 10


@pytest.mark.parametrize("quality", ["fast", "fidelity"])
def test_pictures_that_are_drawn_together_are_those_of_each_camera(quality):
    """Beside one another a triangle's edge may be rounded to the next pixel."""
    _, front = picture(quality=quality)
    _, both = picture(quality=quality, cameras="both")
    assert (front != both[..., :3]).any(-1).mean() < 0.01


def test_the_picture_follows_from_the_seed_and_moves_with_the_agent():
    env, first = picture()
    _, again = picture()
    np.testing.assert_array_equal(first, again)
    for _ in range(10):
        observation, *_ = env.step(np.array([0.0, 1.0], np.float32))
    assert np.abs(observation["image"].astype(int) - first).mean() > 1


def test_contexts_outlive_episodes_and_environments():
    env, _ = picture()
    before = dict(rendering._local.renderers)
    env.reset(seed=4)
    picture()
    assert dict(rendering._local.renderers) == before


def test_what_the_camera_cannot_see_changes_nothing(monkeypatch):
    _, culled = picture(cameras="both")
    monkeypatch.setattr(rendering, "_seen", lambda model, data, cameras: np.ones((len(cameras), model.ngeom), bool))
    _, whole = picture(cameras="both")
    np.testing.assert_array_equal(culled, whole)


def test_fast_is_near_to_fidelity():
    _, fast = picture()
    _, fidelity = picture(quality="fidelity")
    difference = np.abs(fast.astype(int) - fidelity)
    assert 0 < difference.mean() < 4  # Of 255; edges are not smoothed, and nothing is reflected.


def test_pictures_can_be_taken_in_another_thread():
    taken = []
    _, here = picture()
    thread = threading.Thread(target=lambda: taken.append(picture()[1]))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(taken[0], here)


def near(view, point, colour=(255, 0, 0)):
    """Pixels around a point of the world whose colour is that of Point's body."""
    column, row = np.rint(view.pixels(point)).astype(int)
    patch = view.picture[max(0, row - 1) : row + 1, max(0, column - 1) : column + 1].astype(int)
    return patch.size > 0 and bool((patch[..., 0] > 2 * patch[..., 1:].max(-1)).all())


@pytest.mark.parametrize("radius", [None, 0.8])
@pytest.mark.parametrize("task", [TASK, "SafetyPointRun0-v0"])  # In Run the camera follows the robot.
def test_the_agent_is_in_the_picture_where_its_position_says(task, radius):
    env = make(configure(task, action_repeat=5))
    for seed in range(4):
        env.reset(seed=seed)
        for _ in range(10):
            env.step(np.array([1.0, 0.3], np.float32))
        view = env.unwrapped.overhead(radius)
        assert near(view, view.position)
        ahead = view.world(np.array([[0.06, 0.0], [0.17, 0.0]]))
        assert near(view, ahead[0])
        assert not near(view, ahead[1])  # The body's radius is .1 m, and before it there is a blue pointer.
        np.testing.assert_allclose(env.unwrapped._task.agent.pos[:2], view.position)


def test_a_view_of_the_whole_is_what_is_rendered():
    env = make(configure(TASK))
    env.reset(seed=0)
    near_by = env.unwrapped.overhead(0.5)
    whole = env.unwrapped.overhead()
    np.testing.assert_array_equal(whole.picture, env.render())
    np.testing.assert_array_equal(whole.centre, [0, 0])
    np.testing.assert_array_equal(near_by.centre, near_by.position)
    assert near_by.pixels_per_metre > 3 * whole.pixels_per_metre
    envs = make_vector(configure(TASK, action_repeat=5), 1, seed=0)
    envs.reset()
    assert envs.overhead(0, 0.5).seconds == pytest.approx(0.1)  # Five raw steps of ten steps of 2 ms.
    assert make_vector(configure("probe/value"), 1, seed=0).overhead() is None


@pytest.mark.parametrize("mode", ["lidar", "coordinates"])
@pytest.mark.parametrize("agent", ["Point", "Car", "Racecar"])
def test_dead_reckoning_of_what_is_observed_follows_the_agent(agent, mode):
    """Within a tenth of the way; velocities are not constant during a decision."""
    env = make(configure(f"Safety{agent}Goal1-v0", obs=(mode,), action_repeat=2))
    entries = {entry.name: entry for entry in env.unwrapped.layout[mode]}
    for seed in range(3):
        env.reset(seed=seed)
        seen = [env.step(np.array([0.8, 0.3], np.float32))[0][mode] for _ in range(10)]
        start = env.unwrapped.overhead()
        seen += [env.step(np.array([0.8, 0.3], np.float32))[0][mode] for _ in range(10)]
        vectors = jnp.asarray(np.stack(seen[9:]))
        speed, rate = (vectors[:, entries[name].start : entries[name].stop] for name in ("velocimeter", "gyro"))
        path = np.asarray(dead_reckoning(speed[:, :2], rate[:, -1], start.seconds)[0])
        end = env.unwrapped.overhead().position
        assert np.linalg.norm(end - start.position) > 0.1
        assert np.linalg.norm(start.world(path)[-1] - end) < 0.1 * np.linalg.norm(np.diff(path, axis=0), axis=1).sum()


def test_fading_goals_fade():
    env = make(configure("SafetyPointFadingHard0-v0", obs=("vision",)))
    env.reset(seed=0)
    goal = env.unwrapped._task.model.geom("goal").id
    alphas = []
    for _ in range(3):
        env.step(np.zeros(2, np.float32))
        alphas.append(env.unwrapped._task.model.geom_rgba[goal, 3])
    assert alphas[0] > alphas[1] > alphas[2] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning:gymnasium")
@pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning:safety_gymnasium")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="off-screen rendering is chosen for Linux")
@pytest.mark.parametrize("task", [TASK, "SafetyCarButton1-v0", "SafetyDoggoPush1-v0"])
def test_fidelity_is_the_suites_own_picture(task, monkeypatch):
    """Drawn by the viewer that the suite uses, from the model that the suite builds."""
    viewer_module = pytest.importorskip("gymnasium.envs.mujoco.mujoco_rendering")
    env = make(configure(task, obs=("vision",), quality="fidelity"))
    ours = env.reset(seed=5)[0]["image"]
    context = next(reversed(rendering._local.renderers.values()))._gl
    monkeypatch.setenv("MUJOCO_GL", type(context).__module__.split(".")[1])  # What ours was drawn with.
    own = suites_own(task)
    own.reset(seed=5)
    model, data = own.task.model, own.task.data
    model.vis.global_.offwidth = model.vis.global_.offheight = 64
    viewer = viewer_module.OffScreenViewer(model, data, 64, 64)
    viewer.vopt.geomgroup[:] = 1
    expected = viewer.render("rgb_array", camera_id=model.camera("vision").id)
    assert np.abs(ours.astype(int) - expected).mean() <= 1.0
    assert expected.std() > 5
