"""The core of DreamerV3, SafeDreamer's BSRP-Lag and similar systems.

The agent learns a world model from replay. It improves an actor and its critics on trajectories that the model
imagines, under a constraint on imagined costs. Named systems are compositions of this core; the modules of
``prudence/agents`` have the papers' names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from prudence.actors import Actor
from prudence.cores.base import Mode, Outlook, compiled
from prudence.cores.dreamer.config import DreamerCarry, DreamerConfig, DreamerState, check
from prudence.cores.dreamer.imagination import Imagination
from prudence.cores.dreamer.perception import Perception
from prudence.cores.dreamer.plan_acting import PlanActing
from prudence.cores.dreamer.planning import Preview, SearchState
from prudence.cores.dreamer.recovery import Recovery
from prudence.cores.imagined_episodes import ImaginedEpisodes
from prudence.cores.pairs import Pairs
from prudence.cores.world_model_agent import WorldModelAgent
from prudence.critics import Critic, CriticBatch, together
from prudence.models.base import AbstractWorldModel
from prudence.models.posterior import ModelPosterior, open_loop_each
from prudence.models.rssm import LatentState
from prudence.models.world_model import Predictor, symmetric
from prudence.ops.normalise import PercentileScale
from prudence.ops.returns import lambda_returns
from prudence.optim import Averaged, Optimised
from prudence.types import Batch, EpisodeSummary, Key, Metrics, Observation, Spaces

RUN_UPDATES = 25_000
"""Number of gradient steps of a run if its length is not given."""


@dataclass(frozen=True)
class Dreamer(WorldModelAgent):
    """An agent with a world model, an actor that is trained in imagination, critics, and a constraint.

    Attributes:
        spaces: the environment's spaces.
        config: the configuration.
        run_updates: number of gradient steps of the whole run. It sets the pace of learning rates and multipliers.

    Raises:
        ValueError: the configuration does not suit the spaces.
    """

    spaces: Spaces
    config: DreamerConfig
    run_updates: int = RUN_UPDATES

    def __post_init__(self) -> None:
        check(self.config, self.spaces)

    @property
    def perception(self) -> Perception:
        """The world model's functions."""
        c = self.config
        return Perception(self.spaces, c.world_model, c.privileged, c.model_optimiser, c.compute_dtype)

    @property
    def imagination(self) -> Imagination:
        """The actor's learning in imagination."""
        return Imagination(self.spaces, self.config, self.run_updates)

    @property
    def plans(self) -> PlanActing:
        """The planner."""
        return PlanActing(self.spaces, self.config, self.imagination)

    @property
    def cost_limits(self) -> Float[Array, " C"]:
        """The budgets d."""
        return self.imagination.cost_limits

    def init(self, *, key: Key) -> DreamerState:
        c, num_costs = self.config, self.spaces.num_costs
        model_key, actor_key, critic_key, cost_key = jax.random.split(key, 4)
        model = self.perception.init(key=model_key)
        posterior = None
        if c.uncertainty is not None:  # Folded with a number that ``split`` did not use.
            posterior = c.uncertainty.posterior.init(symmetric(model), key=jax.random.fold_in(key, 4))
        members = None
        if c.disagreement is not None:
            members = c.disagreement.ensemble.init(symmetric(model), key=jax.random.fold_in(key, 5))
        recovery, sizes = None, (model.critic_size, self.spaces.action.size)
        if c.recovery is not None:
            recovery = Recovery.init(*sizes, c.recovery, key=jax.random.fold_in(key, 6))
        actor = Actor(model.actor_size, self.spaces.action, c.actor, key=actor_key)
        cost_critic = Critic.init(model.critic_size, (num_costs,), c.cost_critic, key=cost_key)
        state = DreamerState(
            world_model=Optimised.init(model, c.model_optimiser),
            posterior=posterior,
            disagreement=members,
            actor=Optimised.init(actor, c.actor_optimiser),
            critic=Critic.init(model.critic_size, (), c.critic, key=critic_key),
            cost_critic=cost_critic if c.values_costs else None,
            recovery=recovery,
            return_scale=PercentileScale.init(floor=c.return_scale_floor),
            constraint=c.constraint.init(num_costs),
            price=None if c.planning is None else c.planning.price.init(num_costs),
            lived=c.budget.init(num_costs),
            episodes=ImaginedEpisodes.init(self.perception.first_states, num_costs) if c.measures_episodes else None,
            average=None,
            step=jnp.zeros((), jnp.int32),
        )
        if c.averaging is None:
            return state
        return replace(state, average=tuple(Averaged.init(module) for module in self._what_acts(state)))

    def _what_acts(self, state: DreamerState) -> tuple[Any, ...]:
        """The networks that take decisions: the actor and, for a planner, also the model and the critics."""
        if self.config.planning is None:
            return (state.actor.module,)
        critics = [c.online.module for c in (state.critic, state.cost_critic) if c is not None]
        return (state.actor.module, state.world_model.module, *critics)

    def acting(self, state: DreamerState, mode: Mode) -> DreamerState:
        """The state with the networks that act in ``mode``. In evaluation they are the averaged ones, if they exist."""
        if state.average is None or mode != "evaluate":
            return state
        return eqx.tree_at(self._what_acts, state, tuple(averaged.module for averaged in state.average))

    def begin_online(self, state: DreamerState, *, key: Key) -> DreamerState:
        """Schedules begin anew: they belong to a run."""
        return replace(state, step=jnp.zeros((), jnp.int32))

    # --- acting -------------------------------------------------------------------------------

    def init_carry(self, num_envs: int) -> DreamerCarry:
        size, planning = self.spaces.action.size, self.config.planning
        plan = None if planning is None else jnp.zeros((num_envs, planning.search.horizon, size))
        return DreamerCarry(self.perception.first_latent(num_envs), jnp.zeros((num_envs, size)), plan)

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
        """Filters the observations, then plans or samples the policy.

        In mode ``evaluate`` it takes the mode of the policy if ``config.evaluation`` is ``mode``. Before the planner
        starts, the diagnostics ``plan/*`` are 0 (``plan/acting`` says whether it has started).
        """
        state = self.acting(state, mode)
        model, actor = self.perception.compute((state.world_model.module, state.actor.module))
        first = jnp.asarray(is_first)
        latent, action_key = self._filter(model, carry, observation, first, key=key)
        policy = actor(latent.features)
        metrics = {"policy/entropy": policy.entropy()}
        greedy = mode == "evaluate" and self.config.evaluation == "mode"

        def follow() -> Float[Array, "E A"]:
            """The policy's actions."""
            return policy.mode() if greedy else policy.sample(actor.noise(len(first), key=action_key))

        if carry.plan is None:
            action, found = follow(), {}
            if state.recovery is not None:  # Folded with a number that ``split`` did not use.
                recovery, plan_key = self.perception.compute(state.recovery), jax.random.fold_in(key, 2)
                action, found = recovery.act(symmetric(model), latent, action, key=plan_key)
            return action, DreamerCarry(latent, action, None), metrics | found
        last, searches = carry.plan, self.imagination.acts_by_plan(state)
        search = lambda: self.plans.plan(state, latent, last, first, key=action_key)[:3]
        _, plans, nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(search))
        action, plans, diagnostics = jax.lax.cond(searches, search, lambda: (follow(), plans, nothing))
        acting = jnp.broadcast_to(searches.astype(jnp.float32), len(first))
        return action, DreamerCarry(latent, action, plans), metrics | diagnostics | {"plan/acting": acting}

    @compiled("self", "mode")
    def preview(
        self,
        state: DreamerState,
        carry: DreamerCarry,
        observation: Observation,
        is_first: Bool[Array | np.ndarray, " E"],
        *,
        key: Key,
        mode: Mode = "evaluate",
    ) -> Preview:
        """The plans from which ``act``, with the same arguments and key, chooses the first environment's action.

        Raises:
            ValueError: the agent does not plan.
        """
        if self.config.planning is None or carry.plan is None:
            raise ValueError("an agent without a planner has no plans to show")
        state, first = self.acting(state, mode), jnp.asarray(is_first)
        model = self.perception.compute(symmetric(state.world_model.module))
        latent, action_key = self._filter(model, carry, observation, first, key=key)
        # Folded with a number that ``split`` did not use.
        futures_key = jax.random.fold_in(key, 2)
        return self.plans.preview(state, latent, carry.plan, first, key=action_key, futures_key=futures_key)

    # The three methods below search step by step, for acting by a deadline (prudence/deploy/deadline.py). With the
    # configured number of iterations, the action is the one that ``act`` takes in evaluation.

    @compiled("self")
    def begin_search(
        self,
        state: DreamerState,
        carry: DreamerCarry,
        observation: Observation,
        is_first: Bool[Array | np.ndarray, " E"],
        *,
        key: Key,
    ) -> SearchState:
        """Filters the observations and begins a search. The agent must have a planner."""
        assert carry.plan is not None
        state, first = self.acting(state, "evaluate"), jnp.asarray(is_first)
        model = self.perception.compute(symmetric(state.world_model.module))
        latent, action_key = self._filter(model, carry, observation, first, key=key)
        return self.plans.begin(state, latent, carry.plan, first, key=action_key)

    @compiled("self")
    def iterate_search(
        self, state: DreamerState, search_state: SearchState, index: int | Int[Array, ""]
    ) -> tuple[SearchState, Metrics]:
        """Runs iteration ``index`` of the search."""
        return self.plans.iterate(self.acting(state, "evaluate"), search_state, index)

    @compiled("self")
    def end_search(self, state: DreamerState, search_state: SearchState) -> tuple[Float[Array, "E A"], DreamerCarry]:
        """The actions, and the carry for the next decision."""
        return self.plans.end(self.acting(state, "evaluate"), search_state)

    def _filter(
        self,
        model: AbstractWorldModel,
        carry: DreamerCarry,
        observation: Observation,
        is_first: Bool[Array, " E"],
        *,
        key: Key,
    ) -> tuple[LatentState, Key]:
        return self.perception.filter(model, carry.latent, carry.prev_action, observation, is_first, key=key)

    # --- learning -----------------------------------------------------------------------------

    def _update(self, state: DreamerState, batch: Batch, *, key: Key) -> tuple[DreamerState, Metrics]:
        """Updates world model, actor and multiplier, critic, cost critic, in the order of SafeDreamer's Algorithm 2."""
        imagination, (model_key, start_key, imagine_key) = self.imagination, jax.random.split(key, 3)
        rate = imagination.rate(state)
        world_model, filtered, metrics = self.perception.learn(state.world_model, batch, rate, key=model_key)
        start, alive = imagination.starts(filtered.states, batch, key=start_key)
        model = self.perception.compute(world_model.module)
        posterior, predictors, more = self._update_posterior(state, world_model.module, filtered, batch, key=key)

        members, member_metrics = self._update_members(state, world_model.module, filtered, batch, key=key)
        state = replace(state, disagreement=members)

        episodes = self._go_on(state, model, filtered, key=jax.random.fold_in(key, 7))
        dream, actor, actor_metrics = imagination.improve(state, model, predictors, start, alive, key=imagine_key)
        seen = model.critic_features(filtered.states)
        replayed = self._replayed(state.critic, seen, batch, batch.reward, self.config.discount)
        critic, critic_metrics = state.critic.update(together(dream.critic_batch, replayed), name="critic", rate=rate)
        cost_critic, cost_metrics = state.cost_critic, {}
        if cost_critic is not None:
            replayed = self._replayed(cost_critic, seen, batch, batch.cost, self.config.budget.discount)
            critic_batch = together(dream.cost_critic_batch, replayed)
            cost_critic, cost_metrics = cost_critic.update(critic_batch, name="cost_critic", rate=rate)
        recovery, risk_metrics = state.recovery, {}
        if recovery is not None:
            policy, risk_key = self.perception.compute(actor.module), jax.random.fold_in(key, 6)
            recovery, risk_metrics = recovery.update(policy, Pairs.of(seen, batch), rate, key=risk_key)
        state = DreamerState(
            world_model=world_model,
            posterior=posterior,
            disagreement=members,
            actor=actor,
            critic=critic,
            cost_critic=cost_critic,
            recovery=recovery,
            return_scale=state.return_scale.update(dream.returns),
            constraint=imagination.update_constraint(state, dream.violation),
            price=state.price,
            lived=self.config.budget.rehearsed(state.lived, dream.estimate),
            episodes=episodes,
            average=state.average,
            step=state.step + 1,
        )
        if state.average is not None:
            assert self.config.averaging is not None
            pairs = zip(state.average, self._what_acts(state), strict=True)
            state = replace(state, average=tuple(old.update(new, self.config.averaging) for old, new in pairs))
        metrics |= more | member_metrics | actor_metrics | critic_metrics | cost_metrics | risk_metrics
        return state, metrics | dream.metrics

    def _go_on(
        self, state: DreamerState, model: AbstractWorldModel, filtered: Any, *, key: Key
    ) -> ImaginedEpisodes | None:
        """The imagined episodes after H more decisions of the policy, as it is evaluated, if the budget needs them."""
        if state.episodes is None:
            return None
        c, actor = self.config, self.perception.compute(self.acting(state, "evaluate").actor.module)
        recorded = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), filtered.states)
        mode = c.evaluation == "mode"
        return state.episodes.go_on(model, actor, recorded, steps=c.horizon, mode=mode, key=key)

    def _update_posterior(
        self, state: DreamerState, model: AbstractWorldModel, filtered: Any, batch: Batch, *, key: Key
    ) -> tuple[Any, Any, Metrics]:
        """Updates the posterior over models and draws N predictors, cast to the type of activations.

        Posterior and predictors are None if the agent has no posterior.
        """
        if self.config.uncertainty is None:
            return None, None, {}
        posterior: ModelPosterior = self.config.uncertainty.posterior
        # Folded with numbers that ``split`` did not use.
        update_key, draw_key = jax.random.fold_in(key, 3), jax.random.fold_in(key, 4)
        evidence = (filtered, batch, state.step + 1)
        updated: tuple[Any, Metrics] = posterior.update(state.posterior, symmetric(model), *evidence, key=update_key)
        return (
            updated[0],
            self.perception.compute(posterior.sample(updated[0], symmetric(model), key=draw_key)),
            updated[1],
        )

    def _update_members(
        self, state: DreamerState, model: AbstractWorldModel, filtered: Any, batch: Batch, *, key: Key
    ) -> tuple[Optimised[Predictor] | None, Metrics]:
        """Updates the ensemble whose disagreement is a penalty, if there is one."""
        if self.config.disagreement is None or state.disagreement is None:
            return None, {}
        ensemble, update_key = self.config.disagreement.ensemble, jax.random.fold_in(key, 5)
        members, metrics = ensemble.update(
            state.disagreement, symmetric(model), filtered, batch, state.step + 1, key=update_key
        )
        return members, {name.replace("posterior/", "disagreement/"): value for name, value in metrics.items()}

    def _replayed(
        self,
        critic: Critic,
        seen: Float[Array, "B T G"],
        batch: Batch,
        rewards: Float[Array | np.ndarray, "B T *C"],
        discount: float,
    ) -> CriticBatch | None:
        """The batch with which a critic of ``rewards`` (or costs) learns at replayed states. None without
        ``replay_loss``.

        The targets are λ-returns of the real rewards (or costs).
        """
        share = self.config.replay_loss
        if not share:
            return None

        def time_major(x: Any) -> Array:
            """``[B, T, ...]`` to ``[T, B, ...]``."""
            return jnp.swapaxes(jnp.asarray(x), 0, 1)

        def number(x: Any) -> Array:
            return time_major(x).astype(jnp.float32)

        features, last, terminal = time_major(seen), number(batch.is_last), number(batch.is_terminal)
        values = self.perception.compute(critic).values(features)

        def by_state(x: Array) -> Array:
            """Repeats ``[T, B]`` for each of the values."""
            return jnp.broadcast_to(x.reshape(*x.shape, *(1,) * (values.ndim - 2)), values.shape)

        lambdas = by_state(self.config.lambda_ * (1 - last))
        targets = lambda_returns(number(rewards), values, by_state(discount * (1 - terminal)), lambdas)
        return CriticBatch.flat(features[:-1], targets, share * (1 - last[:-1]))

    def on_episode(self, state: DreamerState, summary: EpisodeSummary) -> DreamerState:
        """The state after a finished training episode.

        An episode of the actor updates the running costs and the actor's constraint. An episode of the planner updates
        the price of plans. So each multiplier depends only on the episodes that it influences.
        """
        cost = jnp.asarray(summary.episode_cost, jnp.float32)
        violation = self.config.budget.exceeded(state.lived, cost)
        lived, constraint = state.lived.update(cost), self.config.constraint.on_episode(state.constraint, violation)
        if self.config.planning is None:
            return replace(state, lived=lived, constraint=constraint)
        moved = self.config.planning.price.on_episode(state.price, violation)
        keep_where = partial(jax.tree.map, partial(jnp.where, self.imagination.acts_by_plan(state)))
        lived, constraint = keep_where((state.lived, state.constraint), (lived, constraint))
        return replace(state, lived=lived, constraint=constraint, price=keep_where(moved, state.price))

    # --- diagnosis ----------------------------------------------------------------------------

    @compiled("self")
    def foresee(self, state: DreamerState, carry: DreamerCarry, *, key: Key) -> Outlook | None:
        """The critics' values at the states in ``carry``, and one imagined future from each under the actor.

        ``carry`` is from ``act`` in evaluation. The future has ``config.horizon`` steps. The result is None for an
        agent with privileged observations, because its critics see more than its actor.
        """
        if self.config.privileged is not None:
            return None
        state = self.acting(state, "evaluate")
        parts = (symmetric(state.world_model.module), state.actor.module, state.critic, state.cost_critic)
        model, actor, critic, cost_critic = self.perception.compute(parts)
        action_key, dynamics_key = jax.random.split(key)
        noise = actor.noise(self.config.horizon, len(carry.prev_action), key=action_key)
        policy = lambda features, noise: actor(features).sample(noise)
        costs = model.imagine(policy, carry.latent, noise, key=dynamics_key).costs[1:]
        features = model.critic_features(carry.latent)
        cost_value = None if cost_critic is None else cost_critic.values(features)
        return Outlook(critic.values(features), cost_value, jnp.swapaxes(costs, 0, 1))

    def predictions_by_model(
        self, state: DreamerState, batch: Batch, *, key: Key, context: int, draws: int = 4, common_noise: bool = False
    ) -> dict[str, np.ndarray]:
        """The predictions of M models of the posterior for ``[B, T]`` sequences after ``context`` steps.

        They predict ``reward [M, B, T - context]`` and ``cost [M, B, T - context, C]`` under the recorded actions. M is
        ``draws`` times the posterior's number of samples. With ``common_noise`` all models have the same noise, so only
        the models themselves differ.

        Raises:
            ValueError: the agent has no posterior over models.
        """
        if self.config.uncertainty is None:
            raise ValueError("an agent without a posterior over models has only one prediction")
        posterior, module = self.config.uncertainty.posterior, symmetric(state.world_model.module)
        draw_key, noise_key = jax.random.split(key)
        batch = jax.tree.map(jnp.asarray, batch)

        @eqx.filter_jit
        def predict(draw_key: Key, noise_key: Key) -> tuple[Array, Array]:
            predictors = posterior.sample(state.posterior, module, key=draw_key)
            model, predictors = self.perception.compute((module, predictors))
            return open_loop_each(model, predictors, batch, context, key=noise_key, common_noise=common_noise)

        fold, same = jax.random.fold_in, jax.random.clone
        noise_keys = [same(noise_key) if common_noise else fold(noise_key, i) for i in range(draws)]
        rewards, costs = zip(*(predict(fold(draw_key, i), k) for i, k in enumerate(noise_keys)), strict=True)
        return {"reward": np.concatenate(rewards), "cost": np.concatenate(costs)}
