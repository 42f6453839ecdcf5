"""How far a world model sees: open-loop predictions against what really came.

Policies are trained on imagined futures, so a cost that the model does not foresee cannot be avoided. The model
filters the first steps of recorded sequences and then imagines under the recorded actions, without looking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from prudence.agents.base import Agent
from prudence.agents.dreamer import Dreamer
from prudence.data.replay import Replay
from prudence.presets import LoopConfig
from prudence.run.doubt import Doubt, draw_doubt, measure_doubt, record
from prudence.run.plot import BLUE, GREEN, ORANGE
from prudence.run.policy import load_run
from prudence.run.shipped import find_policy
from prudence.run.video import open_loop_picture
from prudence.types import Batch, Key, Metrics

LEADS = (1, 4, 12)
"""Leads whose correlations are logged in training, where the sequences are long enough."""

Curve = Float[np.ndarray, " L"]


@dataclass(frozen=True)
class Foresight:
    """Curves over the lead: 1, 2, ..., L decisions after the last observation seen.

    Attributes:
        correlation: of the predicted and the real reward and costs, by name; NaN where the real ones were all equal.
        explained: share of the observations' variance explained, by name (1 − squared error / variance); negative
            where the mean would have been a better guess.
        predicted, real: mean costs, by name.
    """

    correlation: Mapping[str, Curve]
    explained: Mapping[str, Curve]
    predicted: Mapping[str, Curve]
    real: Mapping[str, Curve]

    def metrics(self) -> Metrics:
        """A few numbers for the log."""
        metrics: Metrics = {}
        for lead in LEADS:
            for name, curve in self.correlation.items():
                if lead <= len(curve) and np.isfinite(curve[lead - 1]):
                    metrics[f"foresight/{name}_correlation_{lead}"] = float(curve[lead - 1])
        for name, curve in self.predicted.items():
            metrics[f"foresight/{name}_predicted"] = float(curve.mean())
            metrics[f"foresight/{name}_real"] = float(self.real[name].mean())
        return metrics


def foresight(report: Mapping[str, np.ndarray], cost_names: tuple[str, ...], context: int) -> Foresight:
    """From an agent's report of ``[B, T]`` sequences (``Agent.report``), of which the model saw ``context`` steps.

    Without curves where the report is empty: the agent has no model.
    """
    if not report:
        return Foresight({}, {}, {}, {})
    ahead = {name: values[:, context:].astype(np.float64) for name, values in report.items()}
    numbers = {"reward": (ahead["prediction/reward"], ahead["truth/reward"])}
    names = cost_names if len(cost_names) > 1 else ("cost",)
    for index, name in enumerate(names):
        numbers[name] = (ahead["prediction/cost"][..., index], ahead["truth/cost"][..., index])
    predictions = {name.removeprefix("prediction/") for name in report if name.startswith("prediction/")}
    observations = sorted(predictions - {"reward", "cost"})
    return Foresight(
        correlation={name: _correlation(*pair) for name, pair in numbers.items()},
        explained={o: _explained(ahead[f"prediction/{o}"], _unit(ahead, report, o)) for o in observations},
        predicted={name: numbers[name][0].mean(0) for name in names},
        real={name: numbers[name][1].mean(0) for name in names},
    )


def _unit(ahead: Mapping[str, np.ndarray], report: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The truth in the prediction's unit: images come as bytes and are predicted in [0, 1]."""
    truth = ahead[f"truth/{name}"]
    return truth / 255 if report[f"truth/{name}"].dtype == np.uint8 else truth


def _correlation(predicted: Float[np.ndarray, "B L"], real: Float[np.ndarray, "B L"]) -> Curve:
    a, b = predicted - predicted.mean(0), real - real.mean(0)
    spread = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.divide((a * b).sum(0), spread, out=np.full(a.shape[1], np.nan), where=spread > 0)


def _explained(predicted: np.ndarray, real: np.ndarray) -> Curve:
    over = (0, *range(2, real.ndim))
    variance = ((real - real.mean(0)) ** 2).sum(over)
    error = ((predicted - real) ** 2).sum(over)
    return 1 - np.divide(error, variance, out=np.full(len(error), np.nan), where=variance > 0)


