"""Several environments that take steps together. Each returned row is a valid replay record.

**Autoreset is explicit and takes a separate step** (Gymnasium's next-step mode). After a row with ``is_last``, the
next ``step`` ignores that environment's action, resets it, and returns its ``is_first`` row (reward, cost and previous
action 0). No row mixes two episodes.

**Episodes are reproducible.** The seed of episode k of environment i comes from ``SeedSequence([seed, i, k])``. The
number k and the actions since the reset therefore determine the state of an environment. ``state`` returns them, and
``restore`` brings each environment back to the same state.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from jaxtyping import Float

from prudence.envs import registry
from prudence.envs.backends import Backend, Crash, Row
from prudence.envs.base import Description, EnvConfig, EnvError, Overhead
from prudence.types import Spaces, Transition

MAX_CRASHES = 3
_log = logging.getLogger(__name__)


def make_vector(config: EnvConfig, num_envs: int, *, seed: int, workers: int = 0) -> VectorEnv:
    """Makes ``num_envs`` environments of ``config``.

    Args:
        config: the configuration of every environment.
        num_envs: E, the number of environments.
        seed: the seed of all episodes. Two vectors with the same seed have the same episodes.
        workers: number of additional processes. The environments are distributed over them and this process. With 0,
            all run in this process.

    Raises:
        EnvError: an argument is too small, or as :func:`prudence.envs.registry.make`.
    """
    if num_envs < 1 or workers < 0 or seed < 0:
        raise EnvError(f"make_vector: num_envs={num_envs} must be at least 1, workers={workers} and seed={seed} ≥ 0.")
    if workers:
        registry.require_known(config.task)
    backend = Backend(config, num_envs, workers)
    try:
        description = backend.execute({0: ("describe",)})[0]
        if isinstance(description, Crash):
            raise EnvError(f"{config.task} could not be made.\n{description.reason}")
        return VectorEnv(config, num_envs, seed, backend, description)
    except BaseException:
        backend.close()
        raise


def require_end(envs: VectorEnv) -> None:
    """Refuses environments whose episodes need not end: training and evaluation would wait for them for ever.

    Raises:
        EnvError: nothing says when an episode ends at the latest.
    """
    if envs.steps_per_episode is None:
        raise EnvError(
            f"{envs.config.task} has no time limit, so its episodes need not end, and nothing could be said of what "
            "one costs. Give --env.time-limit STEPS (EnvConfig.time_limit). If it truncates episodes itself, it can "
            "say so: time_limit = 1000 in its class"
        )


def episode_seed(seed: int, index: int, episode: int) -> int:
    """The seed with which environment ``index`` of a vector with ``seed`` is reset for episode ``episode``."""
    return int(np.random.SeedSequence([seed, index, episode]).generate_state(1)[0])


class VectorEnv:
    """E environments that take steps together; see :func:`make_vector`. Its results are NumPy arrays ``[E, ...]``.

    Attributes:
        goals: ``[E]`` numbers of goals reached in the current episodes (``info["goals"]``), NaN if the environment
            does not report them. After :meth:`restore` they count from there.
    """

    def __init__(self, config: EnvConfig, num_envs: int, seed: int, backend: Backend, about: Description) -> None:
        self.config = config
        self.num_envs = num_envs
        self.raw_steps = config.action_repeat
        self.spaces: Spaces = about.spaces
        self.layout = about.layout
        self.interface = about.interface
        self._seed = seed
        self._backend = backend
        self._episode = np.full(num_envs, -1, np.int64)
        self._crashes = np.zeros(num_envs, np.int64)
        self._never_began = np.ones(num_envs, bool)
        self._actions: list[list[np.ndarray]] = [[] for _ in range(num_envs)]
        self._last: Transition | None = None
        self.goals = np.zeros(num_envs)

    @property
    def steps_per_episode(self) -> int | None:
        """The number of decisions until the time limit. None if there is no limit."""
        return self.spaces.episode_steps

    def reset(self) -> Transition:
        """Starts the next episode in every environment. The first call starts the first episodes."""
        nothing = np.zeros((self.num_envs, self.spaces.action.size), np.float32)
        return self._advance(nothing, np.ones(self.num_envs, bool))

    def step(self, actions: Float[np.ndarray, "E A"]) -> Transition:
        """Takes one decision in every environment. If an episode is over, that environment starts the next one.

        Raises:
            ValueError: actions are not finite, or their shape is not ``[E, A]``.
            EnvError: ``reset`` was not called, or an environment crashed three times in a row without finishing an
                episode.
        """
        if self._last is None:
            raise EnvError("step() was called before reset(): call reset() first.")
        return self._advance(self._executable(actions), np.array(self._last.is_last))

    def render(self, index: int = 0) -> np.ndarray:
        """A picture of environment ``index``, ``uint8 [height, width, 3]``.

        Raises:
            EnvError: the environment cannot be rendered.
        """
        picture = self._backend.execute({index: ("render",)})[index]
        if picture is None or isinstance(picture, Crash):
            raise EnvError(f"{self.config.task} cannot be rendered. {picture.reason if picture else ''}")
        return np.asarray(picture)

    def overhead(self, index: int = 0, radius: float | None = None) -> Overhead | None:
        """Environment ``index`` from above, with the pose of its agent. None if the environment has no such view.

        Args:
            index: number of the environment.
            radius: shows this many metres around the agent. None shows the whole arena.

        Raises:
            EnvError: rendering failed.
        """
        overhead = self._backend.execute({index: ("overhead", radius)})[index]
        if isinstance(overhead, Crash):
            raise EnvError(f"{self.config.task} cannot be rendered. {overhead.reason}")
        return overhead

    def state(self) -> dict[str, np.ndarray]:
        """The state of all environments: episode numbers, the actions of the current episodes, and the last row."""
        if self._last is None:
            return {}
        width = self.spaces.action.size
        taken = [np.asarray(actions, np.float32).reshape(-1, width) for actions in self._actions]
        last = {f"last/{name}": np.array(getattr(self._last, name)) for name in Transition._fields[1:]}
        seen = {f"observation/{name}": np.array(value) for name, value in self._last.observation.items()}
        return {
            "seed": np.array(self._seed),
            "episode": self._episode.copy(),
            "crashes": self._crashes.copy(),
            "length": np.array([len(actions) for actions in taken]),
            "actions": np.concatenate(taken),
            **last,
            **seen,
        }

    def restore(self, state: dict[str, np.ndarray]) -> Transition:
        """Brings every environment back to ``state``, and returns the last row of that time.

        Each environment is reset with its episode's seed and repeats the actions of that episode. If the observation
        then differs from the recorded one, the environment is not deterministic. It starts its next episode instead
        (its row is then ``is_first``), and a warning is logged.

        Raises:
            EnvError: ``state`` has another number of environments or another seed.
        """
        if not state:
            return self.reset()
        if len(state["episode"]) != self.num_envs or int(state["seed"]) != self._seed:
            raise EnvError(
                f"The state has {len(state['episode'])} environments with seed {int(state['seed'])}, but this vector "
                f"has {self.num_envs} with seed {self._seed}: use the same number and seed."
            )
        self._episode = np.array(state["episode"])
        self._crashes = np.array(state["crashes"])
        pieces = np.split(state["actions"], np.cumsum(state["length"])[:-1])
        self._actions = [list(piece) for piece in pieces]
        self._last = Transition(observation=_below(state, "observation/"), **_below(state, "last/"))
        return self._replay()

    def close(self) -> None:
        """Closes the environments and ends the processes. A second call does nothing."""
        self._backend.close()

    def _replay(self) -> Transition:
        """Repeats the current episodes. Where an episode differs from the recorded one, starts the next."""
        assert self._last is not None
        running = np.flatnonzero(~self._last.is_last)  # A finished episode is reset next; it needs no past.
        width = self.spaces.action.size
        rows = self._backend.execute(
            {
                int(i): ("replay", self._episode_seed(i), np.asarray(self._actions[i], np.float32).reshape(-1, width))
                for i in running
            }
        )
        strays = [i for i, row in rows.items() if not self._arrived(i, row)]
        for i in strays:
            _log.warning(
                "%s, environment %d: repeating episode %d did not lead to the recorded observation%s. The environment "
                "is not deterministic given its seed; it starts its next episode.",
                self.config.task, i, self._episode[i], f" ({rows[i].reason})" if isinstance(rows[i], Crash) else "",
            )  # fmt: skip
        return self._write(self._start(strays)) if strays else self._last

    def _arrived(self, index: int, row: Row | Crash) -> bool:
        assert self._last is not None
        return not isinstance(row, Crash) and all(
            np.array_equal(value, self._last.observation[name][index]) for name, value in row.observation.items()
        )

    def _advance(self, actions: np.ndarray, fresh: np.ndarray) -> Transition:
        """Takes one step in every environment, or starts a new episode where ``fresh``."""
        commands: dict[int, tuple] = {}
        for i in range(self.num_envs):
            if fresh[i]:
                self._open(i)
            commands[i] = ("reset", self._episode_seed(i)) if fresh[i] else ("step", actions[i])
        rows = self._backend.execute(commands)
        done = {}
        for i, row in rows.items():
            if isinstance(row, Crash):
                self._count_crash(i, row)
            elif fresh[i]:
                done[i] = self._begun(i, row)
            else:
                done[i] = self._next(i, actions[i], row)
        crashed = [i for i, row in rows.items() if isinstance(row, Crash)]
        done |= {i: self._truncated(i, actions[i]) for i in crashed if not fresh[i]}
        return self._write(done | self._start([i for i in crashed if fresh[i]]))

    def _start(self, indices: list[int]) -> dict[int, Transition]:
        """Starts the next episodes and returns their first rows. If a reset crashes, tries the following episode."""
        done: dict[int, Transition] = {}
        while indices:
            for i in indices:
                self._open(i)
            rows = self._backend.execute({i: ("reset", self._episode_seed(i)) for i in indices})
            done |= {i: self._begun(i, row) for i, row in rows.items() if not isinstance(row, Crash)}
            for i, row in rows.items():
                if isinstance(row, Crash):
                    self._count_crash(i, row)
            indices = [i for i in indices if i not in done]
        return done

    def _open(self, index: int) -> None:
        self._episode[index] += 1
        self._actions[index] = []
        self.goals[index] = 0

    def _begun(self, index: int, row: Row) -> Transition:
        self._never_began[index] = False
        zero = np.zeros(self.spaces.action.size, np.float32)
        return _row(row.observation, zero, 0.0, np.zeros_like(row.cost), is_first=True)

    def _next(self, index: int, action: np.ndarray, row: Row) -> Transition:
        self._actions[index].append(action)
        self.goals[index] += np.nan if row.goals is None else row.goals
        last = row.terminated or row.truncated
        if last:
            self._crashes[index] = 0
        return _row(row.observation, action, row.reward, row.cost, is_last=last, is_terminal=row.terminated)

    def _truncated(self, index: int, action: np.ndarray) -> Transition:
        """The last row of an episode that crashed: the last observation again, with reward and cost 0."""
        assert self._last is not None
        observation = {name: value[index] for name, value in self._last.observation.items()}
        return _row(observation, action, 0.0, np.zeros(self.spaces.num_costs, np.float32), is_last=True)

    def _count_crash(self, index: int, crash: Crash) -> None:
        self._crashes[index] += 1
        name = f"{self.config.task}, environment {index}"
        cause = crash.reason.strip().splitlines()[-1]
        _log.warning("%s crashed in episode %d, which ends as truncated: %s", name, self._episode[index], cause)
        if self._crashes[index] < MAX_CRASHES:
            return
        if self._never_began[index]:
            raise EnvError(
                f"{name} cannot be reset, with {MAX_CRASHES} seeds: {cause}. Repair it. If it takes only the seeds "
                "from 0 to n - 1, give --env.seeds n"
            )
        raise EnvError(
            f"{name} crashed {MAX_CRASHES} times in a row without finishing an episode: repair it. The last "
            f"reason was:\n{crash.reason}"
        )

    def _write(self, rows: dict[int, Transition]) -> Transition:
        """Joins the rows and stores the result. An environment that is not in ``rows`` keeps its last row."""
        if self._last is not None:
            rows = {i: rows.get(i) or _take(self._last, i) for i in range(self.num_envs)}
        ordered = [rows[i] for i in range(self.num_envs)]
        seen, *columns = zip(*ordered, strict=True)
        observation = {name: np.array([one[name] for one in seen]) for name in seen[0]}
        self._last = Transition(observation, *map(np.array, columns))
        return self._last

    def _executable(self, actions: np.ndarray) -> np.ndarray:
        """The actions that the environments execute: clipped to [-1, 1], or one-hot."""
        kind, size = self.spaces.action
        actions = np.asarray(actions, np.float32)
        if actions.shape != (self.num_envs, size):
            raise ValueError(f"actions have shape {actions.shape}, but {(self.num_envs, size)} is expected.")
        if not np.isfinite(actions).all():
            raise ValueError("actions are not finite: the policy has diverged.")
        return np.eye(size, dtype=np.float32)[actions.argmax(-1)] if kind == "discrete" else np.clip(actions, -1, 1)

    def _episode_seed(self, index: int | np.integer) -> int:
        seed = episode_seed(self._seed, int(index), int(self._episode[index]))
        return seed if self.config.seeds is None else seed % self.config.seeds


def _row(
    observation: dict[str, Any],
    prev_action: np.ndarray,
    reward: float,
    cost: np.ndarray,
    *,
    is_first: bool = False,
    is_last: bool = False,
    is_terminal: bool = False,
) -> Transition:
    """One environment's transition without the E axis: a number in place of each array ``[E]``."""
    numbers: tuple[Any, ...] = (np.float32(reward), cost, is_first, is_last, is_terminal)
    return Transition(observation, prev_action, *numbers)


def _take(rows: Transition, index: int) -> Transition:
    observation = {name: value[index] for name, value in rows.observation.items()}
    return Transition(observation, *(getattr(rows, name)[index] for name in Transition._fields[1:]))


def _below(state: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
