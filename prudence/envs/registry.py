"""From a name to an environment: the suite's tasks, the probes, any Gymnasium id, any ``module:Class``."""

from __future__ import annotations

import difflib
import importlib
import math
import os
import sys
from collections.abc import Collection, Mapping
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator

from prudence.envs import probes, quadrotor, safety_gymnasium, wrappers
from prudence.envs.base import Description, Entry, EnvConfig, EnvError, Layout, entries
from prudence.types import PRIVILEGED, ActionSpec, CostFunction, ObservationSpec, Spaces


def task_ids() -> list[str]:
    """The tasks that Prudence knows by name. Any other Gymnasium id and ``module:Class`` work too."""
    return [*safety_gymnasium.TASKS, *quadrotor.TASKS, *probes.TASKS]


def offers_observations(task: str) -> bool:
    """Whether ``EnvConfig.obs`` chooses what is observed, as the suite's tasks and the quadrotor's let it."""
    return task in safety_gymnasium.TASKS or task in quadrotor.TASKS


def make(config: EnvConfig) -> gym.Env:
    """The environment that ``config`` names, in Prudence's shape.

    Its observations are a dict (``uint8 [height, width, channels]`` pictures, ``float32 [F]`` vectors), its
    actions ``[-1, 1]^A`` or Discrete, ``info["cost"]`` is ``float32 [C]``, and a step is one *decision*
    of ``config.action_repeat`` raw steps.

    Raises:
        EnvError: the task is unknown, not installed, or of a shape that cannot be used.
    """
    env = _make_task(config)
    return wrappers.Spent(env, config.task) if config.spent else env


def _make_task(config: EnvConfig) -> gym.Env:
    if config.task in safety_gymnasium.TASKS:
        return safety_gymnasium.make(config)
    if config.task in quadrotor.TASKS:
        return wrappers.Costs(quadrotor.make(config), config.task, config.costs)
    if config.privileged == "paper":
        raise EnvError(
            f"{config.task}: privileged='paper', but the AsymDreamer paper lists nothing for it; name observations of "
            "it, as a tuple."
        )
    env, time_limit = _load(config)
    env = wrappers.Costs(env, config.task, config.costs)
    env = wrappers.DictObservation(env, config.task)
    env = wrappers.RescaleAction(env, config.task)
    return wrappers.ActionRepeat(env, config.action_repeat, config.time_limit or time_limit)


