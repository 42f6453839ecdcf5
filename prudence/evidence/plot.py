"""Learning curves of one run, and of several systems over seeds.

The functions read ``metrics.jsonl`` and ``config.json`` of run directories. They skip what these lack.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from prudence.envs.registry import offers_observations
from prudence.evidence.content import read_object
from prudence.runs.curves import BAND, Series, Windows, in_steps, load_series, seeds_windows, window_width, windows
from prudence.runs.directory import RunDirectory

BLUE, ORANGE, GREEN, RED, PURPLE, *_ = sns.color_palette("colorblind", 6)
CONSTRAINT_COLOURS = (RED, PURPLE, GREEN, ORANGE)


def raw_config(run: Path | str) -> dict[str, Any]:
    """The configuration of a run directory as plain JSON. It is empty if the run has none.

    Raises:
        ValueError: it is not that of a run. The message names the file.
    """
    path = RunDirectory(Path(run)).config
    found = read_object(path) if path.exists() else {}
    if not isinstance(found.get("env", {}), dict):
        raise ValueError(f"{path} is no configuration of a run: its env is {found['env']!r}")
    return found


def plot_run(run: Path | str, out: Path | str | None = None) -> Path:
    """Draws return, cost with its budget, and multiplier over environment steps.

    Dots are training episodes. Lines are their means in windows of steps. Bands contain the middle 80 % of the episodes
    in a window. Diamonds are evaluations.

    Args:
        out: image file to write, by default ``curve.png`` in the run directory.

    Returns:
        The path of the image.

    Raises:
        FileNotFoundError: there is no ``metrics.jsonl``.
        ValueError: there is nothing to draw yet.
    """
    metrics, config = load_series(run), raw_config(run)
    costs, multipliers = _by_constraint(metrics, "episode/cost"), _by_constraint(metrics, "constraint/multiplier")
    multipliers = {name: series for name, series in multipliers.items() if series.values.any()}
    heights = [height for height, drawn in ((3, "episode/return" in metrics), (3, costs), (1.3, multipliers)) if drawn]
    if not heights:
        raise ValueError(f"{run}: no episode has finished yet, so there is nothing to draw")
    with style():
        figure = Figure(figsize=(8, 0.6 + sum(heights)), layout="constrained")
        panels = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        remaining = iter(panels)
        if "episode/return" in metrics:
            _draw_return(next(remaining), metrics)
        if costs:
            said = [label for axes in panels[:1] for label in axes.get_legend_handles_labels()[1]]
            _draw_costs(next(remaining), metrics, costs, budgets_of(config), said)
        if multipliers:
            _draw_multipliers(next(remaining), multipliers)
        step_axis(panels[-1])
        figure.suptitle(run_title(config, Path(run).name), fontsize="medium")
        return save(figure, Path(out) if out else Path(run) / "curve.png")


def plot_runs(runs: Mapping[str, Sequence[Path | str]], out: Path | str) -> Path:
    """Compares learning curves of systems: for each label the mean over its runs (seeds), and their range.

    A curve ends where the shortest of its runs ends.

    Args:
        runs: run directories by label.
        out: image file to write.

    Returns:
        ``out``.

    Raises:
        ValueError: no run has finished an episode.
    """
    loaded = {label: [load_series(run) for run in directories] for label, directories in runs.items()}
    names = [n for n in ("episode/return", "episode/cost") if any(n in m for group in loaded.values() for m in group)]
    if not names:
        raise ValueError("none of these runs has finished an episode, so there is nothing to draw")
    with style():
        figure = Figure(figsize=(5.4 * len(names), 4.2), layout="constrained")
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        colours = colours_of(loaded)
        limits = {limit for group in runs.values() for run in group for limit in budgets_of(raw_config(run))}
        for axes, name in zip(panels, names, strict=True):
            draw_groups(axes, loaded, name, colours)
            if name == "episode/cost":
                draw_limits(axes, sorted(limits))
        panels[0].legend(loc="best", frameon=False)
        figure.supxlabel(caption(loaded, names), fontsize="small", color="0.35")
        return save(figure, Path(out))


def _by_constraint(metrics: Mapping[str, Series], name: str) -> dict[str, Series]:
    """Series ``name_<constraint>`` by constraint if there are several constraints, else the series ``name``."""
    several = {key.removeprefix(f"{name}_"): metrics[key] for key in sorted(metrics) if key.startswith(f"{name}_")}
    if len(several) > 1:
        return several
    return {"": metrics[name]} if name in metrics else several


def _at(config: Any, *path: str) -> Any:
    """The value at ``path`` in nested dictionaries, or None."""
    for key in path:
        config = config.get(key) if isinstance(config, dict) else None
    return config


def budgets_of(config: Mapping[str, Any]) -> list[float]:
    """Budgets of the agent: one, or one for each constraint. The list is empty if it has none."""
    limit = _at(config, "agent", "budget", "limit")
    if limit is None:  # Planning in the simulator, and runs of earlier versions.
        limit = _at(config, "agent", "cost_limit")
    return [] if limit is None else [float(x) for x in (limit if isinstance(limit, list) else [limit])]


def group_runs(runs: Sequence[Path]) -> dict[str, list[Path]]:
    """Groups run directories by :func:`system_labels`, in the given order."""
    groups: dict[str, list[Path]] = {}
    for run, label in zip(runs, system_labels([raw_config(run) for run in runs])[1], strict=True):
        groups.setdefault(label, []).append(run)
    return groups


def system_labels(configs: Sequence[Mapping[str, Any]], by: Sequence[str] = ()) -> tuple[str, list[str]]:
    """A title and labels of systems, from the configurations of runs.

    Both consist of agent, task, observations and budget, and of the settings ``by``. The title has the parts that all
    runs share. The label of a run has the parts in which systems differ. Runs that differ only in the seed have the
    same label. If nothing differs, the label is the name of the agent.

    Args:
        by: names of settings, such as ``agent.horizon`` or ``env.lidar_scale``. A run that has no such setting does not
            state it.
    """
    columns = list(zip(*(_system(config, by) for config in configs), strict=True))
    # A part that a run does not state does not distinguish it: for example, a planner without a budget of its own.
    telling = [len(set(filter(None, column))) > 1 for column in columns]
    common = [next(filter(None, column), "") for column, tells in zip(columns, telling, strict=True) if not tells]
    labels = [
        ", ".join(part for part, tells in zip(system, telling, strict=True) if tells and part) or system[0]
        for system in zip(*columns, strict=True)
    ]
    return "  ·  ".join(filter(None, common)), labels


def _system(config: Mapping[str, Any], by: Sequence[str] = ()) -> tuple[str, ...]:
    task, limits = str(_at(config, "env", "task") or ""), budgets_of(config)
    # Not all tasks offer a choice of observations.
    seen = _at(config, "env", "obs") if offers_observations(task) else None
    budget = f"budget {' '.join(f'{limit:g}' for limit in limits)}" if limits else ""
    settings = [stated(config, name) for name in by]
    return str(_at(config, "agent_name") or "unnamed"), task, " and ".join(seen or ()), budget, *settings


def stated(config: Mapping[str, Any], name: str) -> str:
    """A setting with its value, ``agent.horizon 15``. Options of a suite stand beside the others, as on the command
    line. Empty if there is no such setting."""
    first, *rest = name.replace("-", "_").split(".")
    found = [_at(config, first, *rest), _at(config, first, "options", *rest)]
    return next((f"{name} {json.dumps(value)}" for value in found if value is not None), "")


def run_title(config: Mapping[str, Any], fallback: str) -> str:
    """Title of a run: agent, task and seed of its configuration, or ``fallback`` if it has none of them."""
    seed = _at(config, "seed")
    parts = [_at(config, "agent_name"), _at(config, "env", "task"), None if seed is None else f"seed {seed}"]
    return "  ·  ".join(part for part in parts if part) or fallback


def style() -> Any:
    """A context manager with the common style of all figures."""
    # All figures are Figure objects, which need no window system and no global state.
    style = sns.axes_style("whitegrid", {"grid.color": "0.92", "axes.edgecolor": "0.6", "font.family": "DejaVu Sans"})
    settings: dict[Any, Any] = {**style, "axes.spines.top": False, "axes.spines.right": False}
    return matplotlib.rc_context(settings)


def _draw_episodes(axes: Axes, series: Series, colour: Any, label: str) -> None:
    found = windows(series)
    axes.scatter(*series, s=7, color=colour, alpha=0.2, linewidths=0)
    _draw_windows(axes, found, colour, label or f"mean of the training episodes in {in_steps([found.width])}")
    if len(found.steps) > 1:
        band = "{:g} to {:g} % of them".format(*BAND) if not label else None
        axes.fill_between(found.steps, found.low, found.high, color=colour, alpha=0.13, linewidth=0, label=band)


def _draw_windows(axes: Axes, found: Windows, colour: Any, label: str) -> None:
    # Single points, and points between two gaps, need a marker. Their line would be invisible.
    known = np.isfinite(found.mean)
    alone = known & ~np.r_[False, known[:-1]] & ~np.r_[known[1:], False]
    axes.plot(found.steps, found.mean, color=colour, linewidth=2, label=label)
    if alone.any():
        axes.plot(found.steps[alone], found.mean[alone], "o", color=colour, markersize=5)


def _draw_evaluations(axes: Axes, metrics: Mapping[str, Series], name: str, colour: Any) -> None:
    if name in metrics:
        axes.plot(*metrics[name], "D", color=colour, markeredgecolor="black", markersize=6, label="evaluation")


def _draw_return(axes: Axes, metrics: Mapping[str, Series]) -> None:
    _draw_episodes(axes, metrics["episode/return"], BLUE, "")
    _draw_evaluations(axes, metrics, "evaluation/return_mean", BLUE)
    axes.set_ylabel("return of an episode")
    axes.legend(loc="best", frameon=False)


def _draw_costs(
    axes: Axes,
    metrics: Mapping[str, Series],
    costs: Mapping[str, Series],
    budgets: list[float],
    said: Collection[str] = (),
) -> None:
    """Draws the costs of episodes. ``said`` are labels that an earlier legend explains."""
    if len(budgets) == 1:
        budgets = budgets * len(costs)
    for index, (name, series) in enumerate(costs.items()):
        colour = CONSTRAINT_COLOURS[index % len(CONSTRAINT_COLOURS)]
        _draw_episodes(axes, series, colour, name)
        if len(costs) == 1:
            _draw_evaluations(axes, metrics, "evaluation/cost_mean", colour)
        if index < len(budgets) and (index == 0 or budgets[index] != budgets[0]):
            _draw_budget(axes, budgets[index], "0.2" if len(set(budgets)) == 1 else colour, name)
    axes.set_ylabel("cost of an episode")
    cost_axis(axes, max(budgets, default=1.0))
    new = [handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True) if label not in said]
    if new:
        axes.legend(handles=new, loc="best", edgecolor="none", framealpha=0.8)


def _draw_budget(axes: Axes, limit: float, colour: Any, name: str) -> None:
    axes.axhline(limit, color=colour, linestyle="--", linewidth=1.4, label=f"budget {limit:g} {name}".strip())


def _name_budget(axes: Axes, limits: Iterable[float]) -> None:
    for limit in limits:
        axes.text(0.01, limit, f"budget {limit:g}", transform=axes.get_yaxis_transform(), va="bottom", color="0.35")


def _draw_multipliers(axes: Axes, multipliers: Mapping[str, Series]) -> None:
    for index, (name, series) in enumerate(multipliers.items()):
        axes.plot(*series, color=CONSTRAINT_COLOURS[index % len(CONSTRAINT_COLOURS)], linewidth=1.5, label=name)
    axes.set_ylabel("multiplier λ")
    axes.set_ylim(bottom=0)
    if len(multipliers) > 1:
        axes.legend(loc="best", frameon=False)


def colours_of(systems: Collection[str]) -> dict[str, Any]:
    """Colours by label."""
    return dict(zip(systems, sns.color_palette("colorblind", len(systems)), strict=True))


def draw_groups(
    axes: Axes, systems: Mapping[str, Sequence[Mapping[str, Series]]], name: str, colours: Mapping[str, Any]
) -> None:
    """Draws the metric ``name`` of each system over steps: the mean over its runs, and their range."""
    for label, group in systems.items():
        _draw_group(axes, [metrics[name] for metrics in group if name in metrics], label, colours[label])
    axes.set_title(name.replace("/", " "), loc="left", fontsize="medium")
    step_axis(axes)


def draw_limits(axes: Axes, limits: Sequence[float]) -> None:
    """Draws budgets as lines across a panel of costs, and scales the panel so that they are visible."""
    for limit in limits:
        _draw_budget(axes, limit, "0.35", "")
    cost_axis(axes, max(limits, default=1.0))
    _name_budget(axes, limits)


def _draw_group(axes: Axes, group: Sequence[Series], label: str, colour: Any) -> None:
    if not group:
        return
    found = seeds_windows(group)
    _draw_windows(axes, found, colour, f"{label}, {count_seeds(len(group))}")
    if len(group) > 1:
        axes.fill_between(found.steps, found.low, found.high, color=colour, alpha=0.18, linewidth=0)


def caption(systems: Mapping[str, Sequence[Mapping[str, Series]]], names: Sequence[str]) -> str:
    """Explains the lines and bands of :func:`draw_groups`."""
    groups = [[metrics[name] for metrics in group if name in metrics] for group in systems.values() for name in names]
    widths = {window_width(group) for group in groups if group}
    said = f"lines: means of the training episodes in {in_steps(widths)}"
    return f"{said}, over seeds\nbands: the least and the largest seed's" if max(map(len, groups)) > 1 else said


def count_seeds(seeds: int) -> str:
    """The number of seeds in words."""
    return "1 seed" if seeds == 1 else f"{seeds} seeds"


def cost_axis(axes: Axes, budget: float, which: Literal["x", "y"] = "y") -> None:
    """Scales an axis of costs. It starts at 0.

    If costs are so large that the budget would be invisible, the axis is logarithmic above the budget.
    """
    axis, set_scale = (axes.xaxis, axes.set_xscale) if which == "x" else (axes.yaxis, axes.set_yscale)
    high = max((float(np.nanmax(data)) for data in _drawn(axes, which) if np.isfinite(data).any()), default=1.0)
    unit = max(budget, 1.0)
    if high > 15 * unit:
        set_scale("symlog", linthresh=unit, linscale=0.8)
        decades = [10.0**power for power in range(math.ceil(math.log10(unit + 1e-9)), math.ceil(math.log10(high)) + 1)]
        ticks = sorted({0.0, budget, *decades, *(3 * decade for decade in decades)})
        axis.set_ticks([tick for tick in ticks if tick <= 1.2 * high], minor=False)
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
    if which == "y":
        axes.set_ylim(bottom=0)
    else:  # Room for markers at either end.
        end = max(high, budget) or 1.0
        axes.set_xlim(-0.1 * unit if high > 15 * unit else -0.03 * end, 1.4 * end)


def _drawn(axes: Axes, which: Literal["x", "y"]) -> Iterable[np.ndarray]:
    yield from (np.atleast_1d(np.asarray(line.get_data()[which == "y"], dtype=float)) for line in axes.lines)
    for points in axes.collections:
        offsets = np.asarray(points.get_offsets(), dtype=float)
        if len(offsets):
            yield offsets[:, int(which == "y")]


def step_axis(axes: Axes) -> None:
    """Labels the x axis as environment steps, from 0."""
    axes.set_xlabel("environment steps")
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlim(left=0)


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure to ``path`` and returns it. Creates the directory if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    return path
