"""Open-loop predictions of a world model against real outcomes.

Policies are trained on imagined futures, so they cannot avoid a cost that the model does not predict. The model filters
the first steps of recorded sequences. Then it imagines the rest under the recorded actions, without observations.
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
"""Leads whose correlations are logged in training, if the sequences are long enough."""

Curve = Float[np.ndarray, " L"]


@dataclass(frozen=True)
class Foresight:
    """Accuracy of predictions over the lead: 1, 2, ..., L decisions after the last observation that the model filtered.

    Attributes:
        correlation: correlation of predicted and real reward and costs, by name; NaN if the real ones are all equal.
        explained: explained share of the variance of observations, by name (1 − squared error / variance). It is
            negative if the mean would be a better prediction.
        predicted, real: mean predicted and mean real costs, by name.
    """

    correlation: Mapping[str, Curve]
    explained: Mapping[str, Curve]
    predicted: Mapping[str, Curve]
    real: Mapping[str, Curve]

    def metrics(self) -> Metrics:
        """A selection of the numbers as metrics for the log."""
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
    """Explained variance of one part of the observations, over the lead.

    It is 1 − squared error / variance, both summed over the numbers of the part. The mean over sequences would score 0;
    a value below 0 is worse than that. Vectors are compared in symlog space, as in the model.

    Attributes:
        one: score of one imagined future. Policies are trained on such futures.
        mean: score of the mean of several imagined futures, which is a better prediction than any of them.
        copy: score of a copy of the last observation that the model filtered.
        spread: standard deviation of a number of this part.
    """

    one: Curve
    mean: Curve
    copy: Curve
    spread: float


def explain(
    one: Mapping[str, np.ndarray], mean: Mapping[str, np.ndarray], layout: Layout, context: int
) -> dict[str, Explained]:
    """Explained variance by part of the observations.

    A part is called ``observation/entry`` if the layout names the entries of an observation, else ``observation``.

    Args:
        one, mean: reports (``Agent.report``) on the same sequences, with one imagined future and with several.
        layout: layout of the environment's observations.
        context: steps that the model filtered.
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
    """Slices of the last axis of an observation, by label of the part."""
    if not layout.get(name):
        return {name: slice(None)}
    return {f"{name}/{entry.name}": slice(entry.start, entry.stop) for entry in layout[name]}


def short_names(labels: Sequence[str]) -> list[str]:
    """Labels of :func:`explain` without the names of observations, if they stay distinct.

    >>> short_names(["lidar/gyro", "image"])
    ['gyro', 'image']
    """
    short = [label.split("/", 1)[-1] for label in labels]
    return short if len(set(short)) == len(short) else list(labels)


def foresight(report: Mapping[str, np.ndarray], cost_names: tuple[str, ...], context: int) -> Foresight:
    """Computes the foresight from an agent's report on ``[B, T]`` sequences (``Agent.report``).

    The model filtered the first ``context`` steps. If the report is empty, because the agent has no model, there are no
    curves.
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
    """The truth in the unit of the prediction. Images are bytes, and predicted in [0, 1]."""
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
    """Measures the foresight on sequences. Also returns its report, with predictions averaged over ``samples``."""
    report = agent.report(state, batch, key=key, context=context, samples=samples)
    return foresight(report, agent.spaces.costs, context), report
