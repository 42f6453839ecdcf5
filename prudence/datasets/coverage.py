"""The scatter of a dataset's episodes: return against cost, by source (FOSP, figure 10)."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from prudence.datasets.summary import Summary
from prudence.evidence import plot


def draw_coverage(found: Summary, path: Path) -> Path:
    """Draws a panel for each constraint, and a point for each episode."""
    sources = [group for group in found.groups if len(found.groups) == 1 or group is not found.groups[-1]]
    colours = plot.colours_of([group.name for group in sources])
    with plot.style():
        figure = Figure(figsize=(4.2 * len(found.cost_names) + 0.6, 3.6), layout="constrained")
        panels = figure.subplots(1, len(found.cost_names), sharey=True, squeeze=False)[0]
        for index, (axes, name) in enumerate(zip(panels, found.cost_names, strict=True)):
            for group in sources:
                axes.scatter(
                    group.costs[:, index], group.returns, s=12, alpha=0.6, color=colours[group.name], label=group.name
                )
            axes.set_xlabel(f"{name} of an episode")
            plot.cost_axis(axes, 0.0, "x")
        panels[0].set_ylabel("return of an episode")
        panels[0].legend(frameon=False, fontsize="small")
        return plot.save(figure, path)
