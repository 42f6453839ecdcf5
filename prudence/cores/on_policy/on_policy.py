"""The core of PPO, TRPO, CPO, FOCOPS, and of their Lagrangian and Sautéed variants.

An iteration has five parts. It collects a rollout with the current policy, estimates the advantages of reward and costs
(generalised advantage estimation), updates the multiplier, improves the policy, and fits the critics. A system combines
an *improvement* (how the policy changes, prudence/cores/on_policy/improvement.py) and a *constraint* (how costs enter
the objective, :mod:`prudence.constraints`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from prudence.actors import Actor, ActorConfig, Policy
from prudence.budgets import Budget, Imagined, Lived, LivedCosts
from prudence.constraints import (
    SPENT,
    Constraint,
    CostPenalty,
    DualAscent,
    PIDLagrangian,
    Saute,
    Switch,
    Unconstrained,
    Unpriced,
)
from prudence.cores.base import Mode, compiled
from prudence.cores.model_free import ModelFreeAgent
from prudence.cores.on_policy.improvement import (
    ClippedSurrogate,
    ConstrainedTrustRegion,
    Improvement,
    PenalisedDivergence,
    Rollout,
    TrustRegion,
    minibatches,
)
from prudence.models.pictures import ConvEncoder, PatchEncoder, Patches, picture_encoder
from prudence.models.vectors import vector, vector_size
from prudence.nets import MLP
from prudence.ops.normalise import RunningMoments
from prudence.ops.returns import lambda_returns
from prudence.optim import Optimised, OptimiserConfig
from prudence.ranges import Depth, Few, Share, Size
from prudence.types import Batch, Key, Metrics, Observation, ObservationSpec, Spaces, tree_index


@dataclass(frozen=True)
class ValueConfig:
    """A value function, and how it is fitted to a rollout's returns: least squares with weight decay.

    Attributes:
        layers, units: size of the network.
        optimiser: optimiser of the network.
        passes: number of passes over the rollout.
        batch_size: number of decisions in a minibatch.
        shrinkage: factor on Σθ² in the loss (weight decay).
    """

    layers: Depth = 2
    units: Size = 64
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(3e-4, clip=40.0))
    passes: Few = 10
    batch_size: Size = 64
    shrinkage: Share = 1e-3


@dataclass(frozen=True)
class OnPolicyConfig:
    """The configuration of an on-policy agent. Defaults follow OmniSafe's PPO-Lag on Safety-Gymnasium.

    Attributes:
        improvement: how the policy changes.
        constraint: how costs enter the objective.
        actor: the policy's network.
        critic: the value functions of reward and costs.
        actor_optimiser: the policy's optimiser, for first-order improvements.
        cnn_depth: number of channels of the first convolution, for images. Policy and value functions have separate
            encoders.
        patches: images are encoded as patches, by matrix products; None means by convolutions.
        discount: γ of rewards.
        lambda_, cost_lambda: λ of the generalised advantage estimates of reward and of costs.
        budget: what episodes may cost. A memory of 0.02 has the same mean age as a mean of the last 100 episodes.
        final_rate: the actor's learning rate at the end of the run, as a share of the initial one. It falls linearly.
        evaluation: which actions are evaluated. The default is ``sample``, because the constraint holds for the
            stochastic policy.
    """

    improvement: ClippedSurrogate | PenalisedDivergence | TrustRegion | ConstrainedTrustRegion = field(
        default_factory=ClippedSurrogate
    )
    constraint: Unconstrained | CostPenalty | DualAscent | PIDLagrangian | Switch | Saute = field(
        default_factory=Unconstrained
    )
    actor: ActorConfig = field(
        default_factory=lambda: ActorConfig(
            layers=2, units=64, continuous="clipped_normal", unimix=0.0, norm="none", activation="tanh"
        )
    )
    critic: ValueConfig = field(default_factory=ValueConfig)
    actor_optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(3e-4, clip=40.0))
    cnn_depth: Size = 16
    patches: Patches | None = None
    discount: Share = 0.99
    lambda_: Share = 0.95
    cost_lambda: Share = 0.95
    budget: Budget = field(
        default_factory=lambda: Budget(25.0, discount=0.99, violation=Lived(memory=0.02, relative=False))
    )
    final_rate: Share = 0.05
    evaluation: Literal["mode", "sample"] = "sample"

    @property
    def values_costs(self) -> bool:
        """Whether the agent needs a cost critic."""
        return self.improvement.values_costs or not isinstance(self.constraint, Unpriced)


class Inputs(NamedTuple):
    """The inputs of the networks: all vector observations in one normalised vector, and the unchanged images."""

    vector: Float[Array, "*batch F"]
    images: dict[str, Array]


class Senses(eqx.Module):
    """The encoder from :class:`Inputs` to one feature vector: one network for each image, and the unchanged vector."""

    images: dict[str, ConvEncoder | PatchEncoder]
    out_size: int = eqx.field(static=True)

    def __init__(self, specs: dict[str, ObservationSpec], config: OnPolicyConfig, *, key: Key):
        names = [name for name in sorted(specs) if specs[name].is_image]
        keys = jax.random.split(key, len(names) + 1)
        self.images = {
            n: picture_encoder(specs[n].shape, config.patches, config.cnn_depth, key=k)
            for n, k in zip(names, keys[1:], strict=True)
        }
        self.out_size = vector_size(specs) + sum(net.out_size for net in self.images.values())

    def __call__(self, inputs: Inputs) -> Float[Array, "*batch F"]:
        seen = [net(inputs.images[name]) for name, net in self.images.items()]
        return jnp.concatenate([inputs.vector, *seen], -1)


class PolicyNet(eqx.Module):
    """The policy: from :class:`Inputs` to a distribution over actions."""

    senses: Senses
    actor: Actor

    def __call__(self, inputs: Inputs) -> Policy:
        return self.actor(self.senses(inputs))


class ValueNet(eqx.Module):
    """A value function: from :class:`Inputs` to K expected returns."""

    senses: Senses
    net: MLP

    def __call__(self, inputs: Inputs) -> Float[Array, "*batch K"]:
        return self.net(self.senses(inputs))


class OnPolicyState(eqx.Module):
    """The state of the agent: everything that training changes. ``step`` is the number of rollouts."""

    actor: Optimised[PolicyNet]
    critic: Optimised[ValueNet]
    cost_critic: Optimised[ValueNet] | None
    moments: RunningMoments
    constraint: Any
    lived: LivedCosts
    step: Int[Array, ""]


class Advantages(NamedTuple):
    """Advantages, value targets and values of N = T·E decisions. K is 1 for reward, and C for costs."""

    advantages: Float[Array, "N K"]
    targets: Float[Array, "N K"]
    values: Float[Array, "N K"]


RUN_UPDATES = 500
"""Number of rollouts of a run if its length is not given."""


@dataclass(frozen=True)
class OnPolicy(ModelFreeAgent):
    """An agent with a policy, value functions of reward and costs, an improvement and a constraint.

    Attributes:
        spaces: the environment's spaces.
        config: the configuration.
        run_updates: number of rollouts of the whole run. The learning rate falls over this time.

    Raises:
        ValueError: the configuration does not suit the spaces.
    """

    spaces: Spaces
    config: OnPolicyConfig
    run_updates: int = RUN_UPDATES

    def __post_init__(self) -> None:
        self.config.budget.check(self.spaces, constrained=False)
        if isinstance(self.config.budget.violation, Imagined):
            raise ValueError(
                "an agent without a world model cannot imagine costs: choose budget.violation=Lived(relative=False)"
            )
        if self.config.improvement.values_costs and self.spaces.episode_steps is None:
            raise ValueError(
                "CPO spreads an episode's budget over its decisions, but the environment has no time limit: set one "
                "(EnvConfig.time_limit)"
            )
        if isinstance(self.config.constraint, Saute) and SPENT not in self.spaces.observations:
            raise ValueError(
                "a Sautéed agent has to observe the costs of the episode so far, but the environment has no "
                f"observation '{SPENT}': set EnvConfig.spent (--env.spent)"
            )

    @property
    def cost_limits(self) -> Float[Array, " C"]:
        """The budgets d."""
        return self.config.budget.limits(self.spaces.num_costs)

    def init(self, *, key: Key) -> OnPolicyState:
        c, num_costs, specs = self.config, self.spaces.num_costs, dict(self.spaces.unprivileged)
        actor_key, senses_key, critic_key, cost_key = jax.random.split(key, 4)
        senses = Senses(specs, c, key=senses_key)
        actor = PolicyNet(senses, Actor(senses.out_size, self.spaces.action, c.actor, key=actor_key))
        return OnPolicyState(
            actor=Optimised.init(actor, c.actor_optimiser),
            critic=self._value_net(1, key=critic_key),
            cost_critic=self._value_net(num_costs, key=cost_key) if c.values_costs else None,
            moments=RunningMoments.init(vector_size(specs)),
            constraint=c.constraint.init(num_costs),
            lived=c.budget.init(num_costs),
            step=jnp.zeros((), jnp.int32),
        )

    def _value_net(self, outputs: int, *, key: Key) -> Optimised[ValueNet]:
        c = self.config
        senses_key, net_key = jax.random.split(key)
        senses = Senses(dict(self.spaces.unprivileged), c, key=senses_key)
        net = MLP(
            senses.out_size, c.critic.units, c.critic.layers, outputs, norm="none", activation="tanh", key=net_key
        )
        return Optimised.init(ValueNet(senses, net), c.critic.optimiser)

    # --- acting -------------------------------------------------------------------------------

    def act(
        self,
        state: OnPolicyState,
        carry: tuple[()],
        observation: Observation,
        is_first: Bool[Array | np.ndarray, " E"],
        *,
        key: Key,
        mode: Mode,
    ) -> tuple[Float[Array, "E A"], tuple[()], Metrics]:
        """Samples the policy. In mode ``evaluate`` it takes the distribution's mode if ``evaluation`` is ``mode``."""
        greedy = mode == "evaluate" and self.config.evaluation == "mode"
        # The optimisers' states are left out, because every call would flatten them.
        action, entropy = self._act(state.actor.module, state.moments, observation, key=key, greedy=greedy)
        return action, carry, {"policy/entropy": entropy}

    @compiled("self", "greedy")
    def _act(
        self, net: PolicyNet, moments: RunningMoments, observation: Observation, *, key: Key, greedy: bool
    ) -> tuple[Float[Array, "E A"], Float[Array, " E"]]:
        policy = net(self._inputs(moments, observation))
        number = len(next(iter(observation.values())))
        action = policy.mode() if greedy else policy.sample(net.actor.noise(number, key=key))
        return action, policy.entropy()

    def _inputs(self, moments: RunningMoments, observation: Observation) -> Inputs:
        numbers, images = self._split(observation)
        return Inputs(moments.normalise(numbers), images)

    def _split(self, observation: Observation) -> tuple[Float[Array, "*batch F"], dict[str, Array]]:
        """All vector observations in one vector, not normalised, and the images."""
        shown, specs = self.config.constraint.observed(observation, self.cost_limits), self.spaces.unprivileged
        return vector(shown, specs), {n: jnp.asarray(shown[n]) for n in specs if specs[n].is_image}

    # --- learning -----------------------------------------------------------------------------

    @compiled("self")
    def update(self, state: OnPolicyState, batches: Batch, *, key: Key) -> tuple[OnPolicyState, Metrics]:
        """Learns from U rollouts ``[U, E, T+1, ...]``. The last row of a rollout only has the result of decision T."""
        metrics = {}
        for index in range(len(batches.reward)):
            rows = jax.tree.map(lambda x: jnp.swapaxes(jnp.asarray(x), 0, 1), tree_index(batches, index))
            state, metrics = self._update(state, rows, key=jax.random.fold_in(key, index))
        return state, metrics

    def _update(self, state: OnPolicyState, rows: Batch, *, key: Key) -> tuple[OnPolicyState, Metrics]:
        """Learns from one rollout ``[T+1, E, ...]``: first the multiplier, then policy and critics, as in OmniSafe."""
        c = self.config
        actor_key, critic_key, cost_key = jax.random.split(key, 3)
        numbers, images = self._split(rows.observation)
        inputs = Inputs(state.moments.normalise(numbers), images)
        rewards = c.constraint.shaped(rows, self.cost_limits)
        reward = self._advantages(state.critic, inputs, rewards[..., None], rows, c.discount, c.lambda_)
        cost = None
        if state.cost_critic is not None:
            costs = jnp.asarray(rows.cost)
            cost = self._advantages(state.cost_critic, inputs, costs, rows, c.budget.discount, c.cost_lambda)
        constraint = self._move_price(state)
        decided = jax.tree.map(lambda x: _joined(x[:-1]), inputs)
        rollout = self._rollout(state, constraint, decided, rows, reward, cost)
        actor, metrics = c.improvement.improve(state.actor, rollout, key=actor_key)
        critic, critic_metrics = self._fit(state.critic, rollout, reward, "critic", key=critic_key)
        cost_critic, cost_metrics = state.cost_critic, {}
        if cost_critic is not None and cost is not None:
            cost_critic, cost_metrics = self._fit(cost_critic, rollout, cost, "cost_critic", key=cost_key)
        metrics |= {"policy/std": _mean_std(actor.module)} if actor.module.actor.log_std is not None else {}
        # The policy acted with the moments from before the rollout, so it also learns with them.
        moments = state.moments.update(_joined(numbers[:-1]))
        after = OnPolicyState(actor, critic, cost_critic, moments, constraint, state.lived, state.step + 1)
        return after, metrics | critic_metrics | cost_metrics | self.multiplier_metrics(constraint)

    def _advantages(
        self,
        critic: Optimised[ValueNet],
        inputs: Inputs,
        rewards: Float[Array, "states E K"],
        rows: Batch,
        discount: float,
        lambda_: float,
    ) -> Advantages:
        r"""Generalised advantage estimates (Schulman et al. 2016), :math:`A^λ_t = R^λ_t - V(s_t)`.

        A truncated episode and the end of the rollout bootstrap from the value of the last observation. A terminated
        episode has no value after its end.
        """
        values = critic.module(inputs)

        def like_values(x: Any) -> Array:
            """Repeats ``[states, E]`` for each of the K values."""
            return jnp.broadcast_to(jnp.asarray(x, jnp.float32)[..., None], values.shape)

        def flat(x: Array) -> Array:
            """``[T, E, K]`` to ``[T·E, K]``."""
            return x.reshape(-1, x.shape[-1])

        discounts = discount * (1 - like_values(rows.is_terminal))
        returns = lambda_returns(rewards, values, discounts, lambda_ * (1 - like_values(rows.is_last)))
        return Advantages(flat(returns - values[:-1]), flat(returns), flat(values[:-1]))

    def _move_price(self, state: OnPolicyState) -> Any:
        """The constraint's state after this rollout's episodes. It stays unchanged until an episode has finished."""
        constraint, known = self.config.constraint, state.lived.recent.weight > 0
        moved = constraint.update(state.constraint, self._violation(state))
        return jax.tree.map(lambda new, old: jnp.where(known, new, old), moved, state.constraint)

    def _violation(self, state: OnPolicyState) -> Float[Array, " C"]:
        """The violation of the mean cost of recent episodes."""
        return self.config.budget.exceeded(state.lived, state.lived.recent.mean)

    def _rollout(
        self,
        state: OnPolicyState,
        constraint: Any,
        inputs: Inputs,
        rows: Batch,
        reward: Advantages,
        cost: Advantages | None,
    ) -> Rollout:
        c = self.config
        actions = jnp.asarray(rows.prev_action[1:]).reshape(-1, self.spaces.action.size)
        policy = state.actor.module(inputs)
        weights = 1 - jnp.asarray(rows.is_last[:-1], jnp.float32).reshape(-1)
        gain = _standardised(reward.advantages[:, 0], weights)
        harm = jnp.zeros((len(weights), self.spaces.num_costs)) if cost is None else _centred(cost.advantages, weights)
        active = state.step >= c.budget.start
        reward_weight, cost_weights = c.constraint.weights(constraint, self._violation(state))
        reward_weight, cost_weights = jnp.where(active, reward_weight, 1.0), active * cost_weights
        decay = 1.0 - (1.0 - c.final_rate) * jnp.clip(state.step / self.run_updates, 0, 1)
        return Rollout(
            inputs=inputs,
            actions=actions,
            old=policy,
            log_probs=policy.log_prob(actions),
            advantages=(reward_weight * gain - harm @ cost_weights) / (reward_weight + cost_weights.sum()),
            cost_advantages=harm,
            weights=weights,
            violation=self._violation(state) / (self.spaces.episode_steps or 1),
            rate=jnp.asarray(decay, jnp.float32),
        )

    def _fit(
        self, critic: Optimised[ValueNet], rollout: Rollout, told: Advantages, name: str, *, key: Key
    ) -> tuple[Optimised[ValueNet], Metrics]:
        """Fits a value function to the returns by least squares, in shuffled minibatches."""
        c = self.config.critic
        arrays, rest = eqx.partition(critic, eqx.is_array)

        def loss(net: ValueNet, index: Array) -> Float[Array, ""]:
            inputs, targets, weights = tree_index((rollout.inputs, told.targets, rollout.weights), index)
            error = jnp.square(net(inputs) - targets).sum(-1)
            squares = sum(jnp.square(p).sum() for p in jax.tree.leaves(eqx.filter(net, eqx.is_inexact_array)))
            return (weights * error).mean() + c.shrinkage * squares

        def step(arrays: PyTree, index: Array) -> tuple[PyTree, Float[Array, ""]]:
            critic = eqx.combine(arrays, rest)
            value, gradient = eqx.filter_value_and_grad(loss)(critic.module, index)
            critic, _ = critic.descend(gradient, name)
            return eqx.filter(critic, eqx.is_array), value

        def shuffle(number: Array) -> Array:
            return minibatches(len(rollout.weights), c.batch_size, key=jax.random.fold_in(key, number))

        def squared_deviations(x: Float[Array, "N K"]) -> Float[Array, ""]:
            """Weighted sum of squared deviations from the mean."""
            return (rollout.weights @ jnp.square(_centred(x, rollout.weights))).sum()

        orders = jax.vmap(shuffle)(jnp.arange(c.passes))
        arrays, losses = jax.lax.scan(step, arrays, orders.reshape(-1, orders.shape[-1]))
        unexplained, total = squared_deviations(told.targets - told.values), squared_deviations(told.targets)
        explained = 1 - unexplained / jnp.maximum(total, 1e-8)
        metrics = {f"{name}/loss": losses.mean(), f"{name}/value": told.values.mean(), f"{name}/explained": explained}
        return eqx.combine(arrays, rest), metrics


