"""Probe environments: small tasks without a simulator. Each isolates one problem and has a known answer.

They are registered in Gymnasium under the ids of ``TASKS``. L is the length of an episode. Continuous actions are
numbers in [-1, 1]. The ``-discrete`` variants have arms instead.
"""

from __future__ import annotations

import abc
from typing import Any, ClassVar, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from prudence.envs import custom
from prudence.envs.base import Suite


class Probe(gym.Env[Any, Any], abc.ABC):
    """The common part of the probes: an episode of ``length`` steps with a small state."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    cost_names: ClassVar[tuple[str, ...]] = ("cost",)
    length: ClassVar[int] = 20

    def __init__(self, *, discrete: bool = False, arms: int = 2, features: int = 1, render_mode: str | None = None):
        self.discrete = discrete
        self.render_mode = render_mode
        self.action_space = spaces.Discrete(arms) if discrete else spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.observation_space: spaces.Space = spaces.Box(-1.0, 1.0, (features,), np.float32)
        self.time = 0

    @abc.abstractmethod
    def start(self) -> None:
        """Draws the state of a new episode from ``self.np_random``."""

    @abc.abstractmethod
    def observe(self) -> np.ndarray | dict[str, np.ndarray]:
        """The observation of the state."""

    @abc.abstractmethod
    def advance(self, action: Any) -> tuple[float, float | np.ndarray, bool]:
        """Updates the state. Returns the reward, the cost and whether the episode terminated.

        ``self.time`` is the number of steps *before* this one.
        """

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        gym.Env.reset(self, seed=seed)
        self.time = 0
        self.start()
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward, cost, terminated = self.advance(action if self.discrete else np.asarray(action, np.float64))
        self.time += 1
        return self.observe(), reward, terminated, False, {"cost": cost}

    def render(self) -> Any:
        """``uint8 [64, 64, 3]``: one grey column for each number of the observation."""
        seen = self.observe()
        parts = seen.values() if isinstance(seen, dict) else [seen]
        values = np.concatenate([np.ravel(part) for part in parts])
        grey = np.clip((values + 1.0) * 127.5, 0, 255).astype(np.uint8)
        columns = grey[np.arange(64) * len(grey) // 64]
        return np.broadcast_to(columns[None, :, None], (64, 64, 3)).copy()


class Value(Probe):
    """Reward 1 at every step for any action. Episodes are truncated after L = 20 steps and never terminate.

    Known answer: return 20, and the value of *every* state is 1 / (1 - γ). An agent that treats truncation as
    termination finds lower values.
    """

    def start(self) -> None:
        pass

    def observe(self) -> np.ndarray:
        return np.zeros(1, np.float32)

    def advance(self, action: Any) -> tuple[float, float, bool]:
        return 1.0, 0.0, False


class Terminal(Probe):
    """Reward 1 at every step. Episodes *terminate* after L = 10 steps. The observation is the time, t / L.

    Known answer: return 10, and the value at time t is (1 - γ^(L-t)) / (1 - γ).
    """

    length = 10

    def start(self) -> None:
        pass

    def observe(self) -> np.ndarray:
        return np.array([self.time / self.length], np.float32)

    def advance(self, action: Any) -> tuple[float, float, bool]:
        return 1.0, 0.0, self.time + 1 >= self.length


class Policy(Probe):
    """The observation is a random sign s, new at each step. L = 20.

    Continuous: the reward is 1 - (a - s/2)². Known answer: a = s/2, return 20. Discrete: the reward is 1 for arm
    [s > 0]. Known answer: return 20; random arms have return 10.
    """

    def start(self) -> None:
        self.sign = self._draw()

    def observe(self) -> np.ndarray:
        return np.array([self.sign], np.float32)

    def advance(self, action: Any) -> tuple[float, float, bool]:
        reward = float(action == (self.sign > 0)) if self.discrete else 1.0 - float(action[0] - self.sign / 2) ** 2
        self.sign = self._draw()
        return reward, 0.0, False

    def _draw(self) -> float:
        return float(self.np_random.integers(2) * 2 - 1)


class Discount(Probe):
    """The first action chooses between reward 0.5 now (a > 0; arm 1) and reward 1 at the end (a ≤ 0; arm 0).

    L = 5, and the last step terminates. Later actions have no effect. The observation is [t / L, choice]. The choice
    is 0 before the first action, then -1 (wait) or 1 (now).

    Known answer: waiting is worth γ⁴, and the other choice 0.5. If γ > 0.841, the agent waits, with return 1.
    """

    length = 5

    def start(self) -> None:
        self.choice = 0.0

    def observe(self) -> np.ndarray:
        return np.array([self.time / self.length, self.choice], np.float32)

    def advance(self, action: Any) -> tuple[float, float, bool]:
        last = self.time + 1 >= self.length
        if self.time > 0:
            return float(last and self.choice < 0), 0.0, last
        self.choice = 1.0 if (action == 1 if self.discrete else action[0] > 0) else -1.0
        return 0.5 * float(self.choice > 0), 0.0, last


class Memory(Probe):
    """Only the first observation shows a sign s. The action of the last of L = 5 steps has to name it.

    The observation is [s at time 0, else 0; 1 at the last step, else 0]. The last step terminates.

    Continuous: the last reward is 1 - (a - s/2)². Discrete: it is 1 for arm [s > 0]. Known answer: return 1 with
    memory; without memory at best 0.75 (continuous, a = 0) or 0.5 (discrete).
    """

    length = 5

    def start(self) -> None:
        self.sign = float(self.np_random.integers(2) * 2 - 1)

    def observe(self) -> np.ndarray:
        return np.array([self.sign * (self.time == 0), self.time == self.length - 1], np.float32)

    def advance(self, action: Any) -> tuple[float, float, bool]:
        last = self.time + 1 >= self.length
        answer = float(action == (self.sign > 0)) if self.discrete else 1.0 - float(action[0] - self.sign / 2) ** 2
        return answer * last, 0.0, last


class Cost(Probe):
    """A safe arm, and an unsafe arm with a larger reward. L = 20.

    The risk is max(0, a), or 1 for arm 1. The reward of a step is 0.5 + risk / 2, and its cost is ``risk``.

    Known answer, for a budget of d per episode: return 10 + d / 2 and cost d. Without a budget: return 20, cost 20.
    With budget 0: return 10, and no action above 0.
    """

    def start(self) -> None:
        pass

    def observe(self) -> np.ndarray:
        return np.zeros(1, np.float32)

    def advance(self, action: Any) -> tuple[float, float, bool]:
        risk = float(action) if self.discrete else max(0.0, float(action[0]))
        return 0.5 + risk / 2, risk, False


class Conflict(Probe):
    """Two constraints that forbid opposite directions (C = 2, with ``costs="separate"``). L = 20.

    Continuous: the reward is |a|, ``cost_left`` is max(0, -a - 1/4), and ``cost_right`` is max(0, a - 1/4). Discrete:
    the rewards of the arms left, middle and right are 1, 1/4 and 1. The left arm has ``cost_left`` 1, and the right
    arm has ``cost_right`` 1.

    Known answer, for budgets (0, 0): |a| = 1/4, or the middle arm, with return 5. An agent that keeps only one
    constraint goes in the other direction (return 20).
    """

    cost_names = ("cost_left", "cost_right")

    def start(self) -> None:
        pass

    def observe(self) -> np.ndarray:
        return np.zeros(1, np.float32)

    def advance(self, action: Any) -> tuple[float, np.ndarray, bool]:
        if self.discrete:
            return (1.0, 0.25, 1.0)[int(action)], np.array([action == 0, action == 2], np.float64), False
        position = float(action[0])
        return abs(position), np.maximum(0.0, np.array([-position, position]) - 0.25), False


class Alike(Probe):
    """Two states that look alike, and only one is safe. L = 10.

    Each episode has a random sign s. The observation ``state`` is [s at time 0 and at the last observation, else 0;
    t / L]. In between, an agent knows s only from memory. A world model has to remember s because it predicts the last
    observation. The privileged observation ``sign`` is always s. The risk is max(0, a). The reward of a step is
    0.5 + risk / 2. Its cost is ``risk`` if s > 0, else 0.

    Known answer, without a budget: a = 1, return 10, and cost 10 if s > 0, else 0. The cost values are then
    1 / (1 - γ) and 0; a critic that does not know s predicts half of the former in both states. With budget 0: with
    memory return 5 if s > 0, else 10; without memory return 5 in both.
    """

    length = 10
    privileged: ClassVar[tuple[str, ...]] = ("sign",)

    def __init__(self, *, render_mode: str | None = None):
        Probe.__init__(self, render_mode=render_mode)

        def box(size: int) -> spaces.Box:
            return spaces.Box(-1.0, 1.0, (size,), np.float32)

        self.observation_space = spaces.Dict({"state": box(2), "sign": box(1)})

    def start(self) -> None:
        self.sign = float(self.np_random.integers(2) * 2 - 1)

    def observe(self) -> dict[str, np.ndarray]:
        shown = self.sign * (self.time in (0, self.length))
        return {
            "state": np.array([shown, self.time / self.length], np.float32),
            "sign": np.full(1, self.sign, np.float32),
        }

    def advance(self, action: Any) -> tuple[float, float, bool]:
        risk = max(0.0, float(action[0]))
        return 0.5 + risk / 2, risk * (self.sign > 0), False


class Ledge(Probe):
    """Three arms, wait, walk and ledge, with rewards 0, 1/2 and 1. The ledge costs 1. L = 20.

    The observation is noise, so no two steps are alike. Known answer, for a budget of d per episode: the agent takes
    the ledge at a share d / 20 of the steps and walks at the others, with return 10 + d / 2 and cost d. A
    deterministic policy can do this too, because the noise can decide. Without a budget: return 20, cost 20. With
    budget 0: return 10, cost 0.

    The probe is for data in which the ledge is taken once; the probe itself does not make it rare. Of N models, each
    trained on a sample of such data, a share p knows the cost. An agent that keeps the models' mean cost within the
    budget takes the ledge with probability min(1, d / 20p), with cost d / p. An agent that keeps the worst model's
    cost within the budget takes it with probability d / 20.
    """

    def start(self) -> None:
        self.noise = self.np_random.uniform(-1.0, 1.0)

    def observe(self) -> np.ndarray:
        return np.array([self.noise], np.float32)

    def advance(self, action: Any) -> tuple[float, float, bool]:
        self.start()
        return int(action) / 2, float(action == 2), False


class Pixels(Probe):
    """A white square on a picture whose right half is red. The action moves it by up to 0.2 in x and y. L = 25.

    Positions lie in [-1, 1]². The square starts at x = -0.7 and a random height. The reward of a step is
    1 - |x - 0.5|. Its cost is 1 if x > 0, else 0.

    Known answer: without a budget the square goes to x = 0.5 and stays there (return 22, cost 22). With budget 0 it
    stops at x = 0 (return 11.6, cost 0).
    """

    length = 25

    def __init__(self, *, size: int = 64, render_mode: str | None = None):
        Probe.__init__(self, render_mode=render_mode)
        self.size = size
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)

    def start(self) -> None:
        self.position = np.array([-0.7, self.np_random.uniform(-0.8, 0.8)])

    def observe(self) -> np.ndarray:
        picture = np.zeros((self.size, self.size, 3), np.uint8)
        picture[:, self.size // 2 :, 0] = 160
        side = self.size // 8
        column, row = np.round((self.position + 1) / 2 * (self.size - side)).astype(int)
        picture[row : row + side, column : column + side] = 255
        return picture

    def advance(self, action: Any) -> tuple[float, float, bool]:
        self.position = np.clip(self.position + 0.2 * np.clip(action, -1.0, 1.0), -1.0, 1.0)
        return 1.0 - abs(float(self.position[0]) - 0.5), float(self.position[0] > 0), False

    def render(self) -> np.ndarray:
        return self.observe()


_PROBES: dict[str, tuple[type[Probe], dict[str, Any]]] = {
    "probe/value": (Value, {}),
    "probe/value-discrete": (Value, {"discrete": True}),
    "probe/terminal": (Terminal, {}),
    "probe/policy": (Policy, {}),
    "probe/policy-discrete": (Policy, {"discrete": True}),
    "probe/discount": (Discount, {"features": 2}),
    "probe/discount-discrete": (Discount, {"features": 2, "discrete": True}),
    "probe/memory": (Memory, {"features": 2}),
    "probe/memory-discrete": (Memory, {"features": 2, "discrete": True}),
    "probe/cost": (Cost, {}),
    "probe/cost-discrete": (Cost, {"discrete": True}),
    "probe/conflict": (Conflict, {}),
    "probe/conflict-discrete": (Conflict, {"discrete": True, "arms": 3}),
    "probe/alike": (Alike, {}),
    "probe/ledge": (Ledge, {"discrete": True, "arms": 3}),
    "probe/pixels": (Pixels, {}),
    "probe/pixels-16": (Pixels, {"size": 16}),
}

TASKS = tuple(_PROBES)

for _id, (_probe, _kwargs) in _PROBES.items():
    if _id not in gym.registry:  # The module may be imported twice by a process that spawns workers.
        gym.register(_id, entry_point=cast(Any, _probe), max_episode_steps=_probe.length, kwargs=_kwargs)

SUITE = Suite(
    name="Probes",
    summary="small tasks without a simulator; each isolates one problem and has a known answer",
    tasks=TASKS,
    example="probe/cost",
    make=custom.make,
)
