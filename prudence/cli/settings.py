"""Every setting of a run on the command line: ``--agent.horizon``, ``--env.costs``, ``--loop.steps`` and the others."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, StructConstructorSpec, StructTypeInfo

from prudence.envs.base import EnvConfig, EnvError, Suite
from prudence.envs.registry import SUITES, find_suite, lacks, options_of
from prudence.run_config import RunConfig


def parse_settings(config: RunConfig, arguments: Sequence[str], *, prog: str, description: str) -> RunConfig:
    """``config`` with the settings that ``arguments`` name.

    Options of the task's suite stand among those of every environment: ``--env.lidar-scale``, as ``--env.costs``.

    Raises:
        EnvError: a setting is another suite's.
        SystemExit: a setting is unknown or ill-formed, which has been said, or help was asked for.
    """
    _refuse_other_suites(config.env.task, arguments)
    return tyro.cli(
        # The agent says which constraint it has; as a subcommand its settings could not be given by themselves.
        tyro.conf.AvoidSubcommands[RunConfig],
        default=config,
        args=list(arguments),
        prog=prog,
        description=description,
        registry=_rules(config.env),
    )


def parse_arguments(words: Sequence[str]) -> dict[str, Any]:
    """Arguments for a constructor, as a JSON object or as words NAME=VALUE, where a value is JSON or else a string.

    >>> parse_arguments(['{"payload": 2.0}']) == parse_arguments(["payload=2.0"])
    True
    >>> parse_arguments(["gripper=soft", "lengths=[0.3, 0.2]"])
    {'gripper': 'soft', 'lengths': [0.3, 0.2]}

    Raises:
        ValueError: they are neither.
    """
    if len(words) == 1 and not words[0].partition("=")[0].isidentifier():
        return _json_object(words[0])
    pairs = [word.partition("=") for word in words]
    for word, (name, equals, _) in zip(words, pairs, strict=True):
        if not equals or not name.isidentifier():
            raise ValueError(f"{word!r} is not NAME=VALUE; {_EXAMPLES}")
    return {name: json_or_string(value) for name, _, value in pairs}


_EXAMPLES = """give a JSON object in quotes, '{"payload": 2.0, "gripper": "soft"}', or payload=2.0 gripper=soft"""


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{text} is not JSON ({error}); {_EXAMPLES}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{text} is a JSON {type(value).__name__}, not an object; {_EXAMPLES}")
    return value


def json_or_string(text: str) -> Any:
    """The JSON value that ``text`` is, or else ``text``."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _words(pairs: Any) -> list[str]:
    return [f"{name}={json.dumps(value, default=dict)}" for name, value in dict(pairs).items()]


_ARGUMENTS = PrimitiveConstructorSpec(
    nargs="*",
    metavar="JSON|NAME=VALUE ...",
    instance_from_str=lambda words: parse_arguments(words) if words else {},
    is_instance=lambda value: isinstance(value, tuple | dict),
    str_from_instance=_words,
)


def _rules(env: EnvConfig) -> ConstructorRegistry:
    """How tyro makes an environment's configuration: as of any dataclass, but for what its suite decides."""
    rules, suite = ConstructorRegistry(), find_suite(env.task)
    usual = ConstructorRegistry.get_struct_spec(StructTypeInfo.make(EnvConfig, env, in_union_context=False))
    assert isinstance(usual, StructConstructorSpec)
    types = {"kwargs": Annotated[Any, _ARGUMENTS], **_types(suite)}
    fields = tuple(dataclasses.replace(field, type=types.get(field.name, field.type)) for field in usual.fields)
    rules.struct_rule(lambda info: dataclasses.replace(usual, fields=fields) if info.type is EnvConfig else None)
    return rules


def _types(suite: Suite) -> dict[str, Any]:
    names = tuple[str, ...]
    return {
        "obs": tuple[Literal[suite.observations], ...] if suite.observations else names,  # pyright: ignore
        "privileged": Literal[suite.privileged] | names if suite.privileged else names,  # pyright: ignore
        # Without a name of its own, so that its fields stand beside the others.
        "options": Annotated[cast(Any, suite.options), tyro.conf.arg(name="")] if suite.options else None,
    }


def _refuse_other_suites(task: str, arguments: Sequence[str]) -> None:
    """tyro would only say that there is no such setting."""
    own = options_of(find_suite(task))
    others = {name for suite in SUITES for name in options_of(suite) if name not in own}
    for argument in arguments:
        words = argument.partition("=")[0].replace("-", "_").removeprefix("__env.")
        for name in (words, words.removeprefix("no_")):
            if argument.startswith("--env.") and name in others:
                raise EnvError(lacks(task, name))
