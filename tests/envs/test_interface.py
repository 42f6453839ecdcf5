"""What an environment shows and takes, and what agents see and do: one mapping, in NumPy and in JAX."""

from __future__ import annotations

import json
import warnings

import gymnasium as gym
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from gymnasium import spaces

from prudence.envs.base import EnvConfig, EnvError
from prudence.envs.interface import area_weights, interface_for, interface_from, unchanged
from prudence.envs.registry import configure, describe, make
from prudence.envs.wrappers import Adapted
from prudence.types import ActionSpec, ObservationSpec

ARM = spaces.Box(-1.0, 1.0, (1,), np.float32)


def seen(space: spaces.Space, value, **options):
    """The specification of what an agent sees, and the value that it sees."""
    interface = interface_for(space, ARM, **options)
    (own,) = interface.observations
    observation = interface.encode(value)[own.name]
    assert (observation.shape, str(observation.dtype)) == own.spec
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(own.encode(jnp.asarray(value), jnp), observation)
    return own, observation


def done(space: spaces.Space, action):
    """The environment's own action, in its own dtype and shape."""
    own = interface_for(ARM, space).action
    found = own.decode(np.asarray(action, np.float32))
    assert space.contains(found)
    np.testing.assert_allclose(own.decode(jnp.asarray(action, jnp.float32), jnp), found, rtol=1e-6)
    return found


def test_actions_have_the_environments_bounds_dtype_and_shape():
    """[-1, 1] to [0, 100] is 50 (a + 1); to [-2, 2] by [10, 20] twice its own."""
    np.testing.assert_array_equal(done(spaces.Box(0, 100, (1,), np.float64), [0.5]), [75.0])
    box = spaces.Box(np.float32([[-2, 10]]), np.float32([[2, 20]]))
    np.testing.assert_array_equal(done(box, [0.5, -1.0]), np.float32([[1, 10]]))
    assert done(spaces.Box(0, 10, (), np.float32), [3.0]) == 10.0  # Clipped, and without an axis.


def test_bounds_are_kept_though_numbers_are_rounded():
    box = spaces.Box(np.float32([0.1]), np.float32([0.3]))
    for action in np.linspace(-1, 1, 101):
        assert box.contains(interface_for(ARM, box).action.decode(np.float32([action])))


def test_every_integer_has_an_equal_share():
    """Of 500 actions from -1 to 1, each of the five integers has 100."""
    found = [int(done(spaces.Box(-2, 2, (1,), np.int64), [a])[0]) for a in (np.arange(500) + 0.5) / 250 - 1]
    assert np.bincount(np.array(found) + 2).tolist() == [100] * 5
    assert done(spaces.Box(0, 255, (2,), np.uint8), [-1, 1]).tolist() == [0, 255]


def test_discrete_actions_begin_where_theirs_do():
    assert [done(spaces.Discrete(3, start=5), one) for one in np.eye(3)] == [5, 6, 7]
    assert interface_for(ARM, spaces.Discrete(3, start=5)).action.spec == ActionSpec("discrete", 3)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.Box(-np.inf, np.inf, (1,)), "unbounded"),
        (spaces.Box(-np.finfo(np.float64).max, np.finfo(np.float64).max, (1,), np.float64), "unbounded"),
        (spaces.Box(0, np.finfo(np.float32).max, (1,), np.float32), "unbounded"),
        (spaces.Box(0, np.iinfo(np.int64).max, (1,), np.int64), "more integers than can be counted"),
        (spaces.MultiBinary(2), "MultiBinary; Prudence takes a Box or a Discrete"),
    ],
)
def test_actions_without_bounds_are_refused(space, said):
    with pytest.raises(ValueError, match=said):
        interface_for(ARM, space)


