"""Files are data: what a run or a record names is not called, unless the user says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from envs.custom import Counter
from helpers import PlainAgent, run_config

import prudence
from prudence.cli.main import main
from prudence.cli.present import evaluate_run
from prudence.data.spaces import spaces_to_json
from prudence.deploy.policy import load_run
from prudence.envs.base import EnvError
from prudence.envs.vector import make_vector
from prudence.run_config import RunConfig
from prudence.runs import checkpoint
from prudence.runs.checkpoint import CheckpointMismatch
from prudence.runs.config import write_config
from prudence.training.learning.online import spaces_of
from prudence.types import CostFunction

Write = Callable[..., Path]


class Reading(Counter):
    """Has a cost function of its own."""

    cost_function = f"{__name__}:too_far"


def too_far(observation: dict[str, Any]) -> Any:
    return (observation["state"] >= 3).astype(jnp.float32)


def factory() -> Counter:
    """No class."""
    return Counter()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a run (or the policy of a record) of an agent without networks, and changes what its files say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RunConfig, "make_agent", lambda config, spaces: PlainAgent(spaces))

    def run(
        made_on: str = "envs.custom:Counter", *, ships: bool = False, cost_function: Any = None, **env: Any
    ) -> Path:
        path = tmp_path / "run"
        path.mkdir()
        config = run_config(made_on)
        envs = make_vector(config.env, 1, seed=0)
        spaces, interface = spaces_to_json(spaces_of(envs)), envs.interface.content()
        envs.close()
        if cost_function is not None:
            spaces["cost_function"] = cost_function
        write_config(path / "config.json", config)
        content = json.loads((path / "config.json").read_text())
        content["env"] |= env
        (path / "config.json").write_text(json.dumps(content))
        (path / "provenance.json").write_text("[]")
        agent = PlainAgent(checkpoint.spaces_from_json(spaces))
        state = agent.init(key=jax.random.key(0))
        meta = {"task": content["env"]["task"], "agent": "plain", "spaces": spaces, checkpoint.INTERFACE: interface}
        carry = None if ships else agent.init_carry(config.loop.num_envs)
        checkpoint.save(path / ("policy" if ships else "checkpoints"), 40, (state, carry), meta)
        return path

    return run


SHELL = {"args": ["/bin/sh", "-c", "touch pwned"]}


@pytest.mark.parametrize("task", ["subprocess:Popen", "subprocess:check_output", "os:system"])
def test_a_task_of_a_file_must_be_an_environment(write: Write, tmp_path: Path, task: str, capsys: Any) -> None:
    run = write(task=task, kwargs=SHELL)
    assert main(["evaluate", str(run), "--episodes", "1"]) == 1
    said = capsys.readouterr().err
    assert f"{task}: the file names this as its task, and it is no class that is derived from gymnasium.Env" in said
    assert "give --task with this name, or --trust" in said
    assert main(["inspect", str(run)]) == 1
    assert "no class that is derived from gymnasium.Env" in capsys.readouterr().err
    assert not (tmp_path / "pwned").exists()


def test_ones_own_run_needs_no_flag(write: Write) -> None:
    assert evaluate_run(write(), episodes=1).lengths.tolist() == [5]


def test_a_function_that_makes_environments_is_called_when_trusted(write: Write) -> None:
    run, task = write(f"{__name__}:factory"), f"{__name__}:factory"
    with pytest.raises(EnvError, match="no class that is derived from"):
        evaluate_run(run, episodes=1)
    assert evaluate_run(run, episodes=1, trust=True).task == task
    assert evaluate_run(run, episodes=1, task=task).task == task


def test_the_task_of_a_recorded_policy_is_not_even_imported(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text("open('pwned', 'w').close()\nfrom envs.custom import Counter\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = write(ships=True, task="evil:Counter")
    with pytest.raises(EnvError, match=r"names the task evil:Counter, whose code is not of prudence, .* or --trust"):
        evaluate_run(run, episodes=1)
    prudence.load_policy(run)
    assert not (tmp_path / "pwned").exists()
    with pytest.raises(CheckpointMismatch, match="not on 'envs"):
        evaluate_run(run, episodes=1, task="envs.custom:Counter")
    assert not (tmp_path / "pwned").exists()
    assert evaluate_run(run, episodes=1, trust=True, out=tmp_path / "out").lengths.tolist() == [5]


@pytest.mark.parametrize(
    "path",
    [
        "subprocess:check_output",
        "prudence.cli.main:main",
        "prudence.ops.danger:jnp",
        "prudence.ops.nothing:near",
        "prudence.opsy:near",
        "envs.custom:Counter",
    ],
)
def test_a_cost_function_of_a_checkpoint_must_be_the_environments(write: Write, path: str) -> None:
    run = write(cost_function=[path, [["executable", "/bin/sh"]]])
    with pytest.raises(CheckpointMismatch, match=rf"names the cost function '{path}', and .* has none.*--trust"):
        prudence.load_policy(run)
    trusted = prudence.load_policy(run, trust=True).spaces.cost_function
    assert trusted == CostFunction(path, (("executable", "/bin/sh"),))


def test_the_cost_function_of_the_environment_is_taken_from_there(write: Write) -> None:
    _, agent, *_ = load_run(write(f"{__name__}:Reading", cost_function=[f"{__name__}:too_far", [["x", 1]]]))
    assert agent.spaces.cost_function == CostFunction(f"{__name__}:too_far")


def test_prudences_own_mathematics_need_no_environment(write: Write) -> None:
    _, agent, *_ = load_run(write(task="nowhere:Arm", cost_function=["prudence.ops.danger:near", [["radius", 0.5]]]))
    assert agent.spaces.cost_function == CostFunction("prudence.ops.danger:near", (("radius", 0.5),))
