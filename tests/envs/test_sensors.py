from __future__ import annotations

import numpy as np
import pytest

from prudence.envs.base import EnvError
from prudence.envs.registry import configure, describe, make
from prudence.envs.sensors import SensorOptions


# Words are refused by their annotations where these are checked, as in tests.
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 4}, "SensorOptions: image_size=4 must be at least 8"),
        ({"lidar_arc": 0.0}, "SensorOptions: lidar_arc=0.0 must be above 0 and at most 360 degrees"),
        ({"lidar_arc": 361.0}, "at most 360"),
    ],
)
def test_options_name_what_is_wrong(change, message):
    with pytest.raises(EnvError, match=message):
        SensorOptions(**change)


@pytest.mark.parametrize(
    ("task", "kinds"),
    [("SafetyPointGoal1-v0", ("goal", "hazards", "vases")), ("SafetyQuadrotorGoal1-v0", ("goal", "hazards"))],
)
def test_the_nearest_of_each_kind_stands_at_the_end_of_the_lidar(task, kinds):
    config = configure(task, lidar_nearest=True, lidar_scale="inverse")
    env = make(config)
    plain = make(configure(task, lidar_scale="inverse"))
    (seen, _), (before, _) = env.reset(seed=3), plain.reset(seed=3)
    placed = {entry.name: entry for entry in env.get_wrapper_attr("layout")["lidar"]}
    values = {name: seen["lidar"][entry.start : entry.stop] for name, entry in placed.items()}
    assert sorted(n for n in placed if n.endswith("_nearest")) == sorted(f"{kind}_nearest" for kind in kinds)
    for kind in kinds:
        np.testing.assert_array_equal(values[f"{kind}_nearest"], [values[f"{kind}_lidar"].max()])
    np.testing.assert_array_equal(seen["lidar"][: -len(kinds)], before["lidar"])
    size = len(seen["lidar"])
    assert describe(env, config).spaces.precise == (("lidar", tuple(range(size - len(kinds), size))),)
    assert describe(plain, config).spaces.precise == ()


@pytest.mark.parametrize("scale", ["linear", "inverse"])
def test_the_nearest_hazard_in_the_lidar_costs_what_its_coordinates_do(scale):
    options = {"lidar_nearest": True, "lidar_scale": scale, "action_repeat": 5}
    both = configure("SafetyPointGoal1-v0", obs=("lidar", "coordinates"), **options)
    lidar = configure("SafetyPointGoal1-v0", **options)
    env, reads = make(both), describe(make(lidar), lidar).spaces.cost_function
    by_position = describe(env, both).spaces.cost_function
    assert (reads.path, by_position.path) == ("prudence.ops.danger:above", "prudence.ops.danger:near")
    rng, costly = np.random.default_rng(0), 0
    for seed in range(6):
        seen, _ = env.reset(seed=seed)
        for _ in range(60):
            expected = by_position(seen)
            np.testing.assert_array_equal(reads(seen), expected)
            costly += int(expected[0] > 0)
            seen = env.step(np.array([1.0, rng.uniform(-1, 1)]))[0]
    assert costly > 5


@pytest.mark.parametrize(
    ("task", "options"),
    [("SafetyPointGoal1-v0", {"lidar_arc": 120.0}), ("SafetyPointFadingEasy2-v0", {"lidar_fades": True})],
)
def test_a_lidar_that_does_not_see_every_hazard_does_not_tell_costs(task, options):
    config = configure(task, lidar_nearest=True, **options)
    assert describe(make(config), config).spaces.cost_function is None


def rings(env, seen):
    """The rings and the nearest of each kind, by name."""
    placed = env.get_wrapper_attr("layout")["lidar"]
    wanted = ("_lidar", "_nearest")
    return {e.name: seen["lidar"][e.start : e.stop] for e in placed if e.name.endswith(wanted)}


@pytest.mark.parametrize("scale", ["linear", "inverse"])
@pytest.mark.parametrize(
    ("task", "steps", "fading"),
    [
        ("SafetyPointFadingEasy1-v0", 150, {"goal"}),
        ("SafetyPointFadingEasy2-v0", 150, {"goal", "hazards"}),
        ("SafetyPointFadingHard1-v0", 75, {"goal"}),
        ("SafetyPointFadingHard2-v0", 75, {"goal", "hazards", "vases"}),
    ],
)
def test_rings_fade_as_the_drawing_of_their_objects_does(task, steps, fading, scale):
    """The robot stands still. After k fifths of the steps, 1 − k/5 of what the plain lidar sees is left."""
    options = {"lidar_nearest": True, "lidar_scale": scale, "action_repeat": steps // 5}
    env, plain = make(configure(task, lidar_fades=True, **options)), make(configure(task, **options))
    (seen, _), (before, _) = env.reset(seed=3), plain.reset(seed=3)
    for fifth in range(7):
        left = max(1 - fifth / 5, 0.0)
        full = rings(plain, before)
        for name, values in rings(env, seen).items():
            expected = full[name] * (left if name.split("_")[0] in fading else 1.0)
            np.testing.assert_allclose(values, expected, atol=1e-4 * full[name].max(), err_msg=f"{name} {fifth}")
        assert full["goal_nearest"] > 0
        seen, before = env.step(np.zeros(2))[0], plain.step(np.zeros(2))[0]
    assert rings(env, seen)["goal_nearest"] == 0
    (seen, _), (before, _) = env.reset(seed=4), plain.reset(seed=4)
    np.testing.assert_allclose(seen["lidar"], before["lidar"], rtol=1e-6)


def test_a_new_goal_is_seen_again():
    env = make(configure("SafetyPointFadingHard1-v0", lidar_fades=True, action_repeat=80))
    env.reset(seed=3)
    assert rings(env, env.step(np.zeros(2))[0])["goal_lidar"].max() == 0
    env.unwrapped._task.update_world()
    assert rings(env, env.unwrapped._observe())["goal_lidar"].max() > 0


@pytest.mark.parametrize("task", ["SafetyPointGoal1-v0", "SafetyQuadrotorGoal1-v0"])
def test_a_task_in_which_nothing_fades_refuses_to(task):
    with pytest.raises(EnvError, match=f"lidar_fades=True, but nothing fades in {task}: leave it out"):
        make(configure(task, lidar_fades=True))
