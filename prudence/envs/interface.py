"""The mapping between what an environment shows and takes, and what agents see and do.

Agents see pictures (``uint8 [height, width, channels]``) and vectors (``float32 [F]``), and act in [-1, 1]^A or by a
one-hot vector. An environment has its own names, shapes, dtypes and bounds. An :class:`Interface` maps the one to the
other. The environment's wrapper (:class:`prudence.envs.wrappers.Adapted`) applies it in training and evaluation, a
deployed policy applies the same object, and an exported program contains it.

The functions that compute take ``xp``, the array library: NumPy, or ``jax.numpy`` for the exported program.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from jaxtyping import Float

from prudence.types import ActionSpec, ObservationSpec, Spaces

MOST_PIXELS = 64
"""The largest side that pictures get where their own size is none that networks take."""
_LARGEST_SIDE = 1 << 14
_UNBOUNDED = 1e30
"""Bounds beyond this stand for none: authors write the largest float where they mean infinity."""
_MOST_INTEGERS = 2**53
"""More integers than a float can count."""
_LONG = 1000
"""A vector of this many numbers that was an array of several axes is worth a note."""

Kind = Literal["vector", "choices", "picture"]


@dataclass(frozen=True)
class OwnObservation:
    """One of the environment's own observations, and how an agent sees it.

    Attributes:
        name: the agent's name for it. It is the environment's own name, where that has one.
        kind: ``vector``: all numbers in a row. ``choices``: a one-hot vector for each of its numbers. ``picture``.
        shape, dtype: the environment's own.
        starts, sizes: of ``choices``: the smallest value of each number, and how many values there are.
        axis: of a ``picture``: the axis of its rows. Its columns are the next axis; all others are channels.
        size: of a ``picture``: its height and width for the agent.
        scale: of a ``picture``: what its values are multiplied by, to be within 0 and 255.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str
    starts: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    axis: int = 0
    size: tuple[int, int] = (0, 0)
    scale: float = 1.0

    def __post_init__(self) -> None:
        good = np.dtype(self.dtype).kind in "biuf" and all(length > 0 for length in (*self.shape, *self.sizes))
        if self.kind == "choices":
            good &= len(self.starts) == len(self.sizes) == math.prod(self.shape)
        elif self.kind == "picture":
            sides = (*self.shape[self.axis : self.axis + 2], *self.size)
            good &= len(sides) == 4 and all(0 < side <= _LARGEST_SIDE for side in sides)
        else:
            good &= self.kind == "vector"
        if not good:
            raise ValueError(f"observation {self.name!r} has no such shape, dtype or kind: {self}")

    @property
    def spec(self) -> ObservationSpec:
        """What the agent sees."""
        if self.kind == "picture":
            return ObservationSpec((*self.size, self._channels), "uint8")
        return ObservationSpec((sum(self.sizes) if self.kind == "choices" else math.prod(self.shape),), "float32")

    @property
    def _channels(self) -> int:
        rows, columns = self.shape[self.axis : self.axis + 2]
        return math.prod(self.shape) // (rows * columns)

    @property
    def note(self) -> str | None:
        """What a person should know about the conversion, or None if there is nothing to know."""
        shape, seen = "x".join(map(str, self.shape)), "x".join(map(str, self.spec.shape))
        if self.kind == "picture" and self.shape != self.spec.shape:
            rows, columns = self.shape[self.axis : self.axis + 2]
            resized = f", resized from {rows}x{columns} (--env.image-size)" if (rows, columns) != self.size else ""
            return f"observation {self.name!r} {shape} is seen as a picture {seen} (height, width, channels){resized}"
        if self.kind == "vector" and len(self.shape) > 1 and math.prod(self.shape) >= _LONG:
            return (
                f"observation {self.name!r} {shape} {self.dtype} is seen as a vector of {seen} numbers. If it is a "
                "picture, make its Box uint8 from 0 to 255"
            )
        return None

    def checked(self, value: Any) -> np.ndarray:
        """``value`` with this shape and dtype.

        Raises:
            ValueError: it has another shape, or this dtype cannot hold its values.
        """
        value, dtype = np.asarray(value), np.dtype(self.dtype)
        if value.shape != self.shape:
            raise ValueError(f"observation '{self.name}' has shape {value.shape} instead of {self.shape}")
        if value.dtype != dtype:
            value = _cast(self.name, value, dtype)
        if self.kind == "choices" and not self._in_range(value):
            ends = [(start, start + size - 1) for start, size in zip(self.starts, self.sizes, strict=True)]
            raise ValueError(f"observation '{self.name}' is {value}, beyond its values {ends}")
        return value

    def _in_range(self, value: np.ndarray) -> bool:
        return all(
            0 <= int(number) - start < size
            for number, start, size in zip(value.reshape(-1), self.starts, self.sizes, strict=True)
        )

    def encode(self, value: Any, xp: Any = np) -> Any:
        """What the agent sees for a ``value`` of this shape, as :attr:`spec` says."""
        if self.kind == "picture":
            return self._picture(value, xp)
        flat = xp.reshape(value, -1)
        if self.kind == "vector":
            return flat.astype(np.float32)
        chosen = [
            xp.arange(size) == flat[i] - start
            for i, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True))
        ]
        return xp.concatenate(chosen).astype(np.float32)

    def _picture(self, value: Any, xp: Any) -> Any:
        rows, columns = self.axis, self.axis + 1
        others = [axis for axis in range(len(self.shape)) if axis not in (rows, columns)]
        height, width = self.shape[rows], self.shape[columns]
        picture = xp.reshape(xp.transpose(value, (rows, columns, *others)), (height, width, -1))
        if (height, width) == self.size and self.dtype == "uint8":
            return picture
        picture = picture.astype(np.float32) * np.float32(self.scale)
        down, across = area_weights(height, self.size[0]), area_weights(width, self.size[1])
        # Two products, one for each axis. NumPy's einsum of all three takes a thousand times as long.
        picture = xp.reshape(down @ xp.reshape(picture, (height, -1)), (self.size[0], width, -1))
        picture = across @ picture
        return xp.clip(xp.round(picture), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class OwnAction:
    """The environment's own actions.

    Attributes:
        kind: of the agent's actions: ``continuous`` in [-1, 1]^A, or ``discrete``.
        shape, dtype: the environment's own.
        low, high: the smallest and largest value of each number. All of a ``discrete`` action's integers count.
    """

    kind: Literal["continuous", "discrete"]
    shape: tuple[int, ...]
    dtype: str
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        counts = {len(self.low), len(self.high), math.prod(self.shape)}
        good = np.dtype(self.dtype).kind in "biuf" and self.kind in ("continuous", "discrete") and len(counts) == 1
        if not good or not all(a <= b for a, b in zip(self.low, self.high, strict=True)):
            raise ValueError(f"these are no bounds of an action: {self}")

    @property
    def spec(self) -> ActionSpec:
        """What the agent does."""
        if self.kind == "discrete":
            return ActionSpec("discrete", int(self.high[0] - self.low[0]) + 1)
        return ActionSpec("continuous", len(self.low))

    def decode(self, action: Any, xp: Any = np) -> Any:
        """The environment's own action for an action of the agent, ``[A]``.

        Numbers of a continuous action are scaled to their bounds. Where they are integers, each integer has an equal
        share of [-1, 1].
        """
        if self.kind == "discrete":
            return self.choice(xp.argmax(action), xp)
        low, high = (xp.asarray(bound, float) for bound in (self.low, self.high))
        unit = (xp.clip(xp.asarray(action, float), -1.0, 1.0) + 1.0) / 2.0
        if np.dtype(self.dtype).kind == "f":
            value = low + unit * (high - low)
        else:
            value = low + xp.floor(unit * (high - low + 1.0))
        value = xp.reshape(xp.clip(value, low, high), self.shape)
        return value.astype(self.dtype) if xp is np else value  # JAX has no float64; the caller converts.

    def choice(self, index: Any, xp: Any = np) -> Any:
        """The environment's own action number ``index``, of a ``discrete`` action."""
        number = index + int(self.low[0])
        return int(number) if xp is np else number


@dataclass(frozen=True)
class Interface:
    """The mapping of an environment's observations and actions. It is data: hashable, and stored in checkpoints.

    Attributes:
        observations: the environment's observations, in the agent's order.
        action: the environment's actions.
        action_repeat: the environment's own steps in one decision.
    """

    observations: tuple[OwnObservation, ...]
    action: OwnAction
    action_repeat: int = 1

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the conversion of observations, a line for each."""
        return tuple(own.note for own in self.observations if own.note is not None)

    def encode(self, observation: Any, names: Any = None) -> dict[str, np.ndarray]:
        """What the agent sees of the environment's ``observation``.

        Args:
            observation: as the environment returns it: in a dictionary, or by itself if there is one.
            names: those to encode; None encodes all. Others need not be in ``observation``.

        Raises:
            ValueError: an observation is missing, has another shape, or has values that its dtype cannot hold.
        """
        wanted = [own for own in self.observations if names is None or own.name in names]
        if not isinstance(observation, Mapping):
            if len(wanted) != 1:
                raise ValueError(f"the observation must be a dict with {', '.join(own.name for own in wanted)}")
            observation = {wanted[0].name: observation}
        missing = [own.name for own in wanted if own.name not in observation]
        if missing:
            raise ValueError(f"the observation lacks {', '.join(missing)}; it has {', '.join(map(str, observation))}")
        with np.errstate(over="ignore"):  # What is too large for float32 becomes infinite, which is refused later.
            return {own.name: own.encode(own.checked(observation[own.name])) for own in wanted}

    def check_fits(self, spaces: Spaces) -> None:
        """Raises ValueError unless the agent's side of this mapping has what an actor sees and does in ``spaces``."""
        wanted, done = spaces.unprivileged, self.action.spec
        seen = {own.name: own.spec for own in self.observations if own.name in wanted}
        if seen != wanted or done != spaces.action:
            raise ValueError(f"it maps to {seen} and {done} instead of {wanted} and {spaces.action}")

    def content(self) -> dict[str, Any]:
        """This mapping in values of JSON's types; :func:`interface_from` reads them."""
        return dataclasses.asdict(self)


def interface_from(content: Any) -> Interface:
    """The mapping of :meth:`Interface.content`.

    Raises:
        ValueError: ``content`` is no such mapping.
    """
    try:
        observations = tuple(OwnObservation(**_tuples(own)) for own in content["observations"])
        action, repeat = OwnAction(**_tuples(content["action"])), content["action_repeat"]
        if not isinstance(repeat, int) or repeat < 1:
            raise ValueError(f"action_repeat={repeat}")
        return Interface(observations, action, repeat)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the mapping of observations and actions cannot be read ({error!r})") from error


def interface_for(
    observation: spaces.Space, action: spaces.Space, *, image_size: int | None = None, action_repeat: int = 1
) -> Interface:
    """The mapping for an environment with these spaces.

    An observation that is not in a Dict gets the name ``image`` or ``state``. Height and width of a picture are the two
    neighbouring axes with the most pixels, so that channels may be first or last, and pictures may be stacked.

    Args:
        image_size: height and width of all pictures for the agent. With None, pictures keep their size if networks take
            it (square, 8, 16, 32, 64 ... pixels). Others get the next larger one, and at most 64.

    Raises:
        ValueError: an observation is not a Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these. An action is
            neither a Box with finite bounds nor Discrete.
    """
    parts = dict(observation.spaces) if isinstance(observation, spaces.Dict) else {"": observation}
    seen = tuple(_observation_of(name, space, image_size) for name, space in parts.items())
    return Interface(seen, _action_of(action), action_repeat)


def unchanged(agents: Spaces) -> Interface:
    """The mapping of an environment whose observations and actions are those of agents already."""
    seen = tuple(
        OwnObservation(name, "picture", spec.shape, spec.dtype, size=(spec.shape[0], spec.shape[1]))
        if spec.is_image
        else OwnObservation(name, "vector", spec.shape, spec.dtype)
        for name, spec in agents.observation
    )
    kind, size = agents.action
    if kind == "discrete":
        return Interface(seen, OwnAction(kind, (), "int64", (0,), (size - 1,)))
    return Interface(seen, OwnAction(kind, (size,), "float32", (-1.0,) * size, (1.0,) * size))


@functools.lru_cache(maxsize=16)
def area_weights(own: int, wanted: int) -> Float[np.ndarray, "wanted own"]:
    """Weights that resize ``own`` pixels to ``wanted`` ones: each is the mean over the area that it covers.

    >>> area_weights(3, 2).round(2).tolist()
    [[0.67, 0.33, 0.0], [0.0, 0.33, 0.67]]
    """
    edges = np.linspace(0, own, wanted + 1)
    pixels = np.arange(own)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(covered, 0) * wanted / own).astype(np.float32)


