from __future__ import annotations

import os

import gymnasium as gym
import numpy as np
import pytest
from envs import custom

from prudence.envs.base import Entry, EnvConfig, EnvError
from prudence.envs.registry import complete, describe, layout_of, make, shows_pictures, spaces_of
from prudence.types import ActionSpec, CostFunction, ObservationSpec


def one_step(config: EnvConfig, action):
    env = make(config)
    observation, _ = env.reset(seed=0)
    return env, observation, env.step(action)


def test_class_by_name_is_rescaled_repeated_and_summed():
    config = EnvConfig("envs.custom:Counter", action_repeat=2)
    env, observation, (after, reward, terminated, truncated, info) = one_step(config, np.array([0.0], np.float32))
    assert spaces_of(env, config).observation == (("state", ObservationSpec((1,), "float32")),)
    assert spaces_of(env, config).action == ActionSpec("continuous", 1)
    np.testing.assert_array_equal(observation["state"], np.array([0.0], np.float32))
    np.testing.assert_array_equal(after["state"], np.array([2.0], np.float32))
    assert reward == 10.0  # The middle of [0, 10], twice.
    assert not terminated
    assert not truncated
    np.testing.assert_array_equal(info["cost"], np.array([0.0], np.float32))
    after, _, terminated, _, info = env.step(np.array([1.0], np.float32))
    np.testing.assert_array_equal(info["cost"], np.array([2.0], np.float32))
    after, reward, terminated, _, info = env.step(np.array([-1.0], np.float32))
    assert (float(after["state"][0]), reward, terminated) == (5.0, 0.0, True)  # Ends in the middle of a decision.


def test_time_limit_counts_raw_steps():
    env, _, (_, _, terminated, truncated, _) = one_step(
        EnvConfig("envs.custom:Counter", action_repeat=4, time_limit=3), np.zeros(1, np.float32)
    )
    assert truncated
    assert not terminated
    assert env.get_wrapper_attr("time_limit") == 3


def test_no_cost_is_refused_with_what_to_do():
    with pytest.raises(EnvError, match=r"Set info\['cost'\]"):
        one_step(EnvConfig("envs.custom:Costless"), np.zeros(1, np.float32))


def test_gymnasium_environment_without_cost_is_refused_too():
    with pytest.raises(EnvError, match=r"CartPole-v1 reports no cost"):
        one_step(EnvConfig("CartPole-v1"), 0)


def test_six_tuple_is_accepted():
    _, _, (_, _, _, _, info) = one_step(EnvConfig("envs.custom:SixTuple"), np.zeros(1, np.float32))
    np.testing.assert_array_equal(info["cost"], np.array([2.0], np.float32))


@pytest.mark.parametrize(
    ("costs", "names", "values"),
    [
        ("total", ("cost",), [1.5]),
        ("separate", ("cost_heat", "cost_noise"), [1.0, 0.5]),
        (("cost_smell", "cost_noise"), ("cost_smell", "cost_noise"), [4.0, 0.5]),
    ],
)
def test_costs_are_chosen_by_name(costs, names, values):
    config = EnvConfig("envs.custom:TwoCosts", costs=costs)
    env, _, (*_, info) = one_step(config, np.zeros(1, np.float32))
    assert spaces_of(env, config).costs == names
    np.testing.assert_array_equal(info["cost"], np.array(values, np.float32))


def test_unreported_costs_are_refused_by_name():
    with pytest.raises(EnvError, match="no cost 'cost_light'; it reports"):
        one_step(EnvConfig("envs.custom:TwoCosts", costs=("cost_light",)), np.zeros(1, np.float32))
    with pytest.raises(EnvError, match="cost_names ="):
        make(EnvConfig("envs.custom:Counter", costs="separate"))


def test_dict_observations_and_discrete_actions():
    config = EnvConfig("envs.custom:Mixed")
    env, observation, (_, reward, *_) = one_step(config, 1)
    assert spaces_of(env, config).observations == {
        "eye": ObservationSpec((8, 8, 3), "uint8"),
        "floor": ObservationSpec((3,), "float32"),
        "state": ObservationSpec((4,), "float32"),
    }
    np.testing.assert_array_equal(observation["floor"], np.array([0, 0, 1], np.float32))
    np.testing.assert_array_equal(observation["state"], np.array([1, 0, 0, 1], np.float32))
    assert (observation["eye"] == 7).all()
    assert reward == 6.0  # Arm 1 of a space that starts at 5.
    assert spaces_of(env, config).action == ActionSpec("discrete", 3)


def test_unbounded_actions_are_refused():
    with pytest.raises(EnvError, match="finite low and high"):
        make(EnvConfig("envs.custom:Unbounded"))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("SafetyPointGaol1-v0", "Did you mean SafetyPointGoal1-v0"),
        ("probe/cots", "Did you mean probe/cost"),
        ("no_such_module:Thing", "no module 'no_such_module'"),
        ("xyzzy", "Use module:Class for your own"),
    ],
)
def test_unknown_tasks_are_met_with_a_hint(task, message):
    with pytest.raises(EnvError, match=message):
        make(EnvConfig(task))


def test_a_cost_function_is_found_or_refused_by_name(monkeypatch):
    monkeypatch.setattr("envs.custom.Counter.cost_function", "prudence.ops.danger:near", raising=False)
    config = EnvConfig("envs.custom:Counter")
    assert spaces_of(make(config), config).cost_function == CostFunction("prudence.ops.danger:near")
    monkeypatch.setattr("envs.custom.Counter.cost_function", "prudence.ops.danger:far")
    with pytest.raises(EnvError, match=r"cost_function 'prudence\.ops\.danger:far' cannot be found"):
        spaces_of(make(config), config)


