"""The figure of a comparison: learning curves and evaluations."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prudence.evidence import plot
from prudence.evidence.scores import System, curve_names
from prudence.evidence.statistics import Interval

MARKERS = "oDs^vPX*"


def plot_comparison(systems: Sequence[System], budgets: Mapping[str, float | None], out: Path | str) -> Path:
    """Draws return and costs over environment steps, and return against cost in evaluation.

    A system without a learning curve is a horizontal line with its interval. In the evaluation, large markers are
    systems with their intervals, and small markers are their runs.

    Args:
        budgets: budgets of the C constraints by name; None if a constraint has none.
        out: image file to write.

    Returns:
        The path of the image.
    """
    names = curve_names(tuple(budgets))
    learned = any(names[0] in run.curves for system in systems for run in system.runs)
    with plot.style():
        figure = Figure(figsize=(5.3 * (1 + learned), 2.4 * len(names) + 0.6), layout="constrained")
        parts = figure.subfigures(1, 1 + learned, squeeze=False)[0]
        if learned:
            _draw_curves(list(parts[0].subplots(len(names), sharex=True)), systems, names, budgets)
            said = plot.caption({system.label: [run.curves for run in system.runs] for system in systems}, names)
            parts[0].supxlabel(said, fontsize="small", color="0.35")
        panels = parts[-1].subplots(len(budgets), squeeze=False)[:, 0]
        for index, (axes, (name, limit)) in enumerate(zip(panels, budgets.items(), strict=True), start=1):
            _draw_evaluation(axes, systems, index, name, limit)
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=1 + 2 * learned, frameon=False)
        return plot.save(figure, Path(out))


def _draw_curves(
    panels: Sequence[Axes], systems: Sequence[System], names: Sequence[str], budgets: Mapping[str, float | None]
) -> None:
    curves = {system.label: [run.curves for run in system.runs] for system in systems}
    colours, titles = plot.colours_of(curves), ("return", *budgets)
    for index, (axes, name) in enumerate(zip(panels, names, strict=True)):
        plot.draw_groups(axes, curves, name, colours)
        for system in systems:
            if not any(name in metrics for metrics in curves[system.label]):
                _draw_level(axes, _scores(system)[index], colours[system.label])
        axes.set_title(f"{titles[index]} of training episodes", loc="left", fontsize="medium")
        axes.label_outer()
    for axes, limit in zip(panels[1:], budgets.values(), strict=True):
        plot.draw_limits(axes, [] if limit is None else [limit])


def _draw_level(axes: Axes, level: Interval, colour: Any) -> None:
    axes.axhline(level.estimate, color=colour, linestyle=(0, (1, 1)), linewidth=2)
    if math.isfinite(level.low):
        axes.axhspan(level.low, level.high, color=colour, alpha=0.12, linewidth=0)


def _draw_evaluation(axes: Axes, systems: Sequence[System], index: int, name: str, limit: float | None) -> None:
    colours = plot.colours_of([system.label for system in systems])
    for system, marker in zip(systems, itertools.cycle(MARKERS), strict=False):
        score, cost, colour = system.returns.mean, _scores(system)[index], colours[system.label]
        if len(system.runs) > 1:
            costs, returns = system.means[:, index], system.means[:, 0]
            axes.plot(costs, returns, marker, color=colour, markersize=6, markeredgecolor="white")
        draw_evaluation(axes, cost, score, marker, colour, f"{system.label}, {plot.count_seeds(len(system.runs))}")
    axes.set_title("evaluation with 95 % intervals (small: single seeds)", loc="left", fontsize="medium")
    axes.set(xlabel=f"{name} of an episode", ylabel="return of an episode")
    axes.margins(y=0.12)
    if limit is not None:
        axes.axvline(limit, color="0.35", linestyle="--", linewidth=1.4)
        axes.text(limit, 0.01, f" budget {limit:g}", transform=axes.get_xaxis_transform(), va="bottom", color="0.35")
    plot.cost_axis(axes, 1.0 if limit is None else limit, "x")


def _scores(system: System) -> list[Interval]:
    """Means of return and costs."""
    return [system.returns.mean, *(cost.score.mean for cost in system.costs)]


def draw_evaluation(axes: Axes, cost: Interval, score: Interval, marker: str, colour: Any, label: str) -> None:
    """Draws a mean return over a mean cost, with both intervals."""
    axes.errorbar(
        cost.estimate,
        score.estimate,
        xerr=_reach(cost),
        yerr=_reach(score),
        fmt=marker,
        color=colour,
        markersize=10,
        markeredgecolor="black",
        capsize=3,
        zorder=5,
        label=label,
    )


def _reach(interval: Interval) -> np.ndarray:
    """``[2, 1]`` distances from the estimate to the ends of its interval; 0 without an interval."""
    reach = np.array([[interval.estimate - interval.low], [interval.high - interval.estimate]])
    return np.maximum(np.nan_to_num(reach), 0)