def _observation_of(key: str, space: spaces.Space, image_size: int | None) -> OwnObservation:
    shape, dtype = tuple(space.shape or ()), str(space.dtype)
    axis = _rows_of(space)
    name = key or ("state" if axis is None else "image")
    if axis is not None:
        rows, columns = shape[axis : axis + 2]
        side = image_size or _side_for(rows, columns)
        scale = 1.0 if dtype == "uint8" else 255.0 / _highest(space)
        return OwnObservation(name, "picture", shape, dtype, axis=axis, size=(side, side), scale=scale)
    if isinstance(space, spaces.Discrete):
        return OwnObservation(name, "choices", (), dtype, starts=(int(space.start),), sizes=(int(space.n),))
    if isinstance(space, spaces.MultiDiscrete):
        starts = tuple(int(start) for start in np.broadcast_to(space.start, shape).reshape(-1))
        return OwnObservation(
            name, "choices", shape, dtype, starts=starts, sizes=tuple(map(int, space.nvec.reshape(-1)))
        )
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        return OwnObservation(name, "vector", shape, dtype)
    raise ValueError(f"observation {name!r} is a {type(space).__name__}; use a Box or a Dict of them")


def _side_for(rows: int, columns: int) -> int:
    """The side of a picture that networks take."""
    side = max(8, 1 << (max(rows, columns) - 1).bit_length())
    return side if rows == columns == side else min(side, MOST_PIXELS)


