"""Environments that the tests name by ``module:Class``."""

from __future__ import annotations

import os
import signal
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np


class Counter(gym.Env[Any, Any]):
    """Counts its steps; actions lie in [0, 10]; reward is the action, cost 1 from step 3 on; ends at step 5."""

    observation_space = gym.spaces.Box(0.0, 100.0, (1,), np.float64)
    action_space = gym.spaces.Box(0.0, 10.0, (1,), np.float64)

    time_limit: int | None = 5

    def __init__(self, start: int = 0) -> None:
        self.start = start

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        gym.Env.reset(self, seed=seed)
        self.count = self.start
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        return self._observe(), float(action[0]), self.count >= 5, False, self._info()

    def _observe(self) -> Any:
        return np.array([self.count], np.float64)

    def _info(self) -> dict[str, Any]:
        return {"cost": float(self.count >= 3)}


class CalledPrivileged(Counter):
    """Has an observation of that name, and says no more about it."""

    observation_space = gym.spaces.Dict(dict.fromkeys(("state", "privileged"), Counter.observation_space))

    def _observe(self) -> Any:
        return dict.fromkeys(("state", "privileged"), np.array([self.count], np.float64))


class Costless(Counter):
    """Reports no cost."""

    def _info(self) -> dict[str, Any]:
        return {}


class SixTuple(Counter):
    """Returns its cost the way of Safety-Gymnasium."""

    def step(self, action: Any) -> Any:
        self.count += 1
        return self._observe(), 0.0, 2.0, False, False, {}


class Goals(Counter):
    """Says that a goal is reached at every even step."""

    def _info(self) -> dict[str, Any]:
        return {**Counter._info(self), "goals": int(self.count % 2 == 0)}


class Moving(Goals):
    """Names its only number a velocity."""

    layout: ClassVar[dict[str, dict[str, int]]] = {"state": {"velocimeter": 1}}


class OtherGoals(Counter):
    """Calls its places so."""

    def _info(self) -> dict[str, Any]:
        return {**Counter._info(self), "goals": [(0.0, 1.0)]}


class TwoCosts(Counter):
    """Declares two costs and reports a third one by name."""

    cost_names = ("cost_heat", "cost_noise")

    def _info(self) -> dict[str, Any]:
        return {"cost": np.array([1.0, 0.5]), "cost_smell": 4.0}


