"""Spaces as JSON and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from prudence.types import PRIVILEGED, ActionSpec, CostFunction, ObservationSpec, Spaces


def spaces_to_json(spaces: Spaces) -> dict[str, Any]:
    """Converts ``spaces`` to JSON-able values. ``spaces_from_json`` is the inverse."""
    reads = spaces.cost_function
    return {
        "observation": [[name, list(spec.shape), spec.dtype] for name, spec in spaces.observation],
        "action": [spaces.action.kind, spaces.action.size],
        "costs": list(spaces.costs),
        "episode_steps": spaces.episode_steps,
        "cost_function": None if reads is None else [reads.path, [list(pair) for pair in reads.arguments]],
        "privileged": list(spaces.privileged),
        "precise": [[name, list(places)] for name, places in spaces.precise],
    }


def spaces_from_json(value: Any) -> Spaces:
    """Converts the result of ``spaces_to_json`` back to spaces.

    Raises:
        ValueError: ``value`` is no such result.
    """
    try:
        return _spaces_from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(f"these are no spaces ({error!r})") from error


def _spaces_from_json(value: Mapping[str, Any]) -> Spaces:
    observation = tuple((name, ObservationSpec(tuple(shape), dtype)) for name, shape, dtype in value["observation"])
    for name, spec in observation:
        if np.dtype(spec.dtype).kind not in "biuf":
            raise ValueError(f"observation {name} is of dtype {spec.dtype}")
    reads = value.get("cost_function")  # Older checkpoints do not have it.
    # In older checkpoints the name alone marks privileged observations.
    by_name = [name for name, _ in observation if name == PRIVILEGED]
    return Spaces(
        observation,
        ActionSpec(*value["action"]),
        tuple(value["costs"]),
        value["episode_steps"],
        None if reads is None else CostFunction(reads[0], tuple((name, argument) for name, argument in reads[1])),
        tuple(value.get("privileged", by_name)),
        tuple((name, tuple(places)) for name, places in value.get("precise", ())),
    )


def interface(spaces: Spaces) -> tuple[Any, ...]:
    """What has to be equal for an agent, or experience, of other spaces to be usable here: all but the length of an
    episode, the cost function and the precise entries."""
    return spaces.observations, spaces.action, spaces.costs, spaces.privileged


def spaces_in_words(spaces: Spaces) -> str:
    """The spaces in one line."""
    hidden = spaces.privileged
    observation = ", ".join(
        f"{'privileged ' * (name in hidden)}{name} {spec.dtype}{list(spec.shape)}" for name, spec in spaces.observation
    )
    return f"observation {observation}, {spaces.action.kind} action [{spaces.action.size}], costs {list(spaces.costs)}"
