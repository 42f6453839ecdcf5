"""How far a world model sees: open-loop predictions against what really came.

Policies are trained on imagined futures, so a cost that the model does not foresee cannot be avoided. The model
filters the first steps of recorded sequences and then imagines under the recorded actions, without looking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from prudence.cores.base import Agent
from prudence.envs.base import Layout
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


class Explained(NamedTuple):
    """How far one part of the observations is foreseen: shares of its variance explained, 1 − squared error / variance,
    both summed over its numbers, over the lead. 0 is what the mean over sequences would score, and below 0 worse.

    Vectors are compared as the model has them, in symlog space.

    Attributes:
        one: by one imagined future, which is what policies are trained on.
        mean: by the mean of several, a better guess than any of them.
        copy: if nothing changed since the last observation that the model saw.
        spread: standard deviation of one number of it.
    """

    one: Curve
    mean: Curve
    copy: Curve
    spread: float


def explain(
    one: Mapping[str, np.ndarray], mean: Mapping[str, np.ndarray], layout: Layout, context: int
) -> dict[str, Explained]:
    """By part, ``observation/entry`` where the layout names an observation's entries and else ``observation``.

    Args:
        one, mean: reports (``Agent.report``) on the same sequences, with one future and with several.
        layout: of the environment.
    """
    found = {}
    for name in sorted(n.removeprefix("prediction/") for n in one if n.startswith("prediction/")):
        if name in ("reward", "cost"):
            continue
        truth = _unit(one, one, name).astype(np.float64)
        last, ahead = truth[:, context - 1 : context], truth[:, context:]
        sides = [report[f"prediction/{name}"][:, context:].astype(np.float64) for report in (one, mean)]
        sides.append(np.broadcast_to(last, ahead.shape))
        for label, part in _parts(name, layout).items():
            real = ahead[..., part]
            first, mean_of, copy = (_explained(side[..., part], real) for side in sides)
            found[label] = Explained(first, mean_of, copy, float(np.sqrt(np.square(real - real.mean(0)).mean())))
    return found


def _parts(name: str, layout: Layout) -> dict[str, slice]:
    """Of the last axis of an observation, by label."""
    if not layout.get(name):
        return {name: slice(None)}
    return {f"{name}/{entry.name}": slice(entry.start, entry.stop) for entry in layout[name]}


def short_names(labels: Sequence[str]) -> list[str]:
    """Labels of :func:`explain` without their observations, where that leaves them different.

    >>> short_names(["lidar/gyro", "image"])
    ['gyro', 'image']
    """
    short = [label.split("/", 1)[-1] for label in labels]
    return short if len(set(short)) == len(short) else list(labels)


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
