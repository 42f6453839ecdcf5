"""Environments from other packages, by Gymnasium id or ``module:Class`` (docs/environments/custom.md)."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec, load_env_creator

from prudence.envs import wrappers
from prudence.envs.base import EnvConfig, EnvError, Suite, SuiteOptions
from prudence.ranges import between


@dataclass(frozen=True)
class PictureOptions(SuiteOptions):
    """Options of environments that show pictures.

    Attributes:
        image_size: height and width of pictures for the agent. None keeps their size if networks take it, and otherwise
            takes the next larger one, and at most 64 (:func:`prudence.envs.interface.interface_for`).
    """

    image_size: Annotated[int, between(8, 4096)] | None = None


class UnknownTask(EnvError):
    """No environment has this name."""


def make(config: EnvConfig) -> gym.Env:
    """Makes the environment of ``config`` in the format of :func:`prudence.envs.registry.make`.

    Raises:
        UnknownTask: Gymnasium has no such id, or its module cannot be imported.
        EnvError: the module does not exist, the constructor rejects ``kwargs``, or Prudence does not support the
            environment's spaces.
    """
    env, registered = _load(config)
    return adapted(env, config, registered)


def adapted(env: gym.Env, config: EnvConfig, registered: int | None = None) -> gym.Env:
    """``env`` in the format of :func:`prudence.envs.registry.make`.

    Args:
        registered: the time limit that its id was registered with, if it does not apply it itself.

    Raises:
        EnvError: Prudence does not support its spaces, or an attribute of it cannot be used.
    """
    limits = [config.time_limit or registered, wrappers.own_time_limit(env, config.task)]
    if not any(limits) and env.spec is not None:  # Which stays when a TimeLimit is taken off.
        limits.append(env.spec.max_episode_steps)
    env = wrappers.Costs(env, config.task, config.costs)
    size = config.options.image_size if isinstance(config.options, PictureOptions) else None
    env = wrappers.Adapted(env, config.task, image_size=size, action_repeat=config.action_repeat)
    return wrappers.ActionRepeat(env, config.action_repeat, min((limit for limit in limits if limit), default=None))


SUITE = Suite(
    name="Gymnasium",
    summary="any Gymnasium id, or module:Class of your own, that reports info['cost'] (docs/environments/custom.md)",
    tasks=(),
    example="module:Class",
    make=make,
    options=PictureOptions,
)
"""The suite of every task that no other suite has."""


def exists(task: str) -> bool:
    """Whether ``task`` can belong to this suite: it names a module, or Gymnasium has the id."""
    if ":" in task:
        return True
    try:
        gym.spec(task)
    except gym.error.Error:
        return False
    return True


def require_environment(task: str) -> None:
    """Refuses a ``module:Class`` that is no environment, before anything of it is called.

    For a task that a file names. Its module is imported.

    Raises:
        EnvError: there is no such module, or it has another kind of object of this name.
    """
    found = _class_of(task)
    if found is None or (isinstance(found, type) and issubclass(found, gym.Env)):
        return
    raise EnvError(
        f"{task}: the file names this as its task, and it is no class that is derived from gymnasium.Env, so it is "
        "not called. If you trust the file, give --task with this name, or --trust (in Python: trust=True)"
    )


def _load(config: EnvConfig) -> tuple[gym.Env, int | None]:
    """The environment as its author wrote it, and the time limit that its id was registered with.

    That limit is left to our own wrapper, so that it can be changed. Other limits stay where they are.
    """
    given = config.arguments
    constructor = find(config.task)
    if not isinstance(constructor, EnvSpec):
        return _construct(config.task, constructor, given, lambda kwargs: constructor(**kwargs)), None
    spec = constructor
    entry = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point

    def make_it(kwargs: Mapping[str, Any]) -> gym.Env:
        return gym.make(spec, max_episode_steps=-1, disable_env_checker=True, **kwargs)

    return _construct(config.task, entry, {**spec.kwargs, **given}, make_it), spec.max_episode_steps


def find(task: str) -> Any:
    """The class or function that ``module:Class`` names, or the specification of a Gymnasium id.

    Raises:
        UnknownTask: there is neither.
        EnvError: there is no such module.
    """
    constructor = _class_of(task)
    if constructor is not None:
        return constructor
    try:
        if ":" in task:
            importlib.import_module(task.split(":")[0])
        return gym.spec(task.split(":")[-1])
    except (gym.error.Error, ImportError) as error:
        raise UnknownTask(str(error)) from error


def _class_of(task: str) -> Any:
    """The class (or function) that ``module:Class`` names, or None for a Gymnasium id."""
    module, _, name = task.partition(":")
    if not name:
        return None
    if not module or module.startswith("."):
        raise UnknownTask(f"{module!r} is no module")
    if os.getcwd() not in sys.path:  # An installed command does not search the current folder by itself.
        sys.path.append(os.getcwd())
    try:
        return getattr(importlib.import_module(module), name, None)
    except SystemExit as error:  # A script. In a worker and elsewhere it would end the process without a word.
        raise EnvError(
            f"{task}: importing {module} ended with sys.exit({error.code!r}): put the main part of the script under "
            'if __name__ == "__main__":'
        ) from error
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0] and error.name != module:
            raise  # The module exists, but one of its imports does not: the original message is better.
        raise EnvError(f"{task}: there is no module {module!r} on the Python path. {error}.") from error


def _with_render_mode(constructor: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Adds ``render_mode="rgb_array"`` if the environment offers it, and its constructor takes it."""
    kinds = {p.name: p.kind for p in _parameters(constructor) or ()}
    metadata = getattr(constructor, "metadata", None)
    if isinstance(metadata, Mapping):
        any_name = inspect.Parameter.VAR_KEYWORD in kinds.values()
        wanted = "rgb_array" in metadata.get("render_modes", ()) and ("render_mode" in kinds or any_name)
    else:  # A function, or a subclass of gym.Wrapper, whose metadata is a property: only the constructor tells.
        wanted = "render_mode" in kinds
    return {"render_mode": "rgb_array", **kwargs} if wanted else kwargs


