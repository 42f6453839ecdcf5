"""Return against cost over training: paths of agents in the plane of return and cost.

A learning curve shows return and cost separately. The path in the plane shows whether an agent is better than another,
or only more careful.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from prudence.evidence import plot
from prudence.evidence.compare_figure import MARKERS, draw_evaluation
from prudence.evidence.scores import Run, curve_names, group_systems, load_runs
from prudence.evidence.statistics import hierarchical_interval
from prudence.runs.curves import Windows, in_steps, nice, seeds_windows, short, window_width

_PALEST = 0.75
"""Share of white in the colour at the beginning of a path."""
_WIDER = 2
"""Factor on the window width of a learning curve. Noise in both directions would otherwise tangle the path."""
_DOTS = 8
"""Approximate number of dots on the longest path."""
_NAMED = 2
"""Maximum number of paths for which all dots are labelled. With more paths only the last dot of each is."""


def plot_frontier(sources: Sequence[Path | str], out: Path | str) -> Path:
    """Draws return against each cost: for each system its path over training, pale at first, and its evaluation.

    The points of a path are means over seeds and over the training episodes in windows of steps
    (:func:`prudence.runs.curves.seeds_windows`). Evaluations are means over seeds and episodes, with 95 % bootstrap
    intervals.

    Args:
        sources: run directories, evaluated or not, and directories of records.
        out: image file to write.

    Returns:
        ``out``.

    Raises:
        RunDirectoryError: a directory holds neither a run nor a record.
        ValueError: the runs differ in task or constraints, a run is given twice, or there is nothing to draw.
    """
    runs = [run for source in sources for run in load_runs(source, evaluated=False)]
    if not any(len(run.returns) or "episode/return" in run.curves for run in runs):
        raise ValueError("none of these runs has finished an episode, so there is nothing to draw")
    systems, names = group_systems(runs), runs[0].cost_names
    with plot.style():
        figure = Figure(figsize=(8, 5.6 * len(names) + 0.8), layout="constrained")
        panels = figure.subplots(len(names), squeeze=False)[:, 0]
        said = [_draw_panel(axes, systems, index) for index, axes in enumerate(panels)]
        figure.suptitle(plot.system_labels([run.config for run in runs])[0], fontsize="medium")
        figure.supxlabel(said[0], fontsize="small", color="0.35")
        return plot.save(figure, Path(out))


def _draw_panel(axes: Axes, systems: Mapping[str, Sequence[Run]], index: int) -> str:
    """Draws the panel of one constraint. Returns the caption."""
    name = next(iter(systems.values()))[0].cost_names[index]
    paths = {label: _path(group, curve_names(group[0].cost_names)[1 + index]) for label, group in systems.items()}
    paths = {label: path for label, path in paths.items() if path is not None}
    every = nice(max((path[0].steps[-1] for path in paths.values()), default=1.0) / _DOTS)
    colours = plot.colours_of(systems)
    for (label, group), marker in zip(systems.items(), itertools.cycle(MARKERS), strict=False):
        if label in paths:
            _draw_path(axes, *paths[label], colours[label], every, name_all=len(paths) <= _NAMED)
        _draw_evaluation(axes, group, index, colours[label], marker, f"{label}, {plot.count_seeds(len(group))}")
    axes.set(xlabel=f"{name} of an episode", ylabel="return of an episode")
    axes.margins(y=0.06)
    _draw_budgets(axes, sorted({run.budgets[index] for group in systems.values() for run in group if run.budgets}))
    # Restores the order of systems. Matplotlib would list lines before error bars.
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    labels = [f"{label}, {plot.count_seeds(len(group))}" for label, group in systems.items()]
    axes.legend([named[label] for label in labels], labels, loc="best", edgecolor="none", framealpha=0.8)
    return _caption(list(paths.values()), every, any(len(run.returns) for group in systems.values() for run in group))


def _path(group: Sequence[Run], cost: str) -> tuple[Windows, Windows] | None:
    """Return and cost of a system in the same windows, or None if none of its runs has learned."""
    learned = [run.curves for run in group if {"episode/return", cost} <= run.curves.keys()]
    if not learned:
        return None
    pairs = [[curves[name] for curves in learned] for name in ("episode/return", cost)]
    width = _WIDER * max(map(window_width, pairs))
    returns, costs = (seeds_windows(group, width) for group in pairs)
    return returns, costs


def _draw_path(axes: Axes, returns: Windows, costs: Windows, colour: Any, every: float, *, name_all: bool) -> None:
    points = np.stack([costs.mean, returns.mean], 1)
    shades = _shades(colour, len(points))
    axes.plot(*points.T, color="white", linewidth=4.5, solid_capstyle="round")
    segments = np.stack([points[:-1], points[1:]], 1)
    axes.add_collection(LineCollection(list(segments), colors=shades[1:], linewidths=2.4, capstyle="round"))
    dots = np.arange(every, returns.steps[-1] + every / 2, every)
    nearest = sorted({int(np.abs(returns.steps - step).argmin()) for step in dots} | {len(points) - 1})
    axes.scatter(*points[nearest].T, s=26, color=shades[nearest], edgecolors="white", linewidths=0.8, zorder=2.5)
    for index in nearest if name_all else nearest[-1:]:
        where = points[index]
        if np.isfinite(where).all():
            steps = every * round(returns.steps[index] / every) if index != nearest[-1] else returns.steps[index]
            text = short(round(float(steps), -3) if steps >= 1000 else float(steps))
            axes.annotate(text, where, (4, 4), textcoords="offset points", fontsize=7.5, color=colour, zorder=4)


def _shades(colour: Any, number: int) -> Float[np.ndarray, "n 3"]:
    """``number`` shades from pale to the colour itself."""
    white = np.linspace(_PALEST, 0.0, number)[:, None]
    return white + (1 - white) * np.array(to_rgb(colour))


def _draw_evaluation(axes: Axes, group: Sequence[Run], index: int, colour: Any, marker: str, label: str) -> None:
    evaluated = [run for run in group if len(run.returns)]
    if not evaluated:
        axes.plot([], [], color=colour, linewidth=2.4, label=label)
        return
    score = hierarchical_interval([run.returns for run in evaluated])
    cost = hierarchical_interval([run.costs[:, index] for run in evaluated])
    draw_evaluation(axes, cost, score, marker, colour, label)


def _draw_budgets(axes: Axes, limits: Sequence[float]) -> None:
    plot.cost_axis(axes, min(limits, default=1.0), "x")
    for limit in limits:
        axes.axvline(limit, color="0.35", linestyle="--", linewidth=1.4, zorder=1.5)
        axes.text(limit, 0.99, f" budget {limit:g}", transform=axes.get_xaxis_transform(), va="top", color="0.35")
    if len(limits) == 1:
        left = axes.get_xlim()[0]
        axes.axvspan(left, limits[0], color=plot.GREEN, alpha=0.07, linewidth=0)
        axes.set_xlim(left=left)


def _caption(paths: Sequence[tuple[Windows, Windows]], every: float, evaluated: bool) -> str:
    said = []
    if paths:
        widths = in_steps({returns.width for returns, _ in paths})
        said.append(
            f"paths: means of the training episodes in {widths}, pale at first; dots every {short(every)} steps"
        )
    if evaluated:
        said.append("large markers: evaluation of the last policy, with 95 % intervals")
    return "\n".join(said)
