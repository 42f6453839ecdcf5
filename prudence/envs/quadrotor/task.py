"""What is to be done, and what is not: layouts, reward and cost of SafetyQuadrotorGoal (AsymDreamer, Appendix B)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from prudence.envs.quadrotor.model import BODY_RADIUS, HAZARD_HEIGHT, HAZARD_RADIUS

KEEPOUT = 0.4
"""Metres that objects are further apart than, in the plane (B.1)."""
GOAL_HEIGHTS = (0.3, 1.7)
START_HEIGHTS = (0.5, 1.0)
TRAVEL, TURNING = 0.35, 1.0
"""Radius (m) and rate (rad/s) of the circles that moving hazards follow, as Safety-Gymnasium's gremlins do."""

PROGRESS, PERCEPTION, EFFORT, CHANGE = 0.5, 0.025, 5e-4, 2e-4
"""λ1 to λ4 of eq. 21."""
SPIN = 5e-4
"""λ5, which the paper does not state."""
ALIVE, REACHED = 0.01, 4.0


@dataclass(frozen=True)
class Level:
    """How many hazards there are, of which the last ``moving`` move, and how far the arena reaches from its centre."""

    hazards: int
    moving: int
    extent: float


LEVELS = (Level(0, 0, 1.5), Level(8, 0, 1.5), Level(14, 4, 2.0))


@dataclass(frozen=True, eq=False)
class Arena:
    """The objects of one episode.

    Attributes:
        places: ``[n, 2]`` of the hazards, or the middles of their circles.
        reaches: ``[n]`` radii of those circles; 0 for those that stand.
        phases: ``[n]`` angles at time 0.
        start: ``[3]`` where the quadrotor begins.
        yaw: the way that it looks then.
    """

    places: Float[np.ndarray, "n 2"]
    reaches: Float[np.ndarray, " n"]
    phases: Float[np.ndarray, " n"]
    start: Float[np.ndarray, " 3"]
    yaw: float

    def hazards(self, seconds: float) -> Float[np.ndarray, "n 2"]:
        """Where the hazards are."""
        angles = self.phases + TURNING * seconds
        return self.places + self.reaches[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def draw_arena(level: Level, rng: np.random.Generator) -> Arena:
    """Objects, by rejection: each further than KEEPOUT from all before it, and moving ones by their reach more."""
    reaches = np.r_[np.full(level.moving, TRAVEL), np.zeros(level.hazards - level.moving), 0.0]  # The last: the start.
    while True:
        places = np.empty((0, 2))
        for i in range(len(reaches)):
            place = free_place(level.extent, places, reaches[:i] + reaches[i] + KEEPOUT, rng)
            if place is None:
                break
            places = np.concatenate([places, place[None]])
        else:
            break
    standing_first = np.argsort(reaches[:-1], kind="stable")
    return Arena(
        places=places[standing_first],
        reaches=reaches[standing_first],
        phases=rng.uniform(-np.pi, np.pi, level.hazards),
        start=np.r_[places[-1], rng.uniform(*START_HEIGHTS)],
        yaw=float(rng.uniform(-np.pi, np.pi)),
    )


def draw_goal(
    level: Level, arena: Arena, agent: Float[np.ndarray, " 3"], rng: np.random.Generator
) -> Float[np.ndarray, " 3"]:
    """A goal away from the hazards, wherever they may move, and from the agent."""
    others = np.concatenate([arena.places, agent[None, :2]])
    place = None
    while place is None:
        place = free_place(level.extent, others, np.r_[arena.reaches, 0.0] + KEEPOUT, rng)
    return np.r_[place, rng.uniform(*GOAL_HEIGHTS)]


def free_place(
    extent: float, others: Float[np.ndarray, "n 2"], apart: Float[np.ndarray, " n"], rng: np.random.Generator
) -> Float[np.ndarray, " 2"] | None:
    """A point that is further than ``apart`` from the others; None if a hundred are not."""
    for _ in range(100):
        place = rng.uniform(-extent, extent, 2)
        if (np.hypot(*(others - place).T) > apart).all():
            return place
    return None


def reward(
    nearer: float,
    camera_angle: float,
    action: Float[np.ndarray, " 4"],
    before: Float[np.ndarray, " 4"],
    rates: Float[np.ndarray, " 3"],
    *,
    alive: bool,
    reached: bool,
) -> float:
    r"""Eq. 21, with its signs mended: the turning rate is subtracted once, and progress is a term of its own.

    .. math::
        r = \lambda_1 (d_{t-1} - d_t) + \lambda_2 e^{-\delta^4} - \lambda_3 \|a_t\| - \lambda_4 \|a_t - a_{t-1}\|^2
        - \lambda_5 \|\omega\| + 0.01\,[\text{alive}] + 4\,[\text{goal}]

    Args:
        nearer: :math:`d_{t-1} - d_t`, distances to the goal in metres.
        camera_angle: :math:`\delta` between the camera's axis and the direction of the goal, in radians.
        action, before: :math:`a_t` and :math:`a_{t-1}`, in [-1, 1].
        rates: :math:`\omega`, in rad/s.
    """
    change = action - before
    gained = PROGRESS * nearer + PERCEPTION * np.exp(-(camera_angle**4)) + ALIVE * alive + REACHED * reached
    spent = EFFORT * np.sqrt(action @ action) + CHANGE * (change @ change) + SPIN * np.sqrt(rates @ rates)
    return float(gained - spent)


def in_hazard(position: Float[np.ndarray, " 3"], hazards: Float[np.ndarray, "n 2"]) -> bool:
    """Whether any of the quadrotor's circle, as wide as its propellers reach, is in a hazard."""
    near = np.hypot(*(hazards - position[:2]).T) <= HAZARD_RADIUS + BODY_RADIUS
    return bool(near.any() and position[2] <= HAZARD_HEIGHT)
