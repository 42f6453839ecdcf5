"""Layouts, reward and cost of SafetyQuadrotorGoal (AsymDreamer, Appendix B)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from prudence.envs.quadrotor.model import BODY_RADIUS, HAZARD_HEIGHT, HAZARD_RADIUS

KEEPOUT = 0.4
"""Smallest horizontal distance between objects, in metres (B.1)."""
GOAL_HEIGHTS = (0.3, 1.7)
START_HEIGHTS = (0.5, 1.0)
TRAVEL, TURNING = 0.35, 1.0
"""Radius (m) and rate (rad/s) of the circles that moving hazards follow, as Safety-Gymnasium's gremlins do."""

PROGRESS, PERCEPTION, EFFORT, CHANGE = 0.5, 0.025, 5e-4, 2e-4
"""λ1 to λ4 of eq. 21."""
SPIN = 5e-4
"""λ5. The paper does not give its value."""
ALIVE, REACHED = 0.01, 4.0


@dataclass(frozen=True)
class Level:
    """A difficulty level.

    Attributes:
        hazards: number of hazards.
        moving: number of hazards that move. They are the last ones.
        extent: distance from the arena's centre to its edge, in metres.
    """

    hazards: int
    moving: int
    extent: float


LEVELS = (Level(0, 0, 1.5), Level(8, 0, 1.5), Level(14, 4, 2.0))


@dataclass(frozen=True, eq=False)
class Arena:
    """The objects of one episode.

    Attributes:
        places: ``[n, 2]`` positions of the hazards, in metres. For moving hazards, the centres of their circles.
        reaches: ``[n]`` radii of the circles, in metres. 0 for hazards that do not move.
        phases: ``[n]`` angles on the circles at time 0, in radians.
        start: ``[3]`` the quadrotor's initial position, in metres.
        yaw: the quadrotor's initial heading, in radians.
    """

    places: Float[np.ndarray, "n 2"]
    reaches: Float[np.ndarray, " n"]
    phases: Float[np.ndarray, " n"]
    start: Float[np.ndarray, " 3"]
    yaw: float

    def hazards(self, seconds: float) -> Float[np.ndarray, "n 2"]:
        """The positions of the hazards ``seconds`` after the start of the episode."""
        angles = self.phases + TURNING * seconds
        return self.places + self.reaches[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def draw_arena(level: Level, rng: np.random.Generator) -> Arena:
    """Samples an arena by rejection.

    Each object is more than ``KEEPOUT`` away from all earlier ones. For moving hazards their radius is added.
    """
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
    """Samples a goal that keeps its distance from the agent and from all places that hazards can reach."""
    others = np.concatenate([arena.places, agent[None, :2]])
    place = None
    while place is None:
        place = free_place(level.extent, others, np.r_[arena.reaches, 0.0] + KEEPOUT, rng)
    return np.r_[place, rng.uniform(*GOAL_HEIGHTS)]


def free_place(
    extent: float, others: Float[np.ndarray, "n 2"], apart: Float[np.ndarray, " n"], rng: np.random.Generator
) -> Float[np.ndarray, " 2"] | None:
    """Samples a point that is more than ``apart[i]`` away from each ``others[i]``. None after a hundred failures."""
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
    r"""The reward of a raw step: eq. 21 with corrected signs.

    Here the turning rate is subtracted once, and progress is a separate term.

    .. math::
        r = \lambda_1 (d_{t-1} - d_t) + \lambda_2 e^{-\delta^4} - \lambda_3 \|a_t\| - \lambda_4 \|a_t - a_{t-1}\|^2
        - \lambda_5 \|\omega\| + 0.01\,[\text{alive}] + 4\,[\text{goal}]

    Args:
        nearer: :math:`d_{t-1} - d_t`, distances to the goal in metres.
        camera_angle: :math:`\delta`, the angle between the camera's axis and the direction of the goal, in radians.
        action, before: :math:`a_t` and :math:`a_{t-1}`, in [-1, 1].
        rates: :math:`\omega`, in rad/s.
        alive: whether the episode has not terminated.
        reached: whether the goal is reached.
    """
    change = action - before
    gained = PROGRESS * nearer + PERCEPTION * np.exp(-(camera_angle**4)) + ALIVE * alive + REACHED * reached
    spent = EFFORT * np.sqrt(action @ action) + CHANGE * (change @ change) + SPIN * np.sqrt(rates @ rates)
    return float(gained - spent)


def in_hazard(position: Float[np.ndarray, " 3"], hazards: Float[np.ndarray, "n 2"]) -> bool:
    """Whether the quadrotor's circle, which reaches to the tips of its propellers, overlaps a hazard.

    Above the height of the hazards it never does.
    """
    near = np.hypot(*(hazards - position[:2]).T) <= HAZARD_RADIUS + BODY_RADIUS
    return bool(near.any() and position[2] <= HAZARD_HEIGHT)
