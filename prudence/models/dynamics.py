"""An ensemble of probabilistic networks that predict how vector observations change.

Each member maps an observation and an action to a Gaussian over the change of the observation, and to the means of the
reward, of the costs and of whether the episode terminates (PETS: Chua et al. 2018; MBPO: Janner et al. 2019). Costs are
computed from the predicted observation instead, where the environment says how (``Spaces.cost_function``). All vectors
that enter and leave the networks are standardised. Observations are one vector ``[F]`` here, in the order of their
names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from prudence.models.records import Records
from prudence.models.vectors import named, vector_size
from prudence.nets import MLP
from prudence.ops.losses import gaussian_loss, soft_bounds
from prudence.ops.normalise import RunningMoments
from prudence.optim import Optimised, OptimiserConfig
from prudence.ranges import Depth, Few, Share, Size, between
from prudence.types import Key, Metrics, Spaces

_BOUND_WEIGHT = 0.01
"""Weight with which the bounds of the log-variances are pulled together (PETS)."""
_JUMP = 5.0
"""Larger changes and rewards count as this many standard deviations in a fit.

Else the few steps that reach a goal would outweigh all others. Costs and terminations count in full, since it is unsafe
to underestimate them.
"""


@dataclass(frozen=True)
class DynamicsConfig:
    """Sizes of the ensemble, and how it is fitted. Defaults are MBPPO-Lag's (Jayant and Bhatnagar 2022).

    Attributes:
        members: M, number of networks.
        elites: E, number of networks that predict: those with the smallest held-out errors.
        layers, units: size of a network.
        optimiser: optimiser of the networks.
        decay: weight of Σw²/2 of a network in its loss.
        batch_size: steps in a minibatch. Each member has its own order of minibatches. An incomplete one is left out.
        holdout: share of the recorded steps, drawn anew for each fit, on which errors are measured.
        gain: share by which the held-out error of a member has to fall to count as progress.
        patience: epochs in a row without progress of any member, after which a fit ends.
        epochs: largest number of epochs of a fit.

    Raises:
        ValueError: there are more elites than members, or the optimiser is not ``adam``.
    """

    members: Few = 8
    elites: Few = 6
    layers: Depth = 4
    units: Size = 200
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(1e-3, clip=1000.0))
    decay: Share = 5e-5
    batch_size: Size = 256
    holdout: Annotated[float, between(0, 1, open_low=True, open_high=True)] = 0.2
    gain: Share = 0.01
    patience: Few = 5
    epochs: Few = 200

    def __post_init__(self) -> None:
        if self.elites > self.members:
            raise ValueError(f"elites={self.elites} of members={self.members}: choose at most as many as there are")
        if self.optimiser.kind != "adam":
            raise ValueError("the members are stacked, and laprop's clipping by unit would mix them: use adam")


class Outcome(NamedTuple):
    """What B imagined steps lead to.

    Attributes:
        observation: ``[B, F]``.
        reward: ``[B]``.
        cost: ``[B, C]``.
        terminal: ``[B]`` whether the episode terminates there.
    """

    observation: Float[Array, "B F"]
    reward: Float[Array, " B"]
    cost: Float[Array, "B C"]
    terminal: Bool[Array, " B"]


class Rollout(NamedTuple):
    """H imagined steps of B trajectories.

    Attributes:
        observations: ``[H, B, F]``, where ``observations[t]`` follows from ``actions[t]``.
        actions: ``[H, B, A]``.
        rewards: ``[H, B]``.
        costs: ``[H, B, C]``.
        ended: ``[H, B]`` whether the episode has terminated with ``observations[t]``, or before.
    """

    observations: Float[Array, "H B F"]
    actions: Float[Array, "H B A"]
    rewards: Float[Array, "H B"]
    costs: Float[Array, "H B C"]
    ended: Bool[Array, "H B"]


class Member(eqx.Module):
    """A network with the means of O standardised numbers, and the log-variances of the first F, those of the changes.

    ``low`` and ``high`` bound the log-variances. They are learned (PETS: Chua et al. 2018, appendix A.1).
    """

    net: MLP
    low: Float[Array, " F"]
    high: Float[Array, " F"]

    @classmethod
    def init(cls, in_size: int, size: int, out_size: int, config: DynamicsConfig, *, key: Key) -> Member:
        """A fresh network with log-variances between -10 and 1/2."""
        net = MLP(in_size, config.units, config.layers, out_size + size, norm="none", activation="silu", key=key)
        return cls(net, jnp.full(size, -10.0, jnp.float32), jnp.full(size, 0.5, jnp.float32))

    def __call__(self, inputs: Float[Array, "n I"]) -> tuple[Float[Array, "n O"], Float[Array, "n F"]]:
        """Means and log-variances."""
        raw, mean = jnp.split(self.net(inputs), [len(self.low)], -1)
        return mean, soft_bounds(raw, jnp.broadcast_to(self.low, raw.shape), jnp.broadcast_to(self.high, raw.shape))

    def loss(
        self, inputs: Float[Array, "n I"], targets: Float[Array, "n O"], varies: Float[Array, " O"], decay: float
    ) -> Float[Array, ""]:
        """Likelihood of the changes, squared errors of the other numbers, penalty on the bounds, and weight decay.

        Numbers that never vary do not count: their variance would shrink without end, and with it the share of the
        others in the gradient.
        """
        mean, log_variance = self(inputs)
        size = len(self.low)
        changes = gaussian_loss(mean[:, :size], log_variance, targets[:, :size])
        losses = jnp.concatenate([changes, jnp.square(mean[:, size:] - targets[:, size:])], -1)
        squares = sum(jnp.square(x).sum() for x in jax.tree.leaves(self.net) if eqx.is_inexact_array(x) and x.ndim == 2)
        spread = (self.high - self.low).mean()
        fitted = (varies * losses).mean()
        return fitted + _BOUND_WEIGHT * spread + decay / 2 * squares


class DynamicsState(eqx.Module):
    """What a fit changes.

    Attributes:
        members: the networks, stacked on a leading axis M.
        elites: ``[E]`` their indices, the best first.
        inputs, outputs: moments of what enters and leaves the networks.
        low, high: ``[F]`` bounds of recorded observations.
    """

    members: Optimised[Member]
    elites: Int[Array, " E"]
    inputs: RunningMoments
    outputs: RunningMoments
    low: Float[Array, " F"]
    high: Float[Array, " F"]


class Simulator(eqx.Module):
    """The elites of a fitted ensemble as an environment. Fields are those of :class:`DynamicsState`."""

    members: Member
    inputs: RunningMoments
    outputs: RunningMoments
    low: Float[Array, " F"]
    high: Float[Array, " F"]
    spaces: Spaces = eqx.field(static=True)

    def step(
        self,
        observation: Float[Array, "B F"],
        action: Float[Array, "B A"],
        order: Int[Array, " B"],
        noise: Float[Array, "B F"],
    ) -> Outcome:
        """One step of B trajectories, B a multiple of E.

        Args:
            observation: the present observations.
            action: the actions taken there.
            order: a permutation of 0 ... B - 1. The first B / E of it are the trajectories of the best elite, and so
                on. A random one gives each trajectory a random elite (TS1 of PETS), without computing all of them.
            noise: standard normal. Observations are samples. Reward, costs and termination are means.
        """
        inputs = self.inputs.normalise(jnp.concatenate([observation, action], -1))
        grouped = inputs[order].reshape(self.elites, -1, inputs.shape[-1])
        mean, log_variance = eqx.filter_vmap(Member.__call__)(self.members, grouped)
        mean, deviation = (
            jnp.zeros((len(order), x.shape[-1])).at[order].set(x.reshape(len(order), -1))
            for x in (mean, jnp.exp(log_variance / 2))
        )
        size = observation.shape[-1]
        sample = mean.at[:, :size].add(deviation * noise)
        return self._outcome(observation, self.outputs.mean + self.outputs.std * sample)

    def rollout(
        self,
        act: Callable[[Float[Array, "B F"], Bool[Array, " B"], Any], Float[Array, "B A"]],
        first: Float[Array, "B F"],
        orders: Int[Array, "H B"],
        inputs: Any,
        *,
        key: Key,
    ) -> Rollout:
        """Steps B trajectories H times. After a termination observations stay, and rewards and costs are 0.

        Args:
            act: from the observations, whether the episodes have ended, and its input to the actions.
            first: the first observations.
            orders: which elite steps which trajectory (:meth:`step`).
            inputs: the inputs of ``act``, ``[H, ...]``.
        """
        # Drawn before the loop: threefry in a loop is slow on a CPU.
        noise = jax.random.normal(key, (*orders.shape, first.shape[-1]))

        def step(carry: tuple[Array, Array], given: tuple[Array, Array, Any]) -> tuple[tuple[Array, Array], Rollout]:
            (vector, ended), (order, noise, given_to_act) = carry, given
            action = act(vector, ended, given_to_act)
            found = self.step(vector, action, order, noise)
            reward, cost = jnp.where(ended, 0.0, found.reward), jnp.where(ended[:, None], 0.0, found.cost)
            then = jnp.where(ended[:, None], vector, found.observation)
            now = ended | found.terminal
            return (then, now), Rollout(then, action, reward, cost, now)

        return jax.lax.scan(step, (first, jnp.zeros(len(first), bool)), (orders, noise, inputs))[1]

    @property
    def elites(self) -> int:
        """E, the number of networks."""
        return len(self.members.low)

    def _outcome(self, observation: Float[Array, "B F"], outputs: Float[Array, "B O"]) -> Outcome:
        """Splits the outputs. Observations stay within the bounds of recorded ones, where the model knows anything."""
        size = observation.shape[-1]
        then = jnp.clip(observation + outputs[:, :size], self.low, self.high)
        known = self.spaces.cost_function
        cost = (
            jnp.maximum(outputs[:, size + 2 :], 0.0) if known is None else known(named(then, self.spaces.observations))
        )
        return Outcome(then, outputs[:, size], jnp.asarray(cost, jnp.float32), outputs[:, size + 1] > 0.5)


class _Data(NamedTuple):
    """Standardised inputs and targets of ``number`` steps, padded to P rows, so that programs serve many numbers.

    ``varies`` is 1 for targets that are not constant, else 0.
    """

    inputs: Float[Array, "P I"]
    targets: Float[Array, "P O"]
    varies: Float[Array, " O"]
    number: Int[Array, ""]


class Progress(NamedTuple):
    """The progress of a fit: the smallest held-out errors ``[M]``, and epochs in a row without a gain."""

    best: np.ndarray
    stale: int

    def after(self, errors: np.ndarray, gain: float) -> Progress:
        """The progress after an epoch with held-out ``errors`` ``[M]``.

        >>> Progress(np.array([1.0, 1.0]), 3).after(np.array([0.995, 1.2]), 0.01).stale
        4
        """
        better = errors < (1 - gain) * self.best
        return Progress(np.where(better, errors, self.best), 0 if better.any() else self.stale + 1)


@dataclass(frozen=True)
class Dynamics:
    """An ensemble for the observations, actions and costs of ``spaces``: pure functions over :class:`DynamicsState`.

    Raises:
        ValueError: an observation is a picture.
    """

    spaces: Spaces
    config: DynamicsConfig

    def __post_init__(self) -> None:
        pictures = [name for name, spec in self.spaces.observation if spec.is_image]
        if pictures:
            raise ValueError(
                f"this model predicts vector observations, and {', '.join(pictures)} is of pictures: choose other "
                "observations (--obs lidar), or an agent whose world model sees (`prudence list`)"
            )

    @property
    def size(self) -> int:
        """F, the size of the vector of all observations."""
        return vector_size(self.spaces.observations)

    @property
    def out_size(self) -> int:
        """O: the changes, the reward, whether the episode terminates, and the costs if they have to be learned."""
        return self.size + 2 + (self.spaces.num_costs if self.spaces.cost_function is None else 0)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics of a fit."""
        return "model/loss", "model/epochs", *self._held_out(np.zeros(self.out_size))

    def init(self, *, key: Key) -> DynamicsState:
        """Fresh networks."""
        c, in_size = self.config, self.size + self.spaces.action.size
        make = lambda key: Member.init(in_size, self.size, self.out_size, c, key=key)
        members = eqx.filter_vmap(make)(jax.random.split(key, c.members))
        return DynamicsState(
            Optimised.init(members, c.optimiser),
            jnp.arange(c.elites),
            RunningMoments.init(in_size, clip=jnp.inf),
            RunningMoments.init(self.out_size, clip=jnp.inf),
            jnp.zeros(self.size),
            jnp.zeros(self.size),
        )

    def simulator(self, state: DynamicsState) -> Simulator:
        """The elites of a fitted ensemble."""
        arrays, rest = eqx.partition(state.members.module, eqx.is_array)
        elites = jax.tree.map(lambda x: x[state.elites], arrays)
        return Simulator(eqx.combine(elites, rest), state.inputs, state.outputs, state.low, state.high, self.spaces)

    def fit(self, state: DynamicsState, records: Records, *, key: Key) -> tuple[DynamicsState, Metrics]:
        """Fits all members, from their present weights on, until held-out errors stop falling.

        Returns:
            The state and metrics: ``model/loss`` of the last epoch, ``model/epochs``, and held-out errors of the
            elites, as shares of the variance (``model/holdout``; ``_reward``, ``_cost`` for these alone).

        Raises:
            ValueError: there are fewer than two steps.
        """
        c, number = self.config, len(records.rewards)
        if number < 2:
            raise ValueError(
                f"{number} recorded steps are too few to fit a model and to measure its error: record more"
            )
        order_key, key = jax.random.split(key)
        held = min(max(1, int(c.holdout * number)), number - 1)
        order = np.asarray(jax.random.permutation(order_key, number))
        state = self._rescaled(state, records, order[held:])
        data, held_out = (self._data(state, records, rows) for rows in (order[held:], order[:held]))
        size, progress, epoch = min(c.batch_size, number - held), Progress(np.full(c.members, np.inf), 0), 0
        members, errors, loss = state.members, np.zeros((c.members, self.out_size)), 0.0
        while progress.stale < c.patience and epoch < c.epochs:
            members, loss, found = self._epoch(members, data, held_out, size, key=jax.random.fold_in(key, epoch))
            errors, epoch = np.asarray(found), epoch + 1
            progress = progress.after(errors.mean(-1), c.gain)
        elites = best(errors.mean(-1), c.elites)
        state = replace(state, members=members, elites=jnp.asarray(elites))
        return state, {"model/loss": loss, "model/epochs": epoch, **self._held_out(errors[elites].mean(0))}

    def _held_out(self, errors: np.ndarray) -> Metrics:
        """Metrics of held-out errors ``[O]``."""
        size = self.size
        metrics = {"model/holdout": errors.mean(), "model/holdout_reward": errors[size]}
        return metrics if self.spaces.cost_function else metrics | {"model/holdout_cost": errors[size + 2 :].mean()}

    def _rescaled(self, state: DynamicsState, records: Records, rows: np.ndarray) -> DynamicsState:
        """The state with the moments and bounds of these records."""
        inputs, outputs = self._sides(records, rows)
        renewed = lambda old, x: type(old).init(x.shape[-1], old.clip).update(jnp.asarray(x))
        low, high = (jnp.asarray(edge(records.observations, 0)) for edge in (np.min, np.max))
        moments = {"inputs": renewed(state.inputs, inputs), "outputs": renewed(state.outputs, outputs)}
        return replace(state, **moments, low=low, high=high)

    def _sides(self, records: Records, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What enters the networks and what should leave them, not standardised."""
        chosen = Records(*(x[rows] for x in records))
        outputs = [chosen.changes, chosen.rewards[:, None], chosen.terminal[:, None]]
        outputs += [chosen.costs] if self.spaces.cost_function is None else []
        return np.concatenate([chosen.observations, chosen.actions], -1), np.concatenate(outputs, -1)

    def _data(self, state: DynamicsState, records: Records, rows: np.ndarray) -> _Data:
        inputs, targets = (padded(x) for x in self._sides(records, rows))
        varies = (state.outputs.std > 2e-4).astype(jnp.float32)  # The moments' floor is 1e-4.
        targets = state.outputs.normalise(targets)
        jumps = jnp.clip(targets[:, : self.size + 1], -_JUMP, _JUMP)
        targets = targets.at[:, : self.size + 1].set(jumps)
        return _Data(state.inputs.normalise(inputs), targets, varies, jnp.asarray(len(rows)))

    @eqx.filter_jit
    def _epoch(
        self, members: Optimised[Member], data: _Data, held_out: _Data, size: int, *, key: Key
    ) -> tuple[Optimised[Member], Float[Array, ""], Float[Array, "M O"]]:
        """One pass over the data. Returns the members, their mean loss, and held-out squared errors."""
        arrays, rest = eqx.partition(members, eqx.is_array)
        orders = jax.vmap(lambda key: shuffled(data, key=key))(jax.random.split(key, self.config.members))

        def loss(stack: Member, rows: Int[Array, "M n"]) -> Float[Array, ""]:
            of_each = lambda member, rows: member.loss(
                data.inputs[rows], data.targets[rows], data.varies, self.config.decay
            )
            return eqx.filter_vmap(of_each)(stack, rows).sum()

        def step(index: Array, carry: tuple) -> tuple:
            arrays, total = carry
            members = eqx.combine(arrays, rest)
            rows = jax.lax.dynamic_slice_in_dim(orders, index * size, size, axis=1)
            value, gradient = eqx.filter_value_and_grad(loss)(members.module, rows)
            members, _ = members.descend(gradient, "model")
            return eqx.filter(members, eqx.is_array), total + value

        steps = data.number // size
        arrays, total = jax.lax.fori_loop(0, steps, step, (arrays, jnp.zeros(())))
        members = eqx.combine(arrays, rest)
        errors = eqx.filter_vmap(lambda member: _errors(member, held_out))(members.module)
        return members, total / (steps * self.config.members), errors


def _errors(member: Member, data: _Data) -> Float[Array, " O"]:
    """Mean squared error of each output."""
    rows = jnp.arange(len(data.inputs))

    def of_row(row: Array) -> Array:
        error = jnp.square(member(data.inputs[row][None])[0][0] - data.targets[row])
        return error * data.varies * (row < data.number)

    return jax.lax.map(of_row, rows, batch_size=1024).sum(0) / data.number


def best(errors: np.ndarray, number: int) -> np.ndarray:
    """The indices of the ``number`` smallest errors, the smallest first.

    >>> best(np.array([3.0, 1.0, 2.0]), 2).tolist()
    [1, 2]
    """
    return np.argsort(errors, kind="stable")[:number]


def shuffled(data: _Data, *, key: Key) -> Int[Array, " P"]:
    """A random order of the rows of the data, before all padding."""
    padding = jnp.arange(len(data.inputs)) >= data.number
    return jnp.argsort(jax.random.uniform(key, padding.shape) + padding)


def padded(values: np.ndarray) -> Float[Array, "P *shape"]:
    """``values [n, ...]`` and zeros after them. P is the next power of 2."""
    rows = 1 << (len(values) - 1).bit_length()
    return jnp.asarray(np.pad(values, [(0, rows - len(values)), *[(0, 0)] * (values.ndim - 1)]))
