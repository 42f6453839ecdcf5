"""An agent that plans in an ensemble of observations, and has soft actor-critic's values for what comes after a plan.

Every decision is the first action of a plan of H actions (:class:`~prudence.planners.CrossEntropy`). A soft
actor-critic (:class:`~prudence.cores.sac.SoftActorCritic`) learns off-policy from what the plans did. Its actor
proposes plans, and its critics value their last states. The ensemble (:mod:`prudence.models.dynamics`) is fitted to all
recorded steps now and then (LOOP: Sikchi et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from prudence.actors import Actor, ActorConfig
from prudence.budgets import Budget, Imagined
from prudence.constraints import Unconstrained
from prudence.cores.base import Agent, Mode, compiled, gradient_steps
from prudence.cores.pairs import Pairs
from prudence.cores.sac import RUN_UPDATES, SACConfig, SoftActorCritic, TemperatureConfig
from prudence.critics import ActionCritics, CriticConfig
from prudence.models.dynamics import Dynamics, DynamicsConfig, DynamicsState, Simulator
from prudence.models.records import Records
from prudence.models.vectors import vector, vector_size
from prudence.ops.ensembles import least
from prudence.optim import OptimiserConfig
from prudence.planners import CrossEntropy, Forecast, Search
from prudence.ranges import Few, Share, Size
from prudence.types import Batch, Key, Metrics, Observation, Spaces


def _adam() -> OptimiserConfig:
    return OptimiserConfig(1e-3, clip=40.0)


def _arc() -> CrossEntropy:
    return CrossEntropy(
        horizon=8,
        plans=105,
        elites=10,
        kappa=1.0,
        iterations=26,
        min_iterations=6,
        patience=6,
        proposals=0.05,
        variance_momentum=0.1,
        init_std=0.5,
        truncation=2.0,
    )


@dataclass(frozen=True)
class LookaheadConfig:
    """The configuration of a lookahead agent. Defaults are SafeLOOP's (Sikchi et al. 2020, and their released code).

    Attributes:
        dynamics: the model.
        search: the planner. The 105 plans are 100 and 5 that the actor proposes.
        particles: P, number of futures of a plan in each elite of the model.
        actor, critic, actor_optimiser, temperature, discount: as in :class:`~prudence.cores.sac.SACConfig`. The
            discount also is that of a plan's rewards.
        budget: what episodes may cost. A plan is safe if it costs at most (1 - margin) d H / T, for episodes of T
            decisions: what a budget d less its margin allows for H decisions. The paper's .2 for H = 8 and T = 200 is
            a ``margin`` of .8 of 25.
        fit_every: decisions between two fits of the model.

    Raises:
        ValueError: the budget's violation is another one, or it has a start or a discount.
    """

    dynamics: DynamicsConfig = field(default_factory=lambda: DynamicsConfig(members=7, elites=5))
    search: CrossEntropy = field(default_factory=_arc)
    particles: Few = 4
    actor: ActorConfig = field(default_factory=lambda: SACConfig().actor)
    critic: CriticConfig = field(default_factory=lambda: replace(SACConfig().critic, optimiser=_adam()))
    actor_optimiser: OptimiserConfig = field(default_factory=_adam)
    temperature: TemperatureConfig = field(default_factory=lambda: TemperatureConfig(optimiser=_adam()))
    discount: Share = 0.99
    budget: Budget = field(default_factory=lambda: Budget(25.0, margin=0.8, violation=Imagined("episode")))
    fit_every: Size = 250

    def __post_init__(self) -> None:
        if self.budget.violation != Imagined("episode"):
            raise ValueError(
                "an agent that plans in a model compares the cost of imagined plans with its budget: choose "
                "budget.violation=Imagined('episode')"
            )
        if (self.budget.start, self.budget.discount) != (Budget().start, Budget().discount):
            raise ValueError(
                f"plans are limited from the first one on, by undiscounted costs: budget.start={self.budget.start} and "
                f"budget.discount={self.budget.discount:g} would have no effect. Leave both out"
            )

    @property
    def sac(self) -> SACConfig:
        """The actor-critic, which ignores costs."""
        names = ("actor", "critic", "actor_optimiser", "temperature", "discount")
        return SACConfig(constraint=Unconstrained(), **{name: getattr(self, name) for name in names})


class LookaheadState(eqx.Module):
    """The state of the agent. ``fitted`` has the metrics of the last fit, ``step`` is the number of gradient steps."""

    learner: SoftActorCritic
    dynamics: DynamicsState
    fitted: dict[str, Float[Array, ""]]
    step: Int[Array, ""]


@dataclass(frozen=True)
class Lookahead(Agent):
    """An agent that plans on vector observations, with continuous actions.

    Attributes:
        spaces: the environment's spaces.
        config: the configuration.
        run_updates: number of gradient steps of the whole run. Nothing depends on it.

    Raises:
        ValueError: an observation is a picture, actions are discrete, the environment has no time limit, or the budget
            does not suit it.
    """

    spaces: Spaces
    config: LookaheadConfig
    run_updates: int = RUN_UPDATES

    def __post_init__(self) -> None:
        self.config.budget.check(self.spaces, constrained=True)
        if self.spaces.action.kind == "discrete":
            raise ValueError("plans are of continuous actions: choose another agent for discrete ones")
        _ = self.dynamics  # It checks the observations.

    @property
    def dynamics(self) -> Dynamics:
        """The model, of the observations that acting has."""
        seen = replace(self.spaces, observation=tuple(self.spaces.unprivileged.items()), privileged=())
        return Dynamics(seen, self.config.dynamics)

    @property
    def fit_every(self) -> int:
        """Decisions between two fits."""
        return self.config.fit_every

    @property
    def cost_limits(self) -> Float[Array, " C"]:
        """The budgets d."""
        return self.config.budget.limits(self.spaces.num_costs)

    @property
    def plan_limits(self) -> Float[Array, " C"]:
        """What a plan may cost."""
        assert self.spaces.episode_steps is not None  # The budget's check asks for it.
        share = self.config.search.horizon / self.spaces.episode_steps
        return (1 - self.config.budget.margin) * share * self.cost_limits

    def init(self, *, key: Key) -> LookaheadState:
        learner_key, dynamics_key = jax.random.split(key)
        size, dynamics = vector_size(self.spaces.unprivileged), self.dynamics
        return LookaheadState(
            SoftActorCritic.init(size, self.spaces, self.config.sac, key=learner_key),
            dynamics.init(key=dynamics_key),
            {name: jnp.zeros(()) for name in dynamics.metric_names},
            jnp.zeros((), jnp.int32),
        )

    # --- acting -------------------------------------------------------------------------------

    def init_carry(self, num_envs: int) -> Float[Array, "E H A"]:
        """The last plan of each environment."""
        return jnp.zeros((num_envs, self.config.search.horizon, self.spaces.action.size))

    def act(
        self,
        state: LookaheadState,
        carry: Float[Array, "E H A"],
        observation: Observation,
        is_first: Bool[Array | np.ndarray, " E"],
        *,
        key: Key,
        mode: Mode,
    ) -> tuple[Float[Array, "E A"], Float[Array, "E H A"], Metrics]:
        """Plans. All modes act alike: what a search draws is all there is of exploration, as in the paper."""
        learner, world = state.learner, self.dynamics.simulator(state.dynamics)
        # The optimisers' states are left out, because every call would flatten them.
        return self._act(learner.actor.module, learner.critic, world, carry, observation, is_first, key=key)

    @compiled("self")
    def _act(
        self,
        actor: Actor,
        critic: ActionCritics,
        world: Simulator,
        carry: Float[Array, "E H A"],
        observation: Observation,
        is_first: Bool[Array | np.ndarray, " E"],
        *,
        key: Key,
    ) -> tuple[Float[Array, "E A"], Float[Array, "E H A"], Metrics]:
        search, config = self.config.search, self.config

        def value(features: Float[Array, "B F"]) -> Float[Array, " B"]:
            return least(critic.values(features, actor(features).mode()))

        def one(seen: Array, last: Array, first: Array, key: Key) -> tuple[Array, Search, Metrics]:
            propose_key, search_key = jax.random.split(key)
            proposals = propose(world, actor, search, seen, key=propose_key)
            foresee = lambda plans, key: forecast(
                world, value, seen, plans, particles=config.particles, discount=config.discount, key=key
            )
            begin = search.begin(last, first)
            return search.plan(foresee, begin, proposals, self.plan_limits, key=search_key)[:3]

        seen = vector(observation, self.spaces.unprivileged)
        action, found, metrics = jax.vmap(one)(seen, carry, jnp.asarray(is_first), jax.random.split(key, len(seen)))
        return action, jax.vmap(search.executed)(found), metrics

    # --- learning -----------------------------------------------------------------------------

    @compiled("self")
    def update(self, state: LookaheadState, batches: Batch, *, key: Key) -> tuple[LookaheadState, Metrics]:
        """Takes U gradient steps of the actor-critic on the pairs of consecutive rows in ``[U, B, T, ...]``.

        Raises:
            ValueError: T is 1, so that there are no pairs.
        """
        return gradient_steps(lambda state, batch, key: self._update(state, batch, key=key), state, batches, key=key)

    def _update(self, state: LookaheadState, batch: Batch, *, key: Key) -> tuple[LookaheadState, Metrics]:
        pairs = Pairs.of(vector(batch.observation, self.spaces.unprivileged), batch)
        learner, _, metrics = state.learner.update(pairs, lambda task, costs: task, self.config.sac, key=key)
        return LookaheadState(learner, state.dynamics, state.fitted, state.step + 1), metrics | state.fitted

    def fit(self, state: LookaheadState, recorded: Batch, *, key: Key) -> LookaheadState:
        """Fits the model to recorded steps ``[E, T, ...]``.

        Raises:
            ValueError: there are fewer than two steps.
        """
        records = Records.of(recorded, self.dynamics.spaces)
        dynamics, metrics = self.dynamics.fit(state.dynamics, records, key=key)
        fitted = {name: jnp.asarray(metrics[name], jnp.float32) for name in state.fitted}
        return LookaheadState(state.learner, dynamics, fitted, state.step)


def propose(
    world: Simulator, actor: Actor, search: CrossEntropy, observation: Float[Array, " F"], *, key: Key
) -> Float[Array, "M H A"]:
    """The M plans that the actor proposes: its actions along imagined trajectories, the first of which has no noise.

    Each is stepped by a random elite at each step.
    """
    number, length = search.num_proposals, search.horizon
    if not number:
        return jnp.zeros((0, length, actor.action.size))
    order_key, act_key, noise_key = jax.random.split(key, 3)
    each = -(-number // world.elites)  # All elites step as many.
    orders = jnp.argsort(jax.random.uniform(order_key, (length, each * world.elites)), -1)
    first = jnp.broadcast_to(observation, (each * world.elites, *observation.shape))
    noise = actor.noise(length, len(first), key=act_key).at[:, :1].set(0.0)
    act = lambda features, _, noise: actor(features).sample(noise)
    return world.rollout(act, first, orders, noise, key=noise_key).actions.swapaxes(0, 1)[:number]


def forecast(
    world: Simulator,
    value: Callable[[Float[Array, "B F"]], Float[Array, " B"]],
    observation: Float[Array, " F"],
    plans: Float[Array, "N H A"],
    *,
    particles: int,
    discount: float,
    key: Key,
) -> Forecast:
    r"""Imagines P futures of every plan in each elite of the model.

    The score of a plan is the mean over all futures of :math:`\sum_{t<H} γ^t r_t + γ^H V(o_H)`, the H-step lookahead
    of Sikchi et al. 2020, where nothing follows a termination. Its cost is the largest :math:`\sum_{t<H} c_t` of a
    future: the worst case over the elites (``safeARC`` of their released code).

    Args:
        world: the model.
        value: V, the value of observations.
        observation: where the plans begin.
        plans: the plans.
        particles: P.
        discount: γ.
    """
    number, length, _ = plans.shape
    futures = world.elites * particles
    actions = jnp.tile(plans, (futures, 1, 1)).swapaxes(0, 1)
    first = jnp.broadcast_to(observation, (futures * number, *observation.shape))
    # Trajectories keep their elite: the first N · P are those of the best one.
    orders = jnp.broadcast_to(jnp.arange(len(first)), (length, len(first)))
    dream = world.rollout(lambda _, __, action: action, first, orders, actions, key=key)
    earned = jnp.power(discount, jnp.arange(length)) @ dream.rewards
    later = jnp.where(dream.ended[-1], 0.0, discount**length * value(dream.observations[-1]))
    cost = dream.costs.sum(0).reshape(futures, number, -1).max(0)
    return Forecast((earned + later).reshape(futures, number).mean(0), cost)
