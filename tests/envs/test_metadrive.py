"""SafeMetaDrive, against a stub with MetaDrive's interface, and against the simulator where it is installed."""

from __future__ import annotations

import importlib.util
import sys
import types

import numpy as np
import pytest
from gymnasium import spaces

from prudence.envs import metadrive
from prudence.envs.base import EnvError
from prudence.envs.registry import configure, describe, make
from prudence.envs.vector import make_vector

TASK = metadrive.TASK


class Stub:
    """MetaDrive's environment, as far as it is used: a car that drives straight on through what its traffic holds.

    Step 1 touches a vehicle and an object, step 2 an object. Step 4 arrives.
    """

    def __init__(self, config):
        unknown = set(config) - {
            *("num_scenarios", "random_traffic", "traffic_density", "log_level", "start_seed", "sensors"),
            *("vehicle_config", "image_observation", "norm_pixel", "stack_size", "interface_panel"),
        }
        if unknown:
            raise KeyError(f"{unknown} do not exist")
        self.config = {"start_seed": 5, **config}
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        unit = lambda size: spaces.Box(-0.0, 1.0, (size,), np.float32)
        if config.get("image_observation"):
            (_, width, height) = config["sensors"]["rgb_camera"]
            picture = spaces.Box(0, 255, (height, width, 3, config["stack_size"]), np.uint8)
            self.observation_space = spaces.Dict({"image": picture, "state": unit(19)})
        else:
            self.observation_space = unit(259)
        self.traffic = types.SimpleNamespace(np_random=None)
        self.engine = None
        self.closed = False

    def lazy_init(self):
        self.engine = types.SimpleNamespace(managers={"traffic_manager": self.traffic})

    def _observation(self):
        vector = np.linspace(0.0, 1.0, 259, dtype=np.float32)
        if "sensors" not in self.config:
            vector[19] = self.place
            return vector
        picture = np.zeros((64, 64, 3, 1), np.uint8)
        picture[..., 0, 0] = 200  # Blue comes first.
        return {"image": picture, "state": vector[:19]}

    def reset(self, seed=None):
        assert self.config["start_seed"] <= seed < self.config["start_seed"] + self.config["num_scenarios"]
        self.scenario, self.steps = seed, 0
        self.place = float(self.traffic.np_random.rand())
        return self._observation(), {}

    def step(self, action):
        self.steps += 1
        crash, touch, end = self.steps == 1, self.steps in (1, 2), self.steps == 4
        happened = {"crash_vehicle": crash, "crash_object": touch, "out_of_road": False, "arrive_dest": end}
        return self._observation(), 1.0, end, False, {**happened, "cost": float(crash or touch)}

    def render(self, mode, window, screen_size, film_size):
        assert (mode, window) == ("topdown", False)
        return np.zeros((*screen_size, 3), np.uint8)

    def close(self):
        self.closed = True


@pytest.fixture
def stubbed(monkeypatch):
    for name in ("metadrive", "metadrive.component", "metadrive.component.sensors", "metadrive.envs"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name, members in (
        ("metadrive.component.sensors.rgb_camera", {"RGBCamera": object}),
        ("metadrive.envs.safe_metadrive_env", {"SafeMetaDriveEnv": Stub}),
    ):
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)


def test_each_cost_has_its_cause_and_only_the_first_of_a_step_counts(stubbed):
    env = make(configure(TASK, costs="separate"))
    env.reset(seed=0)
    steps = [env.step(np.zeros(2, np.float32)) for _ in range(4)]
    env.close()
    assert [step[4]["cost"].tolist() for step in steps] == [[0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    assert [step[2] for step in steps] == [False, False, False, True]
    assert [step[4]["goals"] for step in steps] == [0, 0, 0, 1]


def test_lidar_is_apart_from_the_cars_state(stubbed):
    config = configure(TASK)
    env = make(config)
    spaces = describe(env, config).spaces
    seen, _ = env.reset(seed=0)
    env.close()
    assert {name: spec.shape for name, spec in spaces.observation} == {"state": (19,), "lidar": (240,)}
    assert (spaces.costs, spaces.episode_steps, spaces.action.size) == (("cost",), 1000, 2)
    np.testing.assert_allclose(seen["state"], np.linspace(0, 1, 259)[:19], rtol=1e-6)
    np.testing.assert_allclose(seen["lidar"][1:], np.linspace(0, 1, 259)[20:], rtol=1e-6)


def test_a_picture_has_red_first(stubbed):
    env = make(configure(TASK, obs=("vision",)))
    seen, _ = env.reset(seed=0)
    env.close()
    assert seen["image"].shape == (64, 64, 3)
    assert seen["image"][0, 0].tolist() == [0, 0, 200]
    assert seen["state"].shape == (19,)


def test_a_seed_gives_the_same_traffic_and_another_one_other_traffic(stubbed):
    env = make(configure(TASK, kwargs={"num_scenarios": 3}))
    first, again, other = (env.reset(seed=seed)[0]["lidar"][0] for seed in (0, 0, 1))
    env.close()
    assert first == again != other


def test_a_second_one_in_a_process_is_refused_until_the_first_is_closed(stubbed):
    first = make(configure(TASK))
    with pytest.raises(EnvError, match=r"exists once in a process.*--loop\.workers"):
        make(configure(TASK))
    with pytest.raises(EnvError, match=r"--loop\.workers"):
        make_vector(configure(TASK), 2, seed=0)
    first.close()
    make(configure(TASK)).close()


def test_a_setting_that_metadrive_lacks_is_refused_by_name(stubbed):
    with pytest.raises(EnvError, match=r"refuses the settings.*wings"):
        make(configure(TASK, kwargs={"wings": 2}))
    make(configure(TASK)).close()  # The refused one does not count as open.


def test_without_metadrive_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "metadrive", None)
    with pytest.raises(EnvError, match=r'needs MetaDrive(.|\n)*pip install "prudence-rl\[metadrive\]"'):
        make(configure(TASK))


@pytest.mark.skipif(importlib.util.find_spec("metadrive") is None, reason=f"needs MetaDrive: {metadrive.INSTALL}")
def test_the_simulator_itself_leaves_the_road_at_full_throttle():
    env = make(configure(TASK, costs="separate"))
    env.reset(seed=0)
    steps = [env.step(np.array([0.0, 1.0], np.float32))]
    while not steps[-1][2] and len(steps) < 300:
        steps.append(env.step(np.array([0.0, 1.0], np.float32)))
    env.close()
    assert steps[-1][2]
    assert np.sum([step[4]["cost"] for step in steps], axis=0).tolist() == [1, 0, 0]
    assert sum(float(step[1]) for step in steps) > 20
    assert steps[-1][0]["lidar"].shape == (240,)
