"""Safety-Gymnasium's pseudo-lidar: rings of bins with the closeness of the nearest object of a kind."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

NEAREST = 0.03
"""ε of :func:`nearness`: the distance that limits it, as a share of the lidar's reach (9 cm of the suite's 3 m)."""


def nearness(closeness: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    r"""Converts closeness :math:`s = 1 - d/d_{max}` to a ratio: how many times nearer than the lidar's reach,

    .. math::
        \rho = \frac{1 + ε}{1 - s + ε} - 1, \qquad
        \mathrm{symlog}(ρ) = -\ln\frac{d/d_{max} + ε}{1 + ε}

    with ε = :data:`NEAREST`. The value is 0 if nothing is within reach, and 1/ε at the object. A world model applies
    symlog to it and so sees the logarithm of the distance: its error is a constant percentage of the distance. With
    closeness as input, its error in metres would be the same near a hazard and far from it.

    >>> nearness(np.array([0.0, 0.5, 1.0])).round(2).tolist()
    [0.0, 0.94, 33.33]
    """
    return (1 + NEAREST) / (1 - closeness + NEAREST) - 1


def closeness(
    positions: Float[np.ndarray, "n 2"],
    kinds: Int[np.ndarray, " n"],
    num_kinds: int,
    bins: int,
    reach: float,
    arc: float = 360.0,
    front: float = 0.0,
) -> Float[np.ndarray, "num_kinds bins"]:
    r"""One ring of bins for each kind of object.

    An object at distance d and angle :math:`\theta` in the agent's frame gives its bin the closeness
    :math:`s = \max(0, 1 - d / d_{max})`. It gives the next bin :math:`\alpha s` and the previous bin
    :math:`(1-\alpha) s`, where :math:`\alpha` in [0, 1) is its place within its own bin (Safety-Gymnasium's "alias").
    A bin keeps its largest value. Objects outside of the arc are ignored. All objects are computed at once.

    Args:
        positions: positions of the objects in the agent's frame, in metres.
        kinds: the kind of each object, from 0 to ``num_kinds`` - 1.
        num_kinds: the number of kinds.
        bins: the number of bins of a ring.
        reach: :math:`d_{max}`, in metres.
        arc: the field of view in degrees, half of it on each side of ``front``.
        front: the direction of the field of view, as an angle in the agent's frame, in radians.
    """
    x, y = positions.T
    angle = np.arctan2(y, x)
    place = angle % (2 * np.pi) / (2 * np.pi / bins)
    index = place.astype(int)
    within = place - index
    index %= bins  # An angle just below 0 is rounded to 2π.
    near = np.maximum(0.0, reach - np.hypot(x, y)) / reach
    if arc < 360:
        near *= np.cos(angle - front) >= np.cos(np.deg2rad(arc / 2))
    rings = np.zeros((num_kinds, bins))
    flat, first = rings.reshape(-1), kinds * bins
    np.maximum.at(flat, first + index, near)
    np.maximum.at(flat, first + (index + 1) % bins, within * near)
    np.maximum.at(flat, first + (index - 1) % bins, (1 - within) * near)
    return rings
