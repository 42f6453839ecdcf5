"""Films of a planner: candidate plans of each decision, drawn in the arena, and their predicted costs.

The world model imagines the candidates and decodes their observations. Dead reckoning of the decoded velocity and
turning rate gives their paths over the floor. The observations ``lidar`` and ``coordinates`` both contain these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from prudence.cores.base import Agent, Mode
from prudence.cores.dreamer.planning import Preview
from prudence.deploy.deadline import planner_of
from prudence.envs.base import Layout, Overhead
from prudence.evidence.evaluate import Moment
from prudence.inspection.video import write_video
from prudence.ops.kinematics import dead_reckoning
from prudence.ops.normalise import symexp

# Okabe and Ito's palette, for colour-blind readers. Widths and dashes encode the same information.
_SAFE, _UNSAFE, _ELITE, _EXECUTED = "#0072b2", "#d55e00", "#cc79a7", "#000000"
_CLOSE = 1.0  # Metres that the close-up shows on every side of the agent.
_DPI = 100
_FRAMES_PER_SECOND = 10


class Shot(NamedTuple):
    """One decision of a film.

    Attributes:
        picture: the environment's own rendering.
        views: views from above: a close-up and the whole arena; empty if the environment has no such view.
        paths: paths over the floor of the candidates and, last, of the executed plan, in the agent's frame and in
            metres; None if the model predicts no velocity and turning rate.
        preview: the candidates of the decision, as NumPy arrays.
        reward, cost: reward and cost that arrived before the decision. The cost is the sum over constraints.
    """

    picture: UInt8[np.ndarray, "height width 3"]
    views: tuple[Overhead, ...]
    paths: Float[np.ndarray, "N+1 H+1 2"] | None
    preview: Preview
    reward: float
    cost: float

    @property
    def pictures(self) -> tuple[UInt8[np.ndarray, "height width 3"], ...]:
        """Images of the views, or the only rendering."""
        return tuple(view.picture for view in self.views) or (self.picture,)


class PlanRecorder:
    """A ``watch`` of :func:`~prudence.evidence.evaluate.evaluate_agent` that records shots."""

    def __init__(self, agent: Agent, state: Any, mode: Mode = "evaluate") -> None:
        """
        Args:
            mode: how the agent acts.

        Raises:
            ValueError: the agent does not act by plans, or not yet.
        """
        self._agent, self._state = planner_of(agent, state), state
        self._mode: Mode = mode
        self.shots: list[Shot] = []

    def __call__(self, moment: Moment) -> None:
        envs, row, carry, key = moment
        preview = self._agent.preview(self._state, carry, row.observation, row.is_first, key=key, mode=self._mode)
        views = tuple(view for view in (envs.overhead(0, _CLOSE), envs.overhead(0)) if view is not None)
        found = motion(preview.observations, envs.layout)
        paths = np.asarray(_paths(*found, views[0].seconds)) if found is not None and views else None
        picture = views[-1].picture if views else envs.render(0)
        preview = jax.tree.map(np.asarray, preview)
        self.shots.append(Shot(picture, views, paths, preview, float(row.reward[0]), float(row.cost[0].sum())))


def motion(
    observations: Mapping[str, Float[Array, "*batch _"]], layout: Layout
) -> tuple[Float[Array, "*batch 2"], Float[Array, "*batch"]] | None:
    """Velocity (m/s, along the agent's x and y axes) and turning rate (rad/s) in decoded observations.

    Decoded vectors are in symlog space. The result is None if no observation has both.
    """
    for name, vector in observations.items():
        entries = {entry.name: vector[..., entry.start : entry.stop] for entry in layout.get(name, ())}
        if {"velocimeter", "gyro"} <= entries.keys():
            return symexp(entries["velocimeter"][..., :2]), symexp(entries["gyro"][..., -1])
    return None


@jax.jit
def _paths(
    velocity: Float[Array, "plans T 2"], turning: Float[Array, "plans T"], seconds: float | Float[Array, ""]
) -> Float[Array, "plans T 2"]:
    return jax.vmap(lambda v, w: dead_reckoning(v, w, seconds)[0])(velocity, turning)


def ahead(costs: Float[np.ndarray, " T"], horizon: int) -> Float[np.ndarray, "T H"]:
    """Summed costs of the next 1, 2, ..., H decisions from each decision on; NaN beyond the end."""
    padded = np.concatenate([costs, np.full(horizon - 1, np.nan)])
    return np.cumsum(np.lib.stride_tricks.sliding_window_view(padded, horizon), axis=1)


def most_contested(safe_shares: Float[np.ndarray, " T"]) -> int:
    """The decision with the smallest share of safe plans above 0, or 0 if no decision has a safe plan."""
    return int(np.where(safe_shares > 0, safe_shares, np.inf).argmin())


def write_plan_film(
    shots: Sequence[Shot], film: Path, still: Path, *, budgets: Sequence[float], episode_steps: int
) -> None:
    """Writes the film, and its most contested decision as a PNG.

    Args:
        film: path of the film.
        still: path of the PNG.
        budgets: budgets of an episode, one for each constraint.
        episode_steps: decisions of an episode.

    Raises:
        ValueError: there are no shots.
    """
    page = _Page(shots, sum(budgets) / episode_steps)
    write_video(page.frames(), film, fps=_FRAMES_PER_SECOND)
    page.save(most_contested(np.array([shot.preview.safe.mean() for shot in shots])), still)


class _Page:
    """The figure of the film. Moving artists are drawn over a fixed background, which is much faster."""

    def __init__(self, shots: Sequence[Shot], allowed: float) -> None:
        """``allowed`` is the share of the budget for one decision."""
        self._shots, horizon = shots, len(shots[0].preview.cost)
        real = np.array([shot.cost for shot in shots[1:]] + [np.nan])  # A cost arrives with the next shot.
        self._real = ahead(real, horizon)
        self._predicted = np.stack([shot.preview.cost.sum(-1).cumsum() for shot in shots])
        self._most = max(1.0, self._predicted.max(), np.nan_to_num(self._real).max())
        self._figure = Figure(figsize=(11.2, 6.0), dpi=_DPI)
        self._canvas = FigureCanvasAgg(self._figure)
        self._title = self._figure.text(0.009, 0.962, "", fontsize=11)
        places = ((0.009, 0.05, 0.482, 0.9), (0.505, 0.45, 0.268, 0.5))
        pictures = zip(places, shots[0].pictures, strict=False)
        self._maps = [_Map(self._figure.add_axes(place), picture) for place, picture in pictures]
        if shots[0].paths is not None:
            self._figure.legend(
                handles=_legend(), loc="lower left", bbox_to_anchor=(0.0, -0.01), ncols=5, frameon=False, fontsize=9
            )
        self._ahead = self._draw_ahead(self._figure.add_axes((0.822, 0.53, 0.165, 0.37)), horizon, allowed)
        self._cursor = self._draw_episode(self._figure.add_axes((0.54, 0.09, 0.4, 0.27)), horizon)
        self._moving = [self._title, *(a for m in self._maps for a in m.moving), *self._ahead, self._cursor]

    def frames(self) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """The frames of the film."""
        for artist in self._moving:
            artist.set_animated(True)
        self._canvas.draw()
        still = self._canvas.copy_from_bbox(self._figure.bbox)
        for index in range(len(self._shots)):
            self._show(index)
            self._canvas.restore_region(still)
            for artist in self._moving:
                self._figure.draw_artist(artist)
            yield np.asarray(self._canvas.buffer_rgba())[..., :3].copy()

    def save(self, index: int, path: Path) -> None:
        """Writes the frame of one decision as an image."""
        for artist in self._moving:
            artist.set_animated(False)
        self._show(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._figure.savefig(path, dpi=_DPI)

    def _show(self, index: int) -> None:
        shots, preview = self._shots[: index + 1], self._shots[index].preview
        score = preview.forecast.score[preview.elite].mean()
        price = ", ".join(f"{number:.2f}" for number in preview.price)
        self._title.set_text(
            f"decision {index + 1} of {len(self._shots)}     return {sum(s.reward for s in shots):.1f}     "
            f"cost {sum(s.cost for s in shots):.0f}     {preview.safe.sum()} of {len(preview.safe)} plans safe     "
            f"elites' score {score:.2f}     price of cost {price}"
        )
        coming = self._shots[index : index + self._real.shape[1] + 1]
        went = np.array([view.position for shot in coming for view in shot.views[:1]]).reshape(-1, 2)
        for number, part in enumerate(self._maps):
            part.show(self._shots[index], number, went)
        for line, costs in zip(self._ahead, (self._predicted, self._real), strict=True):
            line.set_ydata(np.concatenate([[0], costs[index]]))
        self._cursor.set_xdata([index + 1, index + 1])

    def _draw_ahead(self, axes: Axes, horizon: int, allowed: float) -> list[Line2D]:
        steps = np.arange(horizon + 1)
        predicted = axes.plot(steps, 0 * steps, "o-", color=_UNSAFE, markersize=5, label="predicted")[0]
        real = axes.plot(steps, 0 * steps, "s--", color="black", markersize=3, label="came")[0]
        axes.plot(steps, allowed * steps, ":", color="grey", label="budget's share")
        axes.set(xlabel="decisions ahead", xlim=(0, horizon + 0.2), ylim=(-0.03 * self._most, 1.5 * self._most))
        axes.set_title("cost of the executed plan", fontsize=10)
        _tidy(axes)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        return [predicted, real]

    def _draw_episode(self, axes: Axes, horizon: int) -> Line2D:
        decisions = np.arange(1, len(self._shots) + 1)
        axes.plot(decisions, self._predicted[:, -1], color=_UNSAFE, label="predicted", linewidth=1.2)
        axes.plot(decisions, self._real[:, -1], "--", color="black", label="came", linewidth=1.2)
        unsafe = [1 - shot.preview.safe.mean() for shot in self._shots]
        shares = axes.twinx()
        shares.fill_between(decisions, unsafe, step="mid", color="grey", alpha=0.25, linewidth=0)
        shares.set(ylim=(0, 1), ylabel="unsafe share (grey)")
        axes.set(xlabel="decision", xlim=(1, max(2, len(decisions))))
        axes.set_ylim(0, 1.5 * self._most)
        axes.set_title(f"cost of the next {horizon} decisions", fontsize=10)
        _tidy(axes)
        shares.spines[["top"]].set_visible(False)
        shares.tick_params(labelsize=8)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        return axes.axvline(1, color="grey", linewidth=1)


class _Map:
    """Plans, drawn over an image.

    Attributes:
        moving: artists that :meth:`show` changes, in drawing order.
    """

    def __init__(self, axes: Axes, picture: UInt8[np.ndarray, "height width 3"]) -> None:
        height, width, _ = picture.shape
        # The corners of pixels, not their centres, have whole coordinates, as in Overhead.pixels.
        self._picture = axes.imshow(picture, extent=(0, width, height, 0), interpolation="bilinear")
        axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
        self._plans = [
            LineCollection([], colors=colour, linewidths=width, linestyles=style)
            for colour, width, style in ((_UNSAFE, 1.0, "--"), (_SAFE, 1.0, "-"), (_ELITE, 1.8, "-"))
        ]
        for collection in self._plans:
            axes.add_collection(collection, autolim=False)
        (halo,) = axes.plot([], [], color="white", linewidth=4.5, solid_capstyle="round")
        (executed,) = axes.plot([], [], "o-", color=_EXECUTED, markersize=4, linewidth=2)
        (self._went,) = axes.plot([], [], "s", color="white", markersize=4, markeredgecolor="black", linewidth=0)
        self._executed = (halo, executed)
        self.moving: list[Artist] = [self._picture, *self._plans, *self._executed, self._went]

    def show(self, shot: Shot, number: int, went: Float[np.ndarray, "steps 2"]) -> None:
        """Shows image ``number`` of the shot, its plans, and the positions to which the agent ``went``."""
        self._picture.set_data(shot.pictures[number])
        if not shot.views:
            return
        view = shot.views[number]
        self._went.set_data(*view.pixels(went).T)
        if shot.paths is None:
            return
        paths, (safe, elite) = view.pixels(view.world(shot.paths)), (shot.preview.safe, shot.preview.elite)
        for collection, group in zip(self._plans, (~safe & ~elite, safe & ~elite, elite), strict=True):
            collection.set_segments(list(paths[:-1][group]))
        for line in self._executed:
            line.set_data(*paths[-1].T)


def _legend() -> list[Line2D]:
    def line(label: str, colour: str, width: float, **more: Any) -> Line2D:
        return Line2D([], [], color=colour, linewidth=width, label=label, **more)

    return [
        line("unsafe plan", _UNSAFE, 1.3, linestyle="--"),
        line("safe plan", _SAFE, 1.3),
        line("elite plan", _ELITE, 2.2),
        line("executed", _EXECUTED, 2, marker="o", markersize=4),
        line("where it went", "white", 0, marker="s", markersize=4, markeredgecolor="black"),
    ]


def _tidy(axes: Axes) -> None:
    axes.locator_params(nbins=6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
