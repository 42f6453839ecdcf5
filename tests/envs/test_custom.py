"""Environments of others: their constructors' arguments, and where they are looked for."""

from __future__ import annotations

import sys

import gymnasium as gym
import numpy as np
import pytest
from envs.custom import Counter

from prudence.envs import custom
from prudence.envs.base import EnvConfig, EnvError
from prudence.envs.registry import describe, make


class Payload(Counter):
    """Must be told what it carries."""

    def __init__(self, payload: float, *, gripper: str = "soft") -> None:
        Counter.__init__(self)
        self.carried = (payload, gripper)


class Passing(Payload):
    """Passes whatever it is given on."""

    def __init__(self, **settings) -> None:
        Payload.__init__(self, **settings)


class Mistaken(Counter):
    """Has a mistake in its constructor, which has nothing to do with what it is given."""

    def __init__(self, start: int = 0) -> None:
        Counter.__init__(self, start + None)


@pytest.fixture
def registered():
    """An id whose author chose the payload."""
    gym.register("Carrying-v0", Payload, kwargs={"payload": 1.0})
    yield "Carrying-v0"
    del gym.registry["Carrying-v0"]


@pytest.mark.parametrize("kwargs", [{"start": 3}, (("start", 3),)])
def test_arguments_reach_the_constructor(kwargs):
    observation, _ = make(EnvConfig("envs.custom:Counter", kwargs=kwargs)).reset(seed=0)
    np.testing.assert_array_equal(observation["state"], np.array([3.0], np.float32))


def test_arguments_come_before_those_that_an_id_was_registered_with(registered):
    carried = lambda **kwargs: make(EnvConfig(registered, kwargs=kwargs)).unwrapped.carried
    assert carried() == (1.0, "soft")
    assert carried(payload=2.5, gripper="hard") == (2.5, "hard")
    assert make(EnvConfig("probe/pixels", kwargs={"size": 32})).observation_space["image"].shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("task", "kwargs", "message"),
    [
        (
            "Payload",
            {"paylod": 1},
            r"Payload: .* no argument 'paylod'; it takes payload, gripper\. Did you mean payload",
        ),
        ("Payload", {"gripper": "hard"}, r"""needs payload\. Give them as .* --env\.kwargs '\{"payload": \.\.\.\}'"""),
        (
            "Passing",
            {"payload": 1, "colour": "red"},
            r"Passing: .* rejects kwargs .*colour.*unexpected keyword argument",
        ),
    ],
)
def test_what_a_constructor_does_not_take_is_refused_by_name(task, kwargs, message):
    with pytest.raises(EnvError, match=message):
        make(EnvConfig(f"envs.test_custom:{task}", kwargs=kwargs))


def test_ids_refuse_arguments_too(registered):
    with pytest.raises(EnvError, match=r"Carrying-v0: .* no argument 'mass'; it takes payload, gripper"):
        make(EnvConfig(registered, kwargs={"mass": 1.0}))
    with pytest.raises(
        EnvError, match=r"probe/cost: its constructor takes no argument 'sise'; it takes discrete, arms"
    ):
        make(EnvConfig("probe/cost", kwargs={"sise": 1}))


def test_a_mistake_within_a_constructor_keeps_its_traceback():
    with pytest.raises(TypeError, match="unsupported operand"):
        make(EnvConfig("envs.test_custom:Mistaken", kwargs={"start": 1}))


class Pendulum(gym.Wrapper):
    """A wrapper that says what costs there are, and takes no render_mode."""

    cost_names = ("torque", "speed")

    def __init__(self) -> None:
        gym.Wrapper.__init__(self, gym.make("Pendulum-v1"))

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        cost = np.array([abs(action[0]), abs(observation[2]) > 4])
        return observation, reward, terminated, truncated, {**info, "cost": cost}


def limited() -> gym.Env:
    """A factory, whose environment has a time limit below another wrapper."""
    return gym.wrappers.TransformReward(gym.wrappers.TimeLimit(Counter(), 3), float)


class Undrawn(Counter):
    """Offers pictures, and has a constructor without render_mode."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012


def test_what_a_wrapper_says_counts():
    config = EnvConfig("envs.test_custom:Pendulum", costs="separate")
    spaces = describe(make(config), config).spaces
    assert (spaces.costs, spaces.episode_steps) == (("torque", "speed"), 200)


@pytest.mark.parametrize(("asked", "steps"), [(None, 3), (2, 2), (9, 3)])
def test_a_time_limit_counts_wherever_it_stands(asked, steps):
    """What truncates first: ours, or the environment's own."""
    config = EnvConfig("envs.test_custom:limited", time_limit=asked)
    assert describe(make(config), config).spaces.episode_steps == steps


@pytest.mark.parametrize(("declared", "steps"), [(None, None), (7, 7)])
def test_a_class_may_say_after_how_many_steps_it_truncates(declared, steps, monkeypatch):
    monkeypatch.setattr(Counter, "time_limit", declared, raising=False)
    config = EnvConfig("envs.custom:Counter")
    assert describe(make(config), config).spaces.episode_steps == steps
    monkeypatch.setattr(Counter, "time_limit", "long")
    with pytest.raises(EnvError, match="time_limit is 'long': make it a number of steps"):
        make(config)


