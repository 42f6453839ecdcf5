"""Settings on the command line: a suite's options beside the others, and arguments for constructors."""

from __future__ import annotations

import re

import pytest

from prudence.cli.api import configure
from prudence.cli.settings import parse_arguments, parse_settings
from prudence.envs.base import EnvError
from prudence.envs.sensors import SensorOptions


def parsed(task: str, *arguments: str):
    config = configure("ppo", task, preset_name="debug")
    return parse_settings(config, arguments, prog="prudence train ppo", description="").env


def test_a_suites_options_stand_beside_those_of_every_environment():
    words = (
        "--env.lidar-scale inverse --env.nearest-first --env.cameras both --env.image-size 32 --env.quality fidelity"
    )
    env = parsed("SafetyPointGoal1-v0", *words.split(), "--env.lidar-arc=120", "--env.costs", "separate")
    assert env.options == SensorOptions("both", 32, "fidelity", 120.0, "inverse", nearest_first=True)
    assert env.costs == "separate"
    assert parsed("SafetyQuadrotorGoal1-v0", "--env.lidar-arc", "90").options == SensorOptions(lidar_arc=90.0)


def test_privileged_observations_are_a_word_of_the_suite_or_names():
    assert parsed("SafetyPointGoal1-v0", "--env.privileged", "paper").privileged == "paper"
    env = parsed("SafetyPointGoal1-v0", "--env.obs", "lidar", "coordinates", "--env.privileged", "coordinates")
    assert (env.obs, env.privileged) == (("lidar", "coordinates"), ("coordinates",))
    assert parsed("my:Arm", "--env.privileged", "contacts", "paper").privileged == ("contacts", "paper")


@pytest.mark.parametrize("setting", ["--env.lidar-scale", "--env.no-nearest-first", "--env.image-size=32"])
def test_another_suites_options_are_refused_by_name(setting):
    name = setting.partition("=")[0].removeprefix("--env.").removeprefix("no-").replace("-", "_")
    with pytest.raises(EnvError, match=f"probe/cost has no setting '{name}', which tasks of Safety-Gymnasium and"):
        parsed("probe/cost", setting, "inverse")


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (['{"payload": 2.0, "map": {"walls": [[0, 1]]}}'], {"payload": 2.0, "map": {"walls": ((0, 1),)}}),
        (["payload=2.0", "gripper=soft", "on=true", 'code="7"', "url=a=b"],
         {"payload": 2.0, "gripper": "soft", "on": True, "code": "7", "url": "a=b"}),
        ([], {}),
    ],
)  # fmt: skip
def test_a_constructors_arguments_are_json_or_words(words, arguments):
    assert parsed("my:Arm", "--env.kwargs", *words).arguments == arguments


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{payload: 2}"], "is not JSON"),
        (["[1, 2]"], "is a JSON list, not an object"),
        (["2"], "is a JSON int, not an object"),
        (["payload"], "'payload' is not NAME=VALUE; give a JSON object in quotes"),
        (["payload=1", "gripper"], "'gripper' is not NAME=VALUE"),
    ],
)
def test_what_is_neither_is_answered_with_both_forms(words, message, capsys):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_arguments(words)
    with pytest.raises(SystemExit):
        parsed("my:Arm", "--env.kwargs", *words)
    assert "payload=2.0 gripper=soft" in re.sub(r"[│\s]+", " ", capsys.readouterr().err)
