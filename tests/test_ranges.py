"""Ranges of settings: the mechanism, that no number goes without one, and what is refused where."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from prudence.cli.api import configure
from prudence.cli.settings import parse_settings
from prudence.envs.registry import SUITES
from prudence.ranges import Count, Positive, Range, Share, at_least, between, check_ranges, stated_of
from prudence.run_config import RunConfig
from prudence.runs.config import read_config, write_config
from prudence.training.trainer import train

# ---- the mechanism ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Inner:
    size: Count = 3
    lambda_: Share = 0.5


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    scale: Positive | None = None
    limit: Annotated[float | tuple[float, ...], at_least(0)] = 2.0
    statistic: Literal["mean", "best"] | Share = "mean"
    clip_at: Annotated[float, between(0, 1, open_low=True, open_high=True)] = 0.5
    flag: bool = True
    name: str = "a"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scale": 1},
        {"limit": 0},
        {"limit": (0.0, 3.0)},
        {"statistic": 1.0},
        {"clip_at": 1e-9},
        {"inner": Inner(1, 1)},
        {"flag": False, "name": "nan"},
    ],
)
def test_what_is_within_its_range_passes(changes):
    check_ranges(replace(Outer(), **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner": Inner(size=0)}, "inner.size=0 must be a whole number from 1 to 2,147,483,647 (--inner.size)"),
        ({"inner": Inner(size=2**64)}, "inner.size=18446744073709551616 must be a whole number from 1 to"),
        ({"inner": Inner(lambda_=1.5)}, "inner.lambda_=1.5 must be a number from 0 to 1 (--inner.lambda_)"),
        ({"scale": 0.0}, "scale=0.0 must be a number from above 0 to 1,000,000, or None (--scale)"),
        ({"scale": math.inf}, "scale=inf must be a number"),
        ({"limit": -5.0}, "limit=-5.0 must be a number of at least 0, or several (--limit)"),
        ({"limit": (1.0, math.nan)}, "limit=(1.0, nan) must be"),
        ({"limit": math.nan}, "limit=nan must be"),
        ({"limit": math.inf}, "limit=inf must be"),
        ({"statistic": 2.0}, "statistic=2.0 must be a number from 0 to 1, or a word that it knows"),
        ({"clip_at": 1.0}, "clip_at=1.0 must be a number from above 0 to below 1 (--clip-at)"),
        ({"clip_at": 0.0}, "clip_at=0.0 must be"),
    ],
)
def test_what_is_not_is_refused_with_field_value_and_range(changes, message):
    with pytest.raises(ValueError, match="must be") as refused:
        check_ranges(replace(Outer(), **changes))
    assert message in str(refused.value)


@pytest.mark.parametrize("value", [1.0, np.int64(1), np.float32(1)])
def test_a_whole_number_may_be_a_float_or_numpys(value):
    """Training makes it an int."""
    config = Inner()
    object.__setattr__(config, "size", value)
    check_ranges(config)


@pytest.mark.parametrize("value", [True, 1.5, None, "1", (1,)])
def test_a_whole_number_is_nothing_else(value):
    config = Inner()
    object.__setattr__(config, "size", value)
    with pytest.raises(ValueError, match=r"size=.* must be a whole number"):
        check_ranges(config)


def test_all_that_is_wrong_is_named_at_once():
    with pytest.raises(ValueError, match=r"agent\.inner\.size=0 .*; agent\.scale=-1\.0 ") as refused:
        check_ranges(Outer(Inner(0), scale=-1.0), "agent")
    assert str(refused.value).count("must be") == 2


@pytest.mark.parametrize(
    ("range_", "said"),
    [
        (Range(), "that is finite"),
        (Range(high=3), "up to 3"),
        (Range(high=0.5, open_high=True), "below 0.5"),
        (Range(0, open_low=True), "above 0"),
        (at_least(2), "of at least 2"),
        (between(0, 1, open_high=True), "from 0 to below 1"),
    ],
)
def test_a_range_says_what_it_holds(range_, said):
    assert str(range_) == said
    assert all(number not in range_ for number in (math.nan, math.inf, -math.inf))


# ---- every number has one --------------------------------------------------------------------


def classes_in(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for argument in typing.get_args(hint):
        yield from classes_in(argument)


def reachable(cls: type, found: dict[type, None]) -> dict[type, None]:
    """``cls`` and all dataclasses that its fields can hold, those derived from them among them."""
    if cls not in found:
        found[cls] = None
        hints = typing.get_type_hints(cls, include_extras=True)
        others = [other for f in dataclasses.fields(cls) for other in classes_in(hints[f.name])]
        for other in (*others, *cls.__subclasses__()):
            reachable(other, found)
    return found


CLASSES = [cls for cls in reachable(RunConfig, {}) if cls.__module__.startswith("prudence.")]


def test_the_walk_finds_the_configurations():
    names = {cls.__name__ for cls in CLASSES}
    assert names >= {"ReplayLoop", "RolloutLoop", "RSSMConfig", "SWAG", "Ensemble", "CrossEntropy", "Lived", "Saute"}
    assert names >= {suite.options.__name__ for suite in SUITES if suite.options}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_number_of_a_configuration_has_a_range(cls):
    lacking = [name for name, says in stated_of(cls).items() if says.number is not None and says.range is None]
    assert not lacking, "say which numbers make sense: prudence/ranges.py has the usual ranges"


# ---- what is refused, and where --------------------------------------------------------------


def debug(agent: str = "safedreamer-bsrp-lag", **choices: Any) -> RunConfig:
    return configure(agent, "probe/cost", preset_name="debug", **choices)


CASES = [
    ("--agent.budget.limit", "nan", "limit=nan"),
    ("--agent.budget.limit", "-5", "limit=-5.0"),
    ("--agent.budget.limit", "inf", "agent.budget.limit=inf must be a number from 0 to 1,000,000,000, or several"),
    ("--agent.actor.min-std", "-1", "agent.actor.min_std=-1.0 must be a number from 1e-05 to 100"),
    ("--agent.actor.min-std", "3", "min_std=3.0 is above max_std=1.0"),
    ("--loop.steps", "-10", "loop.steps=-10 must be a whole number from 1"),
    ("--agent.actor.units", "0", "agent.actor.units=0 must be a whole number from 1 to 65,536 (--agent.actor.units)"),
    ("--agent.actor.layers", "-1", "agent.actor.layers=-1 must be a whole number from 0 to 100"),
    ("--loop.batch-size", "0", "loop.batch_size=0 must be a whole number from 1"),
    ("--loop.updates-per-dispatch", "0", "loop.updates_per_dispatch=0 must be a whole number from 1"),
    ("--loop.updates-per-decision", "-1", "loop.updates_per_decision=-1.0 must be a number from 1e-06 to 1,000"),
    ("--loop.decisions-per-iteration", "0", "loop.decisions_per_iteration=0 must be a whole number from 1"),
    ("--loop.num-envs", "0", "loop.num_envs=0 must be a whole number from 1"),
    ("--loop.evaluate-every", "-1", "loop.evaluate_every=-1 must be a whole number from 0"),
    ("--seed", str(2**64), f"seed={2**64} must be a whole number from 0 to 4,294,967,295"),
]


@pytest.mark.parametrize(("flag", "value", "message"), CASES)
def test_the_command_line_refuses_it(flag, value, message, capsys):
    with pytest.raises(SystemExit):
        parse_settings(debug(), [flag, value], prog="prudence train", description="")
    assert message.replace(" ", "") in "".join(capsys.readouterr().err.replace("│", "").split())


@pytest.mark.parametrize(("flag", "value", "message"), CASES)
def test_config_json_and_python_refuse_it(flag, value, message, tmp_path: Path):
    path = flag.removeprefix("--").replace("-", "_").split(".")
    write_config(tmp_path / "config.json", debug())
    written = json.loads((tmp_path / "config.json").read_text())
    place: dict[str, Any] = written
    for name in path[:-1]:
        place = place[name]
    number = type(place[path[-1]])(value)
    place[path[-1]] = number
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(ValueError, match="=") as read:
        read_config(tmp_path / "config.json", RunConfig)
    with pytest.raises(ValueError, match="=") as made:
        replaced(debug(), path, number)
    assert message in str(read.value)
    assert message in str(made.value)


def replaced(config: Any, path: list[str], value: Any) -> Any:
    inner = value if len(path) == 1 else replaced(getattr(config, path[0]), path[1:], value)
    return replace(config, **{path[0]: inner})


@pytest.mark.parametrize(
    ("agent", "loop", "message"),
    [
        ("dreamerv3", {"num_envs": 16}, "decisions_per_iteration=8 must be a multiple of num_envs=16"),
        ("dreamerv3", {"num_envs": 16}, "give --loop.decisions-per-iteration 16 or another multiple"),
        ("dreamerv3", {"num_envs": 3}, "or --loop.num-envs 1"),
        ("ppo", {"num_envs": 3}, "decisions_per_iteration=40 must be a multiple of num_envs=3"),
        ("ppo", {"steps": 39}, "steps=39 end the run within its first rollout, which takes 40 steps"),
        ("dreamerv3", {"prefill": 10**6}, "would never learn: steps=400 are 400 decisions"),
        ("dreamerv3", {"steps": 42}, "fewer than updates_per_dispatch=2 gradient steps"),
        ("dreamerv3", {"replay_capacity": 10}, "replay_capacity=10 cannot hold what is learned from"),
        ("dreamerv3", {"batch_length": 600}, "give --loop.replay-capacity 1200 or more"),
    ],
)
def test_what_makes_no_run_together_is_refused_before_it_begins(agent, loop, message, tmp_path: Path):
    config = debug(agent)
    with pytest.raises(ValueError, match="=") as refused:
        train(replace(config, loop=replace(config.loop, **loop)), tmp_path / "run")
    assert message in str(refused.value)
    assert not (tmp_path / "run" / "config.json").exists()


def test_settings_may_be_replaced_one_after_another():
    """More environments than decisions are no run, but may be on the way to one."""
    config = debug("dreamerv3")
    more = replace(config, loop=replace(config.loop, num_envs=16))
    with pytest.raises(ValueError, match="num_envs=16"):
        more.check()
    replace(more, loop=replace(more.loop, decisions_per_iteration=16)).check()
