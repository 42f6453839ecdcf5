"""Films of plans: what they show by hand, and the command's way from a run to a film and a picture."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import run_config
from PIL import Image

from prudence.cli.main import main
from prudence.cli.present import evaluate_run
from prudence.data.spaces import spaces_to_json
from prudence.envs.base import entries
from prudence.envs.vector import make_vector
from prudence.inspection.plan_film import ahead, most_contested, motion
from prudence.ops.normalise import symlog
from prudence.runs import checkpoint
from prudence.runs.config import write_config
from prudence.systems import find_system


def test_costs_ahead_by_hand():
    found = ahead(np.array([0.0, 1.0, 0.0, 2.0]), 3)
    np.testing.assert_array_equal(found, [[0, 1, 1], [1, 1, 3], [0, 2, np.nan], [2, np.nan, np.nan]])


def test_the_most_contested_decision_has_the_fewest_safe_plans_but_some():
    assert most_contested(np.array([1.0, 0.0, 0.3, 0.2, 0.2, 1.0])) == 3
    assert most_contested(np.zeros(4)) == 0


@pytest.mark.parametrize("axes", [3, 2])
def test_motion_is_found_by_name_and_in_metres_a_second(axes):
    """The lidar's sensors have three axes; coordinates have the plane's."""
    shapes = {"accelerometer": (1,), "velocimeter": (axes,), "gyro": (axes - 1 if axes == 2 else 3,)}
    layout = {"image": (), "vector": entries(shapes.items())}
    velocity, turning = np.array([0.5, -2.0, 7.0])[:axes], np.array([8.0, 9.0, -1.5])[-shapes["gyro"][0] :]
    vector = symlog(jnp.asarray(np.concatenate([[9.0], velocity, turning]), jnp.float32))
    found = motion({"other": jnp.zeros((1, 4)), "vector": vector[None]}, layout)
    assert found is not None
    np.testing.assert_allclose(found[0], [[0.5, -2.0]], rtol=1e-5)
    np.testing.assert_allclose(found[1], [-1.5], rtol=1e-5)
    assert motion({"vector": vector}, {"vector": entries([("velocimeter", (axes,))])}) is None


def untrained(path: Path, task: str, agent: str, *, start: int = 0) -> Path:
    """A run whose only checkpoint is of its first weights."""
    config = run_config(task, agent=agent, steps=10_000)
    config = replace(config, env=replace(config.env, time_limit=8))
    planning = config.agent.planning
    if planning is not None:
        config = replace(config, agent=replace(config.agent, planning=replace(planning, start=start)))
    with closing(make_vector(config.env, 1, seed=0)) as envs:
        made = find_system(agent).agent(envs.spaces, config.agent)
    state = (made.init(key=jax.random.key(0)), made.init_carry(config.loop.num_envs))
    meta = {"task": task, "spaces": spaces_to_json(made.spaces)}
    path.mkdir()
    write_config(path / "config.json", config)
    checkpoint.save(path / "checkpoints", 0, state, meta)
    return path


def film_of(run: Path) -> np.ndarray:
    with av.open(str(run / "videos" / "plan.mp4")) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_plans_over_the_arena(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco")
    run = untrained(tmp_path / "run", "SafetyPointGoal1-v0", "safedreamer-osrp-lag")
    evaluate_run(run, episodes=1, show_plan=True)
    assert "not drawn" not in capsys.readouterr().err
    film = film_of(run)
    assert film.shape == (8, 600, 1120, 3)
    with Image.open(run / "plan.png") as image:
        assert image.size == (1120, 600)
    # The left part is 2 m of the floor around the robot, whose red body has a radius of 27 pixels.
    body = film[0, 280:320, 260:300].astype(int)
    assert (body[..., 0] > 2 * body[..., 2]).mean() > 0.2
    assert (film[0] != film[-1]).any()
    assert not (run / "videos" / "evaluation.mp4").exists()


def test_without_a_view_from_above_costs_are_drawn_and_nothing_else_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untrained(tmp_path / "run", "probe/policy", "cem-mpc")
    plain = evaluate_run(run, episodes=3, seed=1)
    shown = evaluate_run(run, episodes=3, seed=1, show_plan=True)
    assert "paths are not drawn" in capsys.readouterr().err
    np.testing.assert_array_equal(plain.returns, shown.returns)
    assert len(film_of(run)) == plain.lengths[0]
    assert (run / "plan.png").stat().st_size > 0


def test_what_does_not_plan_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = untrained(tmp_path / "policy", "probe/policy", "safedreamer-bsrp-lag")
    assert main(["evaluate", str(run), "--episodes", "1", "--show-plan"]) == 1
    assert "this agent does not plan every decision" in capsys.readouterr().err
    run = untrained(tmp_path / "later", "probe/policy", "safedreamer-osrp-lag", start=1000)
    with pytest.raises(ValueError, match="after 1000 gradient steps, of which this checkpoint has 0"):
        evaluate_run(run, episodes=1, show_plan=True)
    assert not (run / "evaluation.json").exists()
