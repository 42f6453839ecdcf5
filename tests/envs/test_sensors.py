from __future__ import annotations

import pytest

from prudence.envs.base import EnvError
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