def test_numbers_become_vectors():
    own, observation = seen(spaces.Box(-1, 1, (2, 2), np.float64), np.eye(2))
    np.testing.assert_array_equal(observation, [1, 0, 0, 1])
    assert own.name == "state"
    np.testing.assert_array_equal(seen(spaces.MultiBinary(3), np.int8([1, 0, 1]))[1], [1, 0, 1])
    np.testing.assert_array_equal(seen(spaces.Discrete(3, start=-1), 1)[1], [0, 0, 1])
    np.testing.assert_array_equal(seen(spaces.MultiDiscrete([2, 3]), np.array([1, 0]))[1], [0, 1, 1, 0, 0])


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((64, 64, 3), (64, 64, 3)),
        ((16, 16), (16, 16, 1)),  # Gray.
        ((84, 84, 1), (64, 64, 1)),
        ((96, 96, 3), (64, 64, 3)),  # CarRacing.
        ((210, 160, 3), (64, 64, 3)),
        ((3, 64, 64), (64, 64, 3)),  # Channels first.
        ((4, 84, 84), (64, 64, 4)),  # A stack of gray pictures.
        ((4, 64, 64, 3), (64, 64, 12)),
        ((2, 3, 32, 32), (32, 32, 6)),
        ((7, 7, 3), (8, 8, 3)),
        ((128, 128, 3), (128, 128, 3)),
    ],
)
def test_pictures_of_any_arrangement_are_recognised(shape, size):
    """A white left half stays on the left, in every channel."""
    rows = max(range(len(shape) - 1), key=lambda i: shape[i] * shape[i + 1])
    value = np.zeros(shape, np.uint8)
    value[tuple(slice(None) if axis != rows + 1 else slice(shape[axis] // 2) for axis in range(len(shape)))] = 255
    own, picture = seen(spaces.Box(0, 255, shape, np.uint8), value)
    assert picture.shape == size
    assert (picture[:, : size[1] // 2 - 1] == 255).all()
    assert (picture[:, size[1] // 2 + 1 :] == 0).all()
    assert (own.note is None) == (shape == size)


def test_a_picture_can_have_the_size_that_is_asked_for():
    own, picture = seen(spaces.Box(0, 255, (96, 96, 3), np.uint8), np.full((96, 96, 3), 9, np.uint8), image_size=32)
    assert (picture == 9).all()
    assert own.note == (
        "observation 'image' 96x96x3 is seen as a picture 32x32x3 (height, width, channels), resized from 96x96 "
        "(--env.image-size)"
    )


def test_pictures_of_floats_have_the_range_of_pictures():
    own, picture = seen(spaces.Box(0, 1, (16, 16, 3), np.float32), np.full((16, 16, 3), 0.4, np.float32))
    assert own.spec == ObservationSpec((16, 16, 3), "uint8")
    assert (picture == 102).all()
    assert seen(spaces.Box(-1, 1, (4, 4, 3), np.float32), np.zeros((4, 4, 3), np.float32))[0].kind == "vector"


def test_a_long_vector_of_several_axes_is_announced():
    (note,) = interface_for(spaces.Box(-5, 5, (64, 64, 3), np.float32), ARM).notes
    assert "'state' 64x64x3 float32 is seen as a vector of 12288 numbers" in note
    assert interface_for(spaces.Box(0, 255, (128,), np.uint8), ARM).observations[0].kind == "vector"  # A memory.


def test_resized_pixels_are_means_of_what_they_cover():
    """Three pixels to two: a pixel and a half each."""
    np.testing.assert_allclose(area_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6)
    np.testing.assert_allclose(area_weights(2, 4) @ [1, 5], [1, 1, 5, 5])


@pytest.mark.parametrize(
    ("space", "value", "said"),
    [
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), 0.9 * np.ones((8, 8, 3)), "'image' is float64 instead of uint8"),
        (spaces.Box(0, 1, (2,)), np.zeros(3), r"'state' has shape \(3,\) instead of \(2,\)"),
        (spaces.Box(0, 1, (1,)), np.array(["a"]), "'state' is <U1 instead of float32"),
        (spaces.Discrete(3), 3, r"'state' is 3, beyond its values \[\(0, 2\)\]"),
        (spaces.Dict({"arm": ARM, "leg": ARM}), np.zeros(1), "must be a dict with arm, leg"),
        (spaces.Dict({"arm": ARM}), {"leg": np.zeros(1)}, "lacks arm; it has leg"),
    ],
)
def test_observations_that_would_go_wrong_silently_are_refused(space, value, said):
    with pytest.raises(ValueError, match=said):
        interface_for(space, ARM).encode(value)


def test_whole_numbers_of_another_dtype_are_taken():
    interface = interface_for(spaces.Box(0, 255, (8, 8, 3), np.uint8), ARM)
    assert (interface.encode(np.full((8, 8, 3), 7.0))["image"] == 7).all()


def test_a_mapping_returns_from_json():
    space = spaces.Dict(
        {"eye": spaces.Box(0, 255, (3, 84, 84), np.uint8), "gear": spaces.MultiDiscrete([2, 3]), "arm": ARM}
    )
    for action in (spaces.Box(0, 100, (2, 2), np.float64), spaces.Discrete(3, start=5)):
        interface = interface_for(space, action, action_repeat=4)
        assert interface_from(json.loads(json.dumps(interface.content()))) == interface


@pytest.mark.parametrize(
    "change",
    [
        {"observations": [{"name": "x", "kind": "vector", "shape": [2], "dtype": "object"}]},
        {"observations": [{"name": "x", "kind": "picture", "shape": [10**9, 10**9], "dtype": "uint8", "size": [8, 8]}]},
        {"observations": [{"name": "x", "kind": "vector", "shape": [-1], "dtype": "uint8"}]},
        {"action": {"kind": "continuous", "shape": [1], "dtype": "float32", "low": [1], "high": [0]}},
        {"action_repeat": 0},
        {"action": None},
    ],
)
def test_a_changed_mapping_is_refused(change):
    content = interface_for(ARM, ARM).content()
    with pytest.raises(ValueError, match="cannot be read"):
        interface_from({**content, **change})


def test_what_agents_see_already_is_unchanged():
    agents = toys.spaces(toys.VECTOR, toys.IMAGE)
    interface = unchanged(agents)
    interface.check_fits(agents)
    observation = {"state": np.float32([1, 2, 3]), "image": np.arange(192, dtype=np.uint8).reshape(8, 8, 3)}
    found = interface.encode(observation)
    assert all((found[name] == observation[name]).all() for name in observation)
    np.testing.assert_array_equal(interface.action.decode(np.float32([0.3, -1])), np.float32([0.3, -1]))
    with pytest.raises(ValueError, match="instead of"):
        interface.check_fits(toys.spaces(toys.VECTOR, toys.IMAGE, actions=3))


class Showing(gym.Env):
    """Shows the given values, one after another."""

    action_space = ARM

    def __init__(self, space, *values):
        self.observation_space, self.values = space, list(values)

    def reset(self, *, seed=None, options=None):
        return self.values.pop(0), {}

    def step(self, action):
        return self.values.pop(0), 0.0, False, False, {"cost": 0.0}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            ([0.5, 3.0], [0.5, 0.5]),
            r"at its first reset: observation 'state' has 3 at place 1, beyond its bounds \[0, 1\]",
        ),
        (([0.5, 0.5], [0.5]), r"at its first step: observation 'state' has shape \(1,\)"),
    ],
)
def test_the_first_observations_are_held_against_their_space(values, said):
    env = Adapted(Showing(spaces.Box(0, 1, (2,)), *map(np.float32, values)), "Mine")
    advance = [env.reset, lambda: env.step(np.zeros(1, np.float32))]
    for call in advance[: len(values) - 1 if "step" in said else 0]:
        call()
    with pytest.raises(EnvError, match=said):
        advance["step" in said]()


def test_the_size_of_pictures_is_an_option_of_environments_of_ones_own():
    config = configure("envs.custom:Mixed", image_size=16)
    assert make(config).observation_space["eye"].shape == (16, 16, 3)
    with pytest.raises(EnvError, match="probe/pixels has no setting 'image_size'"):
        configure("probe/pixels", image_size=16)


def test_what_prudence_adds_is_part_of_the_mapping():
    config = EnvConfig("envs.custom:Counter", spent=True, action_repeat=2)
    about = describe(make(config), config)
    about.interface.check_fits(about.spaces)
    assert [own.name for own in about.interface.observations] == ["state", "spent"]
    assert about.interface.action_repeat == 2
