"""The core of soft actor-critic (SAC: Haarnoja et al. 2018b), with or without a budget.

The agent learns from single steps of a replay: twin critics of reward and entropy, one critic of costs, the policy and
the temperature. :class:`SoftActorCritic` does that on features of any kind. :class:`SAC` is the agent whose features
are vector observations. A system combines it with a *constraint* (how costs enter the objective,
:mod:`prudence.constraints`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from prudence.actors import Actor, ActorConfig
from prudence.budgets import Budget, Imagined, Lived, LivedCosts
from prudence.constraints import (
    AugmentedLagrangian,
    Constraint,
    DualAscent,
    PIDLagrangian,
    SoftplusAscent,
    Unconstrained,
)
from prudence.cores.base import Mode, compiled, gradient_steps
from prudence.cores.model_free import ModelFreeAgent
from prudence.cores.pairs import Pairs
from prudence.critics import ActionCritics, CriticBatch, CriticConfig, join
from prudence.models.heads import HeadConfig
from prudence.models.vectors import vector, vector_size
from prudence.ops.ensembles import least
from prudence.ops.normalise import PercentileScale
from prudence.ops.returns import one_step_returns
from prudence.ops.soft import soft_values, temperature_loss
from prudence.optim import Optimised, OptimiserConfig
from prudence.ranges import EitherSign, Positive, Share
from prudence.types import Batch, Key, Metrics, Observation, Spaces


def _adam() -> OptimiserConfig:
    return OptimiserConfig(3e-4, clip=40.0)


def _critic() -> CriticConfig:
    """Its loss is a squared error, so that it learns the mean of its targets (docs/studies/cost-critic.md)."""
    head = HeadConfig("normal", layers=2, units=256, norm="none", activation="relu")
    return CriticConfig(head, _adam(), slow_rate=0.005, slow_regulariser=0.0)


def _actor() -> ActorConfig:
    return ActorConfig(2, 256, continuous="squashed_normal", min_std=1e-5, max_std=7.39, norm="none", activation="relu")


@dataclass(frozen=True)
class TemperatureConfig:
    """The temperature α, the weight of the policy's entropy. It moves until the entropy is at its target.

    Attributes:
        init: its initial value, in units of return for each nat.
        target: the target entropy, in nats for each dimension of the action.
        optimiser: the optimiser of ln α.
    """

    init: Positive = 1.0
    target: EitherSign = -1.0
    optimiser: OptimiserConfig = field(default_factory=_adam)


@dataclass(frozen=True)
class SACConfig:
    """The configuration of a soft actor-critic agent. Defaults are the paper's (Haarnoja et al. 2018b, Table 1).

    Attributes:
        constraint: how costs enter the objective.
        actor: the policy's network.
        critic: the network of a critic of rewards. There are two, and the smaller value counts.
        cost_critic: the network of the cost critic, which has an output for each constraint.
        actor_optimiser: the policy's optimiser.
        temperature: the weight of the policy's entropy.
        discount: γ of rewards.
        budget: what episodes may cost. Its violations are lived. If they are relative, the objective counts returns in
            their range, and costs in episodes at their peak. If not, both have their own unit, and costs are
            discounted.
        evaluation: which actions are evaluated: the policy's ``mode`` (the paper) or a ``sample``. A constraint holds
            for samples.
    """

    constraint: Unconstrained | DualAscent | AugmentedLagrangian | PIDLagrangian | SoftplusAscent = field(
        default_factory=Unconstrained
    )
    actor: ActorConfig = field(default_factory=_actor)
    critic: CriticConfig = field(default_factory=_critic)
    cost_critic: CriticConfig = field(default_factory=_critic)
    actor_optimiser: OptimiserConfig = field(default_factory=_adam)
    temperature: TemperatureConfig = field(default_factory=TemperatureConfig)
    discount: Share = 0.99
    budget: Budget = field(default_factory=lambda: Budget(25.0, discount=0.99, violation=Lived(relative=False)))
    evaluation: Literal["mode", "sample"] = "mode"

    @property
    def constrained(self) -> bool:
        """Whether the actor has a constraint, and the agent a cost critic."""
        return not isinstance(self.constraint, Unconstrained)


class Improved(NamedTuple):
    """What the policy's step computed at n states.

    Attributes:
        values: the smaller Q of the policy's actions.
        entropy: the mean of −ln π, in nats.
    """

    values: Float[Array, " n"]
    entropy: Float[Array, ""]


Objective = Callable[[Float[Array, ""], Float[Array, " C"]], Float[Array, ""]]
"""The policy's loss, given the loss of the task and the mean discounted costs. It is differentiable in both."""


