"""The core of FOSP (Cao et al. 2025): a world model, in-sample values, and regression on recorded actions.

Named systems are compositions of this core; ``prudence/agents/fosp.py`` has the paper's names. One update follows the
paper's Algorithm 1: world model, imagination, V and Q, policy, feasibility. Offline the policy learns by weighted
regression. With ``fine_tuning``, in an environment, it ascends imagined advantages with the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from prudence.actors import Actor
from prudence.cores.actor_learning import climb, draw_starts, rehearse
from prudence.cores.base import Mode, Outlook, compiled
from prudence.cores.dreamer.perception import Perception
from prudence.cores.fosp.config import FineTuningConfig, FospCarry, FospConfig, FospState, RegressionConfig, check
from prudence.cores.fosp.critics import ImaginedReturns, InSampleValues, Values
from prudence.cores.fosp.expansion import choose
from prudence.cores.fosp.feasibility import Feasibility
from prudence.cores.imagined_episodes import ImaginedEpisodes
from prudence.cores.pairs import Pairs
from prudence.cores.world_model_agent import WorldModelAgent
from prudence.models.base import AbstractWorldModel
from prudence.ops.offline import regression_weights
from prudence.ops.returns import cumulative_discount, lambda_returns
from prudence.optim import Averaged, Optimised, cooled
from prudence.types import Batch, EpisodeSummary, Key, Metrics, Observation, Spaces, Trajectory

RUN_UPDATES = 30_000
"""Number of gradient steps of a run if its length is not given."""
_LEAST_DEVIATION = 1e-3
"""Advantages that spread less than this share of the range of returns are noise, which is not to be magnified."""


class Rehearsal(NamedTuple):
    """B imagined trajectories of H steps, and what was computed along them."""

    trajectory: Trajectory
    weights: Float[Array, "H B"]
    returns: Float[Array, "H B"]
    cost_returns: Float[Array, "H B C"]
    estimate: Float[Array, " C"]
    violation: Float[Array, " C"]
    advantage: Float[Array, "H B"]


class Filtered(NamedTuple):
    """Recorded sequences as the new model sees them.

    Attributes:
        model: the model, cast to the type of activations.
        states: posterior states ``[B, T, ...]``.
        features: ``[B, T, F]`` of the states.
        pairs: the pairs of consecutive rows.
    """

    model: AbstractWorldModel
    states: Any
    features: Float[Array, "B T F"]
    pairs: Pairs


@dataclass(frozen=True)
class Fosp(WorldModelAgent):
    """An agent that learns a policy from recorded actions, in the latents of a world model, and can improve it.

    Attributes:
        spaces: the environment's spaces.
        config: the configuration.
        run_updates: number of gradient steps of the whole run. It sets the pace of learning rates and multipliers.

    Raises:
        ValueError: the configuration does not suit the spaces.
    """

    spaces: Spaces
    config: FospConfig
    run_updates: int = RUN_UPDATES

    def __post_init__(self) -> None:
        check(self.config, self.spaces)

    @property
    def perception(self) -> Perception:
        """The world model's functions."""
        c = self.config
        return Perception(self.spaces, c.world_model, None, c.model_optimiser, c.compute_dtype)

    @property
    def cost_limits(self) -> Float[Array, " C"]:
        """The budgets d."""
        return self.config.budget.limits(self.spaces.num_costs)

    def init(self, *, key: Key) -> FospState:
        c, costs = self.config, self.spaces.num_costs
        model_key, actor_key, reward_key, cost_key, feasibility_key = jax.random.split(key, 5)
        model = self.perception.init(key=model_key)
        actor = self._new_actor(model, key=actor_key)
        sizes, values = (model.critic_size, self.spaces.action.size), None
        if c.regression is not None:
            values = Values(
                InSampleValues.init(sizes, (), c.values, "min", key=reward_key),
                InSampleValues.init(sizes, (costs,), c.values, "max", key=cost_key),
            )
        return FospState(
            world_model=Optimised.init(model, c.model_optimiser),
            actor=Optimised.init(actor, c.actor_optimiser),
            values=values,
            feasibility=None
            if c.feasibility is None
            else Feasibility.init(model.critic_size, costs, c.feasibility, key=feasibility_key),
            constraint=c.constraint.init(costs),
            lived=c.budget.init(costs),
            episodes=ImaginedEpisodes.init(self.perception.first_states, costs) if c.measures_episodes else None,
            average=None if c.averaging is None else Averaged.init(actor),
            prior=None if c.expansion is None else actor,
            step=jnp.zeros((), jnp.int32),
        )

    def _new_actor(self, model: AbstractWorldModel, *, key: Key) -> Actor:
        return Actor(model.actor_size, self.spaces.action, self.config.actor, key=key)

    def begin_online(self, state: FospState, *, key: Key) -> FospState:
        """The transfer of Algorithm 1. The policy of the offline phase is kept as it was evaluated, and a new one
        learns beside it. Without policy expansion the offline policy learns on. Critics, model, feasibility and
        multipliers stay. Schedules begin anew."""
        c, policy = self.config, self.acting(state, "evaluate")
        state = replace(state, step=jnp.zeros((), jnp.int32))
        if c.expansion is None:
            return state
        actor = state.actor
        if c.expansion.policy == "fresh":
            actor = Optimised.init(self._new_actor(state.world_model.module, key=key), c.actor_optimiser)
        average = None if c.averaging is None else Averaged.init(actor.module)
        return replace(state, prior=policy, actor=actor, average=average)

    # --- acting -------------------------------------------------------------------------------

    def acting(self, state: FospState, mode: Mode) -> Actor:
        """The policy that acts in ``mode``. In evaluation it is the averaged one, if it exists."""
        averaged = state.average is not None and mode == "evaluate"
        return state.average.module if averaged else state.actor.module  # pyright: ignore[reportOptionalMemberAccess]

    def init_carry(self, num_envs: int) -> FospCarry:
        return FospCarry(self.perception.first_latent(num_envs), jnp.zeros((num_envs, self.spaces.action.size)))

    @compiled("self", "mode")
    def act(
        self,
        state: FospState,
        carry: FospCarry,
        observation: Observation,
        is_first: Bool[Array | np.ndarray, " E"],
        *,
        key: Key,
        mode: Mode,
    ) -> tuple[Float[Array, "E A"], FospCarry, Metrics]:
        """Filters the observations, then takes the policy's mode (in evaluation, if so configured) or a sample.

        With policy expansion, the mode of the offline policy is another proposal.
        """
        model, actor = self.compute((state.world_model.module, self.acting(state, mode)))
        first = jnp.asarray(is_first)
        latent, action_key = self.perception.filter(model, *carry, observation, first, key=key)
        policy = actor(latent.features)
        greedy = mode == "evaluate" and self.config.evaluation == "mode"
        action = policy.mode() if greedy else policy.sample(actor.noise(len(first), key=action_key))
        metrics = {"policy/entropy": policy.entropy()}
        if state.prior is not None:
            assert self.config.expansion is not None
            prior, values = self.compute((state.prior, state.values))
            proposals = jnp.stack([prior(latent.features).mode(), action])
            best = mode == "evaluate" and self.config.expansion.evaluation == "best"
            choice_key = None if best else jax.random.fold_in(key, 2)  # A number that ``split`` did not use.
            seen = model.critic_features(latent)
            action, probabilities = choose(proposals, values, seen, self.config.expansion, key=choice_key)
            metrics["expansion/new"] = probabilities[1]
        return action, FospCarry(latent, action), metrics

    # --- learning -----------------------------------------------------------------------------

    def _update(self, state: FospState, batch: Batch, *, key: Key) -> tuple[FospState, Metrics]:
        """One gradient step of every part."""
        model_key, imagine_key = jax.random.split(key)
        rate = cooled(state.step, self.run_updates, self.config.cooldown)
        world_model, filtered, metrics = self.perception.learn(state.world_model, batch, rate, key=model_key)
        model = self.compute(world_model.module)
        features = model.critic_features(filtered.states)
        seen = Filtered(model, filtered.states, features, Pairs.of(features, batch))
        learn = self._clone if self.config.regression is None else partial(self._improve, key=imagine_key)
        state, more = learn(state, seen, batch, rate)
        average = state.average
        if average is not None:
            assert self.config.averaging is not None
            average = average.update(state.actor.module, self.config.averaging)
        return replace(state, world_model=world_model, average=average, step=state.step + 1), metrics | more

    def _clone(
        self, state: FospState, seen: Filtered, batch: Batch, rate: Float[Array, ""] | None
    ) -> tuple[FospState, Metrics]:
        """Behaviour cloning: maximum likelihood of the recorded actions."""

        def loss(actor: Actor) -> tuple[Float[Array, ""], Metrics]:
            return self._imitation(self.compute(actor), seen.pairs, seen.pairs.weights)

        gradient, metrics = eqx.filter_grad(loss, has_aux=True)(state.actor.module)
        actor, more = state.actor.descend(gradient, "actor", rate)
        return replace(state, actor=actor), metrics | more

    def _improve(
        self, state: FospState, seen: Filtered, batch: Batch, rate: Float[Array, ""] | None, *, key: Key
    ) -> tuple[FospState, Metrics]:
        """In-sample values, the policy with a penalty on imagined costs, and feasibility."""
        c, (start_key, noise_key, roll_key) = self.config, jax.random.split(key, 3)
        assert state.values is not None
        assert c.regression is not None
        offline = c.fine_tuning is None
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen.states)
        alive = 1 - jnp.asarray(batch.is_terminal, jnp.float32).reshape(-1)
        start, alive, chosen = draw_starts(flat, alive, c.imagination_starts, key=start_key)
        frozen = self.compute(state.actor.module)
        noise = state.actor.module.noise(c.horizon, len(alive), key=noise_key)
        policy = lambda features, noise: jax.lax.stop_gradient(frozen(features).sample(noise))
        dream, action_gradient = rehearse(
            partial(seen.model.imagine, policy, start, noise, key=roll_key),
            partial(self._objective, state, alive),
            noise,
            pathwise=self.spaces.action.kind == "continuous" and (c.penalised or not offline),
        )
        episodes = state.episodes
        if episodes is not None:
            actor, mode = self.compute(self.acting(state, "evaluate")), c.evaluation == "mode"
            episodes_key = jax.random.fold_in(key, 3)  # A number that ``split`` did not use.
            episodes = episodes.go_on(seen.model, actor, flat, steps=c.horizon, mode=mode, key=episodes_key)
        values, metrics = self._update_values(state.values, dream, seen.pairs, rate)
        state = replace(state, values=values)
        imitation = None
        if offline:
            weights, more = self._weights(state, seen.pairs, c.regression)
            metrics |= more
            imitation = partial(self._imitation, pairs=seen.pairs, weights=weights)
        actor, actor_metrics = climb(
            state.actor,
            self.compute,
            dream,
            noise,
            action_gradient,
            entropy=c.entropy,
            rate=rate,
            also=imitation,
        )
        metrics |= actor_metrics | self._dream_metrics(state, dream)
        feasibility = state.feasibility
        if feasibility is not None:
            start_costs = jnp.asarray(batch.cost).reshape(-1, self.spaces.num_costs)[chosen]
            feasibility, more = feasibility.update(dream.trajectory, start_costs, alive, seen.features, batch, rate)
            metrics |= more
        constraint = self._update_constraint(state, dream)
        lived = c.budget.rehearsed(state.lived, dream.estimate)
        changed = replace(
            state, actor=actor, feasibility=feasibility, constraint=constraint, lived=lived, episodes=episodes
        )
        return changed, metrics

    def _objective(
        self, state: FospState, alive: Float[Array, " B"], trajectory: Trajectory
    ) -> tuple[Float[Array, ""], Rehearsal]:
        """The penalty on imagined costs of feasible states (FOSP eq. 20), and the returns along the trajectories. With
        ``fine_tuning`` also the advantages that the policy ascends (eq. 23).

        The paper's penalty is on V^c of recorded states, which has no derivative with respect to the policy.
        """
        c, values = self.config, self.compute(state.values)
        discounts = c.discount * trajectory.continues
        values, cost_values = (of.state.values(trajectory.critic_features) for of in values)
        cost_discounts = jnp.broadcast_to((c.budget.discount * trajectory.continues)[..., None], cost_values.shape)
        cost_returns = lambda_returns(trajectory.costs, cost_values, cost_discounts, c.lambda_)
        feasible = jax.lax.stop_gradient(self._feasible(state, trajectory.critic_features[:-1]))
        unit = c.budget.cost_unit(self.spaces, c.horizon)
        estimate = unit * (feasible[..., None] * cost_returns).mean((0, 1))
        if state.episodes is not None:
            estimate = state.episodes.instead_of(estimate, self.spaces)
        violation = c.budget.measure(state.lived, estimate)
        active = c.penalised & (state.step >= c.budget.start)
        loss = jnp.where(active, c.constraint.loss(state.constraint, jnp.zeros(()), violation), 0.0)
        # The derivatives of the loss weigh advantages in the score-function gradient.
        price = active * c.constraint.weights(state.constraint, violation)[1] / c.budget.unit_of_costs(state.lived)
        advantage = -unit * feasible * ((cost_returns - cost_values[:-1]) * price).sum(-1)
        returns = lambda_returns(trajectory.rewards, values, discounts, c.lambda_)
        weights = cumulative_discount(discounts)[:-1] * alive
        if c.fine_tuning is not None:
            assert state.values is not None
            excess = jax.lax.stop_gradient((values[:-1], cost_values[:-1]))
            gain = self._gain(state.values, returns - excess[0], cost_returns - excess[1], feasible, c.fine_tuning)
            loss, advantage = loss - (weights * gain).mean(), advantage + gain
        rehearsal = Rehearsal(
            trajectory=trajectory,
            weights=weights,
            returns=returns,
            cost_returns=cost_returns,
            estimate=estimate,
            violation=violation,
            advantage=advantage,
        )
        return loss, jax.lax.stop_gradient(rehearsal)

    @staticmethod
    def _gain(
        values: Values,
        advantage: Float[Array, "H B"],
        cost_advantage: Float[Array, "H B C"],
        feasible: Float[Array, "H B"],
        config: FineTuningConfig,
    ) -> Float[Array, "H B"]:
        """u β1 A/S − (1 − u) β2 Σ_j A^c_j/S_{c,j}, what the policy maximises in an environment (FOSP eq. 23)."""
        costs = (cost_advantage / values.costs.scale.scale).sum(-1)
        gains = config.temperature * feasible * advantage / values.rewards.scale.scale
        return gains - config.cost_temperature * (1 - feasible) * costs

    def _feasible(self, state: FospState, features: Float[Array, "*batch F"]) -> Float[Array, "*batch"]:
        return jnp.ones(features.shape[:-1]) if state.feasibility is None else self.compute(state.feasibility)(features)

    def _update_values(
        self, values: Values, dream: Rehearsal, pairs: Pairs, rate: Float[Array, ""] | None
    ) -> tuple[Values, Metrics]:
        c = self.config
        features, actions = dream.trajectory.critic_features[:-1], dream.trajectory.actions
        rewards, metrics = values.rewards.update(
            ImaginedReturns(features, actions, dream.returns, dream.weights),
            pairs,
            pairs.rewards,
            c.values,
            expectile=c.values.expectile,
            discount=c.discount,
            rate=rate,
            name="value",
        )
        costs, more = values.costs.update(
            ImaginedReturns(features, actions, dream.cost_returns, dream.weights),
            pairs,
            pairs.costs,
            c.values,
            expectile=c.values.cost_expectile,
            discount=c.budget.discount,
            rate=rate,
            name="cost_value",
        )
        return Values(rewards, costs), metrics | more

    def _weights(self, state: FospState, pairs: Pairs, config: RegressionConfig) -> tuple[Float[Array, " n"], Metrics]:
        """The weights of the recorded actions (FOSP eq. 16 to 19)."""
        assert state.values is not None
        mean = lambda x: (pairs.weights * x.T).sum(-1) / jnp.maximum(pairs.weights.sum(), 1.0)
        spread = lambda x: jnp.maximum(jnp.sqrt(mean(x**2)), _LEAST_DEVIATION)
        advantage, costs = (of.advantages(pairs) for of in state.values)
        metrics = {
            "regression/advantage_std": spread(advantage),
            "regression/cost_advantage_std": spread(costs).mean(),
        }
        if config.normalised:
            advantage, costs = advantage / spread(advantage), costs / spread(costs)
        if config.penalty == "weights":
            active = state.step >= self.config.budget.start
            advantage -= active * (self.config.constraint.multiplier(state.constraint) * costs).sum(-1)
            if config.normalised:  # Else a larger multiplier would also lower the temperature.
                advantage /= spread(advantage)
        feasible = self._feasible(state, pairs.features)
        weights = regression_weights(
            advantage,
            costs.sum(-1),
            feasible,
            self._safe_action(state, pairs, config),
            temperature=config.temperature,
            cost_temperature=config.cost_temperature,
            clip=config.clip,
            cost_clip=config.cost_clip,
        )
        metrics |= {
            "regression/weight": mean(weights),
            "regression/clipped": mean(config.temperature * advantage > jnp.log(config.clip)),
            "regression/feasible": mean(feasible),
        }
        return pairs.weights * weights, metrics

    def _safe_action(self, state: FospState, pairs: Pairs, config: RegressionConfig) -> Float[Array, " n"]:
        """f, the feasibility of the recorded actions."""
        if config.safe_action == "none":
            return jnp.ones(len(pairs.weights))
        if config.safe_action == "next":
            return self._feasible(state, pairs.next_features)
        assert state.values is not None
        # A constant cost that sums to the budget over an episode has this discounted sum.
        assert self.spaces.episode_steps is not None
        unit = (1 - self.config.budget.discount) * self.spaces.episode_steps
        within = state.values.costs.of_actions(pairs.features, pairs.actions) * unit <= self.cost_limits
        return within.all(-1).astype(jnp.float32)

    @staticmethod
    def _imitation(actor: Actor, pairs: Pairs, weights: Float[Array, " n"]) -> tuple[Float[Array, ""], Metrics]:
        """−w log π of the recorded actions."""
        log_prob = actor(pairs.features).log_prob(pairs.actions)
        recorded = jnp.maximum(pairs.weights.sum(), 1.0)
        return -(weights * log_prob).mean(), {"regression/log_prob": (pairs.weights * log_prob).sum() / recorded}

    def _update_constraint(self, state: FospState, dream: Rehearsal) -> Any:
        pace = 1 / self.run_updates if self.config.budget.relative else 1.0
        updated = self.config.constraint.update(state.constraint, dream.violation, pace)
        moves = state.step >= self.config.budget.start
        return jax.tree.map(lambda new, old: jnp.where(moves, new, old), updated, state.constraint)

    def _dream_metrics(self, state: FospState, dream: Rehearsal) -> Metrics:
        by_cost, multiplier = self.spaces.by_cost, self.config.constraint.multiplier(state.constraint)
        metrics = {"imagined/return": dream.returns.mean()}
        if state.episodes is not None:
            metrics |= state.episodes.metrics(self.spaces)
        return metrics | by_cost("imagined/cost", dream.estimate) | by_cost("constraint/multiplier", multiplier)

    def on_episode(self, state: FospState, summary: EpisodeSummary) -> FospState:
        """The state after a finished training episode, which measures what the policy costs."""
        cost = jnp.asarray(summary.episode_cost, jnp.float32)
        violation = self.config.budget.exceeded(state.lived, cost)
        constraint = self.config.constraint.on_episode(state.constraint, violation)
        return replace(state, lived=state.lived.update(cost), constraint=constraint)

    # --- diagnosis ----------------------------------------------------------------------------

    @compiled("self")
    def foresee(self, state: FospState, carry: FospCarry, *, key: Key) -> Outlook | None:
        """V and V^c at the states in ``carry``, and one imagined future from each under the policy that learns.

        The result is None for behaviour cloning, which has no values.
        """
        if state.values is None:
            return None
        parts = (state.world_model.module, self.acting(state, "evaluate"), *(of.state for of in state.values))
        model, actor, value, cost_value = self.compute(parts)
        action_key, dynamics_key = jax.random.split(key)
        noise = actor.noise(self.config.horizon, len(carry.prev_action), key=action_key)
        policy = lambda features, noise: actor(features).sample(noise)
        costs = model.imagine(policy, carry.latent, noise, key=dynamics_key).costs[1:]
        features = model.critic_features(carry.latent)
        return Outlook(value.values(features), cost_value.values(features), jnp.swapaxes(costs, 0, 1))
