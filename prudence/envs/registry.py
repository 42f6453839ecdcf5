"""The list of suites, and functions that make an environment from a task's name.

A new suite is a package of ``prudence/envs`` that exports a :class:`~prudence.envs.base.Suite`. Only this module lists
it. If no suite has a task, Gymnasium and Python modules are searched (:mod:`prudence.envs.custom`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import multiprocessing
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from prudence.envs import car_racing, custom, metadrive, probes, quadrotor, reach, recorded, safety_gymnasium, wrappers
from prudence.envs.base import Description, Entry, EnvConfig, EnvError, Layout, Suite, entries
from prudence.envs.interface import Interface, unchanged
from prudence.types import PRIVILEGED, ActionSpec, CostFunction, ObservationSpec, Spaces

SUITES: tuple[Suite, ...] = tuple(
    package.SUITE for package in (safety_gymnasium, quadrotor, reach, car_racing, metadrive, probes)
)

_FIELDS = tuple(field.name for field in dataclasses.fields(EnvConfig))
_COMMON = tuple(name for name in _FIELDS if name not in ("task", "obs", "options"))


def task_ids() -> list[str]:
    """The task names of all suites. Other Gymnasium ids and ``module:Class`` work too."""
    return [task for suite in SUITES for task in suite.tasks]


def find_suite(task: str) -> Suite:
    """The suite that has ``task``. If there is none, the suite of Gymnasium ids and classes."""
    return next((suite for suite in (*SUITES, recorded.SUITE) if task in suite.tasks), custom.SUITE)


def offers_observations(task: str) -> bool:
    """Whether ``EnvConfig.obs`` can select the observations of ``task``."""
    return bool(find_suite(task).observations)


def shows_pictures(config: EnvConfig) -> bool:
    """Whether pictures are among the observations of ``config``, which is complete.

    Where the suite has no names for observations, as that of ``module:Class``, the environment is made, looked at and
    closed. If it cannot be made (its constructor may need arguments that are not there yet), the answer is no. The
    working directory stays what it is, since paths that the user gave are not absolute yet.
    """
    if find_suite(config.task).observations:
        return "vision" in config.obs
    with contextlib.chdir(os.getcwd()):
        try:
            env = make(config)
        except Exception:  # Whoever makes the environment in earnest says what is wrong with it.
            return False
        with closing(env):
            try:
                return any(spec.is_image for _, spec in spaces_of(env, config).observation)
            except EnvError:
                return False


@contextlib.contextmanager
def closing(env: gym.Env) -> Iterator[None]:
    """Closes ``env`` at the end. It may fail in that, which matters no more."""
    try:
        yield
    finally:
        with contextlib.suppress(Exception, SystemExit):
            env.close()


def options_of(suite: Suite) -> tuple[str, ...]:
    """The names of a suite's options."""
    return () if suite.options is None else tuple(field.name for field in dataclasses.fields(suite.options))


def configure(task: str, **settings: Any) -> EnvConfig:
    """A complete configuration of ``task``; see :func:`with_settings`.

    >>> configure("SafetyPointGoal1-v0", lidar_arc=120.0).options.lidar_arc
    120.0
    """
    return with_settings(EnvConfig(task), **settings)


def with_settings(config: EnvConfig, **settings: Any) -> EnvConfig:
    """Completes ``config`` and changes settings: fields of :class:`EnvConfig` or options of the task's suite.

    Raises:
        EnvError: the task has no such setting, or the setting does not accept the value.
    """
    fields = {name: value for name, value in settings.items() if name in _FIELDS}
    config = complete(dataclasses.replace(config, **fields))
    others = {name: value for name, value in settings.items() if name not in _FIELDS}
    for name in others:
        if name not in options_of(find_suite(config.task)):
            raise EnvError(lacks(config.task, name))
    return config if config.options is None else _with_options(config, others)


def where_offered(config: EnvConfig, **options: Any) -> EnvConfig:
    """Completes ``config`` and sets those of ``options`` that its task's suite has.

    The other options have to belong to another suite. They are ignored.
    """
    config = complete(config)
    offered = options_of(find_suite(config.task))
    anywhere = {name for suite in SUITES for name in options_of(suite)}
    assert options.keys() <= anywhere, f"no suite has the options {sorted(options.keys() - anywhere)}"
    return _with_options(config, {name: value for name, value in options.items() if name in offered})


def _with_options(config: EnvConfig, options: Mapping[str, Any]) -> EnvConfig:
    if not options:
        return config
    assert config.options is not None
    return dataclasses.replace(config, options=dataclasses.replace(config.options, **options))


