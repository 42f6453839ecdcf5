"""Loading of trained policies from runs and records."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from prudence.cores.base import Agent
from prudence.deploy.deadline import RealTime
from prudence.deploy.shipped import find_policy, load_shipped
from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.config import read_config
from prudence.runs.directory import RunDirectoryError
from prudence.types import Observation, ObservationSpec, Spaces


def load_run(directory: Path | str) -> tuple[RunConfig, Agent, Any, int]:
    """Loads a run from its newest readable checkpoint.

    Args:
        directory: directory of a run, of a recorded policy, or of a record, whose first policy is then loaded. The
            state of a recorded policy has only the weights that acting needs. All others are freshly initialised.

    Returns:
        The configuration, the agent, its state, and the raw steps of its training.

    Raises:
        RunDirectoryError: no run was started in the directory.
        CheckpointError: the run has no readable checkpoint (yet).
    """
    run, _ = find_policy(Path(directory))
    if not run.exists:
        raise RunDirectoryError(f"{run.path} holds no run: there is no config.json. Train one with `prudence train`")
    config = read_config(run.config, RunConfig)
    saved = run.policy if run.ships else run.checkpoints
    spaces = checkpoint.spaces_from_json(checkpoint.read_meta(saved)["spaces"])
    agent = config.make_agent(spaces)
    if run.ships:
        state, meta = load_shipped(saved, agent, task=config.env.task, spaces=spaces)
        return config, agent, state, int(meta["step"])
    like = (agent.init(key=jax.random.key(0)), agent.init_carry(config.loop.num_envs))
    (state, _), meta = checkpoint.load(saved, like, expect={"task": config.env.task, "spaces": spaces})
    return config, agent, state, int(meta["step"])


class Policy:
    """A policy for one environment: it maps observations to actions and keeps the agent's memory between calls.

    It acts as in evaluation. A policy trained under a budget samples its actions, unless configured otherwise, and
    ``seed`` determines the samples. The policy needs no privileged observations.

    Call :meth:`reset` when an episode begins. The next call then starts from an empty memory.

    Attributes:
        diagnostics: metrics of the last call. With a deadline they contain the number of iterations of the search and
            whether the call was late.
    """

    def __init__(
        self, agent: Agent, state: Any, spaces: Spaces, *, seed: int = 0, deadline: float | None = None
    ) -> None:
        """
        Args:
            deadline: seconds for each call of a planning agent, which searches for as long as it has time. None does
                the iterations of the configuration.

        Raises:
            ValueError: there is a deadline, but the agent does not act by plans.
        """
        self._agent, self.spaces, self.diagnostics = agent, spaces, dict[str, float]()
        real_time = None if deadline is None else RealTime(agent, state, deadline)
        self._act = partial(agent.act, state, mode="evaluate") if real_time is None else real_time.act
        self._key, self._step = jax.random.key(seed), 0
        self.reset()

    def reset(self) -> None:
        """Clears the memory. Call it when an episode begins."""
        self._carry, self._is_first = self._agent.init_carry(1), True

    def __call__(self, observation: Observation | np.ndarray) -> Float[np.ndarray, " A"]:
        """The action for one observation: continuous in [-1, 1], discrete one-hot.

        Raises:
            ValueError: the observation lacks an entry, or an entry is not finite, or its shape or kind of number
                differs from training (an image in [0, 1] is not an image in 0 to 255).
        """
        batched = {k: jnp.asarray(v)[None] for k, v in self._checked(observation).items()}
        key = jax.random.fold_in(self._key, self._step)
        first = jnp.array([self._is_first])
        action, self._carry, metrics = self._act(self._carry, batched, first, key=key)
        self.diagnostics = {name: float(value[0]) for name, value in metrics.items()}
        self._step, self._is_first = self._step + 1, False
        return np.asarray(action)[0]

    def _checked(self, observation: Observation | np.ndarray) -> dict[str, np.ndarray]:
        specs = self.spaces.unprivileged
        if not isinstance(observation, dict):
            if len(specs) != 1:
                raise ValueError(f"the observation must be a dict with {', '.join(specs)}")
            observation = {next(iter(specs)): observation}
        missing = [name for name in specs if name not in observation]
        if missing:
            raise ValueError(f"the observation lacks {', '.join(missing)}; it has {', '.join(observation)}")
        return {name: _as_trained(name, np.asarray(observation[name]), spec) for name, spec in specs.items()}


def _as_trained(name: str, value: np.ndarray, spec: ObservationSpec) -> np.ndarray:
    if value.shape != spec.shape:
        raise ValueError(f"observation '{name}' has shape {value.shape}, trained on {spec.shape}")
    if not np.can_cast(value.dtype, spec.dtype, "same_kind"):
        raise ValueError(f"observation '{name}' is {value.dtype}, trained on {spec.dtype}: convert it")
    if not np.isfinite(value).all():
        raise ValueError(f"observation '{name}' is not finite: it would stay in the policy's memory until reset()")
    return value.astype(spec.dtype)


def load_policy(directory: Path | str, *, seed: int = 0, deadline: float | None = None) -> Policy:
    """Loads the policy of a run's newest checkpoint: ``action = load_policy("runs/x")(observation)``.

    It also loads policies of records: ``load_policy("results/x")``, ``load_policy("results/x/policies/seed-1")``.

    Args:
        deadline: seconds for each call of a planner; None does the iterations of its training.

    Raises:
        RunDirectoryError, CheckpointError: as :func:`load_run`.
        ValueError: as :class:`Policy`.
    """
    _, agent, state, _ = load_run(directory)
    return Policy(agent, state, agent.spaces, seed=seed, deadline=deadline)