def _joined(x: Array) -> Array:
    """``[T, E, ...]`` to ``[T·E, ...]``. The size -1 would be ambiguous if there are no vectors, F = 0."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _mean_std(net: PolicyNet) -> Float[Array, ""]:
    log_std = net.actor.log_std
    assert log_std is not None
    return jnp.exp(log_std).mean()


def _centred(values: Float[Array, "N *C"], weights: Float[Array, " N"]) -> Float[Array, "N *C"]:
    return values - jnp.tensordot(weights, values, 1) / jnp.maximum(weights.sum(), 1.0)


def _standardised(values: Float[Array, " N"], weights: Float[Array, " N"]) -> Float[Array, " N"]:
    centred = _centred(values, weights)
    return centred / (jnp.sqrt((weights * jnp.square(centred)).sum() / jnp.maximum(weights.sum(), 1.0)) + 1e-8)


def compose(
    name: str, spaces: Spaces, config: OnPolicyConfig, improvement: type[Improvement], *constraints: type[Constraint]
) -> OnPolicy:
    """Makes the agent ``name``, which requires this improvement and one of these constraints.

    Raises:
        ValueError: ``config`` has another improvement or constraint, or does not suit the spaces.
    """
    if not isinstance(config.improvement, improvement) or not isinstance(config.constraint, constraints):
        wanted = f"improvement={improvement.__name__} and constraint={' or '.join(c.__name__ for c in constraints)}"
        found = f"{type(config.improvement).__name__} and {type(config.constraint).__name__}"
        raise ValueError(f"{name} needs {wanted}, but the configuration has {found}")
    return OnPolicy(spaces, config)
