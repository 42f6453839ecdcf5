"""Safety-Gymnasium's pseudo-lidar: rings of bins that tell how near the nearest object of a kind is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

NEAREST = 0.03
"""What counts as no distance at all in :func:`nearness`, as a share of the lidar's reach (9 cm of the suite's 3 m)."""


def nearness(closeness: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    r"""Closeness :math:`s = 1 - d/d_{max}` as a multiple: how much nearer than the lidar's reach,

    .. math::
        \rho = \frac{1 + ε}{1 - s + ε} - 1, \qquad
        \mathrm{symlog}(ρ) = -\ln\frac{d/d_{max} + ε}{1 + ε}

    with ε = :data:`NEAREST`: 0 where nothing is within reach, 1/ε at the object. A world model sees symlog of it, so
    the logarithm of the distance: equally well in per cent, near and far. Of closeness it would be as exact, in
    metres, beside a hazard as far from it.

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
    :math:`s = \max(0, 1 - d / d_{max})`, and the two beside it :math:`\alpha s` and :math:`(1-\alpha) s`, with
    :math:`\alpha` its place within the bin; a bin keeps the largest (Safety-Gymnasium's "alias"). What lies outside
    of the arc gives nothing. All objects are done at once.

    Args:
        positions: in the agent's frame, in metres.
        kinds: of each object, from 0 to ``num_kinds`` - 1.
        reach: :math:`d_{max}`, in metres.
        arc: degrees that are seen, half of them on either side of ``front``.
        front: angle in the agent's frame, in radians.
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
