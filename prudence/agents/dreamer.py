"""The core that SafeDreamer's BSRP-Lag, DreamerV3 and their kin share.

Learn a world model from replay; improve an actor and its critics on trajectories imagined by it,
under a constraint on imagined costs. Named systems are compositions of this core (their modules
carry the papers' names).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from prudence.actors import Actor, ActorConfig
from prudence.agents.base import Agent, Mode, compiled
from prudence.agents.planning import (
    Believed,
    Horizon,
    PlanningConfig,
    Plans,
    Preview,
    Underway,
    begin,
    iterate,
    plan,
    preview,
)
from prudence.agents.uncertainty import Counted, UncertaintyConfig, choose
from prudence.constraints import AugmentedLagrangian, EpisodeCost, Unconstrained
from prudence.critics import Critic, CriticConfig, Lesson, together
from prudence.models.posterior import ModelPosterior, imagine_each, open_loop_each
from prudence.models.rssm import LatentState
from prudence.models.world_model import Posterior, WorldModel, WorldModelConfig
from prudence.nets import cast
from prudence.ops.normalise import PercentileScale, symexp, symlog
from prudence.ops.returns import cumulative_discount, lambda_returns
from prudence.optim import Optimised, OptimiserConfig
from prudence.types import Batch, EpisodeSummary, Key, Metrics, Observation, Spaces, Trajectory, tree_index


@dataclass(frozen=True)
class DreamerConfig:
    """Sizes and choices of a Dreamer-like agent. Defaults follow SafeDreamer (2023 DreamerV3 base).

    Attributes:
        horizon: H, imagined steps.
        imagination_starts: posterior states from which to imagine, drawn at random from the batch;
            None takes all.
        discount: γ of rewards; 1 − 1/333 in the papers.
        cost_discount: γ of costs.
        lambda_: λ of both returns.
        entropy: weight of the policy's entropy.
        gradient: ``pathwise`` (through the dynamics), ``reinforce``, or ``auto``: pathwise for
            continuous and reinforce for discrete actions (DreamerV3, 2023 release).
        normalise_returns: divides the actor's returns by their running range; LAMBDA does not.
        return_scale_floor: smallest divisor of returns.
        cost_limit: d, the budget per episode, ``(C,)`` or one number for all constraints.
        cost_estimate: unit of the imagined cost that is held against d. ``sum``: Σ over the horizon of
            cost returns (SafeDreamer's pessimistic variant); ``mean``: their mean; ``episode``: the
            mean rescaled to the expected undiscounted cost of an episode, (1−γ_c)·T·mean.
        violation_source: ``imagined``: the estimate above (the papers); ``episodes``: the running mean
            of finished training episodes' costs sets the pressure, imagination only its gradient.
        violation_bound: violations are clipped to ± this many budgets (of at least 1), since a cost can
            exceed its budget far more than it can fall short of it, and the multiplier would rise much
            faster than it falls; None (the papers) clips nothing.
        replay_loss: weight of the critics' loss on replayed states beside that on imagined ones (current DreamerV3:
            .3; 2023 release and SafeDreamer: 0). Their targets hold real rewards and costs, bootstrapped from the
            critic; unlike DreamerV3's, their gradient stops at the world model.
        planning: how to plan what to do; None acts by the policy. A planner needs continuous actions and a time limit.
        uncertainty: what is believed about the model, and which of the trajectories under several of its samples count
            (LAMBDA); None imagines under the present weights alone.
        constraint_start: gradient steps before costs are minded (0 in the papers): an agent that is punished
            before it has found any reward learns to stand still.
        evaluation: which actions of the policy are evaluated. ``mode``, or ``sample`` as SafeDreamer's released code
            does under a budget: the stochastic policy is the one whose cost was constrained, and its mode can cost
            far more (it may come to rest in a hazard that a sample drifts out of).
        compute_dtype: type of activations; parameters are always float32.
    """

    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    cost_critic: CriticConfig = field(default_factory=CriticConfig)
    model_optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(1e-4, clip=1000.0))
    actor_optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(3e-5, eps=1e-5))
    constraint: AugmentedLagrangian | Unconstrained = field(default_factory=Unconstrained)
    horizon: int = 15
    imagination_starts: int | None = None
    discount: float = 1 - 1 / 333
    cost_discount: float = 1 - 1 / 333
    lambda_: float = 0.95
    entropy: float = 3e-4
    gradient: Literal["auto", "pathwise", "reinforce"] = "auto"
    normalise_returns: bool = True
    return_scale_floor: float = 1.0
    cost_limit: float | tuple[float, ...] = 2.0
    cost_estimate: Literal["sum", "mean", "episode"] = "sum"
    violation_source: Literal["imagined", "episodes"] = "imagined"
    violation_bound: float | None = None
    replay_loss: float = 0.0
    planning: PlanningConfig | None = None
    uncertainty: UncertaintyConfig | None = None
    constraint_start: int = 0
    evaluation: Literal["mode", "sample"] = "mode"
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def constrained(self) -> bool:
        return not isinstance(self.constraint, Unconstrained)

    @property
    def values_costs(self) -> bool:
        """Whether anything asks for a critic of costs."""
        return self.constrained or self.planning is not None


class DreamerState(eqx.Module):
    """Everything that training changes."""

    world_model: Optimised[WorldModel]
    posterior: Any
    actor: Optimised[Actor]
    critic: Critic
    cost_critic: Critic | None
    return_scale: PercentileScale
    constraint: Any
    price: Any
    episode_cost: EpisodeCost
    step: Int[Array, ""]


class DreamerCarry(NamedTuple):
    """What acting remembers, for E environments; ``plan`` is the last one, if the agent plans."""

    latent: LatentState
    prev_action: Float[Array, "E A"]
    plan: Float[Array, "E H A"] | None


@dataclass(frozen=True)
class Dreamer(Agent):
    """A world model, an actor trained in imagination, critics, and a constraint."""

    spaces: Spaces
    config: DreamerConfig

    def __post_init__(self) -> None:
        limits = self.config.cost_limit
        if isinstance(limits, tuple) and len(limits) != self.spaces.num_costs:
            raise ValueError(
                f"cost_limit names {len(limits)} budgets, but the environment reports {self.spaces.num_costs} costs: "
                f"{', '.join(self.spaces.costs)}"
            )
        if self.config.cost_estimate == "episode" and self.config.constrained and self.spaces.episode_steps is None:
            raise ValueError(
                "cost_estimate='episode' needs the length of an episode, but the environment has no time limit: "
                "set one (EnvConfig.time_limit), or choose cost_estimate='sum' or 'mean'"
            )
        hidden = sorted(set(self.config.world_model.encoder_keys or ()) & set(self.spaces.privileged))
        if hidden:
            raise ValueError(
                f"world_model.encoder_keys names {', '.join(hidden)}, which is privileged: this agent acts on what it "
                "encodes, and the robot will not have it. Leave it out, or do not declare it privileged "
                "(EnvConfig.privileged)"
            )
        if self.config.planning is not None:
            self._check_planning(self.config.planning)

    def _check_planning(self, planning: PlanningConfig) -> None:
        if self.spaces.action.kind == "discrete":
            raise ValueError("the planner searches continuous actions, and the environment's are discrete")
        if self.spaces.episode_steps is None:
            raise ValueError(
                "a planner holds a plan's cost against an episode's budget, but the environment has no time limit: set "
                "one (EnvConfig.time_limit)"
            )
        uncertainty = self.config.uncertainty
        if uncertainty is not None and planning.futures != uncertainty.posterior.samples:
            raise ValueError(
                f"each future of a plan is imagined by a model of its own: planning.futures={planning.futures} must "
                f"be the posterior's samples={uncertainty.posterior.samples}"
            )
        if planning.costs == "observation" and self.spaces.cost_function is None:
            raise ValueError(
                "planning.costs='observation' needs a cost function, and the environment supplies none: give it an "
                "attribute cost_function = 'module:function' (Safety-Gymnasium's tasks have one for the observation "
                "'coordinates', where hazards are the only cost), or choose planning.costs='head'"
            )

    @property
    def cost_limits(self) -> Float[Array, " C"]:
        """The budgets d."""
        return jnp.broadcast_to(jnp.asarray(self.config.cost_limit, jnp.float32), (self.spaces.num_costs,))

    def init(self, *, key: Key) -> DreamerState:
        c, num_costs = self.config, self.spaces.num_costs
        model_key, actor_key, critic_key, cost_key = jax.random.split(key, 4)
        model = WorldModel(self.spaces, c.world_model, key=model_key)
        # Folded by a number that ``split`` did not use.
        posterior_key = jax.random.fold_in(key, 4)
        actor = Actor(model.feature_size, self.spaces.action, c.actor, key=actor_key)
        cost_critic = Critic.init(model.feature_size, (num_costs,), c.cost_critic, key=cost_key)
        return DreamerState(
            world_model=Optimised.init(model, c.model_optimiser),
            posterior=None if c.uncertainty is None else c.uncertainty.posterior.init(model, key=posterior_key),
            actor=Optimised.init(actor, c.actor_optimiser),
            critic=Critic.init(model.feature_size, (), c.critic, key=critic_key),
            cost_critic=cost_critic if c.values_costs else None,
            return_scale=PercentileScale.init(floor=c.return_scale_floor),
            constraint=c.constraint.init(num_costs),
            price=None if c.planning is None else c.planning.price.init(num_costs),
            episode_cost=EpisodeCost(jnp.zeros(num_costs), jnp.zeros(())),
            step=jnp.zeros((), jnp.int32),
        )

    # --- acting -------------------------------------------------------------------------------

    def init_carry(self, num_envs: int) -> DreamerCarry:
        rssm, dtype = self.config.world_model.rssm, jnp.dtype(self.config.compute_dtype)
        latent = LatentState(jnp.zeros((num_envs, rssm.deter), dtype), jnp.zeros((num_envs, rssm.stoch_size), dtype))
        size, planning = self.spaces.action.size, self.config.planning
        plan = None if planning is None else jnp.zeros((num_envs, planning.search.horizon, size))
        return DreamerCarry(latent, jnp.zeros((num_envs, size)), plan)

    @compiled("self", "mode")
    def act(
        self,
        state: DreamerState,
        carry: DreamerCarry,
        observation: Observation,
        is_first: Bool[Array | np.ndarray, " E"],
        *,
        key: Key,
        mode: Mode,
    ) -> tuple[Float[Array, "E A"], DreamerCarry, Metrics]:
        """Filters the observations, and plans or samples the policy; ``evaluate`` takes its mode, unless configured
        to sample. The diagnostics ``plan/*`` are 0 while plans wait for their start (``plan/acting``)."""
        model, actor = self._compute((state.world_model.module, state.actor.module))
        first = jnp.asarray(is_first)
        latent, action_key = self._filter(model, carry, observation, first, key=key)
        policy = actor(latent.features)
        metrics = {"policy/entropy": policy.entropy()}
        greedy = mode == "evaluate" and self.config.evaluation == "mode"
        follow = lambda: policy.mode() if greedy else policy.sample(actor.noise(len(first), key=action_key))  # noqa: E731
        if carry.plan is None:
            action = follow()
            return action, DreamerCarry(latent, action, None), metrics
        last, searches = carry.plan, self._acts_by_plan(state)
        search = lambda: self._plan(state, latent, last, first, key=action_key)[:3]  # noqa: E731
        _, plans, nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(search))
        action, plans, diagnostics = jax.lax.cond(searches, search, lambda: (follow(), plans, nothing))
        acting = jnp.broadcast_to(searches.astype(jnp.float32), len(first))
        return action, DreamerCarry(latent, action, plans), metrics | diagnostics | {"plan/acting": acting}

    @compiled("self")
    def preview(
        self,
        state: DreamerState,
        carry: DreamerCarry,
        observation: Observation,
        is_first: Bool[Array | np.ndarray, " E"],
        *,
        key: Key,
    ) -> Preview:
        """What ``act``, given the same arguments and key, chooses the first environment's action from.

        Raises:
            ValueError: the agent does not plan.
        """
        if self.config.planning is None or carry.plan is None:
            raise ValueError("an agent without a planner has no plans to look at")
        parts, first = self._believed(state), jnp.asarray(is_first)
        latent, action_key = self._filter(parts.model, carry, observation, first, key=key)
        found = self._plan(state, latent, carry.plan, first, key=action_key)
        latent, executed, candidates = tree_index((latent, found.plan, found.candidates), 0)
        # Folded by a number that ``split`` did not use.
        futures_key = jax.random.fold_in(key, 2)
        return preview(self.config.planning, parts, latent, executed, candidates, self.cost_limits, key=futures_key)

    # A search step by step, for whoever must act by a deadline (prudence/run/realtime.py); as many iterations as
    # configured make the action that ``act`` takes.

    @compiled("self")
    def begin_search(
        self,
        state: DreamerState,
        carry: DreamerCarry,
        observation: Observation,
        is_first: Bool[Array | np.ndarray, " E"],
        *,
        key: Key,
    ) -> Underway:
        """Filters the observations and begins to search; the agent must be one that plans."""
        planning, belief, first = self.config.planning, self._believed(state), jnp.asarray(is_first)
        assert planning is not None
        assert carry.plan is not None
        latent, action_key = self._filter(belief.model, carry, observation, first, key=key)
        return begin(planning, belief, latent, carry.plan, first, key=action_key)

    @compiled("self")
    def iterate_search(
        self, state: DreamerState, underway: Underway, index: int | Int[Array, ""]
    ) -> tuple[Underway, Metrics]:
        """One more iteration, the one numbered ``index``."""
        assert self.config.planning is not None
        return iterate(self.config.planning, self._believed(state), self._horizon, underway, index, self.cost_limits)

    @compiled("self")
    def end_search(self, underway: Underway) -> tuple[Float[Array, "E A"], DreamerCarry]:
        """The actions, and what the next decision remembers."""
        planning = self.config.planning
        assert planning is not None
        act = lambda search, key: planning.search.action(search, key=key)  # noqa: E731
        action = jax.vmap(act)(underway.search, underway.key)
        return action, DreamerCarry(underway.latent, action, underway.search.mean)

    def _filter(
        self, model: WorldModel, carry: DreamerCarry, observation: Observation, is_first: Bool[Array, " E"], *, key: Key
    ) -> tuple[LatentState, Key]:
        """The states after these observations, and the key for choosing actions."""
        filter_key, action_key = jax.random.split(key)
        return model.filter_step(carry.latent, carry.prev_action, observation, is_first, key=filter_key), action_key

    def _acts_by_plan(self, state: DreamerState) -> Bool[Array, ""]:
        planning = self.config.planning
        return jnp.asarray(False) if planning is None else state.step >= planning.start

    def _plan(self, state: DreamerState, latent: LatentState, last: Array, is_first: Array, *, key: Key) -> Plans:
        assert self.config.planning is not None
        belief, limits = self._believed(state), self.cost_limits
        return plan(self.config.planning, belief, self._horizon, latent, last, is_first, limits, key=key)

    @property
    def _horizon(self) -> Horizon:
        c = self.config
        assert self.spaces.episode_steps is not None
        return Horizon(c.discount, c.cost_discount, c.lambda_, self.spaces.episode_steps)

    def _believed(self, state: DreamerState) -> Believed:
        planning = self.config.planning
        assert planning is not None
        parts = (state.world_model.module, state.actor.module, state.critic, state.cost_critic)
        networks, uncertainty, predictors = self._compute(parts), self.config.uncertainty, None
        if uncertainty is not None:  # The same ones until the next update: all plans are judged alike.
            key = jax.random.fold_in(jax.random.key(0), state.step)
            predictors = self._compute(uncertainty.posterior.sample(state.posterior, parts[0], key=key))
        reads = partial(self._read_costs, networks[0]) if planning.costs == "observation" else None
        return Believed(*networks, price=planning.price.multiplier(state.price), costs_of=reads, predictors=predictors)

    def _read_costs(self, model: WorldModel, features: Float[Array, "*batch F"]) -> Float[Array, "*batch C"]:
        """What the environment's cost function makes of the decoded observations."""
        lead, specs, function = features.shape[:-1], self.spaces.observations, self.spaces.cost_function
        assert function is not None
        restore = lambda name, x: x if specs[name].is_image else symexp(x).reshape(*lead, *specs[name].shape)  # noqa: E731
        costs = function({name: restore(name, x) for name, x in model.decoder(features).items()})
        if costs.shape != (*lead, self.spaces.num_costs):
            raise ValueError(
                f"the cost function {function.path} returned shape {costs.shape} for a batch of shape {lead}: it must "
                f"return {(*lead, self.spaces.num_costs)}, one cost for each of {', '.join(self.spaces.costs)}"
            )
        return costs

    def _compute(self, tree: Any) -> Any:
        return cast(tree, jnp.dtype(self.config.compute_dtype))

    # --- learning -----------------------------------------------------------------------------

    @compiled("self")
    def update(self, state: DreamerState, batches: Batch, *, key: Key) -> tuple[DreamerState, Metrics]:
        def step(carry: DreamerState, inputs: tuple[Batch, Key]) -> tuple[DreamerState, Metrics]:
            return self._update(carry, inputs[0], key=inputs[1])

        keys = jax.random.split(key, len(batches.reward))
        if len(keys) == 1:  # A loop, even of one, makes convolutions on a CPU several times slower.
            return self._update(state, tree_index(batches, 0), key=keys[0])
        state, metrics = jax.lax.scan(step, state, (batches, keys))
        return state, jax.tree.map(lambda x: x.mean(0), metrics)

    def _update(self, state: DreamerState, batch: Batch, *, key: Key) -> tuple[DreamerState, Metrics]:
        """World model, actor and multiplier, reward critic, cost critic: the order of SafeDreamer's Algorithm 2."""
        model_key, start_key, imagine_key = jax.random.split(key, 3)
        world_model, filtered, metrics = self._update_model(state.world_model, batch, key=model_key)
        start, alive = self._starts(filtered.states, batch, key=start_key)
        model = self._compute(world_model.module)
        posterior, predictors, more = self._update_posterior(state, world_model.module, filtered, batch, key=key)

        dream, actor, actor_metrics = self._update_actor(state, model, predictors, start, alive, key=imagine_key)
        replayed = self._replayed(state.critic, filtered.states, batch, batch.reward, self.config.discount)
        critic, critic_metrics = state.critic.update(together(dream.lesson, replayed), name="critic")
        cost_critic, cost_metrics = state.cost_critic, {}
        if cost_critic is not None:
            replayed = self._replayed(cost_critic, filtered.states, batch, batch.cost, self.config.cost_discount)
            cost_critic, cost_metrics = cost_critic.update(together(dream.cost_lesson, replayed), name="cost_critic")
        state = DreamerState(
            world_model=world_model,
            posterior=posterior,
            actor=actor,
            critic=critic,
            cost_critic=cost_critic,
            return_scale=state.return_scale.update(dream.returns),
            constraint=self._update_constraint(state, dream.violation),
            price=state.price,
            episode_cost=state.episode_cost,
            step=state.step + 1,
        )
        return state, metrics | more | actor_metrics | critic_metrics | cost_metrics | dream.metrics

    def _update_model(
        self, world_model: Optimised[WorldModel], batch: Batch, *, key: Key
    ) -> tuple[Optimised[WorldModel], Posterior, Metrics]:
        loss = lambda model: self._compute(model).loss(batch, key=key)  # noqa: E731
        (_, (filtered, metrics)), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(world_model.module)
        world_model, more = world_model.descend(gradient, "model")
        return world_model, jax.lax.stop_gradient(filtered), metrics | more

    def _update_posterior(
        self, state: DreamerState, model: WorldModel, filtered: Posterior, batch: Batch, *, key: Key
    ) -> tuple[Any, Any, Metrics]:
        """The posterior over models, and N predictors drawn from it in the type they compute in; None without one."""
        if self.config.uncertainty is None:
            return None, None, {}
        posterior: ModelPosterior = self.config.uncertainty.posterior
        # Folded by numbers that ``split`` did not use.
        update_key, draw_key = jax.random.fold_in(key, 3), jax.random.fold_in(key, 4)
        evidence = (filtered, batch, state.step + 1)
        updated: tuple[Any, Metrics] = posterior.update(state.posterior, model, *evidence, key=update_key)
        return updated[0], self._compute(posterior.sample(updated[0], model, key=draw_key)), updated[1]

    def _starts(self, latents: LatentState, batch: Batch, *, key: Key) -> tuple[LatentState, Float[Array, " S"]]:
        """Flattens posterior states to start states ``[S, ...]``; ``alive`` is 0 after a termination."""
        flat = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), latents)
        alive = 1 - jnp.asarray(batch.is_terminal, jnp.float32).reshape(-1)
        count = self.config.imagination_starts
        if count is None or count >= len(alive):
            return flat, alive
        chosen = jax.random.choice(key, len(alive), (count,), replace=False)
        return jax.tree.map(lambda x: x[chosen], flat), alive[chosen]

    def _update_actor(
        self,
        state: DreamerState,
        model: WorldModel,
        predictors: Any,
        start: LatentState,
        alive: Float[Array, " S"],
        *,
        key: Key,
    ) -> tuple[Dream, Optimised[Actor], Metrics]:
        """One step on −R^λ/S − η·entropy, weighted by the cumulative discount, plus the constraint's penalty
        on the imagined cost (SafeDreamer eq. 9, LAMBDA eq. 10).

        Pathwise: the objective is differentiated by every imagined action, and that through the policy at
        the state where it acted. The policy's input carries no gradient, so this is the derivative by the
        policy's parameters; it needs one pass through the policy instead of one a step.
        """
        c = self.config
        frozen = self._compute(state.actor.module)
        policy = lambda features, noise: jax.lax.stop_gradient(frozen(features).sample(noise))  # noqa: E731
        start, alive, noise, roll = self._rollout(state, model, predictors, policy, start, alive, key=key)
        if self._reinforce:
            dream, action_gradient = self._dream(state, roll(), alive)[1], None
        else:
            nudge = jnp.zeros((c.horizon, len(alive), self.spaces.action.size))
            by_action = jax.grad(lambda n: self._dream(state, roll(nudge=n), alive), has_aux=True)
            action_gradient, dream = by_action(nudge)

        def loss(actor: Actor) -> tuple[Float[Array, ""], Metrics]:
            policies = self._compute(actor)(dream.trajectory.actor_features[:-1])
            entropy = policies.entropy()
            metrics = {"policy/entropy": entropy.mean()}
            bonus = c.entropy * (dream.weights * entropy).mean()
            if action_gradient is None:
                log_prob = policies.log_prob(dream.trajectory.actions)
                return -(dream.weights * dream.advantage * log_prob).mean() - bonus, metrics
            return (action_gradient * policies.sample(noise)).sum() - bonus, metrics

        gradient, metrics = eqx.filter_grad(loss, has_aux=True)(state.actor.module)
        actor, more = state.actor.descend(gradient, "actor")
        return dream, actor, metrics | more

    def _rollout(
        self,
        state: DreamerState,
        model: WorldModel,
        predictors: Any,
        policy: Callable[[Float[Array, "B F"], Float[Array, "B A"]], Float[Array, "B A"]],
        start: LatentState,
        alive: Float[Array, " S"],
        *,
        key: Key,
    ) -> tuple[LatentState, Float[Array, " B"], Float[Array, "H B A"], Callable[..., Trajectory]]:
        """Start states, whether they are alive, the policy's noise, and what imagines from them given a nudge; for
        each of N predictors, if there are any, one after the other: B = N·S columns."""
        c, uncertainty = self.config, self.config.uncertainty
        action_key, dynamics_key = jax.random.split(key)
        noise_of = lambda columns: state.actor.module.noise(c.horizon, columns, key=action_key)  # noqa: E731
        if uncertainty is None:
            noise = noise_of(len(alive))
            return start, alive, noise, partial(model.imagine, policy, start, noise, key=dynamics_key)
        number, common = uncertainty.posterior.samples, uncertainty.common_noise
        each = lambda x: jnp.tile(x, (number, *(1,) * (x.ndim - 1)))  # noqa: E731
        noise = jnp.tile(noise_of(len(alive)), (1, number, 1)) if common else noise_of(number * len(alive))
        start, alive = jax.tree.map(each, (start, alive))
        roll = partial(imagine_each, model, predictors, policy, start, noise, key=dynamics_key, common_noise=common)
        return start, alive, noise, roll

    def _dream(
        self, state: DreamerState, trajectory: Trajectory, alive: Float[Array, " B"]
    ) -> tuple[Float[Array, ""], Dream]:
        """The actor's objective along imagined trajectories (a loss), and everything computed for it."""
        c = self.config
        discounts = c.discount * trajectory.continues
        values = self._compute(state.critic).values(trajectory.critic_features)
        returns = lambda_returns(trajectory.rewards, values, discounts, c.lambda_)
        weights = cumulative_discount(discounts)[:-1] * alive
        cost_values = self._cost_values(state, trajectory)
        cost_discounts = jnp.broadcast_to((c.cost_discount * trajectory.continues)[..., None], cost_values.shape)
        cost_returns = lambda_returns(trajectory.costs, cost_values, cost_discounts, c.lambda_)
        task, safety, metrics = self._count(returns, values, cost_returns, cost_values)
        estimate = self._cost_unit * jnp.stack([of(cost_returns[..., i]).mean() for i, of in enumerate(safety)])
        violation = self._violation(state, estimate)
        loss = -(task(weights) * task(returns)).mean() / self._return_scale(state)
        loss = loss + self._minds_costs(state) * c.constraint.penalty(state.constraint, violation)
        advantages = returns - values[:-1], cost_returns - cost_values[:-1]
        features = trajectory.critic_features[:-1]
        dream = Dream(
            trajectory=trajectory,
            returns=task(returns),
            weights=weights,
            violation=violation,
            advantage=self._advantage(state, *advantages, violation, task, safety),
            lesson=Lesson.flat(task(features), task(returns), task(weights)),
            cost_lesson=_cost_lesson(features, cost_returns, weights, safety),
            metrics=metrics | self._dream_metrics(state, task(returns), estimate),
        )
        return loss, jax.lax.stop_gradient(dream)

    def _count(
        self,
        returns: Float[Array, "H B"],
        values: Float[Array, "H+1 B"],
        cost_returns: Float[Array, "H B C"],
        cost_values: Float[Array, "H+1 B C"],
    ) -> tuple[Counted, list[Counted], Metrics]:
        """Which trajectories count for the task and for each constraint: under one model all of them."""
        uncertainty, constraints = self.config.uncertainty, range(self.spaces.num_costs)
        if uncertainty is None:
            return Counted(None), [Counted(None) for _ in constraints], {}
        by_returns = uncertainty.of == "returns"
        rewards, costs = (returns, cost_returns) if by_returns else (values[:-1], cost_values[:-1])
        by_model = lambda x: x.mean(0).reshape(uncertainty.posterior.samples, -1)  # noqa: E731
        promises = by_model(rewards), [by_model(costs[..., i]) for i in constraints]
        task = choose(promises[0], uncertainty.task, larger_is_better=True)
        safety = [choose(cost, uncertainty.safety, larger_is_better=False) for cost in promises[1]]
        above = lambda of, x: of(x).mean() - x.mean()  # noqa: E731
        metrics = {
            "posterior/return_std": promises[0].std(0).mean(),
            "posterior/cost_std": jnp.stack(promises[1]).sum(0).std(0).mean(),
            "posterior/optimism": above(task, rewards),
            "posterior/pessimism": sum(above(of, costs[..., i]) for i, of in enumerate(safety)),
        }
        return task, safety, metrics

    def _replayed(
        self,
        critic: Critic,
        latents: LatentState,
        batch: Batch,
        rewards: Float[Array | np.ndarray, "B T *C"],
        discount: float,
    ) -> Lesson | None:
        """With ``replay_loss``, what a critic of ``rewards`` (or costs) learns at replayed states: λ-returns made of
        what really came."""
        share = self.config.replay_loss
        if not share:
            return None
        time_major = lambda x: jnp.swapaxes(jnp.asarray(x), 0, 1)  # noqa: E731
        number = lambda x: time_major(x).astype(jnp.float32)  # noqa: E731
        features, last, terminal = time_major(latents.features), number(batch.is_last), number(batch.is_terminal)
        values = self._compute(critic).values(features)
        by_state = lambda x: jnp.broadcast_to(x.reshape(*x.shape, *(1,) * (values.ndim - 2)), values.shape)  # noqa: E731
        lambdas = by_state(self.config.lambda_ * (1 - last))
        targets = lambda_returns(number(rewards), values, by_state(discount * (1 - terminal)), lambdas)
        return Lesson.flat(features[:-1], targets, share * (1 - last[:-1]))

    @property
    def _reinforce(self) -> bool:
        discrete = self.spaces.action.kind == "discrete"
        return self.config.gradient == "reinforce" or (self.config.gradient == "auto" and discrete)

    def _cost_values(self, state: DreamerState, trajectory: Trajectory) -> Float[Array, "states B C"]:
        if state.cost_critic is None:
            return jnp.zeros_like(trajectory.costs)
        return self._compute(state.cost_critic).values(trajectory.critic_features)

    @property
    def _cost_unit(self) -> float:
        """Factor from the mean cost return to ``cost_estimate``'s unit."""
        c = self.config
        if c.cost_estimate == "episode" and self.spaces.episode_steps is not None:
            return (1 - c.cost_discount) * self.spaces.episode_steps
        return float(c.horizon) if c.cost_estimate == "sum" else 1.0

    def _violation(self, state: DreamerState, estimate: Float[Array, " C"]) -> Float[Array, " C"]:
        """Whatever its value's source and bound, its gradient is that of the imagined cost."""
        c, sg = self.config, jax.lax.stop_gradient
        violation = (estimate if c.violation_source == "imagined" else state.episode_cost.mean) - self.cost_limits
        if c.violation_bound is not None:
            reach = c.violation_bound * jnp.maximum(self.cost_limits, 1.0)
            violation = jnp.clip(violation, -reach, reach)
        return sg(violation) + estimate - sg(estimate)

    def _minds_costs(self, state: DreamerState) -> Bool[Array, ""]:
        return state.step >= self.config.constraint_start

    def _update_constraint(self, state: DreamerState, violation: Float[Array, " C"]) -> Any:
        updated = self.config.constraint.update(state.constraint, violation)
        minds = self._minds_costs(state)
        return jax.tree.map(lambda new, old: jnp.where(minds, new, old), updated, state.constraint)

    def _return_scale(self, state: DreamerState) -> Float[Array, ""]:
        return state.return_scale.scale if self.config.normalise_returns else jnp.ones(())

    def _advantage(
        self,
        state: DreamerState,
        advantage: Float[Array, "H B"],
        cost_advantage: Float[Array, "H B C"],
        violation: Float[Array, " C"],
        task: Counted,
        safety: list[Counted],
    ) -> Float[Array, "H B"]:
        """For the score-function gradient: (R^λ − V)/S, less the penalty's slope times C^λ − V_c, to which the
        penalty's own gradient is equal to first order; 0 where a trajectory does not count."""
        pressure = self._minds_costs(state) * self.config.constraint.pressure(state.constraint, violation)
        total = task.share(advantage.shape[1]) * advantage / self._return_scale(state)
        for i, of in enumerate(safety):
            cost = cost_advantage[..., i]
            total = total - self._cost_unit * pressure[i] * of.share(cost.shape[1]) * cost
        return total

    def _dream_metrics(self, state: DreamerState, returns: Array, estimate: Array) -> Metrics:
        metrics = {
            "imagined/return": returns.mean(),
            "imagined/return_scale": state.return_scale.scale,
        }
        multiplier, planning = self.config.constraint.multiplier(state.constraint), self.config.planning
        for i, name in enumerate(self.spaces.costs):
            suffix = "" if self.spaces.num_costs == 1 else f"_{name}"
            metrics[f"imagined/cost{suffix}"] = estimate[i]
            metrics[f"constraint/multiplier{suffix}"] = multiplier[i]
            if planning is not None:
                metrics[f"plan/price{suffix}"] = planning.price.multiplier(state.price)[i]
        return metrics

    def on_episode(self, state: DreamerState, summary: EpisodeSummary) -> DreamerState:
        cost = jnp.asarray(summary.episode_cost, jnp.float32)
        violation, price = cost - self.cost_limits, state.price
        if self.config.planning is not None:  # Only episodes that were planned tell what the price does.
            moved = self.config.planning.price.on_episode(price, violation)
            price = jax.tree.map(partial(jnp.where, self._acts_by_plan(state)), moved, price)
        constraint = self.config.constraint.on_episode(state.constraint, violation)
        changed = (state.episode_cost.update(cost), constraint, price)
        is_none = lambda x: x is None  # noqa: E731
        return eqx.tree_at(lambda s: (s.episode_cost, s.constraint, s.price), state, changed, is_leaf=is_none)

    # --- diagnosis ----------------------------------------------------------------------------

    def report(
        self, state: DreamerState, batch: Batch, *, key: Key, context: int = 25, samples: int = 1
    ) -> dict[str, np.ndarray]:
        """Open-loop predictions of ``[B, T]`` sequences after ``context`` steps, averaged over ``samples`` futures.

        ``prediction/<name>`` and ``truth/<name>`` for the decoded observations (vectors in symlog space), ``reward``
        ``[B, T]`` and ``cost`` ``[B, T, C]``.
        """
        model = self._compute(state.world_model.module)
        predicted = _mean_open_loop(model, batch, context, jax.random.split(key, samples))
        truth = {k: v if v.dtype == np.uint8 else symlog(jnp.asarray(v)) for k, v in batch.observation.items()}
        truth |= {"reward": batch.reward, "cost": batch.cost}
        out = {f"prediction/{k}": np.asarray(v) for k, v in predicted.items()}
        return out | {f"truth/{k}": np.asarray(truth[k]).reshape(v.shape) for k, v in predicted.items()}

    def predictions_by_model(
        self, state: DreamerState, batch: Batch, *, key: Key, context: int, draws: int = 4, common_noise: bool = False
    ) -> dict[str, np.ndarray]:
        """What each of M models of the posterior foresees of ``[B, T]`` sequences after ``context`` steps, under the
        recorded actions: ``reward [M, B, T - context]`` and ``cost [M, B, T - context, C]``.

        M is ``draws`` times the posterior's samples. With ``common_noise`` the models differ in nothing else.

        Raises:
            ValueError: the agent has no posterior over models.
        """
        if self.config.uncertainty is None:
            raise ValueError("an agent without a posterior over models has only one prediction")
        posterior, module = self.config.uncertainty.posterior, state.world_model.module
        draw_key, noise_key = jax.random.split(key)
        batch = jax.tree.map(jnp.asarray, batch)

        @eqx.filter_jit
        def predict(draw_key: Key, noise_key: Key) -> tuple[Array, Array]:
            predictors = posterior.sample(state.posterior, module, key=draw_key)
            model, predictors = self._compute((module, predictors))
            return open_loop_each(model, predictors, batch, context, key=noise_key, common_noise=common_noise)

        fold, same = jax.random.fold_in, jax.random.clone
        noise_keys = [same(noise_key) if common_noise else fold(noise_key, i) for i in range(draws)]
        rewards, costs = zip(*(predict(fold(draw_key, i), k) for i, k in enumerate(noise_keys)), strict=True)
        return {"reward": np.concatenate(rewards), "cost": np.concatenate(costs)}


@eqx.filter_jit
def _mean_open_loop(model: WorldModel, batch: Batch, context: int, keys: Array) -> dict[str, Array]:
    def add(total: dict[str, Array], key: Array) -> tuple[dict[str, Array], None]:
        return jax.tree.map(jnp.add, total, model.open_loop(batch, context, key=key)), None

    # One future after the other: those of images do not fit side by side.
    total, _ = jax.lax.scan(add, model.open_loop(batch, context, key=keys[0]), keys[1:])
    return jax.tree.map(lambda x: x / len(keys), total)


def _cost_lesson(
    features: Float[Array, "H B F"], returns: Float[Array, "H B C"], weights: Float[Array, "H B"], counts: list[Counted]
) -> Lesson:
    """The critic of each constraint's cost learns from the trajectories that count for it."""
    if len({id(of.columns) for of in counts}) == 1:
        of = counts[0]
        return Lesson.flat(of(features), of(returns), of(weights))
    own = len(counts) * jnp.eye(len(counts))
    apart = [Lesson.flat(of(features), of(returns), of(weights)[..., None] * own[i]) for i, of in enumerate(counts)]
    return Lesson(*(jnp.concatenate(parts) for parts in zip(*apart, strict=True)))


class Dream(NamedTuple):
    """Imagined trajectories, H steps in B columns, and what was computed along them; returns and lessons are of the
    trajectories that count."""

    trajectory: Trajectory
    returns: Float[Array, "H MS"]
    weights: Float[Array, "H B"]
    violation: Float[Array, " C"]
    advantage: Float[Array, "H B"]
    lesson: Lesson
    cost_lesson: Lesson
    metrics: Metrics
