"""An exported policy: what it does, what it needs, and what is not in it."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
import toys
from envs import custom

from prudence.data.spaces import spaces_to_json
from prudence.deploy.export import export_run, program
from prudence.deploy.policy import load_interface, load_policy, load_run
from prudence.envs.base import EnvConfig
from prudence.envs.interface import unchanged
from prudence.envs.registry import describe, make
from prudence.evidence.evaluate import evaluate_agent
from prudence.presets import preset
from prudence.runs import checkpoint
from prudence.runs.config import write_config
from prudence.systems import find_system
from prudence.types import ObservationSpec

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "04_run_exported.py"
CONTACTS = ("contacts", ObservationSpec((4, 2), "float32"))
SPACES = toys.spaces(toys.VECTOR, CONTACTS, privileged=("contacts",))


def runner():
    spec = importlib.util.spec_from_file_location("runner", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def untrained_run(path: Path, name: str, spaces=SPACES, env=None, interface=None) -> Path:
    """A run directory with a checkpoint of fresh weights: export needs no more."""
    config = preset("debug", name, env or EnvConfig("probe/value"))
    agent = find_system(name).agent(spaces, config.agent)
    path.mkdir()
    write_config(path / "config.json", config)
    carry = agent.init_carry(config.loop.num_envs)
    meta = {"task": config.env.task, "spaces": spaces_to_json(spaces)}
    meta[checkpoint.INTERFACE] = (interface or unchanged(spaces)).content()
    checkpoint.save(path / "checkpoints", 40, (agent.init(key=jax.random.key(0)), carry), meta)
    return path


@pytest.mark.parametrize("name", ["asymdreamer", "recovery-rl", "ppo-lag", "sac-lag", "safeloop", "safe-slac"])
def test_an_exported_policy_acts_as_the_agent_does(tmp_path, name):
    run = untrained_run(tmp_path / "run", name)
    found = export_run(run)
    assert found.size == found.path.stat().st_size
    assert found.latency > 0
    policy, exported = load_policy(run, seed=3), runner().Policy(str(found.path), seed=3)
    observations = [{"state": np.float32([0.1, -0.5, step])} for step in range(4)]
    for index, observation in enumerate([*observations, *observations]):
        if index == 3:
            policy.reset()
            exported.reset()
        np.testing.assert_allclose(exported(observation), policy(observation), rtol=1e-5, atol=1e-6)
    for wrong in (np.float32([[0, 0, 0]]), np.float32([0, np.nan, 0])):
        with pytest.raises(ValueError, match="state must be finite"):
            exported({"state": wrong})


@pytest.mark.parametrize(
    ("task", "repeat"),
    [("Percent", 1), ("Percent", 2), ("Steps", 1), ("Gears", 1)],
)
def test_a_policy_acts_in_the_environments_own_units_as_in_evaluation(tmp_path, task, repeat):
    """The environment refuses actions that are not in its space, and notes the others."""
    env = EnvConfig(f"envs.custom:{task}", action_repeat=repeat, time_limit=6)
    about = describe(make(env), env)
    run = untrained_run(tmp_path / "run", "ppo-lag", about.spaces, env, about.interface)
    config, agent, state, _ = load_run(run)
    evaluate_agent(agent, state, config.env, episodes=1, seed=3)
    evaluated = list(custom.Noted.taken)
    exported = runner().Policy(str(export_run(run).path), seed=3)
    for policy in (load_policy(run, seed=3), exported):
        own = getattr(custom, task)()
        (observation, _), ended = own.reset(), False
        while not ended:
            observation, _, _, ended, _ = own.step(policy(observation))
        np.testing.assert_allclose(custom.Noted.taken, evaluated, rtol=1e-5, atol=1e-5)
    assert len(evaluated) == 6
    assert repeat == 1 or (evaluated[0] == evaluated[1]).all()


def test_a_file_of_an_older_format_is_refused_by_name(tmp_path):
    found = export_run(untrained_run(tmp_path / "run", "ppo-lag"))
    with zipfile.ZipFile(found.path) as archive:
        program_, about = archive.read("policy.stablehlo"), json.loads(archive.read("policy.json"))
    with zipfile.ZipFile(tmp_path / "old.zip", "w") as archive:
        archive.writestr("policy.stablehlo", program_)
        archive.writestr("policy.json", json.dumps(about | {"format": 1}))
    with pytest.raises(ValueError, match=r"old\.zip has format 1 instead of 2: export its run again"):
        runner().Policy(str(tmp_path / "old.zip"))


def test_a_checkpoint_without_a_mapping_takes_that_of_its_task(tmp_path):
    """As those do that were written before there was one."""
    env = EnvConfig("envs.custom:Percent")
    about = describe(make(env), env)
    run = untrained_run(tmp_path / "run", "ppo-lag", about.spaces, env, about.interface)
    _, agent, state, steps = load_run(run)
    meta = {"task": env.task, "spaces": spaces_to_json(about.spaces)}
    checkpoint.save(run / "checkpoints", steps, (state, agent.init_carry(1)), meta)
    assert load_interface(run, about.spaces) == about.interface
    wrong = {**meta, checkpoint.INTERFACE: unchanged(SPACES).content()}
    checkpoint.save(run / "checkpoints", steps, (state, agent.init_carry(1)), wrong)
    with pytest.raises(checkpoint.CheckpointMismatch, match="does not map the environment's observations"):
        load_interface(run, about.spaces)


def test_a_directory_will_hold_the_file(tmp_path):
    (tmp_path / "there").mkdir()
    assert export_run(untrained_run(tmp_path / "run", "ppo-lag"), tmp_path / "there").path.parent.name == "there"


def test_the_file_says_what_goes_in_and_out(tmp_path):
    found = export_run(untrained_run(tmp_path / "run", "asymdreamer"), tmp_path / "elsewhere" / "p.zip")
    with zipfile.ZipFile(found.path) as archive:
        assert archive.namelist() == ["policy.json", "policy.stablehlo"]
        about = json.loads(archive.read("policy.json"))
    assert about == found.about
    assert about["observation"] == {"state": [[3], "float32"]}
    assert about["action"] == {"shape": [2], "dtype": "float32", "low": [-1, -1], "high": [1, 1]}
    assert about["action_repeat"] == 1
    assert (about["steps"], about["platforms"]) == (40, ["cpu", "cuda"])
    # 8 numbers of memory, 4 latents of 4 classes, and the last action.
    assert [shape for shape, _ in about["memory"]] == [[1, 8], [1, 16], [1, 2]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_weights_that_acting_needs_are_exported(dtype):
    """Twins that differ in nothing that acts export the same program; and a wide decision part makes it larger."""
    agent = toys.dreamer(SPACES, "asymdreamer", compute_dtype=dtype)
    state = agent.init(key=jax.random.key(0))
    model = state.world_model.module
    acts = (model.observation.encoder, model.observation.rssm, state.average[0].module)
    size = lambda tree: sum(x.size for x in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array)))
    other = jax.tree.map(lambda x: x + 1 if eqx.is_inexact_array(x) else x, state)
    twin = eqx.tree_at(
        lambda s: (
            s.world_model.module.observation.encoder,
            s.world_model.module.observation.rssm,
            s.average[0].module,
        ),
        other,
        acts,
    )
    one, two = (program(agent, s, unchanged(SPACES), ("cpu",)).mlir_module_serialized for s in (state, twin))
    assert one == two
    assert len(one) < 4 * size(acts) + 40_000 < 4 * size(model) + 40_000
