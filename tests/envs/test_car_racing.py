"""CarRacing with SafeDreamer's cost."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from prudence.envs import car_racing
from prudence.envs.base import EnvError
from prudence.envs.registry import configure, describe, make

pytest.importorskip("Box2D", reason=f"CarRacing needs Box2D: {car_racing.INSTALL}")
TASK = car_racing.TASK


def test_full_throttle_skids_and_rolling_does_not():
    env = make(configure(TASK, action_repeat=4))
    env.reset(seed=0)
    idle = sum(float(env.step(np.array([0.0, -1.0, -1.0], np.float32))[4]["cost"][0]) for _ in range(10))
    assert idle == 0.0  # No gas, no brake: the middle of an action's range is half of either.
    full = [float(env.step(np.array([0.0, 1.0, -1.0], np.float32))[4]["cost"][0]) for _ in range(10)]
    assert max(full) == 4.0  # Each of four raw steps.
    assert sum(full) > 20.0
    env.close()


def test_it_is_a_picture_for_networks_with_an_episode_of_a_thousand_steps():
    config = configure(TASK, action_repeat=4)
    spaces = describe(env := make(config), config).spaces
    env.close()
    (name, picture), *others = spaces.observation
    assert (name, picture.shape, picture.dtype, others) == ("image", (64, 64, 3), "uint8", [])
    assert (spaces.costs, spaces.episode_steps, spaces.action.size) == (("cost",), 250, 3)


def test_rewards_and_pictures_are_gymnasiums_own():
    import gymnasium as gym

    ours, own = make(configure(TASK, image_size=96)), gym.make("CarRacing-v3", render_mode="rgb_array")
    seen, _ = ours.reset(seed=3)
    plain, _ = own.reset(seed=3)
    np.testing.assert_array_equal(seen["image"], plain)
    for _ in range(5):
        after, reward, *_ = ours.step(np.array([0.2, 0.5, -1.0], np.float32))
        plain, expected, *_ = own.step(np.array([0.2, 0.75, 0.0], np.float32))
        assert reward == pytest.approx(expected)
    np.testing.assert_array_equal(after["image"], plain)
    ours.close(), own.close()


def test_its_constructors_arguments_are_known_by_name():
    with pytest.raises(EnvError, match="laps"):
        make(configure(TASK, kwargs={"laps": 2}))


def test_without_box2d_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "Box2D", None)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d.car_racing", raising=False)
    monkeypatch.delitem(sys.modules, "gymnasium.envs.box2d", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(EnvError, match=r'needs Box2D and pygame(.|\n)*pip install "prudence-rl\[car-racing\]"'):
        make(configure(TASK))
