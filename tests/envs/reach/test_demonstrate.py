"""Scripts do what they are named after, and every layout can be solved."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("mujoco")

from prudence.data.dataset import Dataset
from prudence.datasets.mix import mix_datasets
from prudence.datasets.record import record_dataset
from prudence.envs.reach import PANDA, demonstrate, find_panda
from prudence.envs.reach import task as rules
from prudence.envs.registry import configure, make, spaces_of

NO_PANDA = pytest.mark.skipif(find_panda() is None, reason=f"needs the Panda's files: {PANDA}")
ROBOTS = ["hand", pytest.param("panda", marks=NO_PANDA)]


def layouts(number: int) -> list[rules.Layout]:
    """All of ``number`` obstacles, with starts in all corners in turn."""
    corners = itertools.cycle(itertools.product((-0.01, 0.01), repeat=2))
    every = itertools.product(range(3), itertools.combinations(range(6), number))
    return [rules.Layout(target, places, next(corners)) for target, places in every]


def outcomes(name: str, task: str, robot: str = "hand", actions: str = "position", every: int = 1) -> np.ndarray:
    """``[layouts, 2]`` success, and whether anything was touched, of a script in every ``every``-th layout."""
    config = configure(task, robot=robot, actions=actions)
    env = make(config)
    script, found = getattr(demonstrate, name)(spaces_of(env, config)), []
    for layout in layouts(len(rules.VARIANTS[task].obstacles))[::every]:
        script.reset()
        observation, ended, cost, info = env.reset(options={"layout": layout})[0], False, 0.0, {}
        while not ended:
            observation, _, _, ended, info = env.step(script(observation))
            cost += float(info["cost"].sum())
        found.append((info["success"], cost > 0))
    return np.array(found)


def test_a_way_leads_around_obstacles_or_there_is_none():
    start, goal, box = np.array([-11.0, 0.0]), np.array([10.0, 0.0]), np.array([[-5.0, 0.0]])
    np.testing.assert_array_equal(demonstrate.next_corner(start, goal, np.zeros((0, 2))), goal)
    np.testing.assert_array_equal(demonstrate.next_corner(start, goal, box + np.array([0, 7])), goal)
    x, y = demonstrate.next_corner(start, goal, box)  # The nearer edge of a square of 10.4 cm.
    assert (x, abs(y)) == pytest.approx((-10.2, 5.2))
    np.testing.assert_allclose(demonstrate.next_corner(np.array([-10.0, 5.1]), goal, box), [0.2, 5.2])
    wall = np.array([[-5.0, -7.0], [-5.0, 0.0], [-5.0, 7.0]])
    # Its ends are at 9.5, so the way would turn at 12.2. The area's edge is at 12.5, from which the way keeps 1.
    assert demonstrate.next_corner(start, goal, wall) is None
    assert demonstrate.next_corner(start, goal, wall[:2]) is not None
    assert demonstrate.next_corner(box[0], goal, box) is None  # Inside.


@pytest.mark.parametrize(("name", "success", "touched"), [
    ("careful", 1, 0), ("careless", 1, 1), ("careful_short", 0, 0), ("careless_short", 0, 1),
])  # fmt: skip
@pytest.mark.parametrize("robot", ROBOTS)
def test_scripts_do_what_they_are_named_after(name, success, touched, robot):
    found = outcomes(name, "SafeReach-v0", robot, actions="pose", every=9)
    np.testing.assert_array_equal(found, [(success, touched)] * 5)


@pytest.mark.slow
@pytest.mark.parametrize("robot", ROBOTS)
@pytest.mark.parametrize("actions", ["pose", "position"])
def test_every_layout_can_be_solved(robot, actions):
    success, touched = outcomes("careful", "SafeReach-v0", robot, actions).T
    assert len(success) == 45
    assert (success & ~touched).mean() >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("task", ["SafeReachShapes-v0", "SafeReachTarget-v0", "SafeReachMore-v0"])
def test_layouts_of_other_tasks_can_be_solved(task):
    success, touched = outcomes("careful", task).T
    assert (success & ~touched).mean() >= 0.9


def test_demonstrations_become_a_dataset(tmp_path):
    env = configure("SafeReach-v0", robot="hand", actions="position", reward="dense")
    kept = []
    for name in ("careful", "careless_short"):
        script = f"prudence.envs.reach.demonstrate:{name}"
        _, result = record_dataset(script, tmp_path / name, episodes=2, env=env, name=name)
        kept.append((result.success, result.violations))
    assert kept == [(1.0, 0.0), (0.0, 1.0)]
    mixed = mix_datasets([tmp_path / "careful", tmp_path / "careless_short"], tmp_path / "all", episodes=[2, 1])
    assert [source.name for source in mixed.sources] == ["careful", "careless_short"]
    again, _ = record_dataset("prudence.envs.reach.demonstrate:careful", tmp_path / "again", episodes=2, env=env)
    actions = [data.column("prev_action", 0) for data in (again, Dataset(tmp_path / "careful"))]
    np.testing.assert_array_equal(*actions)


def test_demonstrations_need_to_know_where_things_are(tmp_path):
    with pytest.raises(ValueError, match="--obs vision coordinates --env"):
        record_dataset(
            "prudence.envs.reach.demonstrate:careful",
            tmp_path / "d",
            episodes=1,
            env=configure("SafeReach-v0", obs=("vision",), robot="hand", image_size=16),
        )
    assert list(tmp_path.iterdir()) == []
