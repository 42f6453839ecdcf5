"""``config.json``: nested frozen dataclasses as JSON, without pickles.

A dataclass is written as an object. Its ``"class"`` is the name of the dataclass, so that a field that allows several
dataclasses, or a subclass, can be read back. Reading checks everything: unknown keys, missing keys and values of the
wrong type are refused, and the error names their path. A missing key is allowed if its field has a default. Such a
field is newer than the file, and its default must be the earlier behaviour.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from prudence.runs.files import write_text_atomically
from prudence.runs.provenance import FILE as PROVENANCE
from prudence.runs.provenance import last_commit

_CLASS = "class"
_SHOWN, _LONGEST = 8, 60

Config = TypeVar("Config")


class ConfigError(ValueError):
    """A configuration cannot be written or read. The message names the field."""


def write_config(path: Path, config: Any) -> None:
    """Writes ``config`` atomically.

    It is a dataclass. Its fields are dataclasses, tuples, dicts with string keys, paths and JSON scalars.

    Raises:
        ConfigError: a value is of another type.
    """
    write_text_atomically(Path(path), json.dumps(_encode(config, "config"), indent=2) + "\n")


def as_kept(config: Config) -> Config:
    """``config`` as :func:`read_config` would read it: whole floats are numbers, and NumPy's numbers are Python's.

    Raises:
        ConfigError: it could not be read back, or would not be the same. The message names the field.
    """
    kept = config_from(content(config), type(config))
    if kept != config:
        raise ConfigError(f"config.json would hold another configuration than this one: {kept} instead of {config}")
    return kept


def content(config: Any) -> dict[str, Any]:
    """``config`` in values of JSON's types; :func:`config_from` reads them.

    Raises:
        ConfigError: a value is of another type.
    """
    return _encode(config, "config")


def config_from(value: Any, cls: type[Config]) -> Config:
    """The configuration of type ``cls`` with this :func:`content`.

    Raises:
        ConfigError: ``value`` is no such content.
    """
    return _decode(value, cls, "config")


def differences(there: Any, here: Any) -> str:
    """What differs between two configurations: a line for each setting, the first eight of them.

    Another task or agent changes most other settings too, so it alone is told.
    """
    found = list(_differences(there, here))
    main = [line for name, line in found if name in ("agent_name", "env.task")]
    shown = main or [line for _, line in found[:_SHOWN]]
    more = len(found) - len(shown)
    return "\n  ".join([*shown, *([f"and {more} more settings"] if more else [])])


def _differences(a: Any, b: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The name of each setting that differs, and a line about it."""
    for f in dataclasses.fields(a):
        x, y, name = getattr(a, f.name), getattr(b, f.name), f"{path}{f.name}"
        if dataclasses.is_dataclass(x) and type(x) is type(y):
            yield from _differences(x, y, f"{name}.")
        elif x != y:
            yield name, f"{name}: {_short(x)} there, {_short(y)} now"


def _short(value: Any) -> str:
    """A value in a few words: a part of the agent by its kind."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__
    return text if len(text := str(value)) <= _LONGEST else f"{text[:_LONGEST]}..."


def read_config(path: Path, cls: type[Config]) -> Config:
    """Reads a configuration of type ``cls`` that ``write_config`` wrote. It equals the written one.

    Raises:
        ConfigError: the file is not JSON or not a ``cls``. The message names unknown, missing and wrongly typed fields.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # Also of bytes that are no text, and of a thousand brackets.
        raise ConfigError(f"{path} is not JSON: {error}") from error
    try:
        return _decode(value, cls, "config")
    except ConfigError as error:
        raise ConfigError(
            f"{path}: {error}. Another version of prudence wrote it, or it was edited by hand: continue with that "
            f"version ({_version_of(path.parent)}), or train anew"
        ) from error


def to_json(config: Any) -> dict[str, Any]:
    """A configuration as JSON-able values, for a file that has others beside it.

    Raises:
        ConfigError: as :func:`write_config`.
    """
    return _encode(config, "config")


def from_json(value: Any, cls: type[Config]) -> Config:
    """The inverse of :func:`to_json`.

    Raises:
        ConfigError: as :func:`read_config`.
    """
    return _decode(value, cls, "config")


def _version_of(directory: Path) -> str:
    commit = last_commit(directory)
    return f"git checkout {commit}" if commit else f"its commit is in {PROVENANCE}, where there is one"


