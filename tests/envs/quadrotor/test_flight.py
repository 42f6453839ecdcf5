"""The physics: what a rigid body with four forces must do."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

pytest.importorskip("mujoco")

from prudence.envs.quadrotor.control import feasible, limited, rotor_forces
from prudence.envs.quadrotor.flight import MAX_VELOCITY, SUBSTEPS, Flight
from prudence.envs.quadrotor.task import LEVELS, Arena

NOTHING = np.zeros(0)
HOVER = np.zeros(4)
G = 9.81


def flight(actions="rotors", yaw=0.0):
    """Alone in the air, a metre above the floor."""
    body = Flight(LEVELS[0], actions)
    body.begin(Arena(np.zeros((0, 2)), NOTHING, NOTHING, np.array([0.0, 0.0, 1.0]), yaw))
    body.place_goal(np.array([1.0, 0.0, 1.0]))
    return body


def fall(body, steps):
    """Physics steps without any force of the rotors."""
    body.data.ctrl[:] = 0.0
    mujoco.mj_step(body.model, body.data, nstep=steps)


def energy(body):
    """Kinetic and potential, in J."""
    moved = body.airframe.mass * (0.5 * body.velocity @ body.velocity + G * body.position[2])
    return moved + 0.5 * body.airframe.inertia @ body.rates**2


def angular_momentum(body):
    """In the world's frame."""
    return body.rotation @ (body.airframe.inertia * body.rates)


def test_mass_and_inertia_are_those_of_the_parts():
    # A box of .34 kg, 10 x 10 x 4 cm; four motors of .04 kg, cylinders of radius 1.6 cm and height 2.4 cm, each
    # .13 / sqrt(2) m from the x and the y axis.
    frame, arm = flight().airframe, 0.13 / np.sqrt(2)
    motor_x = 0.04 * (3 * 0.016**2 + 0.024**2) / 12 + 0.04 * arm**2
    motor_z = 0.04 * 0.016**2 / 2 + 0.04 * 2 * arm**2
    x = 0.34 * (0.1**2 + 0.04**2) / 12 + 4 * motor_x
    z = 0.34 * (0.1**2 + 0.1**2) / 12 + 4 * motor_z
    assert frame.mass == pytest.approx(0.5)
    np.testing.assert_allclose(frame.inertia, [x, x, z], rtol=1e-5)
    np.testing.assert_allclose(frame.mixing @ np.ones(4), [4, 0, 0, 0], atol=1e-12)
    np.testing.assert_allclose(frame.mixing @ frame.allocation, np.eye(4), atol=1e-12)


def test_hovering_thrust_is_the_weight():
    body = flight(yaw=0.7)
    before = body.data.qpos.copy()
    for _ in range(200):
        body.advance(HOVER)
    assert body.data.ctrl.sum() == pytest.approx(body.airframe.mass * G)
    np.testing.assert_allclose(body.data.qpos, before, atol=1e-9)
    np.testing.assert_allclose(body.data.qvel, 0, atol=1e-9)


def test_without_thrust_it_falls_freely():
    body = flight()
    body.data.qpos[2], body.data.qvel[0] = 9.0, 2.0
    fall(body, 100)
    assert body.data.time == pytest.approx(1.0)
    np.testing.assert_allclose(body.position, [2.0, 0.0, 9.0 - G / 2], rtol=1e-9, atol=1e-12)


def test_a_tumbling_body_keeps_its_energy_and_angular_momentum():
    body = flight()
    body.data.qpos[2] = 20.0
    body.data.qvel[:] = 1.0, -0.5, 3.0, 6.0, 1.0, 4.0
    before, spin = energy(body), angular_momentum(body)
    rates = body.rates
    fall(body, 150)
    assert np.abs(body.rates - rates).max() > 0.5  # It does tumble.
    assert energy(body) == pytest.approx(before, rel=1e-6)
    np.testing.assert_allclose(angular_momentum(body), spin, rtol=2e-4)


def test_what_the_rotors_do_is_what_the_body_gains():
    """Equal forces on a tilted body: a constant force, of which the work is force times way."""
    body, angle = flight(), 0.4
    body.data.qpos[2:7] = 5.0, np.cos(angle / 2), 0.0, np.sin(angle / 2), 0.0
    before, start = energy(body), body.position
    for _ in range(40):
        body.advance(np.full(4, 0.6))
    force = 1.3 * body.airframe.mass * G * np.array([np.sin(angle), 0.0, np.cos(angle)])
    assert energy(body) - before == pytest.approx(force @ (body.position - start), rel=1e-9)
    seconds = 40 * body.seconds_per_step
    np.testing.assert_allclose(body.velocity, (force / body.airframe.mass - [0, 0, G]) * seconds, atol=1e-9)


def test_mirrored_actions_make_mirrored_flights():
    left, right, rng = flight(), flight(), np.random.default_rng(0)
    for _ in range(25):
        action = rng.uniform(-0.3, 0.3, 4)
        left.advance(action)
        right.advance(action[[3, 2, 1, 0]])  # Front left and right are swapped, back left and right too.
    assert np.abs(left.position[1]) > 1e-3
    np.testing.assert_allclose(right.position, left.position * [1, -1, 1], atol=1e-9)
    np.testing.assert_allclose(right.rates, left.rates * [-1, 1, -1], atol=1e-9)