def lacks(task: str, setting: str) -> str:
    """The error message for a setting that ``task`` does not have."""
    if not _may_exist(task):
        return _unknown(task)
    suite = find_suite(task)
    known = [*options_of(suite), *_FIELDS]
    near = difflib.get_close_matches(setting, known, n=1)
    others = [other.name for other in SUITES if setting in options_of(other)]
    said = f"{task} has no setting {setting!r}"
    said += f", which tasks of {' and '.join(others)} have: leave it out." if others else "."
    said += f" Did you mean {near[0]}?" if near else ""
    own = ", ".join(options_of(suite)) or "none"
    return f"{said} Its suite's options are: {own}; every environment has {', '.join(_COMMON)}."


def complete(config: EnvConfig) -> EnvConfig:
    """``config`` with the default observations and options of its task's suite.

    Raises:
        EnvError: the task's suite does not have an observation, a word for privileged observations, a constructor
            argument or options of ``config``.
    """
    task, suite = config.task, find_suite(config.task)
    obs = config.obs or suite.observations[:1]
    options = suite.options() if config.options is None and suite.options is not None else config.options
    problem = (
        _wrong_observations(suite, obs)
        or _wrong_privileged(suite, config.privileged)
        or _wrong_arguments(suite, config.arguments)
        or _wrong_options(suite, options)
    )
    if problem:
        raise EnvError(f"{task}: {problem}." if _may_exist(task) else _unknown(task))
    return dataclasses.replace(config, obs=obs, options=options)


def _wrong_observations(suite: Suite, obs: tuple[str, ...]) -> str | None:
    if set(obs) <= set(suite.observations):
        return None
    if not suite.observations:
        return f"obs={obs!r}, but the task has fixed observations of its own: leave obs out"
    return f"obs={obs!r}: choose from {', '.join(suite.observations)}"


def _wrong_privileged(suite: Suite, privileged: str | tuple[str, ...]) -> str | None:
    if isinstance(privileged, tuple) or privileged in suite.privileged:
        return None
    words = " or ".join(repr(word) for word in suite.privileged)
    ask = f"give {words}, or a tuple of its observations' names" if words else "give a tuple of its observations' names"
    return f"privileged={privileged!r} is not a set of observations that the suite defines: {ask}"


def _wrong_arguments(suite: Suite, arguments: Mapping[str, Any]) -> str | None:
    unknown = [name for name in arguments if suite.arguments is not None and name not in suite.arguments]
    if not unknown:
        return None
    taken = f"it takes {', '.join(suite.arguments or ())}" if suite.arguments else "it takes none"
    return f"kwargs give its constructor {', '.join(unknown)}, and {taken}: use the task's name and the other settings"


def _wrong_options(suite: Suite, options: Any) -> str | None:
    if options is None or type(options) is suite.options:
        return None
    wanted = "leave them out" if suite.options is None else f"give a {suite.options.__name__}"
    return f"options are a {type(options).__name__}, which does not belong to {suite.name}: {wanted}"


def make(config: EnvConfig) -> gym.Env:
    """Makes the environment of ``config`` in Prudence's format.

    Its observations are a dict of pictures (``uint8 [height, width, channels]``) and vectors (``float32 [F]``). Its
    actions are ``[-1, 1]^A`` or Discrete. ``info["cost"]`` is ``float32 [C]``. A step is one *decision* of
    ``config.action_repeat`` raw steps.

    Raises:
        EnvError: the task is unknown or not installed, or Prudence does not support its spaces; or as
            :func:`complete`.
    """
    config = complete(config)
    try:
        env = find_suite(config.task).make(config)
    except custom.UnknownTask as error:
        raise EnvError(_unknown(config.task, f" ({error})")) from error
    return wrappers.Spent(env, config.task) if config.spent else env


def _may_exist(task: str) -> bool:
    return task in task_ids() or custom.exists(task)


def require_known(task: str) -> None:
    """Raises EnvError if there is no such task in this process."""
    if find_suite(task) is custom.SUITE:
        try:
            custom.find(task)
        except custom.UnknownTask as error:
            raise EnvError(_unknown(task, f" ({error})")) from error


