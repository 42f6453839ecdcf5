"""Ranges of settings. A configuration states the range of a number where it defines it, as part of the field's type.

``units: Size = 512`` or ``clip: Annotated[float, between(0, 1, open_low=True)] = 0.2``. :func:`check_ranges` holds a
whole configuration against the ranges of its fields. :class:`prudence.run_config.RunConfig` calls it, so that the
command line, Python and ``config.json`` are refused alike.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple


@dataclass(frozen=True)
class Range:
    """The numbers from ``low`` to ``high``; an open end is not among them. Nothing that is not finite is ever in it."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: Any) -> bool:
        # Not math.isfinite, which fails for whole numbers that no float holds.
        if value != value or value in (math.inf, -math.inf):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return bool(above and (value < self.high if self.open_high else value <= self.high))

    def __str__(self) -> str:
        if self.low == -math.inf:
            return "that is finite" if self.high == math.inf else f"{self._end('below', 'up to')} {_number(self.high)}"
        if self.high == math.inf:
            return f"{'above' if self.open_low else 'of at least'} {_number(self.low)}"
        low = f"from {'above ' if self.open_low else ''}{_number(self.low)}"
        return f"{low} to {'below ' if self.open_high else ''}{_number(self.high)}"

    def _end(self, open_word: str, closed_word: str) -> str:
        return open_word if self.open_high else closed_word


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def between(low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> Range:
    """From ``low`` to ``high``, without the ends that are open."""
    return Range(low, high, open_low, open_high)


def at_least(low: float) -> Range:
    """``low`` and all above it."""
    return Range(low)


LARGE = 1_000_000
"""Above any weight or scale that makes sense."""

Count = Annotated[int, between(1, 2**31 - 1)]
"""A number of things or steps that has to be there: what the counters of a state hold (int32)."""
Natural = Annotated[int, between(0, 2**31 - 1)]
"""The same, which may be 0."""
Size = Annotated[int, between(1, 65_536)]
"""Of a layer or a batch."""
Few = Annotated[int, between(1, 1_000)]
"""How often something is done or held that takes time or memory each time: iterations, samples, imagined steps."""
Depth = Annotated[int, between(0, 100)]
"""Hidden layers of a network; 0 is a linear map."""
Share = Annotated[float, between(0, 1)]
"""Of a whole, or a discount."""
ShareBelowOne = Annotated[float, between(0, 1, open_high=True)]
"""A share, but not all of it."""
ShareAboveZero = Annotated[float, between(0, 1, open_low=True)]
"""A share, but not nothing."""
Positive = Annotated[float, between(0, LARGE, open_low=True)]
"""A scale: something is divided by it, or stands still if it is 0."""
Deviation = Annotated[float, between(1e-5, 100)]
"""Standard deviation of actions, which are in [-1, 1]."""
NonNegative = Annotated[float, between(0, LARGE)]
"""A weight, which 0 switches off."""
EitherSign = Annotated[float, between(-LARGE, LARGE)]
"""A number of either sign."""


def check_ranges(config: Any, path: str = "") -> None:
    """Raises ValueError where numbers of ``config``, a dataclass, are outside of the ranges of their fields.

    The message names all of them, each with its value, its range and its flag on the command line. Dataclasses within
    it are looked through, too. ``path`` is that of ``config``.
    """
    found = list(_of_dataclass(config, path))
    if found:
        raise ValueError("; ".join(found))


class Stated(NamedTuple):
    """What a field's type says of its values: their range, where there are numbers among them, and what else it allows.

    Attributes:
        number: ``int``, ``float``, or None where no number is allowed.
    """

    number: type | None = None
    range: Range | None = None
    none: bool = False
    words: bool = False
    truth: bool = False
    several: bool = False


def stated(hint: Any) -> Stated:
    """What the type ``hint`` says, looked through ``Annotated``, unions, and tuples.

    >>> stated(Annotated[int, at_least(1)] | None)[:3]
    (<class 'int'>, Range(low=1, high=inf, open_low=False, open_high=False), True)
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        own = next((extra for extra in args[1:] if isinstance(extra, Range)), None)
        inner = stated(args[0])
        return inner if own is None else inner._replace(range=own)
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(_either, map(stated, args))
    if origin is tuple:
        return functools.reduce(_either, map(stated, args))._replace(several=True)
    if hint in (int, float):
        return Stated(number=hint)
    if hint is bool:
        return Stated(truth=True)
    return Stated(none=hint in (None, type(None)), words=hint is str or origin is Literal)


def _either(a: Stated, b: Stated) -> Stated:
    return Stated(a.number or b.number, a.range or b.range, *(x or y for x, y in zip(a[2:], b[2:], strict=True)))


@functools.cache
def stated_of(cls: type) -> dict[str, Stated]:
    """What the types of the fields of the dataclass ``cls`` say, by name."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: stated(hints[field.name]) for field in dataclasses.fields(cls)}


def _of_dataclass(config: Any, path: str) -> Iterator[str]:
    for name, says in stated_of(type(config)).items():
        value, where = getattr(config, name), f"{path}.{name}" if path else name
        if dataclasses.is_dataclass(value):
            yield from _of_dataclass(value, where)
        elif says.number is not None and says.range is not None:
            items = value if isinstance(value, tuple) and says.several else (value,)
            if not all(_allowed(item, says) for item in items):
                yield f"{where}={value!r} must be {_wanted(says)} ({_flag(where)})"


def _allowed(value: Any, says: Stated) -> bool:
    if value is None or isinstance(value, str | bool):
        return says.none if value is None else says.words if isinstance(value, str) else says.truth
    if not isinstance(value, numbers.Real):
        return False
    # 80.0 is as good as 80: training makes it that (prudence.runs.config.as_kept).
    whole = isinstance(value, numbers.Integral) or float(value).is_integer()
    return (whole or says.number is float) and typing.cast(float, value) in (says.range or Range())


def _wanted(says: Stated) -> str:
    number = f"a {'whole ' if says.number is int else ''}number {says.range}"
    return number + ", or several" * says.several + ", or a word that it knows" * says.words + ", or None" * says.none


def _flag(path: str) -> str:
    """How ``path`` is given on the command line, where a suite's options stand among those of every environment."""
    # An underscore at the end, as in lambda_, stays one.
    return "--" + re.sub(r"_(?=\w)", "-", path.replace("env.options.", "env."))
