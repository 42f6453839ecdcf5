"""Tables of ``inspection.json``, for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from prudence.inspection.anatomy import TRAP, WARNING
from prudence.inspection.open_loop import short_names

FILE = "inspection.json"
"""Name of the file in a run directory."""
LEADS = (1, 2, 5, 10)
_UNKNOWN = "–"


class Sheet(NamedTuple):
    """A table: column heads, rows of cells, and a note for readers."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def sheets(content: Mapping[str, Any]) -> list[Sheet]:
    """The tables of the content of an ``inspection.json``. Missing parts are left out."""
    found = [_foresight(content), _entries(content["entries"]), *_costs(content["costs"]), *_doubts(content["doubts"])]
    if content["episodes"] is not None:
        found += [_traps(content["episodes"]), _events(content["episodes"])]
    return [sheet for sheet in found if sheet is not None and sheet.rows]


def _foresight(content: Mapping[str, Any]) -> Sheet:
    curves = {f"{name}, correlation": curve for name, curve in content["correlation"].items()}
    for side, of in content["mean_cost"].items():
        curves |= {f"{name}, mean {side}": curve for name, curve in of.items()}
    return Sheet("Reward and costs, decisions ahead", *_over_leads(curves, (1, 2, 5, 10, 15, 20, 30, 45)), "")


def _over_leads(
    curves: Mapping[str, Sequence[float | None]], leads: Sequence[int]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Column heads and rows of curves at the given leads, up to the length of the curves."""
    shown = [n for n in leads if n <= max(map(len, curves.values()), default=0)]
    rows = tuple((name, *(_number(curve[n - 1]) for n in shown)) for name, curve in curves.items())
    return ("", *map(str, shown)), rows


def _entries(found: Mapping[str, Mapping[str, Any]]) -> Sheet:
    shown = [n for n in LEADS if n <= min((len(x["one"]) for x in found.values()), default=0)]
    copied = shown[::2]
    heads = ("", "std", *(f"{n} ahead" for n in shown), *(f"copy, {n}" for n in copied))
    rows = []
    for name, x in zip(short_names(list(found)), found.values(), strict=True):
        both = (f"{_share(x['one'][n - 1])} ({_share(x['mean'][n - 1])})" for n in shown)
        rows.append((name, _number(x["spread"]), *both, *(_share(x["copy"][n - 1]) for n in copied)))
    note = (
        "Share explained so many decisions ahead by one imagined future (in brackets: by the mean of several), and by "
        "a copy of the last observation. 1 is all, 0 no better than the mean, below 0 worse. std: of a number of it, "
        "in symlog space."
    )
    return Sheet("Variance of the observations explained", heads, tuple(rows), note)


def _costs(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Sheet]:
    note = "Slope: by how much what comes rises where one more is foreseen: above 1, too little is foreseen."
    for name, of in found.items():
        rows = [
            (what.format(n), *(_number(x[column]) for column in ("mean_predicted", "mean_real", "slope")))
            for kind, what in (("leads", "of the decision {} ahead"), ("sums", "of the next {} together"))
            for n, x in of[kind].items()
        ]
        yield Sheet(f"Calibration of {name}", ("", "foreseen", "came", "slope"), tuple(rows), note)


def _doubts(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Sheet]:
    for label, doubt in found.items():
        costs = np.array(doubt["costs"], dtype=float)
        curves = {
            "return so far: models' disagreement": doubt["spread"],
            "return so far: error": doubt["error"],
            "mean cost so far: least of the models": costs.min(0).tolist(),
            "mean cost so far: most of the models": costs.max(0).tolist(),
            "mean cost so far: real": doubt["real_cost"],
        }
        note = f"{doubt['coverage'][4]:.0%} of returns lie within the central 50 % of the models'."
        yield Sheet(f"Models on {label}, decisions ahead", *_over_leads(curves, (1, 2, 5, 10, 15, 20, 30, 45)), note)


def _traps(found: Mapping[str, Any]) -> Sheet | None:
    traps = found["traps"]
    if traps is None:
        return None
    rows = (
        ("goals of an episode", _number(found["goals"])),
        ("decisions to a goal, median", _number(traps["median"])),
        (f"traps: longer than {TRAP:g} times that", f"{traps['number']} of {traps['of']} intervals"),
        ("share of all time in traps", f"{traps['share']:.0%}"),
    )
    note = f"{found['episodes']} episodes, {found['decisions']:,} decisions."
    return Sheet("Time between goals", ("", ""), rows, note)


def _events(found: Mapping[str, Any]) -> Sheet:
    events = found["events"]

    def mean_of(name: str) -> str:
        return _number(_mean([event[name] for event in events]))

    rows = [("costly events in 100 episodes", f"{100 * len(events) / found['episodes']:.0f}")]
    if events:
        costs = [event["cost"] for event in events]
        rows += [
            ("cost of one: mean, median, most", ", ".join(_number(float(f(costs))) for f in (np.mean, np.median, max))),
            ("decisions that it lasts, mean", mean_of("length")),
            ("speed when it begins, and of all decisions", f"{mean_of('speed')}, {_number(found['speed'])}"),
            (f"cost critic {WARNING} decisions before", mean_of("warned")),
            (f"one imagined future {WARNING} decisions before", mean_of("foreseen")),
            ("cost that came in the decisions of that future", mean_of("came")),
        ]
    shown = tuple(row for row in rows if set(row[1]) - set(f"{_UNKNOWN}, "))
    note = "An event lasts from a costly decision until two or more in a row cost nothing."
    return Sheet("Costly events", ("", ""), shown, note)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _share(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}".replace("0.", ".", 1)


def _number(value: float | None) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
