"""Whether an environment can be trained on, and what Prudence makes of it (docs/environments/check.md).

:func:`check` steps an environment with random actions for some seconds. Training does the cheap part at its start:
:class:`prudence.envs.wrappers.Adapted` holds the first observations against their space,
:func:`prudence.envs.vector.require_end` asks for a time limit, and :func:`check_second_instance` makes a second
environment where evaluations will.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from prudence.envs import custom, registry
from prudence.envs.base import Description, EnvConfig, EnvError
from prudence.envs.vector import episode_seed, make_vector
from prudence.envs.wrappers import Adapted

_REPEATED = 50
"""Steps of an episode that is repeated from its seed."""
_WORKER_STEPS = 50
_ROUND_TRIP = 0.0005
"""Seconds of a step from which on a worker process saves more than the way to it and back costs."""

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it is, and what to do about it. ``failed`` means that training would be refused."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Report:
    """All findings about an environment."""

    task: str
    findings: tuple[Finding, ...]

    @property
    def trainable(self) -> bool:
        """Whether training would not be refused."""
        return all(found.status != "failed" for found in self.findings)

    def __str__(self) -> str:
        """A line for each finding, with its remedy below it."""
        width = max(len(found.name) for found in self.findings)
        lines = []
        for found in self.findings:
            lines.append(f"{found.name:<{width}}  {found.status:<7}  {found.detail}")
            lines += [f"{'':<{width + 11}}→ {found.remedy}"] * bool(found.remedy)
        return "\n".join(lines)


@dataclass
class Seen:
    """What random actions brought about.

    Attributes:
        lengths: decisions of each finished episode.
        costs: ``[C]`` of each decision. rewards: likewise.
        length: decisions of the episode that is not finished.
        strange: what was wrong with observations, each case.
        refused: whether one of them was that of a reset or of a first step, at which training looks.
        crash: what a step or a reset raised.
        frames: of each picture, the first and the last one.
    """

    steps: int = 0
    seconds: float = 0.0
    lengths: list[int] = field(default_factory=list)
    terminated: int = 0
    rewards: list[float] = field(default_factory=list)
    costs: list[np.ndarray] = field(default_factory=list)
    length: int = 0
    strange: list[str] = field(default_factory=list)
    refused: bool = False
    crash: str | None = None
    first: dict[str, np.ndarray] = field(default_factory=dict)
    last: dict[str, np.ndarray] = field(default_factory=dict)


def check(env: str | EnvConfig | gym.Env, *, seconds: float = 5.0) -> Report:
    """Steps an environment with random actions and reports what Prudence makes of it.

    Args:
        env: a task, a configuration, or an environment. Of an environment there is one instance only, so that a second
            one and a worker process are not tried. It is not closed.
        seconds: how long it is stepped; the rest takes about as long again.

    Raises:
        TypeError: ``env`` is something else, such as a class.

    >>> print(check("probe/cost", seconds=0.1).trainable)
    True
    """
    if not isinstance(env, str | EnvConfig | gym.Env):
        raise TypeError(f"{env!r} is no environment: give its name (module:Class), an EnvConfig, or a gymnasium.Env")
    given = isinstance(env, gym.Env)
    config = EnvConfig("the environment") if given else EnvConfig(env) if isinstance(env, str) else env
    try:
        config = registry.complete(config)
        made = custom.adapted(env, config) if given else registry.make(config)
        about = registry.describe(made, config)
    except Exception as error:  # Whatever its constructor raises.
        return Report(config.task, (Finding("environment", "failed", _said(error), "see the message"),))
    with contextlib.nullcontext() if given else registry.closing(made):
        findings = list(_findings(made, about, config, seconds))
        if not given:
            fails = any(found.status == "failed" and found.name == "steps" for found in findings)
            findings += _untried("second", "worker") if fails else [_second_instance(config), _worker(config)]
    return Report(config.task, tuple(findings))


def check_second_instance(config: EnvConfig) -> None:
    """Refuses an environment of which this process cannot have two, before training needs a second for an evaluation.

    Raises:
        EnvError: the message says how to give each a process of its own.
    """
    try:
        second = registry.make(config)
        with registry.closing(second):
            second.reset(seed=0)
    except (Exception, SystemExit) as error:
        raise EnvError(
            f"{config.task}: a second environment beside that of training cannot be made in this process, and "
            f"evaluations need one: {_said(error)}. Give each a process of its own: --loop.workers 1 (as many as "
            "--loop.num-envs), or leave evaluations out: --loop.evaluate-every 0"
        ) from error


def _untried(*names: str) -> list[Finding]:
    return [Finding(name, "warning", "not tried, since steps fail already", "repair them first") for name in names]


def _findings(env: gym.Env, about: Description, config: EnvConfig, seconds: float) -> Iterator[Finding]:
    yield _observations(about)
    yield _actions(about)
    seen = _run(env, config, seconds)
    if seen.crash is not None:
        seeds = "" if seen.steps else ". If its reset takes only the seeds from 0 to n - 1: --env.seeds n"
        yield Finding("steps", "failed", f"after {seen.steps} steps: {seen.crash}", f"repair it{seeds}")
    yield _within_space(seen)
    if seen.rewards:
        yield _rewards(seen)
        yield from _costs(about, seen)
        yield from _several_costs(env, about)
    yield _time_limit(about, seen)
    yield from _untried("seeds") if seen.crash is not None else [_seeds(env, config)]
    yield from _pictures(about, seen)
    yield _render(env)
    if seen.steps:
        yield _speed(config, seen)


def _observations(about: Description) -> Finding:
    hidden = about.spaces.privileged
    lines = []
    for own in about.interface.observations:
        shape = "x".join(map(str, own.shape)) or "a number"
        seen = "x".join(map(str, own.spec.shape))
        what = f"a picture {seen}" if own.kind == "picture" else f"a vector of {seen}"
        lines.append(f"{own.name}: {shape} {own.dtype}, seen as {what}{', in training only' * (own.name in hidden)}")
    notes = about.interface.notes
    return Finding("observations", "warning" if notes else "ok", "\n".join(lines), "; ".join(notes))


def _actions(about: Description) -> Finding:
    own = about.interface.action
    shape = "x".join(map(str, own.shape)) or "a number"
    low, high = min(own.low, default=0), max(own.high, default=0)
    made = "one of them is chosen" if own.kind == "discrete" else "agents act in [-1, 1], scaled to that"
    return Finding("actions", "ok", f"{own.kind}, {shape} {own.dtype} from {low:g} to {high:g}; {made}")


def _run(env: gym.Env, config: EnvConfig, seconds: float) -> Seen:
    """Random actions for some seconds. An exception ends it."""
    seen, rng = Seen(), np.random.default_rng(0)
    _watch(env, seen)
    until = time.monotonic() + seconds
    try:
        observation, _ = env.reset(seed=_seed(config, 0))
        seen.first = dict(observation)
        while time.monotonic() < until:
            started = time.perf_counter()
            observation, reward, terminated, truncated, info = env.step(_random(env, rng))
            seen.seconds += time.perf_counter() - started
            seen.steps, seen.length = seen.steps + 1, seen.length + 1
            _require_finite(observation, float(reward), info["cost"])
            seen.rewards.append(float(reward))
            seen.costs.append(np.asarray(info["cost"], np.float64))
            seen.last = dict(observation)
            if terminated or truncated:
                seen.lengths.append(seen.length)
                seen.terminated += terminated
                seen.length = 0
                env.reset(seed=_seed(config, len(seen.lengths)))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # An environment may also raise SystemExit.
        seen.crash = _said(error)
    return seen


def _watch(env: gym.Env, seen: Seen) -> None:
    """Has every observation of ``env`` held against its space, and the faults noted instead of raised."""

    def note(fault: str) -> None:
        seen.strange.append(fault)
        seen.refused |= seen.length == 0

    inner = env
    while isinstance(inner, gym.Wrapper):
        if isinstance(inner, Adapted):
            inner.found = note
            return
        inner = inner.env


def _require_finite(observation: Any, reward: float, cost: np.ndarray) -> None:
    largest = float(np.finfo(np.float32).max)
    bad = [f"reward {reward}"] * (not abs(reward) <= largest) + [f"cost {cost}"] * (not np.isfinite(cost).all())
    bad += [f"observation {name!r}" for name, value in observation.items() if not np.isfinite(value).all()]
    if bad:
        raise ValueError(f"not finite in float32: {', '.join(bad)}")


def _within_space(seen: Seen) -> Finding:
    if not seen.strange:
        return Finding("space", "ok", "every observation is within its space")
    detail = f"{len(seen.strange)} observations are not within their space; the first: {seen.strange[0]}"
    remedy = "correct the observation, or the bounds of its space"
    if seen.refused:
        return Finding("space", "failed", detail, remedy)
    return Finding("space", "warning", detail, f"{remedy}: training looks at the first ones only")


def _rewards(seen: Seen) -> Finding:
    low, high = min(seen.rewards), max(seen.rewards)
    detail = f"from {low:.4g} to {high:.4g} a step, {np.mean(seen.rewards):.4g} on average"
    if low == high:
        said = f"{detail}: always the same"
        if seen.terminated:
            return Finding("rewards", "ok", f"{said}, so that only the length of episodes counts")
        return Finding("rewards", "warning", said, "is it reported? Nothing can be learned from it")
    return Finding("rewards", "ok", detail)


def _costs(about: Description, seen: Seen) -> Iterator[Finding]:
    costs = np.stack(seen.costs)
    for name, column in zip(about.spaces.costs, costs.T, strict=True):
        share = float((column != 0).mean())
        detail = f"{name}: from {column.min():.4g} to {column.max():.4g}, {share:.1%} of steps cost something"
        if column.min() < 0:
            yield Finding("costs", "warning", detail, "a negative cost makes up for harm: report 0 for no harm")
        elif share == 0:
            yield Finding("costs", "warning", detail, "is it reported? Random actions never met it")
        elif share == 1:
            yield Finding("costs", "warning", detail, "report 0 where nothing is harmed")
        else:
            yield Finding("costs", "ok", detail)


def _several_costs(env: gym.Env, about: Description) -> Iterator[Finding]:
    if not env.has_wrapper_attr("declared_costs") or about.spaces.num_costs > 1:
        return
    names, reported = env.get_wrapper_attr("declared_costs"), env.get_wrapper_attr("reported")
    total = ", ".join(about.spaces.costs)
    if len(names) > 1:
        remedy = "--env.costs separate holds each of them to a budget of its own"
        yield Finding("costs", "ok", f"it names {', '.join(names)}, of which {total} is the sum", remedy)
    elif reported is not None and reported > 1:
        each = " ".join(f"cost_{number}" for number in range(reported))
        remedy = f"--env.costs {each} holds each of them to a budget of its own"
        yield Finding("costs", "ok", f"it reports {reported} without names, of which {total} is the sum", remedy)


def _time_limit(about: Description, seen: Seen) -> Finding:
    number = len(seen.lengths)
    met = f"{number} episodes ended, {seen.terminated} of them by termination"
    met += f"; {min(seen.lengths)} to {max(seen.lengths)} decisions" if number else ""
    steps = about.spaces.episode_steps
    if steps is None:
        remedy = "--env.time-limit STEPS, or time_limit = STEPS in its class if it truncates episodes itself"
        return Finding("time limit", "failed", f"none is known; {met}", remedy)
    if number and max(seen.lengths) > steps:
        return Finding("time limit", "warning", f"{steps} decisions, but {met}", "correct its time_limit")
    return Finding("time limit", "ok", f"{steps} decisions; {met}")


def _seeds(env: gym.Env, config: EnvConfig) -> Finding:
    try:
        rows = [_episode(env, _seed(config, 7)) for _ in range(2)]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        remedy = "repair it. If it takes only the seeds from 0 to n - 1: --env.seeds n"
        return Finding("seeds", "failed", f"an episode could not be repeated: {_said(error)}", remedy)
    first, second = rows
    differs = next((k for k, (a, b) in enumerate(zip(first, second, strict=False)) if not _same(a, b)), None)
    if differs is None and len(first) == len(second):
        return Finding("seeds", "ok", f"{len(first) - 1} steps are repeated exactly from their seed")
    at = "at its reset" if not differs else f"after {differs} steps"
    remedy = (
        "draw only from self.np_random, and begin anew in reset. Else a run that is killed cannot go on exactly, and "
        "an evaluation cannot be repeated"
    )
    return Finding("seeds", "warning", f"an episode with the same seed and actions differs {at}", remedy)


def _episode(env: gym.Env, seed: int) -> list[tuple[Any, ...]]:
    """The rows of an episode with random actions, or of its beginning."""
    rng = np.random.default_rng(1)
    rows: list[tuple[Any, ...]] = [(env.reset(seed=seed)[0], 0.0, 0.0)]
    for _ in range(_REPEATED):
        observation, reward, terminated, truncated, info = env.step(_random(env, rng))
        rows.append((observation, reward, info["cost"]))
        if terminated or truncated:
            break
    return rows


def _same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    alike = all(np.array_equal(value, b[0][name], equal_nan=True) for name, value in a[0].items())
    return alike and all(np.array_equal(x, y) for x, y in zip(a[1:], b[1:], strict=True))


def _pictures(about: Description, seen: Seen) -> Iterator[Finding]:
    for name, spec in about.spaces.observation:
        if spec.is_image and name in seen.last:
            first, last = seen.first[name], seen.last[name]
            detail = f"{name}: values from {min(first.min(), last.min())} to {max(first.max(), last.max())}"
            if last.min() == last.max():
                yield Finding("pictures", "warning", f"{detail}, all alike", "is it drawn? See it with render()")
            elif np.array_equal(first, last):
                yield Finding("pictures", "warning", f"{detail}, the same at the end", "is it drawn at every step?")
            else:
                yield Finding("pictures", "ok", detail)


def _render(env: gym.Env) -> Finding:
    remedy = 'for --video: "rgb_array" in metadata["render_modes"], render_mode in the constructor, and render()'
    try:
        frame = env.render()
    except (Exception, SystemExit) as error:
        return Finding("videos", "warning", f"render() fails: {_said(error)}", remedy)
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        return Finding("videos", "warning", f"render() returns {type(frame).__name__}, no picture", remedy)
    return Finding("videos", "ok", f"render() returns a picture {'x'.join(map(str, frame.shape))}")


def _speed(config: EnvConfig, seen: Seen) -> Finding:
    each, cores = seen.seconds / seen.steps, os.cpu_count() or 1
    rate = f"{config.action_repeat * seen.steps / seen.seconds:,.0f} steps/s in this process, {1000 * each:.2f} ms each"
    if each < _ROUND_TRIP:
        return Finding("speed", "ok", f"{rate}: --loop.workers 0, since a worker costs more than it saves")
    spare = max(1, cores - 1)
    return Finding("speed", "ok", f"{rate}: --loop.workers {spare} with as many --loop.num-envs ({cores} cores)")


def _second_instance(config: EnvConfig) -> Finding:
    try:
        check_second_instance(config)
    except EnvError as error:
        cause = error.__cause__ or error
        alone = "--loop.workers 1, as many as --loop.num-envs"
        return Finding("second", "failed", _said(cause), "repair it" if isinstance(cause, EnvError) else alone)
    return Finding("second", "ok", "a second one in this process works beside the first")


def _worker(config: EnvConfig) -> Finding:
    rng = np.random.default_rng(2)
    try:
        with contextlib.closing(make_vector(config, 1, seed=0, workers=1)) as envs:
            envs.reset()
            started = time.perf_counter()
            for _ in range(_WORKER_STEPS):
                envs.step(rng.uniform(-1, 1, (1, envs.spaces.action.size)).astype(np.float32))
            each = (time.perf_counter() - started) / _WORKER_STEPS
    except Exception as error:
        return Finding("worker", "warning", f"fails in a worker process: {_said(error)}", "--loop.workers 0")
    return Finding("worker", "ok", f"works in a worker process, {1000 * each:.2f} ms a decision there and back")


def _random(env: gym.Env, rng: np.random.Generator) -> Any:
    space = env.action_space
    if isinstance(space, gym.spaces.Discrete):
        return int(rng.integers(space.n))
    return rng.uniform(-1.0, 1.0, space.shape or ()).astype(np.float32)


def _seed(config: EnvConfig, episode: int) -> int:
    """A seed such as training gives, of 32 bits."""
    seed = episode_seed(0, 0, episode)
    return seed if config.seeds is None else seed % config.seeds


def _said(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    if isinstance(error, EnvError) and len(lines) == 1:
        return lines[0]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
