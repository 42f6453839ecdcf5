"""Imports Safety-Gymnasium's task classes with current versions of their libraries.

The package (1.0.0 on PyPI, 1.2.0 as sources) requires library versions of 2022. Its top-level module imports parts of
them that no longer exist. Its tasks do not need these parts, so its submodules are imported without the top-level
module. None of its files is changed.
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
        EnvError: Safety-Gymnasium, or a library that its tasks need, is not installed.
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
    """Replaces the package's top-level module by an empty module with the package's path."""
    if "safety_gymnasium" in sys.modules:
        return
    spec = importlib.util.find_spec("safety_gymnasium")
    if spec is None or spec.origin is None:
        raise ImportError("there is no package safety_gymnasium")
    package = types.ModuleType("safety_gymnasium")
    package.__path__ = list(spec.submodule_search_locations or ())
    package.__file__ = spec.origin  # Its modules look for their XML files next to it.
    package.__spec__ = spec
    sys.modules["safety_gymnasium"] = package


@contextlib.contextmanager
def _arrays_as_field_defaults() -> Iterator[None]:
    """Allows NumPy arrays as defaults of dataclass fields. Python 3.11 rejects them because they are not hashable."""
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