class SoftActorCritic(eqx.Module):
    """The networks of SAC over features ``[F]``, and their gradient steps.

    Attributes:
        actor: the policy.
        critic: the twin critics of reward and entropy.
        cost_critic: the critic of C costs; None without a constraint.
        log_temperature: ln α.
    """

    actor: Optimised[Actor]
    critic: ActionCritics
    cost_critic: ActionCritics | None
    log_temperature: Optimised[Float[Array, ""]]

    @classmethod
    def init(cls, in_size: int, spaces: Spaces, config: SACConfig, *, key: Key) -> SoftActorCritic:
        """Fresh networks for features ``[in_size]``. Consumes ``key``."""
        actor_key, critic_key, cost_key = jax.random.split(key, 3)
        sizes, shape, c = (in_size, spaces.action.size), (spaces.num_costs,), config
        costs = ActionCritics.init(*sizes, shape, c.cost_critic, number=1, key=cost_key) if c.constrained else None
        return cls(
            Optimised.init(Actor(in_size, spaces.action, c.actor, key=actor_key), c.actor_optimiser),
            ActionCritics.init(*sizes, (), c.critic, number=2, key=critic_key),
            costs,
            Optimised.init(jnp.log(jnp.asarray(c.temperature.init, jnp.float32)), c.temperature.optimiser),
        )

    @property
    def temperature(self) -> Float[Array, ""]:
        """α."""
        return jnp.exp(self.log_temperature.module)

    def update(
        self, pairs: Pairs, objective: Objective, config: SACConfig, *, key: Key
    ) -> tuple[SoftActorCritic, Improved, Metrics]:
        """One gradient step of the critics, of the policy and of the temperature, in this order. Consumes ``key``.

        Args:
            pairs: recorded steps.
            objective: forms the policy's loss. Its first argument is the mean of α ln π − Q (eq. 7).
            config: the agent's configuration.
        """
        critic_key, actor_key = jax.random.split(key)
        critic, cost_critic, metrics = self._learn(pairs, config, key=critic_key)
        learned = SoftActorCritic(self.actor, critic, cost_critic, self.log_temperature)
        actor, found, more = learned._improve(pairs, objective, key=actor_key)
        target = config.temperature.target * pairs.actions.shape[-1]
        slope = jax.grad(temperature_loss)(self.log_temperature.module, found.entropy, target)
        log_temperature, _ = self.log_temperature.descend(slope, "temperature")
        metrics |= more | {"policy/entropy": found.entropy, "policy/temperature": self.temperature}
        return SoftActorCritic(actor, critic, cost_critic, log_temperature), found, metrics

    def _learn(
        self, pairs: Pairs, config: SACConfig, *, key: Key
    ) -> tuple[ActionCritics, ActionCritics | None, Metrics]:
        """One gradient step of the critics (eq. 5), and of their slow copies. The next action is the policy's."""
        noise = self.actor.module.noise(len(pairs.weights), key=key)
        actions, log_probs = self.actor.module(pairs.next_features).sample_with_log_prob(noise)
        states = join(pairs.features, pairs.actions)
        following = least(self.critic.slow_values(pairs.next_features, actions))
        following = soft_values(following, log_probs, self.temperature)
        targets = one_step_returns(pairs.rewards, pairs.continues, following, config.discount)
        critic, metrics = self.critic.update(CriticBatch(states, targets, pairs.weights), name="critic")
        if self.cost_critic is None:
            return critic, None, metrics
        following = self.cost_critic.slow_values(pairs.next_features, actions)[0]
        targets = one_step_returns(pairs.costs, pairs.continues, following, config.budget.discount)
        batch = CriticBatch(states, targets, pairs.weights)
        cost_critic, more = self.cost_critic.update(batch, name="cost_critic")
        return critic, cost_critic, metrics | more

    def _improve(self, pairs: Pairs, objective: Objective, *, key: Key) -> tuple[Optimised[Actor], Improved, Metrics]:
        """One gradient step of the policy through the critics (eq. 9)."""
        noise = self.actor.module.noise(len(pairs.weights), key=key)
        shares = pairs.weights / jnp.maximum(pairs.weights.sum(), 1.0)

        def loss(actor: Actor) -> tuple[Float[Array, ""], Improved]:
            actions, log_probs = actor(pairs.features).sample_with_log_prob(noise)
            values = least(self.critic.values(pairs.features, actions))
            task = -(shares * soft_values(values, log_probs, self.temperature)).sum()
            costs = jnp.zeros(pairs.costs.shape[-1])
            if self.cost_critic is not None:
                costs = shares @ self.cost_critic.values(pairs.features, actions)[0]
            return objective(task, costs), Improved(values, -(shares * log_probs).sum())

        (value, found), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(self.actor.module)
        actor, metrics = self.actor.descend(gradient, "actor")
        return actor, found, metrics | {"actor/loss": value}


class SACState(eqx.Module):
    """The state of the agent: everything that training changes. ``step`` is the number of gradient steps."""

    learner: SoftActorCritic
    return_scale: PercentileScale
    constraint: Any
    lived: LivedCosts
    step: Int[Array, ""]


RUN_UPDATES = 100_000
"""Number of gradient steps of a run if its length is not given."""


