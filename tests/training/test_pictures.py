"""Training from pictures of any kind, by the name of the environment alone."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from prudence.cli.api import configure
from prudence.cores.dreamer.config import DreamerConfig
from prudence.envs.base import EnvConfig
from prudence.envs.registry import complete, shows_pictures
from prudence.inspection.inspect import inspect_run
from prudence.models.pictures import Patches
from prudence.runs.metrics import read_metrics
from prudence.training.trainer import train


@pytest.mark.parametrize(
    ("task", "obs", "shows"),
    [
        ("envs.custom:Picture", (), True),
        ("envs.custom:Floats", (), True),
        ("envs.custom:Counter", (), False),
        ("envs.test_custom:Payload", (), False),  # Cannot be made without an argument.
        ("no_such_module:Picture", (), False),
        ("probe/pixels", (), True),
        ("probe/cost", (), False),
        ("SafetyPointGoal1-v0", ("lidar",), False),
        ("SafetyPointGoal1-v0", ("vision", "lidar"), True),
    ],
)
def test_presets_know_which_environments_show_pictures(task, obs, shows):
    assert shows_pictures(complete(EnvConfig(task, obs=obs))) == shows


@pytest.mark.parametrize("preset_name", ["cpu", "debug"])
def test_environments_of_ones_own_get_the_networks_of_pictures(preset_name):
    for agent in ("dreamerv3", "safedreamer-bsrp-lag", "ppo-lag"):
        settings = configure(agent, "envs.custom:Picture", preset_name=preset_name).agent
        net = settings.world_model if isinstance(settings, DreamerConfig) else settings
        assert isinstance(net.patches, Patches)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Picture", "'image' 96x96x3 is seen as a picture 64x64x3 (height, width, channels), resized from 96x96"),
        ("Grey", "'image' 84x84x1 is seen as a picture 64x64x1 (height, width, channels), resized from 84x84"),
        ("ChannelsFirst", "'image' 3x64x64 is seen as a picture 64x64x3 (height, width, channels)"),
        ("Stack", "'image' 4x64x64x3 is seen as a picture 64x64x12 (height, width, channels)"),
        ("Floats", "'image' 48x64x3 is seen as a picture 64x64x3 (height, width, channels), resized from 48x64"),
    ],
)
def test_pictures_of_any_kind_train_by_name_alone(tmp_path: Path, capsys, name, said):
    config = configure("dreamerv3", f"envs.custom:{name}", preset_name="debug", steps=120)
    run = train(replace(config, loop=replace(config.loop, prefill=40)), tmp_path / "run")
    assert said in capsys.readouterr().err
    losses = [
        row["model/reconstruct_image"]
        for row in read_metrics(run / "metrics.jsonl")
        if "model/reconstruct_image" in row
    ]
    assert losses
    assert all(map(math.isfinite, losses))
    inspect_run(run, key=jax.random.key(0), sequences=2, context=4, ahead=4, episodes=1)
    assert (run / "open_loop_image.png").exists()
