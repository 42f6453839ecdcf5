"""SafeMetaDrive: driving to a destination through traffic without a crash (SafeDreamer section C.1).

MetaDrive's own SafeMetaDriveEnv is used, with the settings of SafeDreamer's released code: one road, and other traffic
in each episode. Its simulator exists once in a process.
"""

from __future__ import annotations

import weakref
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from prudence.envs import custom
from prudence.envs.base import EnvConfig, EnvError, Suite

TASK = "SafeMetaDrive-v0"
OBSERVATIONS = ("lidar", "vision")
TIME_LIMIT = 1000
"""Number of raw steps in an episode, of .1 s each. The paper does not state it."""
STATE = 19
"""Numbers about the car and its route, which stand before those of the lidar."""
INSTALL = 'pip install "prudence-rl[metadrive]" && python -m metadrive.pull_asset'

_open: weakref.WeakSet[Drive] = weakref.WeakSet()
"""The environment of this process whose simulator is in use."""


class Drive(gym.Env[Any, Any]):
    """MetaDrive's environment as a Gymnasium environment with named observations, costs and seeds.

    A step that leaves the road costs 1 and ends the episode. A step in contact with a vehicle costs 1, and so does one
    in contact with an object. Only the first of these counts, in this order. ``info["goals"]`` is 1 in the step that
    arrives at the destination.

    Args:
        vision: observe a picture of 64×64 pixels from the car, and no lidar.
        settings: of MetaDrive, by their names there.

    Raises:
        EnvError: another one is open in this process, or MetaDrive does not accept the settings.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    cost_names = ("out_of_road", "crash_vehicle", "crash_object")
    render_mode = "rgb_array"

    def __init__(self, *, vision: bool, **settings: Any) -> None:
        from metadrive.component.sensors.rgb_camera import RGBCamera
        from metadrive.envs.safe_metadrive_env import SafeMetaDriveEnv

        if _open:
            raise EnvError(
                f"{TASK}: MetaDrive's simulator exists once in a process, which has one already. Give each environment "
                "a process of its own: --loop.workers 1 (as many as --loop.num-envs)"
            )
        config = {"num_scenarios": 1, "random_traffic": True, "traffic_density": 0.12, "log_level": 50, **settings}
        if vision:
            camera = {"sensors": {"rgb_camera": (RGBCamera, 64, 64)}, "vehicle_config": {"image_source": "rgb_camera"}}
            shown = {"image_observation": True, "norm_pixel": False, "stack_size": 1, "interface_panel": []}
            config = {**camera, **shown, **config}
        try:
            self._simulator = SafeMetaDriveEnv(config)
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise EnvError(f"{TASK}: MetaDrive refuses the settings {settings} ({error})") from error
        own = self._simulator.observation_space
        size = int(np.prod(own["state"].shape if vision else own.shape))
        unit = lambda size: spaces.Box(0.0, 1.0, (size,), np.float32)
        rest = {"image": spaces.Box(0, 255, (64, 64, 3), np.uint8)} if vision else {"lidar": unit(size - STATE)}
        self.observation_space = spaces.Dict({"state": unit(size if vision else STATE), **rest})
        self.action_space = self._simulator.action_space
        self._vision = vision
        _open.add(self)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        # MetaDrive counts its scenarios by seeds, and never seeds random traffic.
        chosen = int(self.np_random.integers(2**31))
        scenarios = self._simulator.config["num_scenarios"]
        self._simulator.lazy_init()
        self._simulator.engine.managers["traffic_manager"].np_random = np.random.RandomState(chosen)
        observation, info = self._simulator.reset(seed=self._simulator.config["start_seed"] + chosen % scenarios)
        return self._seen(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self._simulator.step(action)
        costs = np.zeros(len(self.cost_names), np.float32)
        for index, cause in enumerate(self.cost_names):
            if info[cause]:
                costs[index] = info["cost"]
                break
        info = {**info, "cost": costs, "goals": int(info["arrive_dest"])}
        return self._seen(observation), float(reward), bool(terminated), bool(truncated), info

    def _seen(self, observation: Any) -> dict[str, np.ndarray]:
        if not self._vision:
            return {"state": observation[:STATE], "lidar": observation[STATE:]}
        # Of the one picture in its stack, blue comes first.
        return {"state": observation["state"], "image": observation["image"][..., ::-1, -1]}

    def render(self) -> Any:
        return self._simulator.render(mode="topdown", window=False, screen_size=(512, 512), film_size=(3000, 3000))

    def close(self) -> None:
        if self in _open:
            self._simulator.close()
            _open.discard(self)


def make(config: EnvConfig) -> gym.Env:
    """Makes the task of ``config``.

    Raises:
        EnvError: MetaDrive is not installed (the message has the command that installs it), it refuses a setting, or
            this process has one already.
    """
    try:
        env = Drive(vision="vision" in config.obs, **config.arguments)
    except ImportError as error:
        raise EnvError(f"{TASK} needs MetaDrive ({error}). Install it with\n{INSTALL}") from error
    return custom.adapted(env, config, registered=TIME_LIMIT)


SUITE = Suite(
    name="MetaDrive",
    summary="driving through traffic without a crash (docs/environments/metadrive.md)",
    tasks=(TASK,),
    example=TASK,
    make=make,
    observations=OBSERVATIONS,
    options=custom.PictureOptions,
    package="metadrive",
    install=INSTALL,
)
