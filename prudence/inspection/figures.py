"""Figures of the results of an inspection (prudence/inspection/inspect.py)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prudence.evidence import plot
from prudence.evidence.plot import BLUE, GREEN, ORANGE, PURPLE, RED
from prudence.inspection.anatomy import TRAP, WARNING, Anatomy, Intervals, Traps, around_events
from prudence.inspection.calibration import Calibration, Reliability
from prudence.inspection.open_loop import Curve, Explained, Foresight, short_names
from prudence.inspection.trace import Trace

_FLOOR = -0.5
"""Lower end of the axis of explained variance."""
_COLUMNS = 4
_BEFORE, _AFTER = 8, 6
"""Decisions to show before and after the first costly decision of an event."""


def draw_foresight(found: Foresight, path: Path) -> Path:
    """Draws three panels over the lead: correlation of reward and costs, explained observations, and mean costs."""
    with plot.style():
        figure = Figure(figsize=(10, 3.2), layout="constrained")
        numbers, observations, costs = figure.subplots(1, 3)
        for (name, curve), colour in zip(found.correlation.items(), cycle((BLUE, ORANGE, GREEN)), strict=False):
            numbers.plot(_leads(curve), curve, label=name, color=colour)
        numbers.set(title="correlation with what came", ylim=(-0.1, 1.02))
        for name, curve in found.explained.items():
            observations.plot(_leads(curve), curve, label=name)
        observations.set(title="variance explained", ylim=(-0.1, 1.02))
        for (name, curve), colour in zip(found.predicted.items(), cycle((ORANGE, GREEN, BLUE)), strict=False):
            costs.plot(_leads(curve), curve, label=f"{name}, predicted", color=colour)
            costs.plot(_leads(curve), found.real[name], label=f"{name}, real", color=colour, linestyle="--")
        costs.set(title="mean cost of a decision")
        costs.set_ylim(bottom=0)
        for axes in (numbers, observations, costs):
            axes.set_xlabel("decisions ahead")
            axes.legend(frameon=False, fontsize="small")
        return plot.save(figure, path)


def draw_entries(found: Mapping[str, Explained], path: Path) -> Path:
    """Draws a panel for each part of the observations: its explained variance up to 20 decisions ahead."""
    rows, columns = math.ceil(len(found) / _COLUMNS), min(len(found), _COLUMNS)
    with plot.style():
        figure = Figure(figsize=(2.6 * columns + 0.4, 2.2 * rows + 0.9), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        names = short_names(list(found))
        for axes, name, explained in zip(panels.flat, names, found.values(), strict=False):
            _draw_explained(axes, explained)
            axes.set_title(name, fontsize="medium", loc="left")
        for axes in panels.flat[len(found) :]:
            axes.set_visible(False)
        # The lowest panel of a column may be hidden. The lowest visible one needs tick labels.
        for index, axes in enumerate(panels.flat[: len(found)]):
            axes.tick_params(labelbottom=index + columns >= len(found))
        figure.supylabel("variance explained", fontsize="medium")
        figure.supxlabel("decisions ahead of the last observation that the model saw", fontsize="medium")
        figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
        return plot.save(figure, path)


def _draw_explained(axes: Axes, found: Explained) -> None:
    shown = slice(0, 20)
    sides = (("one imagined future", found.one, BLUE, "-"), ("mean of several", found.mean, BLUE, "--"))
    for label, curve, colour, line in (*sides, ("if nothing changed", found.copy, "0.55", ":")):
        axes.plot(_leads(curve[shown]), np.maximum(curve[shown], 2 * _FLOOR), line, color=colour, label=label)
    axes.axhline(0, color="0.75", linewidth=0.8)
    axes.set_ylim(_FLOOR, 1.02)


def draw_calibration(found: Mapping[str, Calibration], path: Path) -> Path:
    """Draws a row for each constraint: real over predicted cost, of single decisions and of sums."""
    with plot.style():
        figure = Figure(figsize=(9, 4.1 * len(found)), layout="constrained")
        panels = figure.subplots(len(found), 2, squeeze=False)
        for (name, of), (leads, sums) in zip(found.items(), panels, strict=True):
            _draw_reliability(leads, {f"{n} ahead": x for n, x in of.leads.items()})
            _draw_reliability(sums, {f"next {n}": x for n, x in of.sums.items()})
            leads.set_title(f"{name} of the decision so far ahead", loc="left", fontsize="medium")
            sums.set_title(f"{name} of the next decisions together", loc="left", fontsize="medium")
        return plot.save(figure, path)


def _draw_reliability(axes: Axes, found: Mapping[str, Reliability]) -> None:
    most = max(1e-6, *(max(x.predicted.max(), x.real.max()) for x in found.values()))
    axes.plot([0, most], [0, most], color="0.6", linewidth=1, label="as it comes")
    for (label, x), colour, marker in zip(found.items(), cycle((BLUE, ORANGE, GREEN)), cycle("os^"), strict=False):
        said = f"{label}: mean {x.mean_predicted:.2f} foreseen, {x.mean_real:.2f} came"
        axes.plot(x.predicted, x.real, color=colour, linewidth=1.2, alpha=0.7)
        axes.scatter(x.predicted, x.real, s=8 + 2 * np.sqrt(x.moments), color=colour, marker=marker, label=said)
    axes.set(xlabel="cost foreseen (mean of a bin; larger dots: more often)", ylabel="cost that came")
    axes.set(xlim=(-0.03 * most, 1.05 * most), ylim=(-0.03 * most, 1.05 * most))
    axes.legend(frameon=False, fontsize="small", loc="lower right")


def draw_episodes(traces: Sequence[Trace], found: Anatomy, path: Path) -> Path:
    """Draws the use of time and the causes of costs. Unknown parts are left out.

    The panels show intervals between goals, weighted by the time spent in them; costs of events over their predictions;
    and means around the beginning of an event.
    """
    drawn: list[Callable[[Axes], None]] = []
    if found.intervals is not None and found.traps is not None:
        intervals, traps = found.intervals, found.traps
        drawn.append(lambda axes: _draw_intervals(axes, intervals, traps))
    drawn += [lambda axes: _draw_events(axes, found), lambda axes: _draw_around(axes, traces, found)]
    with plot.style():
        figure = Figure(figsize=(4.6 * len(drawn), 4.0), layout="constrained")
        for axes, draw in zip(figure.subplots(1, len(drawn)), drawn, strict=True):
            draw(axes)
        return plot.save(figure, path)


def _draw_intervals(axes: Axes, intervals: Intervals, traps: Traps) -> None:
    lengths = np.concatenate(intervals)
    wide = max(traps.median / 2, 1)
    edges = [wide * i for i in range(int(lengths.max() / wide) + 2)]
    axes.hist(lengths, edges, weights=lengths / lengths.sum(), color=BLUE, label="all intervals between goals")
    long = lengths[lengths > TRAP * traps.median]
    if len(long):
        axes.hist(long, edges, weights=long / lengths.sum(), color=RED, label=f"longer than {TRAP:g} medians: traps")
    axes.axvline(traps.median, color="0.3", linestyle="--", linewidth=1.2, label=f"median, {traps.median:g} decisions")
    axes.set(xlabel="decisions between goals", ylabel="share of all time")
    axes.set_title(f"{traps.share:.0%} of the time is spent in traps", loc="left", fontsize="medium")
    axes.legend(frameon=False, fontsize="small")


def _draw_events(axes: Axes, found: Anatomy) -> None:
    events = found.events
    axes.set_title(
        f"{100 * len(events) / found.episodes:.0f} costly events in 100 episodes", loc="left", fontsize="medium"
    )
    warned = np.array([(e.warned, e.cost) for e in events if e.warned is not None])
    if not len(warned):
        costs = [event.cost for event in events]
        axes.hist(costs, bins=20, color=ORANGE)
        axes.set(xlabel="cost of an event", ylabel="events")
        return
    foreseen = np.array([(e.foreseen, e.cost) for e in events if e.foreseen is not None])
    axes.scatter(*warned.T, s=18, color=ORANGE, alpha=0.6, linewidths=0, label="cost critic")
    axes.scatter(*foreseen.T, s=18, color=BLUE, alpha=0.6, linewidths=0, marker="s", label="one imagined future")
    most = 1.4 * max(warned.max(), foreseen.max(), 1.0)
    axes.plot([0, most], [0, most], color="0.6", linewidth=1)
    axes.set(xlabel=f"cost foreseen {WARNING} decisions before it began", ylabel="cost of the event")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yscale("symlog", linthresh=1)
    axes.set(xlim=(-0.1, most), ylim=(-0.1, most))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(edgecolor="none", framealpha=0.8, fontsize="small", loc="lower right")


def _draw_around(axes: Axes, traces: Sequence[Trace], found: Anatomy) -> None:
    axes.set_title("around an event's first costly decision", loc="left", fontsize="medium")
    means, offsets = around_events(traces, found.events, _BEFORE, _AFTER), np.arange(-_BEFORE, _AFTER + 1)
    styles = {
        "cost": ("cost that came", RED, "o-"),
        "cost_value": ("cost critic's value", ORANGE, "s--"),
        "speed": ("speed", PURPLE, "^:"),
    }
    for name, values in means.items():
        label, colour, line = styles[name]
        axes.plot(offsets, values, line, color=colour, markersize=4, label=f"{label}, mean over events")
    axes.axvline(0, color="0.7", linewidth=1, zorder=0)
    axes.set(xlabel="decisions after it")
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])  # Room for the legend.
    if means:
        axes.legend(frameon=False, fontsize="small", loc="upper left")


def _leads(curve: Curve) -> np.ndarray:
    return np.arange(1, len(curve) + 1)
