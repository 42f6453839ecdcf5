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
