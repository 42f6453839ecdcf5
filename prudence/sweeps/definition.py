"""What a sweep consists of: a small table of choices, from a TOML file or from flags, and the trials that it means.

Every key has one choice or a list of them, and the trials are all combinations. An agent may have keys of its own,
which win over the others. docs/sweeps.md shows the format.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prudence.presets import PRESETS
from prudence.ranges import between
from prudence.sweeps.search import RANGES, draw, range_fault
from prudence.sweeps.trial import Trial
from prudence.systems import SYSTEMS, find_system

OWN_KEYS = ("tasks", "obs", "budgets", "seeds", "preset", "steps", "settings")
"""What each agent may have of its own."""
KEYS = ("agents", *OWN_KEYS, "episodes", "search", "search_seed", "asha")
"""All keys of a sweep."""
_INSTEAD = {
    "seed": "seeds",
    "env.task": "tasks",
    "env.obs": "obs",
    "agent.budget.limit": "budgets",
    "loop.steps": "steps",
}
_BARE = re.compile(r"[A-Za-z0-9_-]+")

Definition = Mapping[str, Any]


class SweepError(ValueError):
    """A sweep is not well defined. The message names the key, the cause and the remedy."""


def read_definition(path: Path) -> dict[str, Any]:
    """The table of a TOML file, checked. Settings are flattened: ``{"agent.horizon": [10, 15]}``.

    Raises:
        SweepError: it is no TOML, or no sweep.
        OSError: the file cannot be read.
    """
    try:
        return checked(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:  # Also of bytes that are no text, and of what is no sweep.
        what = error if isinstance(error, SweepError) else f"it is no TOML: {error}"
        raise SweepError(f"{path}: {what}") from error


def checked(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with flattened settings.

    Raises:
        SweepError: a key is unknown, or its value is of no use.
    """
    _check_keys(table, KEYS, "a sweep")
    found = _checked_choices(table)
    for name in ("episodes", "search"):
        if name in found:
            _number_of(found[name], name)
    if "search_seed" in found:
        _require(_is_seed(found["search_seed"]), "search_seed", found["search_seed"], "a whole number from 0 on")
    if "asha" in found:
        _require(isinstance(found["asha"], bool), "asha", found["asha"], "true or false")
    if "agents" in found:
        found["agents"] = [_checked_agent(entry) for entry in _choices(found["agents"], "agents")]
    return found


def write_definition(definition: Definition) -> str:
    """The definition as TOML, which :func:`read_definition` reads back.

    >>> print(write_definition({"agents": ["ppo", {"name": "cpo", "budgets": [2]}], "settings": {"agent.horizon": 3}}))
    agents = ["ppo", {name = "cpo", budgets = [2]}]
    settings = {"agent.horizon" = 3}
    <BLANKLINE>
    """
    return "".join(f"{name} = {_toml(value)}\n" for name, value in definition.items())


def changes(there: Definition, here: Definition) -> list[str]:
    """A line for each key in which two definitions differ."""
    names = [name for name in KEYS if there.get(name) != here.get(name)]
    told = lambda table, name: _toml(table[name]) if name in table else "nothing"
    return [f"{name}: {told(there, name)} there, {told(here, name)} now" for name in names]


def expand(definition: Definition) -> list[Trial]:
    """The trials: for each agent all combinations of its choices.

    An agent that ignores costs has no budget. With ``search``, every combination is tried with each of so many samples
    of the ranges.

    Raises:
        SweepError: agents or tasks are missing, two trials are the same, or ranges and ``search`` do not go together.
        ImportError: samples are asked for, and Ray is not installed.
    """
    for name, example in (("agents", '["ppo-lag"]'), ("tasks", '["SafetyPointGoal1-v0"]')):
        if name not in definition and not (name == "tasks" and _all_have_tasks(definition)):
            raise SweepError(f"{name} are missing: write {name} = {example}, or give --{name}")
    trials = [trial for entry in definition["agents"] for trial in _expand_agent(definition, entry)]
    if "search" in definition and not any(_ranges(entry, definition) for entry in definition["agents"]):
        raise SweepError("search draws samples of ranges, but no setting has one: leave it out, or give a range")
    seen: set[str] = set()
    for trial in trials:
        if trial.name in seen:
            raise SweepError(f"two trials are the same, or would have the same directory: {trial.name}. Leave one out")
        seen.add(trial.name)
    return trials