def measure(
    agent: Agent, state: object, batch: Batch, *, context: int, key: Key, samples: int = 8
) -> tuple[Foresight, dict[str, np.ndarray]]:
    """The foresight on sequences, and the report that it was computed from (predictions averaged over ``samples``)."""
    report = agent.report(state, batch, key=key, context=context, samples=samples)
    return foresight(report, agent.spaces.costs, context), report


def inspect_run(
    directory: Path | str,
    *,
    key: Key,
    sequences: int = 128,
    context: int = 25,
    ahead: int = 45,
    against: str | None = None,
) -> tuple[Foresight, dict[str, Doubt], list[Path]]:
    """Measures the newest checkpoint of a run on the newest sequences of its replay; returns the pictures it drew.

    ``foresight.png`` has the curves; ``open_loop_<name>.png`` compares the frames of an image observation. With a
    posterior over models, ``doubt.png`` has its disagreement and calibration on these sequences and, if given, on as
    many of the task ``against``, in which the agent acts as in training.

    Raises:
        RunDirectoryError, CheckpointError: as :func:`prudence.run.policy.load_run`; the former also while it trains.
        ValueError: a number is not positive, the replay has no ``context + ahead`` consecutive steps without a new
            episode in the last ``ahead`` of them, or the
            agent has no world model; the directory is a policy without a replay; or ``against`` is given without a
            posterior over models, or has other spaces.
    """
    if min(sequences, context, ahead) < 1:
        raise ValueError(f"sequences={sequences}, context={context} and ahead={ahead} must be at least 1")
    run, _ = find_policy(Path(directory))
    if run.ships:
        raise ValueError(f"{run.path} is a policy without its replay, in which there is nothing to foresee: name a run")
    config, agent, state, _ = load_run(run.path)
    loop = config.loop
    if not isinstance(loop, LoopConfig):
        raise ValueError(f"{config.agent_name} has no world model to look into")
    with run.lock():  # Opening a replay drops chunks that are not whole, such as one that a training run is writing.
        replay = Replay(run.replay, agent.spaces, loop.num_envs, capacity=loop.replay_capacity, seed=0)
        # Imagination knows of no resets: sequences in whose imagined part an episode begins are left out.
        recorded = replay.newest(2 * sequences, context + ahead)
    inside = ~np.asarray(recorded.is_first)[:, context:].any(1)
    if not inside.any():
        raise ValueError(f"no episode in the replay of {run.path} lasts {ahead} decisions: choose fewer ahead")
    batch = jax.tree.map(lambda x: x[inside][:sequences], recorded)
    found, report = measure(agent, state, batch, context=context, key=key)
    if not report:
        raise ValueError(f"{config.agent_name} has no world model to look into")
    pictures, doubts = [draw(found, run.path / "foresight.png")], {}
    if isinstance(agent, Dreamer) and agent.config.uncertainty is not None:
        sets = {"replay": batch}
        if against is not None:
            env, length = replace(config.env, task=against), context + ahead
            sets[against] = record(agent, state, env, sequences=sequences, length=length, seed=config.seed)
        doubts = {
            name: measure_doubt(agent, state, seen, context=context, key=jax.random.fold_in(key, 1 + i))
            for i, (name, seen) in enumerate(sets.items())
        }
        pictures.append(draw_doubt(doubts, run.path / "doubt.png"))
    elif against is not None:
        raise ValueError(f"{config.agent_name} has no posterior over models whose doubts could be compared")
    for name, spec in agent.spaces.observations.items():
        if spec.is_image and f"prediction/{name}" in report:
            path = run.path / f"open_loop_{name}.png"
            pictures.append(
                open_loop_picture(report[f"truth/{name}"][0], report[f"prediction/{name}"][0], context, path)
            )
    return found, doubts, pictures


def draw(found: Foresight, path: Path) -> Path:
    """Three panels over the lead: correlation of reward and costs, observations explained, mean costs."""
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
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)
    return path


def _leads(curve: Curve) -> np.ndarray:
    return np.arange(1, len(curve) + 1)
