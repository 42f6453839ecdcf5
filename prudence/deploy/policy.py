"""Loading of trained policies from runs and records."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import logging
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from prudence.cores.base import Agent
from prudence.deploy.deadline import RealTime
from prudence.deploy.shipped import find_policy, load_acting
from prudence.envs import custom, recorded, registry
from prudence.envs.base import EnvConfig, EnvError
from prudence.envs.interface import Interface, interface_from, unchanged
from prudence.envs.vector import make_vector
from prudence.loops import OnlineLoop
from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.checkpoint import INTERFACE, CheckpointMismatch
from prudence.runs.config import read_config
from prudence.runs.directory import RunDirectory, RunDirectoryError
from prudence.types import Spaces

_log = logging.getLogger(__name__)


def load_run(
    directory: Path | str, *, trust: bool = False, parts: Literal["acting", "all"] = "acting"
) -> tuple[RunConfig, Agent, Any, int]:
    """Loads a run from its newest readable checkpoint.

    What its files name is data. A cost function comes from within ``prudence.ops``, or from the environment of the task
    (:func:`require_known_task`), and not from the checkpoint.

    Args:
        directory: directory of a run, of a recorded policy, or of a record, whose first policy is then loaded.
        trust: calls the cost function that the checkpoint names, whatever it is.
        parts: ``acting`` needs only the weights that acting in evaluation reads. A recorded policy has no others, and
            those of a run of an earlier version may have another form. They are then freshly initialised. ``all``
            refuses such policies and runs.

    Returns:
        The configuration, the agent, its state, and the raw steps of its training.

    Raises:
        RunDirectoryError: no run was started in the directory; or ``all`` parts of a recorded policy are asked for.
        CheckpointError: the run has no readable checkpoint (yet).
        CheckpointMismatch: the checkpoint's cost function is not that of its task's environment; or the checkpoint is
            of another task, or of a run with other settings than ``config.json``.
        EnvError: as :func:`require_known_task`, where the cost function is the environment's.
    """
    run, _ = find_policy(Path(directory))
    if not run.exists:
        raise RunDirectoryError(f"{run.path} holds no run: there is no config.json. Train one with `prudence train`")
    if run.ships and parts == "all":
        raise RunDirectoryError(
            f"{run.path} is a recorded policy. It has only the weights that act in evaluation: name the run itself"
        )
    config = read_config(run.config, RunConfig)
    saved = run.policy if run.ships else run.checkpoints
    spaces = checkpoint.spaces_from_json(checkpoint.read_meta(saved).get("spaces"))
    if not trust:
        spaces = _with_known_costs(run, config, spaces)
    agent = config.make_agent(spaces)
    expect = {"task": config.env.task, "spaces": spaces}
    if run.ships:
        state, meta = load_acting(saved, agent, expect)
        return config, agent, state, int(meta["step"])
    # A run without environments has no carry.
    carry = agent.init_carry(config.loop.num_envs) if isinstance(config.loop, OnlineLoop) else None
    like = (agent.init(key=jax.random.key(0)), carry)
    try:
        (state, _), meta = checkpoint.load(saved, like, expect=expect)
    except CheckpointMismatch:
        if parts == "all":
            raise
        state, meta = load_acting(saved, agent, expect)
        _log.warning(
            "%s was saved by another version of prudence: it acts as it did, but cannot be trained or inspected",
            run.path,
        )
    checkpoint.check_config(meta, config)
    return config, agent, state, int(meta["step"])


def require_known_task(run: RunDirectory, task: str) -> None:
    """Refuses a task that a run's files name, before its environment is made, unless it is safe to make.

    A task ``module:Class`` must be a class derived from ``gymnasium.Env``. That of a recorded policy, which may be
    another person's, is not even imported.

    Raises:
        EnvError: it is neither. The message says how to make it all the same.
    """
    if run.ships and ":" in task:
        raise EnvError(
            f"the policy in {run.path} names the task {task}, whose code is not of prudence, so it is not imported. If "
            "you trust it, give --task with this name, or --trust (in Python: trust=True)"
        )
    custom.require_environment(task)


def _with_known_costs(run: RunDirectory, config: RunConfig, spaces: Spaces) -> Spaces:
    """``spaces`` whose cost function is within ``prudence.ops``, or the one that the task's environment has."""
    named = spaces.cost_function
    if named is None or _is_mathematics(named.path):
        return spaces
    require_known_task(run, config.env.task)
    with contextlib.closing(make_vector(config.env, 1, seed=0)) as envs:
        own = envs.spaces.cost_function
    if own is None or own.path != named.path:
        raise CheckpointMismatch(
            f"the checkpoint names the cost function {named.path!r}, and the environment of {config.env.task} has "
            f"{'none' if own is None else repr(own.path)}: it was trained with another version of the environment, or "
            "was changed. If you trust it, give --trust (in Python: trust=True)"
        )
    return dataclasses.replace(spaces, cost_function=own)


def _is_mathematics(path: str) -> bool:
    """Whether ``path`` is a function that ``prudence.ops`` defines (and not one that it imports)."""
    module, _, name = path.partition(":")
    if not module.startswith("prudence.ops."):
        return False
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return False
    return inspect.isfunction(found) and found.__module__ == module