def varied(trials: Sequence[Trial]) -> list[str]:
    """Names of the settings by which trials of one agent differ."""
    names = dict.fromkeys(name for trial in trials for name, _ in trial.settings)
    agents = {trial.agent for trial in trials}
    values = lambda agent, name: {repr(dict(t.settings).get(name)) for t in trials if t.agent == agent}
    return [name for name in names if any(len(values(agent, name)) > 1 for agent in agents)]


# ---- expansion -----------------------------------------------------------------------------------------------------


def _expand_agent(definition: Definition, entry: Any) -> Iterator[Trial]:
    own = entry if isinstance(entry, Mapping) else {"name": entry}
    of = {**definition, **own}
    agent, settings = own["name"], _settings(entry, definition)
    minds_costs = find_system(agent).needs.budget
    if "budgets" in own and not minds_costs:
        raise SweepError(f"{agent} ignores costs, so it has no budget: leave its budgets out")
    if find_system(agent).needs.dataset:
        raise SweepError(f"{agent} learns from recorded data, which a sweep does not offer: leave it out")
    budgets = _choices(of["budgets"], "budgets") if "budgets" in of and minds_costs else [()]
    for task, obs, budget, chosen, seed in itertools.product(
        _choices(of["tasks"], "tasks"),
        _choices(of.get("obs", [()]), "obs"),
        budgets,
        list(_combinations(settings, definition)),
        _choices(of.get("seeds", 0), "seeds"),
    ):
        limits = tuple(float(limit) for limit in _together(budget))
        preset, steps = of.get("preset", "cpu"), of.get("steps")
        yield Trial(agent, task, preset, _together(obs), limits, steps, seed, chosen)


def _combinations(settings: Mapping[str, Any], definition: Definition) -> Iterator[tuple[tuple[str, Any], ...]]:
    """All combinations of the settings' choices, each with every sample of the ranges."""
    ranges = {name: value for name, value in settings.items() if _is_range(value)}
    if ranges and "search" not in definition:
        raise SweepError(f"{', '.join(ranges)}: a range needs the number of its samples, search = 20 or --search 20")
    samples = draw(ranges, definition["search"], definition.get("search_seed", 0)) if ranges else [{}]
    grid = [_choices(value, name) for name, value in settings.items() if name not in ranges]
    names = [name for name in settings if name not in ranges]
    for values in itertools.product(*grid):
        chosen = dict(zip(names, map(_frozen, values), strict=True))
        for sample in samples:
            yield tuple({**chosen, **sample}.items())


def _settings(entry: Any, definition: Definition) -> dict[str, Any]:
    own = entry.get("settings", {}) if isinstance(entry, Mapping) else {}
    return {**definition.get("settings", {}), **own}


def _ranges(entry: Any, definition: Definition) -> list[str]:
    return [name for name, value in _settings(entry, definition).items() if _is_range(value)]


def _all_have_tasks(definition: Definition) -> bool:
    return all(isinstance(entry, Mapping) and "tasks" in entry for entry in definition.get("agents", [{}]))


