"""Imports Safety-Gymnasium's task classes on a current stack.

The package (1.0.0 on PyPI, 1.2.0 as sources) pins libraries of 2022, and its top-level module imports parts of
them that are gone. Its tasks need none of these, so its submodules are imported past that module. This is
done in one place, once, and changes none of its files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from prudence.envs.base import EnvError

INSTALL = 'pip install "prudence-rl[safety-gymnasium]" && pip install --no-deps safety-gymnasium==1.0.0'


@functools.cache
def suite() -> types.SimpleNamespace:
    """The suite's modules ``builder``, ``tasks``, ``agents``, ``world`` and ``random_generator``.

    Raises:
        EnvError: Safety-Gymnasium or what its tasks need is not installed.
    """
    names = {
        "builder": "safety_gymnasium.builder",
        "tasks": "safety_gymnasium.tasks",
        "agents": "safety_gymnasium.agents",
        "world": "safety_gymnasium.world",
        "random_generator": "safety_gymnasium.utils.random_generator",
    }
    try:
        _bypass_top_level()
        with _arrays_as_field_defaults():
            return types.SimpleNamespace(**{key: importlib.import_module(name) for key, name in names.items()})
    except ImportError as error:
        raise EnvError(
            f"Safety-Gymnasium's tasks cannot be imported ({error}). Install them with\n{INSTALL}"
        ) from error


def _bypass_top_level() -> None:
    """Puts a module with the package's real path in the place of its top-level module."""
    if "safety_gymnasium" in sys.modules:
        return
    spec = importlib.util.find_spec("safety_gymnasium")
    if spec is None or spec.origin is None:
        raise ImportError("there is no package safety_gymnasium")
    package = types.ModuleType("safety_gymnasium")
    package.__path__ = list(spec.submodule_search_locations or ())
    package.__file__ = spec.origin  # Its modules find their XML files beside it.
    package.__spec__ = spec
    sys.modules["safety_gymnasium"] = package


@contextlib.contextmanager
def _arrays_as_field_defaults() -> Iterator[None]:
    """Lets dataclasses have NumPy arrays as defaults, which Python 3.11 rejects as unhashable."""
    get_field: Any = dataclasses._get_field  # type: ignore[attr-defined]

    def accept_arrays(cls: type, name: str, *args: Any) -> Any:
        default = getattr(cls, name, None)
        if isinstance(default, np.ndarray):
            setattr(cls, name, dataclasses.field(default_factory=lambda: default))
        return get_field(cls, name, *args)

    dataclasses._get_field = accept_arrays  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dataclasses._get_field = get_field  # type: ignore[attr-defined]
