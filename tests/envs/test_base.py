from __future__ import annotations

import numpy as np
import pytest

from prudence.envs.base import EnvConfig, EnvError, Overhead, entries


def test_config_is_hashable():
    config = EnvConfig("probe/cost", obs=("vision", "lidar"), costs=("cost",), kwargs=(("size", 16),))
    assert hash(config) == hash(EnvConfig("probe/cost", ("vision", "lidar"), costs=("cost",), kwargs=(("size", 16),)))
    assert config != EnvConfig("probe/cost")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": ""}, "task is empty"),
        ({"obs": ()}, "choose from lidar, coordinates, vision"),
        ({"obs": ("radar",)}, "choose from lidar, coordinates, vision"),
        ({"obs": ("lidar", "lidar")}, "twice"),
        ({"costs": ()}, "'total', 'separate' or a tuple"),
        ({"action_repeat": 0}, "at least 1"),
        ({"image_size": 4}, "at least 8"),
        ({"time_limit": 0}, "at least 1"),
    ],
)
def test_config_names_what_is_wrong(change, message):
    with pytest.raises(EnvError, match=message):
        EnvConfig(**({"task": "probe/cost"} | change))


def test_entries_lie_one_after_another():
    velocity, hazards, goal = entries([("velocity", (2,)), ("hazards", (3, 2)), ("goal", ())])
    assert (velocity.start, velocity.stop) == (0, 2)
    assert (hazards.start, hazards.stop, hazards.shape) == (2, 8, (3, 2))
    assert (goal.start, goal.stop) == (8, 9)


def test_points_of_an_agent_in_the_world_and_in_the_picture():
    """The agent, at (1, 2), looks along the world's y axis: what is 3 m ahead and 1 m to its left is at (0, 5)."""
    view = Overhead(np.zeros((100, 200, 3), np.uint8), np.array([1.0, 1.0]), 10.0, np.array([1.0, 2.0]), np.pi / 2, 0.1)
    np.testing.assert_allclose(view.world(np.array([[3.0, 1.0], [0.0, 0.0]])), [[0, 5], [1, 2]], atol=1e-12)
    # The middle, (1, 1), is at column 100 and row 50; (0, 5) is 10 pixels to the left of it and 40 above.
    np.testing.assert_allclose(view.pixels(np.array([[1.0, 1.0], [0.0, 5.0]])), [[100, 50], [90, 10]])
