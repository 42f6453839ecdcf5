"""Random settings: each is either refused in a sentence, or makes an agent.

A preset of a random system has one to three of its settings replaced: by values that make no sense, by values at the
edge of their range, or by values near the present one. Settings that are accepted must make an agent. Its initial state
is traced, not computed, and one time in five so is an update. It lists what fails in any other way than by a sentence
(ValueError, EnvError), and exits with 1 if anything does. Run it from the root of the repository:

    .venv/bin/python tools/random_settings.py [-v] 2000 [SEED]
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import random
import signal
import sys
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from prudence.envs.base import EnvConfig, EnvError
from prudence.loops import ReplayLoop, RolloutLoop
from prudence.presets import PRESETS, preset
from prudence.ranges import Stated, stated_of
from prudence.run_config import RunConfig
from prudence.systems import SYSTEMS
from prudence.types import ActionSpec, Batch, ObservationSpec, Spaces

NASTY = (math.nan, math.inf, -math.inf, -1, -0.5, 0, 0.0, 1e-30, 0.5, 1, 1.0, 2, 3, 7, 1e9, 10**6, 2**31, 2**64, 1e308)
PATIENCE_S = 60
"""Processor time that an agent may take to be made before that counts as a hang. The clock also counts other work of
the machine."""


class Setting(NamedTuple):
    """A number of a configuration: where it is, and what it may be."""

    path: tuple[str, ...]
    says: Stated


def settings(config: Any, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """All numbers of ``config``, a dataclass."""
    for name, says in stated_of(type(config)).items():
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            yield from settings(value, (*path, name))
        elif says.number is not None:
            yield Setting((*path, name), says)


def replaced(config: Any, path: tuple[str, ...], value: Any) -> Any:
    """``config`` with another value at ``path``."""
    inner = value if len(path) == 1 else replaced(getattr(config, path[0]), path[1:], value)
    return dataclasses.replace(config, **{path[0]: inner})


def drawn(rng: random.Random, says: Stated, present: Any) -> Any:
    """A value that is nasty, an end of the range, or near the ``present`` one."""
    ends = () if says.range is None else (says.range.low, says.range.high)
    near = (present, present * 2, present / 2) if isinstance(present, int | float) else (None,)
    value = rng.choice(rng.choice((NASTY, NASTY, ends, near, near)))
    if value is None or isinstance(value, str | tuple):
        return value
    # As the command line would read it.
    return value if says.number is int and not float(value).is_integer() else (says.number or float)(value)


def spaces(config: RunConfig) -> Spaces:
    """Small ones that suit ``config``."""
    observation = [("state", ObservationSpec((3,), "float32"))]
    privileged = getattr(config.agent, "privileged", None) is not None
    observation += [("privileged", ObservationSpec((2,), "float32"))] * privileged
    observation += [("spent", ObservationSpec((1,), "float32"))] * config.env.spent
    names = ("privileged",) * privileged
    return Spaces(tuple(observation), ActionSpec("continuous", 2), ("cost",), 20, privileged=names)


def trace(config: RunConfig, agent: Any, *, updates: bool) -> None:
    """The initial state of ``agent``, and an update where ``updates``, without computing them."""
    state = jax.eval_shape(lambda: agent.init(key=jax.random.key(config.seed)))
    if not updates:
        return
    loop, shown = config.loop, spaces(config)
    if isinstance(loop, RolloutLoop) and loop.replay_capacity:
        return  # It fits a model until held-out data says to stop, in Python, which cannot be traced.
    if isinstance(loop, ReplayLoop):
        lead = (min(loop.updates_per_dispatch, 2), loop.batch_size, loop.batch_length)
    else:
        lead = (1, loop.num_envs, loop.decisions_per_iteration // loop.num_envs + 1)
    array = lambda *shape, dtype=np.float32: jax.ShapeDtypeStruct((*lead, *shape), dtype)
    observation = {name: array(*spec.shape) for name, spec in shown.observation}
    flags = array(dtype=np.bool_)
    batch = Batch(observation, array(shown.action.size), array(), array(shown.num_costs), flags, flags, flags)
    jax.eval_shape(lambda state, batch: agent.update(state, batch, key=jax.random.key(0)), state, batch)


def attempt(rng: random.Random) -> tuple[dict[str, Any], str, str]:
    """One configuration: what was set; ``refused``, ``made``, or the name of an error; and what was said."""
    agent, name = rng.choice(list(SYSTEMS)), rng.choice(PRESETS)
    try:
        config = preset(name, agent, EnvConfig("probe/cost"))
    except ValueError:  # Not every system has every preset.
        return attempt(rng)
    chosen = rng.sample(list(settings(config)), rng.randint(1, 3))
    changes = {s.path: drawn(rng, s.says, functools.reduce(getattr, s.path, config)) for s in chosen}
    shown = {"preset": f"{name}/{agent}", **{".".join(path): value for path, value in changes.items()}}
    signal.setitimer(signal.ITIMER_PROF, PATIENCE_S)
    try:
        for path, value in changes.items():
            config = replaced(config, path, value)
        config.check()
        made: Any = config.make_agent(spaces(config))
        trace(config, made, updates=rng.random() < 0.2)
    except (ValueError, EnvError) as error:
        # Not those of JAX or NumPy, which know no settings.
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        return shown, "refused" if "prudence" in where else type(error).__name__, str(error)
    except Exception as error:
        return shown, type(error).__name__, str(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return shown, "made", ""


def _hang(*_: Any) -> None:
    raise TimeoutError(f"took more than {PATIENCE_S} s of processor time")


def main(number: int, seed: int) -> int:
    """Tries ``number`` configurations; returns the exit status."""
    signal.signal(signal.SIGPROF, _hang)
    rng, counts, failures = random.Random(seed), collections.Counter[str](), 0
    for _ in range(number):
        shown, outcome, said = attempt(rng)
        counts[outcome] += 1
        if outcome not in ("refused", "made"):
            failures += 1
            print(f"{outcome}: {said[:300]}\n  {shown}", flush=True)
        elif "-v" in sys.argv:
            print(outcome, shown, said, flush=True)
    print(f"{number} configurations: {', '.join(f'{count} {outcome}' for outcome, count in counts.most_common())}")
    return int(failures > 0)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:] if word != "-v"]
    sys.exit(main(*numbers, *(2000, 0)[len(numbers) :]))