class Mixed(gym.Env[Any, Any]):
    """A picture, a discrete reading and a vector."""

    observation_space = gym.spaces.Dict(
        {
            "eye": gym.spaces.Box(0, 255, (4, 4, 3), np.uint8),
            "floor": gym.spaces.Discrete(3),
            "state": gym.spaces.Box(-1, 1, (2, 2), np.float64),
        }
    )
    action_space = gym.spaces.Discrete(3, start=5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return {"eye": np.full((4, 4, 3), 7, np.uint8), "floor": 2, "state": np.eye(2)}, {}

    def step(self, action: int) -> Any:
        return self.reset()[0], float(action), False, False, {"cost": 0.0}


class Picture(gym.Env[Any, Any]):
    """Shows a picture that is as bright as the action; the reward is the action, the cost 1 above a half."""

    observation_space = gym.spaces.Box(0, 255, (96, 96, 3), np.uint8)
    action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    time_limit = 12

    def _seen(self, light: float) -> np.ndarray:
        space = self.observation_space
        return np.full(space.shape, light * space.high.max(), space.dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self._seen(0.5), {}

    def step(self, action: np.ndarray) -> Any:
        light = float(action[0]) / 2 + 0.5
        return self._seen(light), light, False, False, {"cost": float(light > 0.5)}


class Grey(Picture):
    observation_space = gym.spaces.Box(0, 255, (84, 84, 1), np.uint8)


class ChannelsFirst(Picture):
    observation_space = gym.spaces.Box(0, 255, (3, 64, 64), np.uint8)


class Stack(Picture):
    observation_space = gym.spaces.Box(0, 255, (4, 64, 64, 3), np.uint8)


class Floats(Picture):
    observation_space = gym.spaces.Box(0.0, 1.0, (48, 64, 3), np.float32)


class Unbounded(Counter):
    """Actions without bounds."""

    action_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)


class Fragile(Counter):
    """Does what the action says: above 7 it kills its process, above 5 it raises."""

    def step(self, action: Any) -> Any:
        if action[0] > 7:
            os.kill(os.getpid(), signal.SIGKILL)
        if action[0] > 5:
            raise RuntimeError("the wheel came off")
        return Counter.step(self, action)


class Interrupted(Counter):
    """Somebody presses Ctrl-C in a step with an action above 5; its pictures cannot be drawn."""

    def step(self, action: Any) -> Any:
        if action[0] > 5:
            raise KeyboardInterrupt
        return Counter.step(self, action)

    def render(self) -> Any:
        raise RuntimeError("no paint")


class Restless(Counter):
    """Not deterministic: every observation is different."""

    seen = 0

    def _observe(self) -> Any:
        Restless.seen += 1
        return np.array([float(Restless.seen)], np.float64)


class Noted(gym.Env[Any, Any]):
    """Notes the actions that it was given. Its observation follows from them; an episode has six steps."""

    taken: ClassVar[list[Any]] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.count = 0
        Noted.taken.clear()
        return self._observe(0.0), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.count += 1
        Noted.taken.append(action)
        return self._observe(float(np.mean(action))), 0.0, False, self.count >= 6, {"cost": 0.0}

    def _observe(self, number: float) -> Any:
        return np.array([self.count, number], np.float64)


class Percent(Noted):
    """A valve from 0 to 100."""

    observation_space = gym.spaces.Box(0.0, 100.0, (2,), np.float64)
    action_space = gym.spaces.Box(0.0, 100.0, (1,), np.float64)


class Steps(Noted):
    """Moves by whole steps, along two axes."""

    observation_space = gym.spaces.Box(-10.0, 10.0, (2,), np.float64)
    action_space = gym.spaces.Box(-2, 2, (1, 2), np.int64)


class Gears(Noted):
    """Names its gears from 5 on, and shows a number, a choice and a picture."""

    observation_space = gym.spaces.Dict(
        {
            "speed": gym.spaces.Box(0.0, 10.0, (), np.float64),
            "gear": gym.spaces.Discrete(3, start=5),
            "eye": gym.spaces.Box(0, 255, (3, 10, 12), np.uint8),
        }
    )
    action_space = gym.spaces.Discrete(3, start=5)

    def _observe(self, number: float) -> Any:
        eye = np.full((3, 10, 12), 20 * self.count, np.uint8)
        return {"speed": number, "gear": max(5, int(number)), "eye": eye}


class Unnamed(Counter):
    """Reports two costs without names."""

    def _info(self) -> dict[str, Any]:
        return {"cost": np.array([1.0, 0.5])}


class Registered(Counter):
    """Has its limit where Gymnasium keeps it, and truncates by a wrapper of another library."""

    time_limit = None
    spec = gym.envs.registration.EnvSpec("Registered-v0", max_episode_steps=5)


class PassesOn(Counter):
    """Takes any argument, and passes all on to a constructor that takes none of them."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"]}

    def __init__(self, **kwargs: Any) -> None:
        Counter.__init__(self, **kwargs)


class Switches(Counter):
    """Two switches, of which one is said to be at 2."""

    observation_space = gym.spaces.MultiBinary(2)

    def _observe(self) -> Any:
        return np.array([2, 0], np.int8)


class OldStep(Counter):
    """Returns the four values of the time before Gymnasium."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, _, info = Counter.step(self, action)
        return observation, reward, terminated, info


class ExitsWhenMade(Counter):
    def __init__(self) -> None:
        raise SystemExit(0)


class NoEnvironment:
    """Is not derived from gymnasium.Env."""


class Wanderer(Counter):
    """Changes the working directory, as some simulators do."""

    def __init__(self) -> None:
        Counter.__init__(self)
        os.chdir("/")

    def close(self) -> None:
        raise RuntimeError("closed already")
