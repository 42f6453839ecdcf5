"""What suites say about themselves, and what follows from it alone."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

from prudence.envs import custom, registry
from prudence.envs.base import EnvConfig, EnvError, Suite, SuiteOptions
from prudence.envs.registry import SUITES, complete, configure, find_suite, task_ids, where_offered, with_settings
from prudence.envs.sensors import SensorOptions
from prudence.runs.config import read_config, write_config

TASK = "SafetyPointGoal1-v0"


@pytest.mark.parametrize("suite", [*SUITES, custom.SUITE], ids=lambda suite: suite.name)
def test_a_suite_is_whole(suite):
    assert suite.name
    assert suite.summary
    assert suite is custom.SUITE or suite.example in suite.tasks
    assert bool(suite.package) == bool(suite.install)
    assert all(find_suite(task) is suite for task in suite.tasks)
    if suite.options is None:
        return
    options = suite.options()
    assert hash(options) == hash(suite.options())
    assert dataclasses.replace(options) == options
    assert {f.name for f in dataclasses.fields(options)}.isdisjoint(f.name for f in dataclasses.fields(EnvConfig))


def test_tasks_are_those_of_the_suites():
    ids = task_ids()
    assert len(ids) == len(set(ids)) == sum(len(suite.tasks) for suite in SUITES)
    assert (
        len([task for task in ids if task.startswith("Safety")]) == 5 * (6 * 3 + 1) + 6 + 1
    )  # And the quadrotor's, and CarRacing.
    assert "SafetyRacecarFadingHard2-v0" in ids
    assert "probe/conflict-discrete" in ids
    assert find_suite("CartPole-v1") is find_suite("my:Arm") is custom.SUITE


def test_no_simulator_is_imported_before_a_task_is_made():
    code = (
        "import sys; from prudence.envs import registry; registry.configure('SafetyPointGoal1-v0', lidar_arc=90.0); "
        "registry.configure('SafetyQuadrotorGoal1-v0'); registry.configure('SafeReach-v0'); "
        "assert 'mujoco' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_configuration_is_completed_by_its_suite():
    config = complete(EnvConfig(TASK))
    assert (config.obs, config.options) == (("lidar",), SensorOptions())
    assert complete(config) is not config
    assert complete(config) == config
    chosen = EnvConfig(TASK, ("vision", "lidar"), options=SensorOptions(image_size=32))
    assert complete(chosen) == chosen
    assert complete(EnvConfig("probe/cost")) == EnvConfig("probe/cost")


def test_settings_are_of_every_environment_or_of_the_suite():
    config = configure(TASK, action_repeat=5, lidar_arc=120.0, obs=("vision",))
    assert config == EnvConfig(TASK, ("vision",), 5, options=SensorOptions(lidar_arc=120.0))
    changed = with_settings(config, lidar_scale="inverse", costs="separate")
    assert changed == dataclasses.replace(
        config, costs="separate", options=SensorOptions(lidar_arc=120.0, lidar_scale="inverse")
    )
    assert where_offered(config, cameras="both").options == SensorOptions(cameras="both", lidar_arc=120.0)
    assert where_offered(EnvConfig("probe/cost"), cameras="both") == EnvConfig("probe/cost")


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (
            "probe/cost",
            {"lidar_scale": "inverse"},
            "no setting 'lidar_scale', which tasks of Safety-Gymnasium and Quad.*",
        ),
        (
            "my:Arm",
            {"lidar_arc": 90.0},
            r"Its suite's options are: image_size; every environment has action_repeat, costs",
        ),
        (
            TASK,
            {"lidar_scal": "inverse"},
            r"no setting 'lidar_scal'\. Did you mean lidar_scale\? .* are: cameras, image",
        ),
        (TASK, {"obs": ("radar",)}, r"obs=\('radar',\): choose from lidar, coordinates, vision"),
        ("my:Arm", {"obs": ("lidar",)}, "the task has fixed observations of its own: leave obs out"),
        (TASK, {"kwargs": {"payload": 1}}, "constructor payload, and it takes none: use the task's name and the other"),
        (TASK, {"privileged": "book"}, "not a set of observations that the suite defines: give 'paper', or a tuple"),
        ("my:Arm", {"privileged": "paper"}, "not a set of observations that the suite defines: give a tuple"),
        (
            "probe/cost",
            {"options": SensorOptions()},
            "a SensorOptions, which does not belong to Probes: leave them out",
        ),
        ("SafetyPointGaol1-v0", {"lidar_arc": 90.0}, "There is no task .* Did you mean SafetyPointGoal1-v0"),
        ("SafetyPointGaol1-v0", {"obs": ("lidar",)}, "There is no task .* Did you mean SafetyPointGoal1-v0"),
    ],
)
def test_a_setting_that_a_task_lacks_is_refused_with_the_remedy(task, settings, message):
    with pytest.raises(EnvError, match=message):
        configure(task, **settings)


@dataclass(frozen=True)
class Wings(SuiteOptions):
    """Of the suite below.

    Attributes:
        span: metres.
    """

    span: float = 1.0
    shape: Literal["flat", "bent"] = "flat"


GLIDER = Suite(
    name="Glider",
    summary="stays in the air",
    tasks=("Glide-v0",),
    example="Glide-v0",
    make=lambda config: custom.make(EnvConfig("envs.custom:Counter", kwargs={"start": int(config.options.span)})),
    observations=("wind",),
    options=Wings,
    arguments=("mass",),
)


def test_a_suite_is_added_by_its_name_in_the_list_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "SUITES", (*SUITES, GLIDER))
    config = configure("Glide-v0", span=2.0, kwargs={"mass": 1})
    assert (config.obs, config.options) == (("wind",), Wings(2.0))
    write_config(tmp_path / "config.json", config)
    assert read_config(tmp_path / "config.json", EnvConfig) == config
    assert registry.make(config).reset(seed=0)[0]["state"] == 2
    assert "Glide-v0" in task_ids()
    assert where_offered(config, span=3.0, cameras="both").options == Wings(3.0)
    with pytest.raises(EnvError, match="a SensorOptions, which does not belong to Glider: give a Wings"):
        complete(dataclasses.replace(config, options=SensorOptions()))