def spaces_of(env: gym.Env, config: EnvConfig) -> Spaces:
    """What ``env``, made from ``config``, exchanges with an agent."""
    assert isinstance(env.observation_space, spaces.Dict)
    observation = tuple(
        (key, ObservationSpec(tuple(space.shape or ()), str(space.dtype)))
        for key, space in env.observation_space.spaces.items()
    )
    if isinstance(env.action_space, spaces.Discrete):
        action = ActionSpec("discrete", int(env.action_space.n))
    else:
        action = ActionSpec("continuous", int((env.action_space.shape or (0,))[0]))
    time_limit = env.get_wrapper_attr("time_limit")
    episode_steps = None if time_limit is None else -(-time_limit // config.action_repeat)
    costs = tuple(env.get_wrapper_attr("cost_names"))
    privileged = _privileged_of(env, config, [name for name, _ in observation])
    return Spaces(observation, action, costs, episode_steps, _cost_function_of(env), privileged)


def _privileged_of(env: gym.Env, config: EnvConfig, names: list[str]) -> tuple[str, ...]:
    """Those of the observations ``names`` that the environment's ``privileged`` or the configuration names; without
    that attribute, the one that is called so."""
    own = env.get_wrapper_attr("privileged") if env.has_wrapper_attr("privileged") else {PRIVILEGED} & set(names)
    if isinstance(own, str) or not isinstance(own, Collection):
        raise EnvError(f"{config.task}: its attribute privileged is {own!r}; make it a tuple of observations' names.")
    named = {*own, *(() if config.privileged == "paper" else config.privileged)}
    if named - set(names) or named == set(names):
        more = ", or ask for more of them (obs)" if offers_observations(config.task) else ""
        raise EnvError(
            f"{config.task}: privileged are to be {sorted(named)} of the observations {names}; name some of these, and "
            f"leave one to act on{more}."
        )
    return tuple(name for name in names if name in named)


def _cost_function_of(env: gym.Env) -> CostFunction | None:
    """What the environment has as ``cost_function``: a :class:`CostFunction`, or ``module:function`` alone."""
    found = env.get_wrapper_attr("cost_function") if env.has_wrapper_attr("cost_function") else None
    if found is None:
        return None
    function = CostFunction(found) if isinstance(found, str) else found
    try:
        function.resolve()
    except (ImportError, AttributeError, ValueError) as error:
        raise EnvError(
            f"the environment's cost_function {function.path!r} cannot be found ({error}): name a function that can be "
            "imported, as 'module:function'"
        ) from error
    return function


def layout_of(env: gym.Env) -> Layout:
    """The named entries of its vector observations: those of a custom environment in its ``layout`` attribute, else
    none.

    For each observation that is a tuple of :class:`~prudence.envs.base.Entry`, or a mapping from every part's name to
    its length or shape, in their order.

    Raises:
        EnvError: it names an observation that there is not, or one's parts do not make up its length.
    """
    declared = env.get_wrapper_attr("layout") if env.has_wrapper_attr("layout") else {}
    assert isinstance(env.observation_space, spaces.Dict)
    sizes = {name: math.prod(space.shape or ()) for name, space in env.observation_space.spaces.items()}
    placed = {name: parts if isinstance(parts, tuple) else _placed(parts) for name, parts in declared.items()}
    for name, parts in placed.items():
        ends, size = max(entry.stop for entry in parts), sizes.get(name, 0)
        if ends > size or not (isinstance(declared[name], tuple) or ends == size):
            raise EnvError(
                f"the environment's layout gives {name!r} parts up to {ends}, and it has "
                + (f"{size} numbers" if name in sizes else f"only the observations {', '.join(sizes)}")
                + ": name every part with its length, in order, as layout = {'state': {'speed': 3, 'lidar': 16}}"
            )
    return placed


def _placed(parts: Mapping[str, int | tuple[int, ...]]) -> tuple[Entry, ...]:
    return entries((name, (shape,) if isinstance(shape, int) else tuple(shape)) for name, shape in parts.items())


def describe(env: gym.Env, config: EnvConfig) -> Description:
    """Spaces and layout of ``env``, made from ``config``."""
    return Description(spaces_of(env, config), layout_of(env))


def _load(config: EnvConfig) -> tuple[gym.Env, int | None]:
    """The environment as its author wrote it, and its own time limit."""
    kwargs = dict(config.kwargs)
    constructor = _class_of(config.task)
    if constructor is not None:
        return constructor(**_with_render_mode(constructor, kwargs)), None
    try:
        if ":" in config.task:
            importlib.import_module(config.task.split(":")[0])
        spec = gym.spec(config.task.split(":")[-1])
    except (gym.error.Error, ImportError) as error:
        raise EnvError(_unknown(config.task, error)) from error
    entry = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    # Our own wrapper applies the time limit, so that it can be changed and is known beforehand.
    env = gym.make(
        spec, max_episode_steps=-1, disable_env_checker=True, **_with_render_mode(entry, {**spec.kwargs, **kwargs})
    )
    return env, spec.max_episode_steps


def _class_of(task: str) -> Any:
    """The class (or function) that ``module:Class`` names, or None for a Gymnasium id."""
    module, _, name = task.partition(":")
    if not name:
        return None
    if os.getcwd() not in sys.path:  # An installed command does not look in the folder that it is called from.
        sys.path.append(os.getcwd())
    try:
        return getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0] and error.name != module:
            raise  # The module exists, and what it imports does not: its own message is the better one.
        raise EnvError(f"{task}: there is no module {module!r} on the Python path. {error}.") from error


def _with_render_mode(constructor: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Adds ``render_mode="rgb_array"`` where the environment offers it."""
    offers = (getattr(constructor, "metadata", None) or {}).get("render_modes", ())
    return {"render_mode": "rgb_array", **kwargs} if "rgb_array" in offers else kwargs


def _unknown(task: str, error: Exception) -> str:
    known = dict.fromkeys([*task_ids(), *gym.registry])
    near = difflib.get_close_matches(task, known, n=3, cutoff=0.6)
    hint = (
        f"Did you mean {' or '.join(near)}?"
        if near
        else f"`prudence list --tasks` names those that are known ({error})."
    )
    return f"There is no task {task!r}. {hint} Your own is named by module:Class."
