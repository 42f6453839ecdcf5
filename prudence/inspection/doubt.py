"""Doubt of a posterior over world models: disagreement and calibration of its models.

A posterior is useful if its models disagree where they are wrong. The models predict recorded sequences open loop, in
distribution and out of distribution. The results show how much they differ, and how often the truth is within their
range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from prudence.cores.dreamer.dreamer import Dreamer, DreamerState
from prudence.envs.base import EnvConfig
from prudence.evidence.evaluate import Moment, evaluate_agent
from prudence.evidence.plot import BLUE, GREEN, ORANGE
from prudence.types import Batch, Key

LEVELS = np.linspace(0.1, 0.9, 9)
"""Probabilities of the central intervals whose coverage is measured."""


@dataclass(frozen=True)
class Doubt:
    """Doubt on one set of sequences, L decisions ahead. Sums are over the decisions up to each lead.

    Attributes:
        spread: standard deviation of the summed reward over M models, which share their noise; mean over sequences.
        error: root mean square difference between the models' mean summed reward and the real one.
        coverage: share of sequences whose total real reward is within the central intervals of ``LEVELS`` of the
            models' total rewards. Here each model has its own noise.
        costs: summed cost of each model, mean over sequences. The costs of a model are expectations, so a single
            sequence gives no information on their calibration.
        real_cost: real summed cost, mean over sequences.
    """

    spread: Float[np.ndarray, " L"]
    error: Float[np.ndarray, " L"]
    coverage: Float[np.ndarray, " levels"]
    costs: Float[np.ndarray, "M L"]
    real_cost: Float[np.ndarray, " L"]


def measure_doubt(agent: Dreamer, state: DreamerState, batch: Batch, *, context: int, key: Key) -> Doubt:
    """Measures the doubt on ``[B, T]`` sequences, of which the model filters the first ``context`` steps.

    Raises:
        ValueError: the agent has no posterior over models.
    """
    same_key, own_key = jax.random.split(key)
    same = agent.predictions_by_model(state, batch, key=same_key, context=context, common_noise=True)
    own = agent.predictions_by_model(state, batch, key=own_key, context=context)
    real, sums = np.asarray(batch.reward)[:, context:].cumsum(-1), own["reward"].cumsum(-1)
    return Doubt(
        spread=same["reward"].cumsum(-1).std(0).mean(0),
        error=np.sqrt(np.square(sums.mean(0) - real).mean(0)),
        coverage=coverage(sums[..., -1], real[:, -1]),
        costs=same["cost"].sum(-1).mean(1).cumsum(-1),
        real_cost=np.asarray(batch.cost)[:, context:].sum(-1).mean(0).cumsum(),
    )


def coverage(samples: Float[np.ndarray, "M B"], truth: Float[np.ndarray, " B"]) -> Float[np.ndarray, " levels"]:
    """Share of truths within each central interval of the samples. It equals ``LEVELS`` for a perfect posterior."""
    # Weibull's plotting positions: if truth and samples have one distribution, every order of them is equally likely.
    low, high = (np.quantile(samples, 0.5 + sign * LEVELS / 2, axis=0, method="weibull") for sign in (-1, 1))
    return ((low <= truth) & (truth <= high)).mean(-1)


def record(agent: Dreamer, state: DreamerState, env: EnvConfig, *, sequences: int, length: int, seed: int) -> Batch:
    """Records sequences ``[B, T]`` of the agent in an environment, which may differ from that of its training.

    Raises:
        ValueError: the environment's spaces are not the agent's, or its episodes are shorter than ``length``.
    """
    rows = []

    def watch(moment: Moment) -> None:
        theirs, ours = moment.envs.spaces, agent.spaces
        if (theirs.observation, theirs.action, theirs.costs) != (ours.observation, ours.action, ours.costs):
            raise ValueError(f"{env.task} has other observations, actions or costs than the agent's training")
        rows.append(moment.row)

    steps = agent.spaces.episode_steps or length
    parallel = -(-sequences // max(1, steps // length))
    evaluate_agent(agent, state, env, episodes=parallel, seed=seed, mode="train", parallel=parallel, watch=watch)
    whole = len(rows) // length
    if not whole:
        raise ValueError(f"an episode of {env.task} has {len(rows)} decisions, fewer than context and ahead together")
    stacked = jax.tree.map(lambda *x: np.stack(x), *rows[: whole * length])
    windows = jax.tree.map(lambda x: _windows(x, whole), stacked)
    inside = ~windows.is_first[:, 1:].any(1)  # Other environments may end an episode before the first one does.
    if not inside.any():
        raise ValueError(f"no episode of {env.task} lasts the {length} decisions of context and ahead together")
    return jax.tree.map(lambda x: x[inside][:sequences], windows)


def _windows(x: np.ndarray, number: int) -> np.ndarray:
    """``[number · T, E, ...]`` to ``[number · E, T, ...]``."""
    apart = x.reshape(number, -1, *x.shape[1:]).swapaxes(1, 2)
    return apart.reshape(-1, *apart.shape[2:])


def draw_doubt(doubts: Mapping[str, Doubt], path: Path) -> Path:
    """Draws three panels: disagreement and error of the return, its coverage, and mean costs. Each set has a colour."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    returns, covered, costs = figure.subplots(1, 3)
    for (label, found), colour in zip(doubts.items(), cycle((BLUE, ORANGE, GREEN)), strict=False):
        leads = np.arange(1, len(found.spread) + 1)
        returns.plot(leads, found.spread, color=colour, label=f"{label}: disagreement")
        returns.plot(leads, found.error, "--", color=colour, label=f"{label}: error")
        covered.plot(LEVELS, found.coverage, "o-", color=colour, label=label)
        low, high = found.costs.min(0), found.costs.max(0)
        costs.fill_between(leads, low, high, color=colour, alpha=0.25, linewidth=0, label=f"{label}: the models")
        costs.plot(leads, found.real_cost, "--", color=colour, label=f"{label}: real")
    covered.plot([0, 1], [0, 1], color="0.7", linewidth=1, zorder=0)
    returns.set(title="return so far", xlabel="decisions ahead")
    returns.set_ylim(bottom=0)
    covered.set(title="calibration of the return", xlabel="central interval of the models' samples", ylim=(0, 1))
    covered.set_ylabel("share of truths within")
    costs.set(title="mean cost so far", xlabel="decisions ahead")
    costs.set_ylim(bottom=0)
    for axes in (returns, covered, costs):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="x-small")
    figure.savefig(path, dpi=150)
    return path
