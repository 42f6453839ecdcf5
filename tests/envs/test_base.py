from __future__ import annotations

import numpy as np
import pytest

from prudence.envs.base import EnvConfig, EnvError, Overhead, entries
from prudence.runs.config import read_config, write_config


def test_config_is_hashable():
    config = EnvConfig("probe/cost", obs=("vision", "lidar"), costs=("cost",), kwargs={"size": 16})
    assert hash(config) == hash(EnvConfig("probe/cost", ("vision", "lidar"), costs=("cost",), kwargs=(("size", 16),)))
    assert config != EnvConfig("probe/cost")


def test_arguments_are_kept_as_sorted_pairs_and_given_as_they_came():
    config = EnvConfig("my:Arm", kwargs={"payload": 2.0, "joints": [1, [2, 3]], "map": {"goal": [0, 1], "walls": {}}})
    assert [name for name, _ in config.kwargs] == ["joints", "map", "payload"]
    assert config.arguments == {"joints": (1, (2, 3)), "map": {"goal": (0, 1), "walls": {}}, "payload": 2.0}
    assert type(config.arguments["map"]["walls"]) is dict
    assert config == EnvConfig("my:Arm", kwargs=tuple(reversed(config.kwargs)))
    assert hash(config) == hash(EnvConfig("my:Arm", kwargs=config.arguments))


def test_arguments_return_from_config_json(tmp_path):
    config = EnvConfig("my:Arm", kwargs={"payload": 2.0, "map": {"goal": [0, 1], "of": [{"x": None}]}})
    write_config(tmp_path / "config.json", config)
    assert read_config(tmp_path / "config.json", EnvConfig) == config


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"map": {"walls": [{1}]}}, r"kwargs\['map'\]\['walls'\]\[0\] is \{1\}, a set, which config\.json cannot hold"),
        ({"map": {1: 2}}, r"kwargs\['map'\] is \{1: 2\}, a dict"),
        ((("size", 1), ("size", 2)), "gives an argument twice"),
        ({"map": {"hole": float("nan")}}, r"kwargs\['map'\]\['hole'\] is nan, which equals nothing"),
    ],
)
def test_what_a_run_cannot_keep_is_no_argument(kwargs, message):
    with pytest.raises(EnvError, match=message):
        EnvConfig("my:Arm", kwargs=kwargs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": ""}, "task is empty"),
        ({"obs": ("lidar", "lidar")}, "twice"),
        ({"costs": ()}, "'total', 'separate' or a tuple"),
        ({"action_repeat": 0}, r"env\.action_repeat=0 must be a whole number from 1 to 1,000 \(--env\.action-repeat\)"),
        ({"time_limit": 0}, r"env\.time_limit=0 must be a whole number from 1 to .*, or None \(--env\.time-limit\)"),
        ({"seeds": 0}, r"env\.seeds=0 must be a whole number"),
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