def _together(value: Any) -> tuple[Any, ...]:
    """One choice as a tuple: a list within the list of choices is one of several names or numbers."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# ---- checks --------------------------------------------------------------------------------------------------------


def _checked_agent(entry: Any) -> Any:
    if isinstance(entry, str):
        return _known(entry, SYSTEMS, "agents")
    _require(isinstance(entry, Mapping) and "name" in entry, "agents", entry, 'names, or tables {name = "ppo-lag"}')
    _check_keys(entry, ("name", *OWN_KEYS), f"the agent {entry['name']}")
    _known(entry["name"], SYSTEMS, "agents")
    return _checked_choices(entry)


def _checked_choices(table: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the keys that an agent may have of its own."""
    found = dict(table)
    several = lambda each: lambda value: isinstance(value, list) and bool(value) and all(map(each, value))
    checks: dict[str, tuple[Callable[[Any], bool], str]] = {
        "tasks": (_is_name, "names of tasks"),
        "obs": (lambda value: _is_name(value) or several(_is_name)(value), "names of observations, or lists of them"),
        "seeds": (_is_seed, "whole numbers from 0 on"),
        "budgets": (lambda value: _is_cost(value) or several(_is_cost)(value), "costs of at least 0, or lists of them"),
    }
    for name, (holds, what) in checks.items():
        for value in _choices(found[name], name) if name in found else ():
            _require(holds(value), name, value, what)
    if "preset" in found:
        _known(found["preset"], PRESETS, "preset")
    if "steps" in found:
        _number_of(found["steps"], "steps")
    if "settings" in found:
        _require(isinstance(found["settings"], Mapping), "settings", found["settings"], "a table")
        found["settings"] = dict(_flat(found["settings"]))
        for name, value in found["settings"].items():
            _check_setting(name, value)
    return found


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their whole name, with underscores. TOML reads ``agent.horizon = 10`` as a table in a table."""
    for name, value in settings.items():
        path = f"{prefix}{name}".replace("-", "_")
        if isinstance(value, Mapping) and not _is_range(value):
            yield from _flat(value, f"{path}.")
        else:
            yield path, value


def _check_setting(name: str, value: Any) -> None:
    if name in _INSTEAD:
        raise SweepError(f"settings: {name} is set by the key {_INSTEAD[name]}: write {_INSTEAD[name]} = ...")
    if _is_range(value):
        [(kind, ends)] = value.items()
        if fault := range_fault(kind, ends):
            raise SweepError(f"settings: {name} = {_toml(value)} is no range: {fault}")
        return
    scalar = lambda item: isinstance(item, bool | int | str) or (isinstance(item, float) and math.isfinite(item))
    for choice in _choices(value, name):
        whole = all(map(scalar, choice)) if isinstance(choice, list) else scalar(choice)
        _require(whole, f"settings: {name}", choice, "finite numbers, words, true or false, or lists of them")


def _choices(value: Any, name: str) -> list[Any]:
    """The choices of a key: one, or those of a list."""
    found = list(value) if isinstance(value, list | tuple) else [value]
    if not found:
        raise SweepError(f"{name} has no choice: name at least one, or leave it out")
    for index, choice in enumerate(found):
        if any(choice == other and type(choice) is type(other) for other in found[:index]):
            raise SweepError(f"{name} has {_toml(choice)} twice: name it once")
    return found


def _check_keys(table: Mapping[str, Any], known: Collection[str], what: str) -> None:
    if unknown := [name for name in table if name not in known]:
        raise SweepError(
            f"{', '.join(map(str, unknown))}: {what} has no such key. It has {', '.join(known)}. Settings of "
            "`prudence train` belong under [settings]"
        )


def _known(value: Any, names: Collection[str], key: str) -> str:
    if not isinstance(value, str) or value not in names:
        raise SweepError(f"{key}: {value!r} is none that there is: choose from {', '.join(names)}")
    return value


def _number_of(value: Any, name: str) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    _require(whole, name, value, "a whole number of at least 1")


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in between(0, 2**32 - 1)


def _is_cost(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0


def _is_range(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in RANGES


def _require(holds: bool, name: str, value: Any, what: str) -> None:
    if not holds:
        raise SweepError(f"{name}: {value!r} is not what belongs there: {what}")


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        key = lambda name: name if _BARE.fullmatch(name) else json.dumps(name)
        return "{" + ", ".join(f"{key(name)} = {_toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)