def test_precise_entries_are_named_by_the_layout(monkeypatch):
    config = EnvConfig("envs.custom:Counter")
    assert spaces_of(make(config), config).precise == ()
    monkeypatch.setattr("envs.custom.Counter.precise", {"state": ("count",)}, raising=False)
    with pytest.raises(
        EnvError, match=r"precise names \('count',\) of 'state', but the entries in its layout are not nam"
    ):
        spaces_of(make(config), config)
    monkeypatch.setattr("envs.custom.Counter.layout", {"state": {"count": 1}}, raising=False)
    assert spaces_of(make(config), config).precise == (("state", (0,)),)
    monkeypatch.setattr("envs.custom.Counter.precise", {"state": ("speed",)})
    with pytest.raises(
        EnvError, match=r"precise names \('speed',\) of 'state', but the entries in its layout are count"
    ):
        spaces_of(make(config), config)


def test_privileged_observations_are_named_by_the_class_or_the_configuration(monkeypatch):
    def privileged(**changes):
        config = EnvConfig("envs.custom:Mixed", **changes)
        return spaces_of(make(config), config)

    assert privileged().privileged == ()
    spaces = privileged(privileged=("state", "eye"))
    assert spaces.privileged == ("eye", "state")
    assert list(spaces.unprivileged) == ["floor"]
    monkeypatch.setattr("envs.custom.Mixed.privileged", ("floor",), raising=False)
    assert privileged().privileged == ("floor",)
    assert privileged(privileged=("eye",)).privileged == ("eye", "floor")
    with pytest.raises(EnvError, match="leave at least one for the policy"):
        privileged(privileged=("eye", "state"))
    with pytest.raises(EnvError, match=r"\['contacts', 'floor'\], but the observations are \['eye', 'floor'"):
        privileged(privileged=("contacts",))
    with pytest.raises(EnvError, match="'paper' is not a set of observations that the suite defines: give a tuple"):
        privileged(privileged="paper")


def test_what_is_privileged_is_a_collection_of_names(monkeypatch):
    monkeypatch.setattr("envs.custom.Mixed.privileged", "floor", raising=False)
    config = EnvConfig("envs.custom:Mixed")
    with pytest.raises(EnvError, match="'floor': make it a tuple"):
        spaces_of(make(config), config)


def test_an_observation_that_is_called_privileged_is():
    config = EnvConfig("envs.custom:CalledPrivileged")
    assert spaces_of(make(config), config).privileged == ("privileged",)


def test_gymnasium_ids_keep_their_time_limit():
    env = make(EnvConfig("probe/value", action_repeat=3))
    assert describe(env, EnvConfig("probe/value", action_repeat=3)).spaces.episode_steps == 7
    assert isinstance(env, gym.Env)


def test_spent_sums_what_an_episode_has_cost():
    """``Counter`` costs 1 at steps 3, 4 and 5."""
    config = EnvConfig("envs.custom:Counter", spent=True)
    env = make(config)
    assert dict(spaces_of(env, config).observation)["spent"] == ObservationSpec((1,), "float32")
    for _ in range(2):  # The second episode begins at nothing.
        observation, _ = env.reset(seed=0)
        seen = [observation] + [env.step(np.zeros(1, np.float32))[0] for _ in range(5)]
        np.testing.assert_array_equal([float(o["spent"][0]) for o in seen], [0, 0, 0, 1, 2, 3])


def test_spent_has_a_column_for_each_constraint():
    config = EnvConfig("probe/conflict", costs="separate", spent=True)
    _, _, (after, *_) = one_step(config, np.array([0.75], np.float32))
    assert after["spent"].dtype == np.float32
    np.testing.assert_allclose(after["spent"], [0.0, 0.5])


@pytest.mark.parametrize(
    ("layout", "found"),
    [
        ({"state": {"left": 1, "right": (3,)}}, {"state": [("left", 0, 1, (1,)), ("right", 1, 4, (3,))]}),
        ({"state": {"square": (2, 2)}}, {"state": [("square", 0, 4, (2, 2))]}),
        ({"state": (Entry("middle", 1, 3, (2,)),)}, {"state": [("middle", 1, 3, (2,))]}),
    ],
)
def test_parts_of_observations_are_named_by_lengths_or_entries(layout, found, monkeypatch):
    monkeypatch.setattr(custom.Mixed, "layout", layout, raising=False)
    placed = layout_of(make(EnvConfig("envs.custom:Mixed")))
    assert {name: [tuple(entry) for entry in parts] for name, parts in placed.items()} == found


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({"state": {"left": 1}}, "describes 1 numbers of 'state', but it has 4: give the name and length of"),
        ({"state": {"left": 5}}, "describes 5 numbers of 'state', but it has 4"),
        ({"state": (Entry("middle", 1, 5, (4,)),)}, "describes 5 numbers"),
        ({"lidar": {"left": 1}}, "numbers of 'lidar', but there are only the observations eye, floor, state"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(layout, said, monkeypatch):
    monkeypatch.setattr(custom.Mixed, "layout", layout, raising=False)
    with pytest.raises(EnvError, match=said):
        layout_of(make(EnvConfig("envs.custom:Mixed")))


def test_a_look_at_an_environment_leaves_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not shows_pictures(complete(EnvConfig("envs.custom:Wanderer")))
    assert os.getcwd() == str(tmp_path)
