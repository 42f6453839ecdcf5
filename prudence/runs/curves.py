"""Curves of metrics over environment steps: series, and their means in windows of steps.

Training episodes of parallel environments end at the same step, with long gaps between such rounds. A running mean over
a number of episodes would therefore draw vertical lines. A window of steps has a single mean.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from prudence.runs.directory import RunDirectory
from prudence.runs.metrics import read_metrics

Steps = Float[np.ndarray, " N"]
Centres = Float[np.ndarray, " G"]

SHARE = 20
"""A window spans about one part in ``SHARE`` of all steps."""
BAND = (10, 90)
"""Percentiles of a window's values that bound its band."""


class Series(NamedTuple):
    """One metric: ``steps`` ``[N]`` in raw environment steps, ascending, and ``values`` ``[N]``."""

    steps: Steps
    values: Steps


class Windows(NamedTuple):
    """A series in G overlapping windows of ``width`` steps. Values are NaN where a window is empty.

    Attributes:
        steps: centres of the windows, at most half a width apart.
        mean: mean of the values in each window.
        low, high: percentiles ``BAND`` of the values in each window. For several seeds: the lowest and the highest mean
            of a seed.
        width: width of a window in raw environment steps.
    """

    steps: Centres
    mean: Centres
    low: Centres
    high: Centres
    width: float


def load_series(run: Path | str) -> dict[str, Series]:
    """Reads the metrics of a run directory, by name, without values that are not finite.

    Raises:
        FileNotFoundError: there is no ``metrics.jsonl``.
    """
    path = RunDirectory(Path(run)).metrics
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: name a directory that `prudence train` wrote")
    points: dict[str, list[tuple[float, float]]] = {}
    for record in read_metrics(path):
        for name, value in record.items():
            if name != "step" and math.isfinite(value):
                points.setdefault(name, []).append((record["step"], value))
    return {name: _series(pairs) for name, pairs in points.items()}


def nice(number: float, *, least: bool = False) -> float:
    """Rounds a positive number to the nearest of 1, 2, 5, 10, 20, ..., by ratio. ``least`` rounds up.

    >>> nice(25_000), nice(25_000, least=True), nice(20_000, least=True)
    (20000.0, 50000.0, 20000.0)
    """
    power = 10.0 ** math.floor(math.log10(number))
    choices = [float(f"{factor * power:g}") for factor in (1, 2, 5, 10)]
    if least:
        return next(choice for choice in choices if choice >= number * (1 - 1e-9))
    return min(choices, key=lambda choice: abs(math.log(choice / number)))


def window_width(series: Sequence[Series]) -> float:
    """Width of the windows of these series, in steps.

    It is a round number near a twentieth of all steps. It is wide enough to contain two rounds of episodes that end
    together, in most places.
    """
    last = max([1.0, *(s.steps[-1] for s in series if len(s.steps))])
    gaps = [np.diff(np.unique(s.steps)) for s in series]
    rounds = max((float(np.median(gap)) for gap in gaps if len(gap)), default=0.0)
    return max(nice(last / SHARE), nice(max(2 * rounds, 1.0), least=True))


def centres(first: float, last: float, width: float) -> Centres:
    """Centres of windows from ``first`` to ``last``, at most half a width apart."""
    return np.linspace(first, last, 1 + math.ceil(max(last - first, 0.0) / (width / 2)))


def windows(series: Series, width: float | None = None, at: Centres | None = None) -> Windows:
    """Mean and band of the values in windows of a series.

    A window contains the values whose steps are within ``width / 2`` of its centre. The windows at both ends reach
    beyond the series, so they contain fewer values.

    Args:
        width: width of a window, by default :func:`window_width`.
        at: centres of the windows, by default from the first step to the last.
    """
    width = window_width([series]) if width is None else width
    at = centres(series.steps[0], series.steps[-1], width) if at is None else at
    start = np.searchsorted(series.steps, at - width / 2, "left")
    end = np.searchsorted(series.steps, at + width / 2, "right")
    found = np.full((3, len(at)), np.nan)
    for index in np.flatnonzero(end > start):
        inside = series.values[start[index] : end[index]]
        found[:, index] = inside.mean(), *np.percentile(inside, BAND)
    return Windows(at, found[0], found[1], found[2], width)


def seeds_windows(group: Sequence[Series], width: float | None = None) -> Windows:
    """Mean over seeds of their means in windows, with the lowest and the highest of these means.

    The result covers the steps that all seeds have. It is NaN where a seed has no value.
    """
    width = window_width(group) if width is None else width
    first, last = max(s.steps[0] for s in group), min(s.steps[-1] for s in group)
    at = centres(min(first, last), last, width)
    means = np.stack([windows(series, width, at).mean for series in group])
    return Windows(at, means.mean(0), means.min(0), means.max(0), width)


def in_steps(widths: Collection[float]) -> str:
    """Describes widths of windows in words.

    >>> in_steps([20_000.0]), in_steps([5_000.0, 50_000.0])
    ('20k steps', '5k to 50k steps')
    """
    ends = dict.fromkeys(short(width) for width in (min(widths), max(widths)))
    return f"{' to '.join(ends)} steps"


def short(steps: float) -> str:
    """Abbreviates a number of steps.

    >>> short(50_000), short(1.5e6)
    ('50k', '1.5M')
    """
    unit, name = next((pair for pair in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if steps >= pair[0]), (1.0, ""))
    return f"{steps / unit:g}{name}"


def _series(pairs: Iterable[tuple[float, float]]) -> Series:
    array = np.array(sorted(pairs, key=lambda pair: pair[0]), dtype=float)
    return Series(array[:, 0], array[:, 1])
