"""What `prudence check` finds, and what training refuses at its start."""

from __future__ import annotations

import contextlib

import gymnasium as gym
import numpy as np
import pytest
from envs.custom import Counter

import prudence
from prudence.envs import check as checking
from prudence.envs.base import EnvConfig, EnvError
from prudence.envs.check import Finding, check, check_second_instance
from prudence.envs.registry import make


class Single(Counter):
    """Of which a process can have one."""

    running = 0

    def __init__(self) -> None:
        Counter.__init__(self)
        if Single.running:
            raise RuntimeError("one simulator a process")
        Single.running += 1

    def close(self) -> None:
        Single.running -= 1


class Faulty(Single):
    """Has five faults."""

    time_limit = None
    resets = 0
    observation_space = gym.spaces.Box(0.0, 0.5, (1,), np.float64)

    def reset(self, *, seed=None, options=None):
        Counter.reset(self, seed=seed)
        Faulty.resets += 1  # What happened before its reset shows after it.
        self.count = Faulty.resets % 3
        return self._observe(), {}

    def step(self, action):
        observation, reward, *_ = Counter.step(self, action)
        return observation, reward, False, False, {"cost": -1.0}


class Leaving(Counter):
    """Ends the process in its third step."""

    def step(self, action):
        if self.count == 2:
            raise SystemExit(3)
        return Counter.step(self, action)


class Huge(Counter):
    """Its reward is beyond float32."""

    def step(self, action):
        observation, _, *rest = Counter.step(self, action)
        return observation, 1e39, *rest


@pytest.fixture(autouse=True)
def no_worker(monkeypatch):
    """A worker process takes seconds to start, and has a test of its own."""
    monkeypatch.setattr(checking, "_worker", lambda config: Finding("worker", "ok", ""))


def found(task, **settings):
    report = prudence.check(EnvConfig(f"envs.test_check:{task}", **settings), seconds=0.2)
    return report, {finding.name: finding for finding in report.findings}


def test_a_good_environment_can_be_trained_on():
    report = check("probe/cost", seconds=0.2)
    assert report.trainable
    names = "observations actions space rewards costs time limit seeds videos speed second worker"
    assert " ".join(finding.name for finding in report.findings) == names
    assert "20 decisions" in str(report)


def test_five_faults_are_five_findings():
    report, by_name = found("Faulty")
    assert not report.trainable
    faults = {name: finding.status for name, finding in by_name.items() if finding.status != "ok"}
    del faults["videos"]  # It draws nothing, which is no fault.
    assert faults == {
        "space": "failed",
        "costs": "warning",
        "time limit": "failed",
        "seeds": "warning",
        "second": "failed",
    }
    assert "beyond its bounds [0, 0.5]" in by_name["space"].detail
    assert "one simulator a process" in by_name["second"].detail
    assert all(by_name[name].remedy for name in faults)


@pytest.mark.parametrize(
    ("task", "said"), [("Leaving", "after 2 steps: SystemExit: 3"), ("Huge", "not finite in float32: reward 1e+39")]
)
def test_a_step_that_fails_is_found(task, said):
    report, by_name = found(task)
    assert not report.trainable
    assert by_name["steps"].status == "failed"
    assert said in by_name["steps"].detail


def test_an_environment_that_cannot_be_made_is_one_finding():
    (finding,) = check("envs.custom:Unbounded").findings
    assert finding.status == "failed"
    assert "finite low and high" in finding.detail


def test_an_instance_can_be_checked():
    report = check(Counter(), seconds=0.1)
    assert report.trainable
    assert "second" not in {finding.name for finding in report.findings}


def test_a_second_instance_is_asked_for_before_training_needs_it():
    check_second_instance(EnvConfig("envs.custom:Counter"))
    config = EnvConfig("envs.test_check:Single")
    one = pytest.raises(EnvError, match=r"one simulator a process.*--loop\.workers 1")
    with contextlib.closing(make(config)), one:
        check_second_instance(config)


class Late(Counter):
    """Its observation leaves its space in its fourth step."""

    observation_space = gym.spaces.Box(0.0, 3.0, (1,), np.float64)


def test_only_what_training_would_refuse_is_a_failure():
    report, by_name = found("Late")
    assert report.trainable
    assert by_name["space"].status == "warning"
    assert "has 4 at place 0" in by_name["space"].detail
    assert by_name["space"].remedy.endswith("training looks at the first ones only")


class Exits(Counter):
    """Leaves the process where it is looked at after its steps."""

    def render(self):
        raise SystemExit(0)

    def close(self):
        raise SystemExit(0)


def test_no_part_of_an_environment_ends_the_check():
    report, by_name = found("Exits")
    assert report.trainable
    assert by_name["videos"].detail == "render() fails: SystemExit: 0"
    (finding,) = check("envs.custom:ExitsWhenMade").findings
    assert finding.status == "failed"
    assert finding.detail.endswith("called sys.exit(0)")


class Choosy(Counter):
    """Takes the seeds from 0 to 99."""

    def reset(self, *, seed=None, options=None):
        if not 0 <= (seed or 0) < 100:
            raise ValueError("no such seed")
        return Counter.reset(self, seed=seed)


def test_what_follows_from_steps_that_fail_is_not_a_finding_of_its_own():
    report, by_name = found("Choosy")
    assert not report.trainable
    assert by_name["steps"].detail == "after 0 steps: ValueError: no such seed"
    assert by_name["steps"].remedy.endswith("--env.seeds n")
    assert [by_name[name].detail[:9] for name in ("seeds", "second", "worker")] == ["not tried"] * 3
    assert found("Choosy", seeds=100)[0].trainable


def test_costs_without_names_are_found():
    costs = [finding for finding in check("envs.custom:Unnamed", seconds=0.2).findings if finding.name == "costs"]
    assert costs[1].detail == "it reports 2 without names, of which cost is the sum"
    assert costs[1].remedy.startswith("--env.costs cost_0 cost_1 holds each")


def test_an_instance_stays_open():
    Single.running = 0
    env = Single()
    check(env, seconds=0.1)
    assert Single.running == 1
    env.close()


def test_what_is_no_environment_is_said():
    with pytest.raises(TypeError):
        check(Counter)  # pyright: ignore[reportArgumentType]