def _construct(
    task: str, constructor: Any, given: dict[str, Any], build: Callable[[Mapping[str, Any]], gym.Env]
) -> gym.Env:
    """Returns the environment that ``build`` makes. ``build`` calls ``constructor`` with the arguments ``given``.

    Raises:
        EnvError: the constructor does not take these arguments; the message says which it takes. Or it makes no
            environment.
    """
    kwargs = _with_render_mode(constructor, given)
    parameters = _parameters(constructor)
    named = [p for p in parameters or () if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [p.name for p in named]
    takes_any = parameters is None or any(p.kind is p.VAR_KEYWORD for p in parameters)
    it_takes = f"it takes {', '.join(known)}" if known else "it takes none"
    for name in kwargs:
        if not takes_any and name not in known and name != "render_mode":  # Gymnasium may handle render_mode.
            near = difflib.get_close_matches(name, known, n=1)
            hint = f". Did you mean {near[0]}?" if near else ""
            raise EnvError(f"{task}: its constructor takes no argument {name!r}; {it_takes}{hint}")
    absent = [p.name for p in named if p.default is p.empty and p.name not in kwargs]
    if absent:
        example = ", ".join(f'"{name}": ...' for name in absent)
        raise EnvError(
            f"{task}: its constructor needs {', '.join(absent)}. Give them as EnvConfig.kwargs, on the command line "
            f"--env.kwargs '{{{example}}}'"
        )
    try:
        return _environment(build(kwargs), task)
    except SystemExit as error:  # As any other exception, which says what was wrong and ends nothing.
        raise RuntimeError(f"the constructor of {task} called sys.exit({error.code!r})") from error
    except TypeError as error:
        if not takes_any or "argument" not in str(error):
            raise  # This is a mistake inside the constructor, and its author needs the traceback.
        if "render_mode" in str(error) and "render_mode" not in given:  # It takes any name, and passes all on.
            return _environment(build(given), task)
        raise EnvError(f"{task}: its constructor rejects kwargs {dict(kwargs)}: {error}; {it_takes}") from error


def _environment(made: Any, task: str) -> gym.Env:
    if not isinstance(made, gym.Env):
        raise EnvError(f"{task} makes a {type(made).__name__}, which is not derived from gymnasium.Env.")
    return made


def _parameters(constructor: Any) -> list[inspect.Parameter] | None:
    """The constructor's parameters. None if Python cannot determine them."""
    try:
        return list(inspect.signature(constructor).parameters.values())
    except (TypeError, ValueError):
        return None