def test_a_quarter_turn_changes_nothing_but_the_direction():
    """Where the body faced left, and the rotors are moved on by one; they twist the other way, so only briefly."""
    ahead, turned = flight(), flight()
    for _ in range(5):
        ahead.advance(np.array([0.1, -0.1, -0.1, 0.1]))
        turned.advance(np.array([-0.1, -0.1, 0.1, 0.1]))
    x, y, z = ahead.position
    np.testing.assert_allclose(turned.position, [y, -x, z], atol=1e-9)
    assert x < -1e-4  # Its nose is up.


def test_the_body_turns_the_way_its_rotors_lift():
    def rates(*action):
        body = flight()
        body.advance(np.array(action))
        return body.rates

    frame = flight().airframe
    force, arm = 0.05 * frame.hover, 0.13 / np.sqrt(2)
    turned = 0.02 * 4 * force * arm / frame.inertia[0]  # In 20 ms, by the torque of four rotors.
    twisted = 0.02 * 4 * force * 0.016 / frame.inertia[2]
    # More on the left: it rolls to the right, about +x. More in front: its nose goes up, about -y.
    np.testing.assert_allclose(rates(0.1, 0.1, -0.1, -0.1), [turned, 0, 0], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(rates(0.1, -0.1, -0.1, 0.1), [0, -turned, 0], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(rates(0.1, -0.1, 0.1, -0.1), [0, 0, twisted], rtol=1e-4, atol=1e-9)


def test_sensors_report_the_bodys_motion_in_its_frame():
    body = flight(yaw=np.pi / 2)
    body.data.qvel[:] = 1.0, 2.0, 3.0, 0.1, 0.2, 0.3
    velocimeter, _, gyro = body.sensors()
    np.testing.assert_allclose(velocimeter, [2.0, -1.0, 3.0], atol=1e-12)  # It looks along the world's y axis.
    np.testing.assert_allclose(gyro, [0.1, 0.2, 0.3], atol=1e-12)
    body = flight()
    body.advance(HOVER)
    np.testing.assert_allclose(body.sensors()[1], [0, 0, G], atol=1e-9)


@pytest.mark.parametrize("yaw", [0.0, 2.0])
def test_velocities_are_held(yaw):
    body, action = flight("velocity", yaw), np.array([0.8, -0.4, 0.1, 0.0])
    for _ in range(150):
        body.advance(action)
    x, y = np.cos(yaw), np.sin(yaw)
    forward, left, up = action[:3] * MAX_VELOCITY
    np.testing.assert_allclose(body.velocity, [x * forward - y * left, y * forward + x * left, up], atol=0.01)
    np.testing.assert_allclose(body.rotation[2, 2], 1.0, atol=1e-3)


def test_turning_is_held_and_standing_still_too():
    body = flight("velocity")
    for _ in range(100):
        body.advance(np.array([0.0, 0.0, 0.0, 0.5]))
    np.testing.assert_allclose(body.rates, [0, 0, 1.0], atol=1e-3)  # Half of 2 rad/s.
    np.testing.assert_allclose(body.position, [0, 0, 1], atol=1e-3)


def test_the_inner_loop_rights_a_body_that_is_thrown():
    body = flight("velocity")
    body.data.qpos[2:7] = 5.0, np.cos(0.6), np.sin(0.6), 0.0, 0.0  # Rolled by 69°.
    body.data.qvel[:] = 1.0, -2.0, 0.5, 3.0, -2.0, 1.0
    for _ in range(200):
        body.advance(HOVER)
    np.testing.assert_allclose(body.velocity, 0, atol=0.02)
    np.testing.assert_allclose(body.rotation[2, 2], 1.0, atol=1e-3)


def test_forces_of_the_inner_loop():
    frame, level = flight().airframe, np.eye(3)
    np.testing.assert_allclose(rotor_forces(frame, np.zeros(3), 0.0, level, np.zeros(3)), frame.hover)
    # To accelerate forwards the nose has to go down: more force at the back, the same left and right.
    front_left, back_left, back_right, front_right = rotor_forces(
        frame, np.array([1.0, 0.0, 0.0]), 0.0, level, np.zeros(3)
    )
    assert back_left == pytest.approx(back_right)
    assert front_left == pytest.approx(front_right)
    assert back_left > front_left
    # The torques are kept where the thrust can give way, and clipped where it cannot.
    np.testing.assert_allclose(feasible(np.array([0.0, 1.0, 1.0, 2.0]), 0.5, 3.0), [0.5, 1.5, 1.5, 2.5])
    np.testing.assert_allclose(feasible(np.array([0.0, 1.0, 1.0, 2.0]), 0.5, 1.5), [0.5, 0.5, 0.5, 1.5])
    np.testing.assert_allclose(limited(np.array([3.0, 4.0]), 1.0), [0.6, 0.8])
    np.testing.assert_array_equal(limited(np.array([0.3, 0.4]), 1.0), [0.3, 0.4])


def test_a_raw_step_is_twenty_milliseconds():
    body = flight()
    body.advance(HOVER)
    assert body.data.time == pytest.approx(0.02) == body.seconds_per_step
    assert SUBSTEPS == 2
