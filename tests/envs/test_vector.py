from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from envs.custom import Counter

from prudence.envs import backends, registry
from prudence.envs.base import EnvConfig, EnvError
from prudence.envs.vector import make_vector, require_end
from prudence.types import Transition


def assert_same(left: Transition, right: Transition) -> None:
    for name in left.observation:
        np.testing.assert_array_equal(left.observation[name], right.observation[name])
    for name in Transition._fields[1:]:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


def actions_of(envs, rng):
    return rng.uniform(-1, 1, (envs.num_envs, envs.spaces.action.size)).astype(np.float32)


def test_autoreset_takes_a_step_of_its_own():
    envs = make_vector(EnvConfig("envs.custom:Counter"), 2, seed=0)
    rows = [envs.reset(), *(envs.step(np.full((2, 1), 2.0, np.float32)) for _ in range(7))]
    np.testing.assert_array_equal([row.is_first[0] for row in rows], [1, 0, 0, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal([row.is_last[1] for row in rows], [0, 0, 0, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal([row.is_terminal[1] for row in rows], [0, 0, 0, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal([row.observation["state"][0, 0] for row in rows], [0, 1, 2, 3, 4, 5, 0, 1])
    np.testing.assert_array_equal([row.reward[0] for row in rows], [0, 10, 10, 10, 10, 10, 0, 10])
    np.testing.assert_array_equal([row.cost[0, 0] for row in rows], [0, 0, 0, 1, 1, 1, 0, 0])
    # The action that was carried out is the clipped one, and none led to a first observation.
    np.testing.assert_array_equal([row.prev_action[0, 0] for row in rows], [0, 1, 1, 1, 1, 1, 0, 1])
    assert rows[0].reward.dtype == rows[0].cost.dtype == rows[0].prev_action.dtype == np.float32


def test_truncation_is_not_termination():
    envs = make_vector(EnvConfig("probe/value", action_repeat=3), 1, seed=0)
    assert envs.steps_per_episode == 7  # 20 raw steps.
    envs.reset()
    rows = [envs.step(np.zeros((1, 1), np.float32)) for _ in range(7)]
    assert [bool(row.is_last[0]) for row in rows] == [False] * 6 + [True]
    assert not any(row.is_terminal[0] for row in rows)
    assert [float(row.reward[0]) for row in rows] == [3.0] * 6 + [2.0]


def test_goals_are_counted_where_the_environment_says():
    envs = make_vector(EnvConfig("envs.custom:Goals", action_repeat=4), 1, seed=0)
    counted = []
    for step in range(5):
        envs.step(np.zeros((1, 1), np.float32)) if step else envs.reset()
        counted.append(envs.goals[0])
    assert counted == [0, 2, 2, 0, 2]  # Four raw steps, the fifth, a new episode.
    for name in ("Counter", "OtherGoals"):
        silent = make_vector(EnvConfig(f"envs.custom:{name}", action_repeat=2), 1, seed=0)
        silent.reset()
        assert not silent.step(np.zeros((1, 1), np.float32)).is_last[0]
        assert np.isnan(silent.goals[0])


def test_discrete_actions_are_carried_out_one_hot():
    envs = make_vector(EnvConfig("probe/conflict-discrete", costs="separate"), 1, seed=0)
    envs.reset()
    row = envs.step(np.array([[0.2, 0.1, 0.6]], np.float32))
    np.testing.assert_array_equal(row.prev_action, np.array([[0, 0, 1]], np.float32))
    np.testing.assert_array_equal(row.cost, np.array([[0, 1]], np.float32))


def test_bad_actions_are_refused():
    envs = make_vector(EnvConfig("probe/value"), 2, seed=0)
    with pytest.raises(EnvError, match="before reset"):
        envs.step(np.zeros((2, 1), np.float32))
    envs.reset()
    with pytest.raises(ValueError, match="shape"):
        envs.step(np.zeros((1, 1), np.float32))
    with pytest.raises(ValueError, match="not finite"):
        envs.step(np.full((2, 1), np.nan, np.float32))


def test_episodes_differ_between_environments_and_follow_from_the_seed():
    def signs(seed):
        envs = make_vector(EnvConfig("probe/policy"), 8, seed=seed)
        return np.stack([envs.reset().observation["state"][:, 0] for _ in range(8)])

    np.testing.assert_array_equal(signs(1), signs(1))
    assert (signs(1) != signs(2)).any()
    assert 8 < (signs(1) > 0).sum() < 56  # 64 fair coins; P < 1e-9.


@pytest.mark.parametrize("task", ["probe/policy", "probe/memory-discrete", "probe/pixels-16", "SafetyPointGoal1-v0"])
def test_restored_equals_uninterrupted(task):
    config = EnvConfig(task, action_repeat=2, time_limit=14)
    whole = make_vector(config, 2, seed=7)
    rng = np.random.default_rng(0)
    whole.reset()
    for _ in range(10):  # Into the second episode.
        whole.step(actions_of(whole, rng))
    state = {name: value.copy() for name, value in whole.state().items()}
    last = whole.step(np.zeros((2, whole.spaces.action.size), np.float32))
    resumed = make_vector(config, 2, seed=7)
    resumed.restore(state)
    assert_same(resumed.step(np.zeros((2, whole.spaces.action.size), np.float32)), last)
    for _ in range(9):  # Into the third.
        actions = actions_of(whole, rng)
        assert_same(resumed.step(actions), whole.step(actions))


def test_restore_after_the_last_row_and_before_the_first():
    config = EnvConfig("envs.custom:Counter")
    envs = make_vector(config, 1, seed=0)
    assert make_vector(config, 1, seed=0).restore(envs.state()).is_first.all()
    envs.reset()
    for _ in range(5):
        last = envs.step(np.zeros((1, 1), np.float32))
    resumed = make_vector(config, 1, seed=0)
    assert_same(resumed.restore(envs.state()), last)
    assert resumed.step(np.zeros((1, 1), np.float32)).is_first.all()


def test_restore_refuses_another_shape_of_run():
    envs = make_vector(EnvConfig("probe/value"), 2, seed=0)
    envs.reset()
    with pytest.raises(EnvError, match="2 environments with seed 0"):
        make_vector(EnvConfig("probe/value"), 2, seed=1).restore(envs.state())


def test_an_environment_that_does_not_repeat_itself_starts_anew(caplog):
    config = EnvConfig("envs.custom:Restless")
    envs = make_vector(config, 1, seed=0)
    envs.reset()
    envs.step(np.zeros((1, 1), np.float32))
    resumed = make_vector(config, 1, seed=0)
    with caplog.at_level(logging.WARNING):
        row = resumed.restore(envs.state())
    assert row.is_first.all()
    assert row.reward == 0
    assert "not deterministic" in caplog.text


def test_an_exception_ends_the_episode_as_truncated(caplog):
    envs = make_vector(EnvConfig("envs.custom:Fragile"), 2, seed=0)
    envs.reset()
    calm = envs.step(np.full((2, 1), -1.0, np.float32))
    with caplog.at_level(logging.WARNING):
        crashed = envs.step(np.array([[0.2], [-1.0]], np.float32))
    assert "the wheel came off" in caplog.text
    np.testing.assert_array_equal(crashed.is_last, [True, False])
    assert not crashed.is_terminal.any()
    assert (crashed.reward[0], crashed.cost[0, 0]) == (0.0, 0.0)
    np.testing.assert_array_equal(crashed.observation["state"][0], calm.observation["state"][0])
    np.testing.assert_array_equal(crashed.prev_action[0], np.array([0.2], np.float32))
    after = envs.step(np.full((2, 1), -1.0, np.float32))
    np.testing.assert_array_equal(after.is_first, [True, False])


def test_an_environment_that_keeps_crashing_is_given_up():
    envs = make_vector(EnvConfig("envs.custom:Fragile"), 1, seed=0)
    envs.reset()
    for _ in range(4):  # Crash, reset, crash, reset.
        envs.step(np.full((1, 1), 0.2, np.float32))
    with pytest.raises(EnvError, match="crashed 3 times in a row") as error:
        envs.step(np.full((1, 1), 0.2, np.float32))
    assert "the wheel came off" in str(error.value)


def test_an_environment_made_anew_between_two_steps_has_lost_its_episode():
    envs = make_vector(EnvConfig("envs.custom:Interrupted"), 1, seed=0)
    envs.reset()
    envs.step(np.zeros((1, 1), np.float32))
    with pytest.raises(EnvError, match="no paint"):
        envs.render()
    assert envs.step(np.zeros((1, 1), np.float32)).is_last[0]
    assert envs.step(np.zeros((1, 1), np.float32)).is_first[0]


class Endless(Counter):
    """Never ends, and does not say that it does."""

    time_limit = None


def test_episodes_have_to_end():
    with pytest.raises(EnvError, match=r"Endless has no time limit.*--env\.time-limit STEPS"):
        require_end(make_vector(EnvConfig("envs.test_vector:Endless"), 1, seed=0))
    require_end(make_vector(EnvConfig("envs.test_vector:Endless", time_limit=9), 1, seed=0))


class Leaving(Counter):
    """Ends its process in its second step; its reward is beyond float32 where the action is below 1."""

    def step(self, action):
        if self.count == 1:
            raise SystemExit(3)
        observation, reward, *rest = Counter.step(self, action)
        return observation, 1e39 if action[0] < 1 else reward, *rest


def test_an_exit_in_a_step_is_a_crash(caplog):
    envs = make_vector(EnvConfig("envs.test_vector:Leaving"), 1, seed=0)
    envs.reset()
    envs.step(np.zeros((1, 1), np.float32))
    with caplog.at_level(logging.WARNING):
        assert envs.step(np.zeros((1, 1), np.float32)).is_last[0]
    assert "SystemExit: 3" in caplog.text
    assert "Traceback" not in caplog.text  # One line.


def test_a_reward_beyond_float32_is_a_crash(caplog):
    envs = make_vector(EnvConfig("envs.test_vector:Leaving"), 1, seed=0)
    envs.reset()
    with caplog.at_level(logging.WARNING):
        row = envs.step(np.full((1, 1), -1, np.float32))
    assert (row.is_last[0], row.reward[0]) == (True, 0)
    assert "not finite: reward 1e+39 (in float32)" in caplog.text


class FewSeeds(Counter):
    """Takes the seeds from 0 to 99."""

    def reset(self, *, seed=None, options=None):
        if not 0 <= seed < 100:
            raise ValueError(f"seed {seed} is not within 0 and 99")
        return Counter.reset(self, seed=seed)


def test_an_environment_may_take_few_seeds():
    with pytest.raises(EnvError, match=r"cannot be reset, with 3 seeds: ValueError: seed .*--env\.seeds n") as error:
        make_vector(EnvConfig("envs.test_vector:FewSeeds"), 1, seed=0).reset()
    assert "Traceback" not in str(error.value)
    assert make_vector(EnvConfig("envs.test_vector:FewSeeds", seeds=100), 4, seed=0).reset().is_first.all()


def test_a_task_that_only_this_process_knows_is_no_task_of_a_worker(monkeypatch):
    """As a worker process says it, which the parent has looked the task up for."""
    with pytest.raises(EnvError, match="There is no task 'Mine-v0'"):
        make_vector(EnvConfig("Mine-v0"), 1, seed=0, workers=1)  # Nobody knows it.
    monkeypatch.setattr("multiprocessing.parent_process", lambda: "a notebook")
    with pytest.raises(EnvError, match=r"'Mine-v0' is known here, but not in a worker process.*--loop\.workers 0"):
        registry.make(EnvConfig("Mine-v0"))


@pytest.mark.slow
def test_a_silent_worker_is_named(caplog, monkeypatch):
    monkeypatch.setattr(backends, "SILENCE", 0.5)
    envs = make_vector(EnvConfig("envs.test_vector:Sleepy"), 1, seed=0, workers=1)
    with caplog.at_level(logging.WARNING):
        envs.reset()
        envs.step(np.zeros((1, 1), np.float32))
    envs.close()
    assert "has been silent for" in caplog.text
    assert "environments 0 of envs.test_vector:Sleepy were told to step" in caplog.text


class Sleepy(Counter):
    """Takes its time for a step."""

    def step(self, action):
        time.sleep(2)
        return Counter.step(self, action)


@pytest.mark.slow
def test_a_worker_dies_with_its_parent(tmp_path):
    """Also in the middle of a step that never returns."""
    code = (
        "import numpy, sys; from prudence.envs.base import EnvConfig; from prudence.envs.vector import make_vector\n"
        "if __name__ == '__main__':\n"
        "    envs = make_vector(EnvConfig('hanging:Hanging'), 1, seed=0, workers=1); envs.reset()\n"
        "    print(envs._backend._workers[0][0].pid, flush=True)\n"
        "    envs.step(numpy.zeros((1, 1), 'f'))\n"
    )
    (tmp_path / "main.py").write_text(code)
    (tmp_path / "hanging.py").write_text(
        "import time\nfrom envs.custom import Counter\n"
        "class Hanging(Counter):\n    def step(self, action):\n        time.sleep(1000)\n"
    )
    tests = str(Path(__file__).parent.parent)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), tests, *sys.path])}
    with subprocess.Popen([sys.executable, "main.py"], cwd=tmp_path, env=env, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        assert worker.is_running()
        parent.kill()
    worker.wait(30)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_after_ctrl_c_every_answer_is_to_its_own_question(workers):
    envs = make_vector(EnvConfig("envs.custom:Interrupted"), 2, seed=0, workers=workers)
    first = envs.reset()
    with pytest.raises(KeyboardInterrupt):
        envs.step(np.array([[0.0], [0.2]], np.float32))  # The second environment lives here.
    assert envs.step(np.zeros((2, 1), np.float32)).is_last.all()
    assert_same(envs.step(np.zeros((2, 1), np.float32)), first)
    envs.close()


@pytest.mark.slow
def test_workers_return_the_same_rows_and_survive_a_kill(caplog):
    config = EnvConfig("envs.custom:Fragile")
    near, far = make_vector(config, 3, seed=2), make_vector(config, 3, seed=2, workers=2)
    try:
        assert far.spaces == near.spaces
        assert_same(near.reset(), far.reset())
        for _ in range(7):
            actions = np.full((3, 1), -0.5, np.float32)
            assert_same(near.step(actions), far.step(actions))
        with caplog.at_level(logging.WARNING):
            row = far.step(np.array([[-0.5], [1.0], [-0.5]], np.float32))  # Environment 1 kills its process.
        assert "killed by SIGKILL" in caplog.text
        np.testing.assert_array_equal(row.is_last, [False, True, False])
        assert not row.is_terminal.any()
        assert far.step(np.full((3, 1), -0.5, np.float32)).is_first[1]
    finally:
        far.close()
        far.close()


@pytest.mark.slow
def test_a_worker_hands_on_what_is_wrong_with_an_environment():
    envs = make_vector(EnvConfig("envs.custom:Costless"), 1, seed=0, workers=1)
    envs.reset()
    with pytest.raises(EnvError, match="Costless reports no cost"):
        envs.step(np.zeros((1, 1), np.float32))
    envs.close()
