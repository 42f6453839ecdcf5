"""Whether the costs that a model foresees are those that come: among the moments at which it says 2, is the mean 2?

A correlation cannot tell: a model that says a tenth of every cost correlates perfectly, and its agent will be ten times
too bold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

LEADS = (1, 2, 5)
SUMS = (2, 5, 10)
SHARES = (0.0, 0.02, 0.1, 0.2, 0.4, 0.6, 0.8, np.inf)
"""Edges of the bins of what was foreseen, as shares of the largest cost that came: a first one for next to nothing,
since most decisions cost nothing."""


class Reliability(NamedTuple):
    """What came where a cost was foreseen; K bins of what was foreseen, without those that are empty.

    Attributes:
        predicted, real: ``[K]`` means in each bin.
        moments: ``[K]`` how many, in each.
        mean_predicted, mean_real: over all.
        slope: of the straight line of least squares of what came over what was foreseen: 1 where it is right, above 1
            where differences are foreseen too small; NaN where all was foreseen alike.
    """

    predicted: Float[np.ndarray, " K"]
    real: Float[np.ndarray, " K"]
    moments: np.ndarray
    mean_predicted: float
    mean_real: float
    slope: float


class Calibration(NamedTuple):
    """Of one constraint.

    Attributes:
        leads: of the cost of a decision so many decisions ahead.
        sums: of the cost of the next so many decisions together.
    """

    leads: Mapping[int, Reliability]
    sums: Mapping[int, Reliability]


def reliability(predicted: Float[np.ndarray, " n"], real: Float[np.ndarray, " n"]) -> Reliability:
    """The reliability of n foreseen costs."""
    largest = float(real.max()) or float(np.abs(predicted).max()) or 1.0
    # What is foreseen may be slightly below 0, and belongs to the first bin.
    bins = np.maximum(np.digitize(predicted, largest * np.array(SHARES)) - 1, 0)
    moments = np.bincount(bins, minlength=len(SHARES) - 1)
    mean_of = lambda values: np.bincount(bins, values, len(moments))[moments > 0] / moments[moments > 0]
    spread = predicted - predicted.mean()
    variance = float((spread**2).sum())
    slope = float((spread * real).sum()) / variance if variance > 0 else float("nan")
    means = float(predicted.mean()), float(real.mean())
    return Reliability(mean_of(predicted), mean_of(real), moments[moments > 0], *means, slope)


def calibrate(
    predicted: Float[np.ndarray, "B L C"], real: Float[np.ndarray, "B L C"], names: Sequence[str]
) -> dict[str, Calibration]:
    """By constraint, of B sequences' costs L decisions ahead; leads and sums beyond L are left out.

    A sum holds each sequence's first decisions, so that all are foreseen from the same last observation.
    """
    length = predicted.shape[1]
    return {
        name: Calibration(
            {n: reliability(predicted[:, n - 1, i], real[:, n - 1, i]) for n in LEADS if n <= length},
            {n: reliability(predicted[:, :n, i].sum(1), real[:, :n, i].sum(1)) for n in SUMS if n <= length},
        )
        for i, name in enumerate(names)
    }
