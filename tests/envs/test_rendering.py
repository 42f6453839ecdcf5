from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

pytest.importorskip("mujoco")

from envs.test_safety_gymnasium import suites_own

from prudence.envs.base import EnvConfig
from prudence.envs.registry import make
from prudence.envs.safety import rendering

TASK = "SafetyPointGoal1-v0"


def picture(seed=3, **changes):
    env = make(EnvConfig(TASK, obs=("vision",), **changes))
    return env, env.reset(seed=seed)[0]["image"]


def test_front_and_back_are_stacked_and_differ():
    _, front = picture()
    _, both = picture(cameras="both", image_size=32)
    assert front.shape == (64, 64, 3)
    assert both.shape == (32, 32, 6)
    assert np.abs(both[..., :3].astype(int) - both[..., 3:]).mean() > 10


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
    monkeypatch.setattr(rendering, "_unseen", lambda model, data, camera: np.zeros(model.ngeom, bool))
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


def test_fading_goals_fade():
    env = make(EnvConfig("SafetyPointFadingHard0-v0", obs=("vision",)))
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
    env = make(EnvConfig(task, obs=("vision",), quality="fidelity"))
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
