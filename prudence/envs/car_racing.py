"""SafetyCarRacing: Gymnasium's CarRacing with a cost for skidding (SafeDreamer section C.2).

Gymnasium's environment is used as it is: a picture of the car and the track from above, three actions (steering, gas,
brake), a reward for each new tile of the track, and episodes of at most 1000 steps.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from prudence.envs import custom
from prudence.envs.base import EnvConfig, EnvError, Suite

TASK = "SafetyCarRacing-v0"
INSTALL = 'pip install "prudence-rl[car-racing]"'


class Skids(gym.Wrapper[Any, Any, Any, Any]):
    """CarRacing whose steps cost 1 while a wheel skids, and 0 otherwise.

    A wheel skids while the force on it exceeds twice its grip. The simulator then draws its trace.
    """

    cost_names = ("skid",)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        wheels = self.env.unwrapped.car.wheels  # pyright: ignore[reportAttributeAccessIssue]
        skids = any(wheel.skid_start is not None or wheel.skid_particle is not None for wheel in wheels)
        return observation, float(reward), terminated, truncated, {**info, "cost": float(skids)}


def make(config: EnvConfig) -> gym.Env:
    """Makes the task of ``config``.

    Raises:
        EnvError: Box2D or pygame is not installed. The message has the command that installs them.
    """
    arguments = {"continuous": True, "render_mode": "rgb_array", **config.arguments}
    try:
        env = gym.make("CarRacing-v3", max_episode_steps=-1, disable_env_checker=True, **arguments)
    except (ImportError, gym.error.DependencyNotInstalled) as error:
        raise EnvError(f"{TASK} needs Box2D and pygame ({error}). Install them with\n{INSTALL}") from error
    return custom.adapted(Skids(env), config, registered=1000)


SUITE = Suite(
    name="CarRacing",
    summary="racing on a track without skidding, from pictures (docs/environments/car-racing.md)",
    tasks=(TASK,),
    example=TASK,
    make=make,
    options=custom.PictureOptions,
    arguments=("continuous", "domain_randomize", "lap_complete_percent", "render_mode"),
    package="box2d",
    install=INSTALL,
)
