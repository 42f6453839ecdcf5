"""Environments that misbehave, each in one way, for tools/soak.py."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Good(gym.Env):
    """Behaves, for five steps an episode."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    time_limit: int | None = 5

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        gym.Env.reset(self, seed=seed)
        self.count = 0
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        return self.seen(), self.reward(), False, self.count >= 5, {"cost": 0.0}

    def seen(self) -> Any:
        return np.zeros(2, np.float32)

    def reward(self) -> float:
        return 1.0


def _misbehaving(name: str, **methods: Any) -> type[Good]:
    return type(name, (Good,), {**methods, "__module__": __name__})


def _raise(error: BaseException) -> Any:
    def method(self: Good, *_: Any, **__: Any) -> Any:
        raise error

    return method


MISBEHAVING = {
    kind.__name__: kind
    for kind in (
        _misbehaving("Raises", reward=_raise(RuntimeError("the wheel came off"))),
        _misbehaving("Exits", reward=_raise(SystemExit(3))),
        _misbehaving("Unresettable", reset=_raise(RuntimeError("no power"))),
        _misbehaving("InfiniteReward", reward=lambda self: np.inf),
        _misbehaving("HugeReward", reward=lambda self: 1e39),
        _misbehaving("WordsForReward", reward=lambda self: "much"),
        _misbehaving("Nan", seen=lambda self: np.full(2, np.nan, np.float32)),
        _misbehaving("OtherShape", seen=lambda self: np.zeros(3, np.float32)),
        _misbehaving("OtherKind", seen=lambda self: np.array(["a", "b"])),
        _misbehaving("Beyond", seen=lambda self: np.full(2, 9, np.float32)),
        _misbehaving("Nothing", seen=lambda self: None),
        _misbehaving("Endless", time_limit=None),
        _misbehaving("FourValues", step=lambda self, action: (self.seen(), 0.0, False, {})),
        _misbehaving("Costless", step=lambda self, action: (self.seen(), 0.0, False, False, {})),
        _misbehaving("WordsForCost", step=lambda self, action: (self.seen(), 0.0, False, False, {"cost": "some"})),
        _misbehaving("UnboundedActions", action_space=gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)),
        _misbehaving("TextActions", action_space=gym.spaces.Text(3)),
        _misbehaving("TextObservations", observation_space=gym.spaces.Text(3)),
        _misbehaving("FewSeeds", reset=lambda self, seed, options=None: [Good.reset(self)][seed]),
    )
}
globals().update(MISBEHAVING)