def _encode(value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _encode(getattr(value, f.name), f"{path}.{f.name}") for f in dataclasses.fields(value)}
        return {_CLASS: type(value).__name__, **fields}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_encode(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _encode(item, f"{path}[{key!r}]") for key, item in value.items()}
    raise ConfigError(f"{path} is a {type(value).__name__}, which config.json cannot hold")


def _decode(value: Any, hint: Any, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(value, args, path)
    if origin is typing.Annotated:
        return _decode(value, args[0], path)
    if origin is Literal:
        _require(any(value == arg and type(value) is type(arg) for arg in args), value, hint, path)
        return value
    if origin is tuple:
        return _decode_tuple(value, args, path)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _decode_dataclass(value, hint, path)
    if hint is dict or origin in (dict, Mapping):
        _require(isinstance(value, dict), value, hint, path)
        return {key: _decode(item, args[1] if args else Any, f"{path}[{key!r}]") for key, item in value.items()}
    return _decode_scalar(value, hint, path)


def _decode_scalar(value: Any, hint: Any, path: str) -> Any:
    if hint is Any:
        return tuple(_decode(item, Any, path) for item in value) if isinstance(value, list) else value
    if hint is None or hint is type(None):
        _require(value is None, value, hint, path)
        return None
    if hint is Path:
        _require(isinstance(value, str), value, hint, path)
        return Path(value)
    if hint is float:
        _require(isinstance(value, int | float) and not isinstance(value, bool), value, hint, path)
        return float(value)
    if hint not in (bool, int, str):
        raise ConfigError(f"{path} is declared as {hint}, which config.json cannot hold")
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    _require(type(value) is hint, value, hint, path)
    return value


def _decode_union(value: Any, options: tuple[Any, ...], path: str) -> Any:
    # A whole number may be read as a float, but int is tried first.
    options = tuple(sorted(options, key=lambda option: option is float))
    failures = []
    for option in options:
        try:
            return _decode(value, option, path)
        except ConfigError as error:
            failures.append(str(error))
    named = value.get(_CLASS) if isinstance(value, dict) else None
    chosen = [f for f, option in zip(failures, options, strict=True) if getattr(option, "__name__", None) == named]
    raise ConfigError((chosen or failures)[0])


def _decode_tuple(value: Any, args: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    _require(isinstance(value, list), value, tuple, path)
    if len(args) == 2 and args[1] is Ellipsis:
        args = (args[0],) * len(value)
    if len(args) != len(value):
        raise ConfigError(f"{path} has {len(value)} items instead of {len(args)}")
    return tuple(
        _decode(item, arg, f"{path}[{index}]") for index, (item, arg) in enumerate(zip(value, args, strict=True))
    )


def _decode_dataclass(value: Any, cls: type, path: str) -> Any:
    if isinstance(value, dict):
        cls = next((kind for kind in _kinds(cls) if kind.__name__ == value.get(_CLASS)), cls)
    if not isinstance(value, dict) or value.get(_CLASS) != cls.__name__:
        found = f"a {value[_CLASS]}" if isinstance(value, dict) and _CLASS in value else repr(value)
        raise ConfigError(f"{path} is {found} instead of a {cls.__name__}")
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = [key for key in value if key not in fields and key != _CLASS]
    missing = [name for name, field in fields.items() if name not in value and _is_required(field)]
    if unknown or missing:
        parts = [f"has the unknown {unknown}"] * bool(unknown) + [f"lacks {missing}"] * bool(missing)
        raise ConfigError(f"{path} ({cls.__name__}) {' and '.join(parts)}")
    found = {name: _decode(value[name], hints[name], f"{path}.{name}") for name in fields if name in value}
    try:
        return cls(**found)
    except ConfigError:
        raise
    except Exception as error:  # Whatever a configuration refuses its values by, such as an EnvError.
        raise ConfigError(f"{path}: {str(error).rstrip('.')}") from error


def _kinds(cls: type) -> Iterator[type]:
    """``cls`` and the classes derived from it, which whoever declares the configuration has imported."""
    yield cls
    for derived in cls.__subclasses__():
        yield from _kinds(derived)


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _require(holds: bool, value: Any, hint: Any, path: str) -> None:
    if not holds:
        raise ConfigError(f"{path} is {value!r} instead of {getattr(hint, '__name__', hint)}")