def _unknown(task: str, cause: str = "") -> str:
    if multiprocessing.parent_process() is not None:  # Which looked the task up before it started this worker.
        return (
            f"The task {task!r} is known here, but not in a worker process, which imports modules anew: what a "
            "notebook or a script's main part defines or registers is not there. Put it into a module of its own, and "
            "name it module:Class or module:Id, or step environments in this process (--loop.workers 0)."
        )
    near = difflib.get_close_matches(task, dict.fromkeys([*task_ids(), *gym.registry]), n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"`prudence list --tasks` shows the known tasks{cause}."
    return f"There is no task {task!r}. {hint} Use module:Class for your own environment."


def spaces_of(env: gym.Env, config: EnvConfig) -> Spaces:
    """The spaces of ``env``, which was made from ``config``.

    Raises:
        EnvError: the privileged observations, the ``cost_function`` or the ``precise`` entries of the environment are
            not usable.
    """
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
    return Spaces(observation, action, costs, episode_steps, _cost_function_of(env), privileged, _precise_of(env))


def _privileged_of(env: gym.Env, config: EnvConfig, names: list[str]) -> tuple[str, ...]:
    """The privileged ones among the observations ``names``.

    The environment's attribute ``privileged`` and the configuration name them. Without the attribute, an observation
    with the name ``privileged`` counts.
    """
    own = env.get_wrapper_attr("privileged") if env.has_wrapper_attr("privileged") else {PRIVILEGED} & set(names)
    if isinstance(own, str) or not isinstance(own, Collection):
        raise EnvError(f"{config.task}: its attribute privileged is {own!r}: make it a tuple of observations' names.")
    named = {*own, *(() if isinstance(config.privileged, str) else config.privileged)}
    if named - set(names) or named == set(names):
        more = ", or ask for more of them (obs)" if offers_observations(config.task) else ""
        raise EnvError(
            f"{config.task}: privileged={sorted(named)}, but the observations are {names}: name some of these, and "
            f"leave at least one for the policy{more}."
        )
    return tuple(name for name in names if name in named)


def _precise_of(env: gym.Env) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The environment's attribute ``precise``: for an observation, names of entries in its ``layout``."""
    declared = env.get_wrapper_attr("precise") if env.has_wrapper_attr("precise") else {}
    found, layout = [], layout_of(env)
    for observation, names in declared.items():
        known = {entry.name: entry for entry in layout.get(observation, ())}
        if isinstance(names, str) or set(names) - set(known):
            raise EnvError(
                f"the environment's attribute precise names {names!r} of {observation!r}, but the entries in its "
                f"layout are {', '.join(known) or 'not named'}: name some of them, as precise = "
                "{'state': ('distance',)}"
            )
        found.append((observation, tuple(i for name in names for i in range(known[name].start, known[name].stop))))
    return tuple(found)


def _cost_function_of(env: gym.Env) -> CostFunction | None:
    """The environment's attribute ``cost_function``: a :class:`CostFunction` or the string ``module:function``."""
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
    """The named entries of the vector observations of ``env``, from its attribute ``layout``. Empty without it.

    ``layout`` has one value for each observation: a tuple of :class:`~prudence.envs.base.Entry`, or a mapping from
    the name of each part to its length or shape, in order.

    Raises:
        EnvError: the layout names an observation that does not exist, or the parts do not add up to its length.
    """
    declared = env.get_wrapper_attr("layout") if env.has_wrapper_attr("layout") else {}
    assert isinstance(env.observation_space, spaces.Dict)
    sizes = {name: math.prod(space.shape or ()) for name, space in env.observation_space.spaces.items()}
    placed = {name: parts if isinstance(parts, tuple) else _placed(parts) for name, parts in declared.items()}
    for name, parts in placed.items():
        ends, size = max(entry.stop for entry in parts), sizes.get(name, 0)
        if ends > size or not (isinstance(declared[name], tuple) or ends == size):
            raise EnvError(
                f"the environment's layout describes {ends} numbers of {name!r}, but "
                + (f"it has {size}" if name in sizes else f"there are only the observations {', '.join(sizes)}")
                + ": give the name and length of every part, in order, as layout = {'state': {'speed': 3, 'lidar': 16}}"
            )
    return placed


def _placed(parts: Mapping[str, int | tuple[int, ...]]) -> tuple[Entry, ...]:
    return entries((name, (shape,) if isinstance(shape, int) else tuple(shape)) for name, shape in parts.items())


def describe(env: gym.Env, config: EnvConfig) -> Description:
    """Spaces, layout and interface of ``env``, which was made from ``config``."""
    spaces = spaces_of(env, config)
    return Description(spaces, layout_of(env), interface_of(env, spaces))


def interface_of(env: gym.Env, spaces: Spaces) -> Interface:
    """The mapping between the own observations and actions of ``env`` and those of agents, which are ``spaces``.

    An observation that Prudence adds (``spent``) is part of it: whoever uses a policy has to give it.
    """
    same = unchanged(spaces)
    if not env.has_wrapper_attr("interface"):
        return same  # Suites of Prudence speak its format themselves.
    own: Interface = env.get_wrapper_attr("interface")
    names = [one.name for one in own.observations]
    added = tuple(one for one in same.observations if one.name not in names)
    return dataclasses.replace(own, observations=own.observations + added)