def _rows_of(space: spaces.Space) -> int | None:
    """The axis of a picture's rows. None for what is no picture.

    Pictures are ``uint8`` with two to four axes, or of floats from 0 to 1 or 255 with three or four.
    """
    if not isinstance(space, spaces.Box):
        return None
    axes = len(space.shape)
    if space.dtype != np.uint8:
        floats = np.dtype(space.dtype).kind == "f" and axes > 2 and (space.low == 0).all()
        if not floats or _highest(space) not in (1.0, 255.0):
            return None
    elif axes == 2 and min(space.shape) < 8:
        return None  # A table of small numbers.
    if not 2 <= axes <= 4:
        return None
    return max(range(axes - 1), key=lambda axis: space.shape[axis] * space.shape[axis + 1])


def _highest(space: spaces.Space) -> float:
    """The bound of every value, or infinity if they differ."""
    assert isinstance(space, spaces.Box)
    highest = float(space.high.max(initial=0))
    return highest if (space.high == highest).all() else math.inf


def _action_of(space: spaces.Space) -> OwnAction:
    if isinstance(space, spaces.Discrete):
        first = int(space.start)
        return OwnAction("discrete", (), str(space.dtype), (first,), (first + int(space.n) - 1,))
    if not isinstance(space, spaces.Box):
        raise ValueError(f"actions are a {type(space).__name__}; Prudence takes a Box or a Discrete space")
    low, high = (bound.astype(np.float64).reshape(-1) for bound in (space.low, space.high))
    if not (high / 2 - low / 2 < _UNBOUNDED / 2).all():  # Halves, since the difference may be too large for a float.
        raise ValueError("its actions are unbounded; give its Box action space finite low and high")
    dtype = np.dtype(space.dtype)
    if dtype.kind in "iu" and not (np.maximum(np.abs(low), np.abs(high)) < _MOST_INTEGERS).all():
        raise ValueError("its actions have more integers than can be counted; give its Box action space closer bounds")
    return OwnAction("continuous", tuple(space.shape), str(dtype), tuple(low.tolist()), tuple(high.tolist()))


def _cast(name: str, value: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """``value`` as ``dtype``. Floats may be rounded, and nothing else may be lost."""
    if value.dtype.kind not in "biuf":
        raise ValueError(f"observation '{name}' is {value.dtype} instead of {dtype}: convert it")
    with np.errstate(invalid="ignore", over="ignore"):
        cast = value.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(cast, value):
        raise ValueError(
            f"observation '{name}' is {value.dtype} instead of {dtype}, which cannot hold its values from "
            f"{value.min():g} to {value.max():g}: convert it, or declare its space as it is"
        )
    return cast


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
