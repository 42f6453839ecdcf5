"""Calibration of predicted costs: at the moments when a model predicts a cost of 2, is the mean real cost 2?

A correlation does not show this. A model that predicts a tenth of every cost has a perfect correlation, but its agent
takes far too much risk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

LEADS = (1, 2, 5)
SUMS = (2, 5, 10)
SHARES = (0.0, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8, np.inf)
"""Edges of the bins of predicted costs, as shares of the largest real cost. The first bin is narrow, because most
decisions have no cost."""


class Reliability(NamedTuple):
    """Reliability of predicted costs: mean real costs in K bins of predicted costs, without empty bins.

    Attributes:
        predicted, real: ``[K]`` mean predicted and mean real cost in each bin.
        moments: ``[K]`` number of costs in each bin.
        mean_predicted, mean_real: means over all costs.
        slope: slope of the least-squares line of real over predicted costs. It is 1 for correct predictions, above 1 if
            predicted differences are too small, and NaN if all predictions are equal.
    """

    predicted: Float[np.ndarray, " K"]
    real: Float[np.ndarray, " K"]
    moments: np.ndarray
    mean_predicted: float
    mean_real: float
    slope: float


class Calibration(NamedTuple):
    """Calibration of one constraint.

    Attributes:
        leads: reliability for the cost of a single decision, by its number of decisions ahead.
        sums: reliability for the summed cost of the next decisions, by their number.
    """

    leads: Mapping[int, Reliability]
    sums: Mapping[int, Reliability]


def reliability(predicted: Float[np.ndarray, " n"], real: Float[np.ndarray, " n"]) -> Reliability:
    """Computes the reliability of n predicted costs."""
    largest = float(real.max()) or float(np.abs(predicted).max()) or 1.0
    # Predictions slightly below 0 belong to the first bin.
    bins = np.maximum(np.digitize(predicted, largest * np.array(SHARES)) - 1, 0)
    moments = np.bincount(bins, minlength=len(SHARES) - 1)

    def bin_means(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " K"]:
        return np.bincount(bins, values, len(moments))[moments > 0] / moments[moments > 0]

    spread = predicted - predicted.mean()
    variance = float((spread**2).sum())
    slope = float((spread * real).sum()) / variance if variance > 0 else float("nan")
    means = float(predicted.mean()), float(real.mean())
    return Reliability(bin_means(predicted), bin_means(real), moments[moments > 0], *means, slope)


def calibrate(
    predicted: Float[np.ndarray, "B L C"], real: Float[np.ndarray, "B L C"], names: Sequence[str]
) -> dict[str, Calibration]:
    """Calibration by constraint, from the costs of B sequences L decisions ahead.

    Leads and sums beyond L are left out. Each sum starts at the first predicted decision of a sequence, so all its
    terms are predicted from the same last observation.
    """
    length = predicted.shape[1]
    return {
        name: Calibration(
            {n: reliability(predicted[:, n - 1, i], real[:, n - 1, i]) for n in LEADS if n <= length},
            {n: reliability(predicted[:, :n, i].sum(1), real[:, :n, i].sum(1)) for n in SUMS if n <= length},
        )
        for i, name in enumerate(names)
    }
