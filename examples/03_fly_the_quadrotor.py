"""Fly SafetyQuadrotorGoal1 by a hand-written controller: proportional to the goal's position, damped by the velocity.

The controller sees the privileged observation of the AsymDreamer paper, and sets the forces of the four rotors. If a
hazard is in the way, it climbs above it, crosses it and descends to the goal.

    python 03_fly_the_quadrotor.py                    # one episode
    python 03_fly_the_quadrotor.py --episodes 20 --level 2
    python 03_fly_the_quadrotor.py --film flight.mp4  # from outside and by the onboard camera
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np

import prudence.envs.quadrotor  # noqa: F401 -- registers the task in Gymnasium
from prudence.envs.quadrotor.control import feasible, hold_velocity, limited, rotor_forces
from prudence.envs.quadrotor.flight import SWING
from prudence.inspection.video import write_video

CLEAR = 0.38  # Metres from the centre of a hazard: its radius, the quadrotor's radius and a margin.
CRUISE = 1.35  # Altitude in metres above the hazards, which are a metre high.
SPEED = 1.2
FRAME = 5  # Steps of 20 ms for each frame of a film.


def pilot(seen, airframe):
    """The four actions for a privileged observation ``seen``, given by the names of its entries."""
    rotation = seen["robot_m"]
    goal, velocity, hazards = rotation @ seen["goal"], rotation @ seen["velocimeter"], seen["hazards"] @ rotation.T
    altitude = 0.5 - hazards[0, 2] if len(hazards) else 1.0
    there = waypoint(goal, hazards[:, :2], altitude)
    acceleration = hold_velocity(limited(1.8 * there, SPEED), velocity)
    turning = np.clip(2.0 * np.arctan2(seen["goal"][1], seen["goal"][0]), -1.5, 1.5)  # Look at the goal.
    forces = rotor_forces(airframe, acceleration, turning, rotation, seen["gyro"])
    return feasible((forces / airframe.hover - 1) / SWING, -1.0, 1.0)


def waypoint(goal, hazards, altitude):
    """The next position to fly to, relative to the quadrotor and in the axes of the world, like the arguments."""
    low = min(altitude, altitude + goal[2]) < CRUISE - 0.1
    if not low or not in_the_way(goal[:2], hazards):
        return goal
    climb = CRUISE - altitude
    return np.array([*(goal[:2] if climb < 0.2 else (0.0, 0.0)), climb])


def in_the_way(goal, hazards):
    """Whether a hazard is close to the straight line to the goal."""
    share = np.clip(hazards @ goal / max(goal @ goal, 1e-9), 0, 1)
    return bool((np.linalg.norm(hazards - share[:, None] * goal, axis=1) < CLEAR).any())


def fly(env, seed, film):
    """Flies one episode. Returns its return, cost, goals and steps."""
    flight, layout = env.unwrapped.flight, env.unwrapped.layout["privileged"]
    (observation, _), over = env.reset(seed=seed), False
    total, cost, goals, steps = 0.0, 0.0, 0, 0
    while not over:
        vector = observation["privileged"].astype(float)
        seen = {entry.name: vector[entry.start : entry.stop].reshape(entry.shape) for entry in layout}
        observation, reward, terminated, truncated, info = env.step(pilot(seen, flight.airframe))
        total, cost, goals, steps = total + reward, cost + info["cost"], goals + info["goals"], steps + 1
        over = terminated or truncated
        if film is not None and steps % FRAME == 0:
            film.append(np.concatenate([env.render(), observation["image"]], axis=2))
    return total, cost, goals, steps


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1)
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("--film", metavar="FILE")
    options = parser.parse_args()
    pictures = {"obs": ("vision",), "image_size": 320, "render_size": 320, "quality": "fidelity"}
    others = pictures if options.film else {"obs": ("coordinates",)}
    env = gym.make(f"SafetyQuadrotorGoal{options.level}-v0", paper_privileged=True, disable_env_checker=True, **others)
    film = [] if options.film else None
    flown = [fly(env, seed, film) for seed in range(options.episodes)]
    print("return {:.1f}, cost {:.2f}, goals {:.1f}, steps {:.0f}".format(*np.mean(flown, axis=0)))
    if film is not None:
        print(f"film: {write_video(film, options.film, fps=50 / FRAME)}")


if __name__ == "__main__":
    main()