class Policy:
    """A policy for one environment, in the environment's own observations and actions. It keeps the agent's memory.

    It takes an observation as the environment's ``reset`` and ``step`` return it, and returns an action for its
    ``step``: own names, shapes, dtypes and bounds, by the :class:`~prudence.envs.interface.Interface` of the run. Call
    it once for each of the environment's own steps. A decision that lasts several of them (``action_repeat``) is
    repeated. What Prudence adds to the observations (``spent``, the costs of the episode so far) has to be given with
    them, by name. Privileged observations need not be given.

    It acts as in evaluation. A policy trained under a budget samples its actions, unless configured otherwise, and
    ``seed`` determines the samples.

    Call :meth:`reset` when an episode begins. The next call then starts from an empty memory.

    Attributes:
        interface: the mapping between the environment's observations and actions and the agent's.
        diagnostics: metrics of the last decision. With a deadline they contain the number of iterations of the search
            and whether the call was late.
    """

    def __init__(
        self,
        agent: Agent,
        state: Any,
        spaces: Spaces,
        interface: Interface | None = None,
        *,
        seed: int = 0,
        deadline: float | None = None,
    ) -> None:
        """
        Args:
            interface: None for observations and actions in the agent's format.
            deadline: seconds for each decision of a planning agent, which searches for as long as it has time. None
                does the iterations of the configuration.

        Raises:
            ValueError: there is a deadline, but the agent does not act by plans.
        """
        self._agent, self.spaces, self.diagnostics = agent, spaces, dict[str, float]()
        self.interface = interface or unchanged(spaces)
        real_time = None if deadline is None else RealTime(agent, state, deadline)
        self._act = partial(agent.act, state, mode="evaluate") if real_time is None else real_time.act
        self._key, self._step = jax.random.key(seed), 0
        self.reset()

    def reset(self) -> None:
        """Clears the memory. Call it when an episode begins."""
        self._carry, self._is_first = self._agent.init_carry(1), True
        self._action: Any = None
        self._left = 0

    def __call__(self, observation: Any) -> Any:
        """The environment's action for its observation.

        Raises:
            ValueError: the observation lacks an entry, or an entry is not finite, has another shape, or has values that
                its dtype cannot hold (a picture in [0, 1] is not one in 0 to 255).
        """
        if not self._left:
            self._action = self.interface.action.decode(self._decide(observation))
            self._left = self.interface.action_repeat
        self._left -= 1
        return self._action

    def _decide(self, observation: Any) -> Float[np.ndarray, " A"]:
        """The agent's action."""
        seen = self.interface.encode(observation, self.spaces.unprivileged)
        for name, value in seen.items():
            if not np.isfinite(value).all():
                raise ValueError(
                    f"observation '{name}' is not finite: it would stay in the policy's memory until reset()"
                )
        batched = {name: jnp.asarray(value)[None] for name, value in seen.items()}
        key = jax.random.fold_in(self._key, self._step)
        first = jnp.array([self._is_first])
        action, self._carry, metrics = self._act(self._carry, batched, first, key=key)
        self.diagnostics = {name: float(value[0]) for name, value in metrics.items()}
        self._step, self._is_first = self._step + 1, False
        return np.asarray(action)[0]


def load_policy(directory: Path | str, *, seed: int = 0, deadline: float | None = None, trust: bool = False) -> Policy:
    """Loads the policy of a run's newest checkpoint: ``action = load_policy("runs/x")(observation)``.

    It takes the environment's own observations and returns its own actions; see :class:`Policy`. It also loads policies
    of records: ``load_policy("results/x")``, ``load_policy("results/x/policies/seed-1")``.

    Args:
        deadline: seconds for each decision of a planner; None does the iterations of its training.
        trust: calls the cost function that the checkpoint names, whatever it is; see :func:`load_run`. It also imports
            the task ``module:Class`` of a checkpoint that was written before checkpoints had an interface.

    Raises:
        RunDirectoryError, CheckpointError, CheckpointMismatch, EnvError: as :func:`load_run` and
            :func:`load_interface`.
        ValueError: as :class:`Policy`.
    """
    directory = Path(directory).absolute()  # An environment may change the working directory.
    _, agent, state, _ = load_run(directory, trust=trust)
    interface = load_interface(directory, agent.spaces, trust=trust)
    return Policy(agent, state, agent.spaces, interface, seed=seed, deadline=deadline)


def load_interface(directory: Path | str, spaces: Spaces, *, trust: bool = False) -> Interface:
    """The mapping between the own observations and actions of a run's environment and those of its agent.

    Checkpoints have it. For an older checkpoint it is that of the task's environment, which is made once, unless its
    suite is one of Prudence, whose observations and actions are the agent's.

    Args:
        directory, trust: as for :func:`load_run`.
        spaces: the agent's.

    Raises:
        CheckpointMismatch: it does not belong to ``spaces``.
        EnvError: as :func:`require_known_task`, for an older checkpoint.
    """
    run, _ = find_policy(Path(directory))
    content = checkpoint.read_meta(run.policy if run.ships else run.checkpoints).get(INTERFACE)
    try:
        if content is not None:
            found = interface_from(content)
        else:
            found = _interface_of_task(run, read_config(run.config, RunConfig).env, spaces, trust)
        found.check_fits(spaces)
    except ValueError as error:
        raise CheckpointMismatch(
            f"the checkpoint of {run.path} does not map the environment's observations and actions to the agent's: "
            f"{error}. It was changed, or is of another version of the environment: train it further, or record it anew"
        ) from error
    return found


def _interface_of_task(run: RunDirectory, env: EnvConfig, spaces: Spaces, trust: bool) -> Interface:
    if registry.offers_observations(env.task) or env.task == recorded.TASK:
        return unchanged(spaces)
    if not trust:
        require_known_task(run, env.task)
    with contextlib.closing(make_vector(env, 1, seed=0)) as envs:
        return envs.interface