def test_pictures_are_asked_for_only_where_the_constructor_takes_the_word():
    assert make(EnvConfig("envs.test_custom:Undrawn")).reset(seed=0)


def test_a_module_is_found_in_the_folder_that_a_command_is_called_from(tmp_path, monkeypatch):
    (tmp_path / "lying_here.py").write_text("from envs.custom import Counter\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path not in ("", str(tmp_path))])
    assert make(EnvConfig("lying_here:Counter")).reset(seed=0)[0]["state"] == 0


def test_what_may_exist():
    assert custom.exists("CartPole-v1")
    assert custom.exists("my_robot:Arm")
    assert not custom.exists("SafetyPointGaol1-v0")


@pytest.mark.parametrize("limit", [20.0, np.int64(20), np.float32(20)])
def test_a_whole_number_of_any_type_is_a_time_limit(limit, monkeypatch):
    monkeypatch.setattr(Counter, "time_limit", limit)
    with make(EnvConfig("envs.custom:Counter")) as env:
        assert env.get_wrapper_attr("time_limit") == 20


@pytest.mark.parametrize("limit", [True, 0, -3, 2.5, np.nan, np.inf, "20"])
def test_what_is_no_number_of_steps_is_no_time_limit(limit, monkeypatch):
    monkeypatch.setattr(Counter, "time_limit", limit)
    with pytest.raises(EnvError, match=r"its attribute time_limit is .*: make it a number of steps, or None"):
        make(EnvConfig("envs.custom:Counter"))


@pytest.mark.parametrize(("asked", "steps"), [(None, 5), (3, 3), (9, 9)])
def test_the_limit_of_a_specification_counts_where_nothing_else_is_said(asked, steps):
    with make(EnvConfig("envs.custom:Registered", time_limit=asked)) as env:
        assert env.get_wrapper_attr("time_limit") == steps


def test_a_constructor_that_passes_all_arguments_on_need_not_take_render_mode():
    with make(EnvConfig("envs.custom:PassesOn", kwargs={"start": 2})) as env:
        assert env.reset()[0]["state"] == 2
    with pytest.raises(EnvError, match="'render_mode'"):
        make(EnvConfig("envs.custom:PassesOn", kwargs={"render_mode": "human"}))


@pytest.mark.parametrize("names", ["heat", ("heat", "heat"), (1, 2), 3])
def test_names_of_costs_are_a_tuple_of_different_names(names, monkeypatch):
    monkeypatch.setattr(Counter, "cost_names", names, raising=False)
    with pytest.raises(EnvError, match=r"its attribute cost_names is .*: make it a tuple of different names"):
        make(EnvConfig("envs.custom:Counter"))


def test_costs_without_names_are_numbered():
    with make(EnvConfig("envs.custom:Unnamed", costs=("cost_1", "cost_0"))) as env:
        env.reset()
        assert env.step(np.zeros(1))[-1]["cost"].tolist() == [0.5, 1.0]
    with pytest.raises(EnvError, match=r"--env\.costs cost_0 cost_1"):
        make(EnvConfig("envs.custom:Unnamed", costs="separate"))
    absent = pytest.raises(EnvError, match=r"no cost 'cost_2'; it reports \['cost', 'cost_0', 'cost_1'\]")
    with make(EnvConfig("envs.custom:Unnamed", costs=("cost_2",))) as env, absent:
        env.reset()
        env.step(np.zeros(1))


def test_another_number_of_values_is_refused_by_name():
    wrong = pytest.raises(EnvError, match=r"OldStep: its step\(\) returns 4 values: return \(observation, reward,")
    with make(EnvConfig("envs.custom:OldStep")) as env, wrong:
        env.reset()
        env.step(np.zeros(1))


def test_what_is_no_environment_is_refused_by_name():
    with pytest.raises(EnvError, match=r"makes a NoEnvironment, which is not derived from gymnasium\.Env"):
        make(EnvConfig("envs.custom:NoEnvironment"))


def test_a_constructor_that_exits_fails_as_by_any_exception():
    with pytest.raises(RuntimeError, match=r"the constructor of .*ExitsWhenMade called sys\.exit\(0\)"):
        make(EnvConfig("envs.custom:ExitsWhenMade"))


def test_a_script_that_exits_when_it_is_imported_says_so(tmp_path, monkeypatch):
    (tmp_path / "exits_at_once.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EnvError, match=r"importing exits_at_once ended with sys\.exit\(0\): put the main part"):
        make(EnvConfig("exits_at_once:Arm"))


def test_a_switch_is_at_0_or_1():
    with (
        make(EnvConfig("envs.custom:Switches")) as env,
        pytest.raises(EnvError, match=r"at its first reset: observation 'state' has 2 at place 0, beyond its bounds"),
    ):
        env.reset()


@pytest.mark.parametrize("task", [":Arm", ".arm:Arm"])
def test_what_names_no_module_is_no_task(task):
    with pytest.raises(EnvError, match=f"There is no task '{task}'"):
        make(EnvConfig(task))
