from __future__ import annotations

import pytest

from prudence.envs.base import EnvConfig, EnvError, entries


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