@dataclass(frozen=True)
class SAC(ModelFreeAgent):
    """Soft actor-critic on vector observations, with continuous actions.

    Attributes:
        spaces: the environment's spaces.
        config: the configuration.
        run_updates: number of gradient steps of the whole run. It sets the pace of a multiplier if violations are
            relative.

    Raises:
        ValueError: the configuration does not suit the spaces.
    """

    spaces: Spaces
    config: SACConfig
    run_updates: int = RUN_UPDATES

    def __post_init__(self) -> None:
        budget, pictures = self.config.budget, [n for n, spec in self.spaces.unprivileged.items() if spec.is_image]
        budget.check(self.spaces, constrained=self.config.constrained and budget.relative)
        if isinstance(budget.violation, Imagined):
            raise ValueError("an agent without a world model cannot imagine costs: choose budget.violation=Lived()")
        if self.spaces.action.kind == "discrete":
            raise ValueError("SAC has a policy for continuous actions only: choose another agent for discrete ones")
        if pictures:
            raise ValueError(
                f"SAC reads vectors, but there are pictures ({', '.join(pictures)}): choose others (--obs), "
                "or an agent with an encoder, such as ppo-lag"
            )

    @property
    def cost_limits(self) -> Float[Array, " C"]:
        """The budgets d."""
        return self.config.budget.limits(self.spaces.num_costs)

    def init(self, *, key: Key) -> SACState:
        c, num_costs = self.config, self.spaces.num_costs
        return SACState(
            learner=SoftActorCritic.init(vector_size(self.spaces.unprivileged), self.spaces, c, key=key),
            return_scale=PercentileScale.init(),
            constraint=c.constraint.init(num_costs),
            lived=c.budget.init(num_costs),
            step=jnp.zeros((), jnp.int32),
        )

    # --- acting -------------------------------------------------------------------------------

    def act(
        self,
        state: SACState,
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
        return self._act(state.learner.actor.module, observation, key=key, greedy=greedy), carry, {}

    @compiled("self", "greedy")
    def _act(self, actor: Actor, observation: Observation, *, key: Key, greedy: bool) -> Float[Array, "E A"]:
        features = vector(observation, self.spaces.unprivileged)
        policy = actor(features)
        return policy.mode() if greedy else policy.sample(actor.noise(len(features), key=key))

    # --- learning -----------------------------------------------------------------------------

    @compiled("self")
    def update(self, state: SACState, batches: Batch, *, key: Key) -> tuple[SACState, Metrics]:
        """Takes U gradient steps on the pairs of consecutive rows in ``[U, B, T, ...]``.

        Raises:
            ValueError: T is 1, so that there are no pairs.
        """
        return gradient_steps(lambda s, batch, key: self.gradient_step(s, batch, key=key), state, batches, key=key)

    def gradient_step(self, state: SACState, batch: Batch, *, key: Key) -> tuple[SACState, Metrics]:
        """One gradient step of every network on ``[B, T]`` sequences, and then of the multiplier."""
        pairs = Pairs.of(vector(batch.observation, self.spaces.unprivileged), batch)

        def objective(task: Float[Array, ""], costs: Float[Array, " C"]) -> Float[Array, ""]:
            return self._objective(state, task, costs)

        learner, found, metrics = state.learner.update(pairs, objective, self.config, key=key)
        after = SACState(
            learner=learner,
            return_scale=state.return_scale.update(found.values),
            constraint=self._move_price(state),
            lived=state.lived,
            step=state.step + 1,
        )
        return after, metrics | self.multiplier_metrics(after.constraint)

    def _objective(self, state: SACState, task: Float[Array, ""], costs: Float[Array, " C"]) -> Float[Array, ""]:
        """The policy's loss: that of the task, with the constraint on the costs of lived episodes."""
        budget, constraint = self.config.budget, self.config.constraint
        unit, scale = 1.0, jnp.ones(())
        if budget.relative:
            unit, scale = budget.cost_unit(self.spaces, horizon=1), state.return_scale.scale
        loss = task / scale
        constrained = constraint.loss(state.constraint, loss, budget.measure(state.lived, unit * costs))
        return jnp.where(self._constraint_active(state), constrained, loss)

    def _constraint_active(self, state: SACState) -> Bool[Array, ""]:
        return state.step >= self.config.budget.start

    def _move_price(self, state: SACState) -> Any:
        """The constraint's state after a gradient step. It stays unchanged until an episode has finished."""
        budget, constraint = self.config.budget, self.config.constraint
        moves = self._constraint_active(state) & (state.lived.recent.weight > 0)
        violation = budget.measure(state.lived, jnp.zeros(self.spaces.num_costs))
        moved = constraint.update(state.constraint, violation, 1 / self.run_updates if budget.relative else 1.0)
        return jax.tree.map(lambda new, old: jnp.where(moves, new, old), moved, state.constraint)


def compose(name: str, spaces: Spaces, config: SACConfig, *constraints: type[Constraint]) -> SAC:
    """Makes the agent ``name``, which requires one of these constraints.

    Raises:
        ValueError: ``config`` has another constraint, or does not suit the spaces.
    """
    if not isinstance(config.constraint, constraints):
        wanted, found = " or ".join(c.__name__ for c in constraints), type(config.constraint).__name__
        raise ValueError(f"{name} needs constraint={wanted}, but the configuration has {found}")
    return SAC(spaces, config)
