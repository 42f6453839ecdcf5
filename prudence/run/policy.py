"""A trained policy, taken away from its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from prudence.agents.base import Agent
from prudence.presets import RunConfig, make_agent
from prudence.run import checkpoint
from prudence.run.config import read_config
from prudence.run.directory import RunDirectory, RunDirectoryError
from prudence.types import Observation, Spaces


def load_run(directory: Path | str) -> tuple[RunConfig, Agent, Any, int]:
    """A run's configuration, agent, state of its newest readable checkpoint, and the steps it was trained for.

    Raises:
        RunDirectoryError: no run was started there.
        CheckpointError: it has no readable checkpoint (yet).
    """
    run = RunDirectory(Path(directory))
    if not run.exists:
        raise RunDirectoryError(f"{run.path} holds no run: there is no config.json. Train one with `prudence train`")
    config = read_config(run.config, RunConfig)
    spaces = checkpoint.spaces_from_json(checkpoint.read_meta(run.checkpoints)["spaces"])
    agent = make_agent(config.agent_name, spaces, config.agent)
    like = (agent.init(key=jax.random.key(0)), agent.init_carry(config.loop.num_envs))
    (state, _), meta = checkpoint.load(run.checkpoints, like, expect={"task": config.env.task, "spaces": spaces})
    return config, agent, state, int(meta["step"])


class Policy:
    """Observation to action, for one environment. Keeps the agent's memory between calls.

    It acts as in evaluation: a policy that was trained under a budget samples, unless configured otherwise, and
    ``seed`` determines its samples.

    Call :meth:`reset` when an episode begins; the first call after it starts from an empty memory.
    """

    def __init__(self, agent: Agent, state: Any, spaces: Spaces, *, seed: int = 0):
        self._agent, self._state, self.spaces = agent, state, spaces
        self._key, self._step = jax.random.key(seed), 0
        self.reset()

    def reset(self) -> None:
        """Forgets the episode so far."""
        self._carry, self._is_first = self._agent.init_carry(1), True

    def __call__(self, observation: Observation | np.ndarray) -> Float[np.ndarray, " A"]:
        """The action for one observation: continuous in [-1, 1], discrete one-hot.

        Raises:
            ValueError: the observation lacks an entry, or one has another shape than in training.
        """
        batched = {k: jnp.asarray(v)[None] for k, v in self._checked(observation).items()}
        key = jax.random.fold_in(self._key, self._step)
        first = jnp.array([self._is_first])
        action, self._carry, _ = self._agent.act(self._state, self._carry, batched, first, key=key, mode="evaluate")
        self._step, self._is_first = self._step + 1, False
        return np.asarray(action)[0]

    def _checked(self, observation: Observation | np.ndarray) -> dict[str, np.ndarray]:
        specs = self.spaces.observations
        if not isinstance(observation, dict):
            if len(specs) != 1:
                raise ValueError(f"the observation must be a dict with {', '.join(specs)}")
            observation = {next(iter(specs)): observation}
        missing = [name for name in specs if name not in observation]
        if missing:
            raise ValueError(f"the observation lacks {', '.join(missing)}; it has {', '.join(observation)}")
        checked = {name: np.asarray(observation[name], spec.dtype) for name, spec in specs.items()}
        for name, spec in specs.items():
            if checked[name].shape != spec.shape:
                raise ValueError(f"observation '{name}' has shape {checked[name].shape}, trained on {spec.shape}")
        return checked


def load_policy(directory: Path | str, *, seed: int = 0) -> Policy:
    """The policy of a run, as of its newest checkpoint: ``action = load_policy("runs/x")(observation)``.

    Raises:
        RunDirectoryError, CheckpointError: as :func:`load_run`.
    """
    _, agent, state, _ = load_run(directory)
    return Policy(agent, state, agent.spaces, seed=seed)
