"""Actor improvement of the Dreamer core (SafeDreamer section 4.3, LAMBDA section 4).

The actor improves on trajectories that a world model imagines, under a constraint on their costs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from prudence.actors import Actor
from prudence.budgets import Lived
from prudence.constraints import Unconstrained
from prudence.cores.actor_learning import draw_starts, improve
from prudence.cores.dreamer.config import DreamerConfig, DreamerState
from prudence.cores.dreamer.uncertainty import Selection, select
from prudence.critics import CriticBatch
from prudence.models.base import AbstractWorldModel
from prudence.models.posterior import imagine_each
from prudence.models.world_model import symmetric
from prudence.nets import cast
from prudence.ops.returns import cumulative_discount, lambda_returns
from prudence.optim import Optimised, cooled
from prudence.types import Batch, Key, Metrics, Spaces, Trajectory


class Dream(NamedTuple):
    """B imagined trajectories (columns) of H steps, and the quantities computed along them.

    Returns and critic batches belong to the selected trajectories.
    """

    trajectory: Trajectory
    returns: Float[Array, "H MS"]
    weights: Float[Array, "H B"]
    estimate: Float[Array, " C"]
    violation: Float[Array, " C"]
    advantage: Float[Array, "H B"]
    critic_batch: CriticBatch
    cost_critic_batch: CriticBatch
    metrics: Metrics


@dataclass(frozen=True)
class Imagination:
    """Imagination of an agent: start states, trajectories, their returns and costs, and the actor's gradient step."""

    spaces: Spaces
    config: DreamerConfig
    run_updates: int

    @property
    def cost_limits(self) -> Float[Array, " C"]:
        """The budgets d."""
        return self.config.budget.limits(self.spaces.num_costs)

    def compute(self, tree: Any) -> Any:
        """Casts ``tree`` to the type of activations."""
        return cast(tree, jnp.dtype(self.config.compute_dtype))

    def starts(self, latents: Any, batch: Batch, *, key: Key) -> tuple[Any, Float[Array, " S"]]:
        """Flattens posterior states to start states ``[S, ...]``. The second result is 1, or 0 for terminal states."""
        flat = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), latents)
        alive = 1 - jnp.asarray(batch.is_terminal, jnp.float32).reshape(-1)
        return draw_starts(flat, alive, self.config.imagination_starts, key=key)[:2]

    def improve(
        self,
        state: DreamerState,
        model: AbstractWorldModel,
        predictors: Any,
        start: Any,
        alive: Float[Array, " S"],
        *,
        key: Key,
    ) -> tuple[Dream, Optimised[Actor], Metrics]:
        """Takes one gradient step of the actor (SafeDreamer eq. 9, LAMBDA eq. 10).

        The loss is −R^λ/S − η·entropy, weighted by the cumulative discount, with the constraint on imagined costs.
        """
        frozen = self.compute(state.actor.module)
        policy = lambda features, noise: jax.lax.stop_gradient(frozen(features).sample(noise))
        start, alive, noise, roll = self._rollout(state, model, predictors, policy, start, alive, key=key)
        return improve(
            state.actor,
            self.compute,
            roll,
            lambda trajectory: self.dream(state, trajectory, alive),
            noise,
            pathwise=not self.scores,
            entropy=self.config.entropy,
            rate=self.rate(state),
        )

    def _rollout(
        self,
        state: DreamerState,
        model: AbstractWorldModel,
        predictors: Any,
        policy: Callable[[Float[Array, "B F"], Float[Array, "B A"]], Float[Array, "B A"]],
        start: Any,
        alive: Float[Array, " S"],
        *,
        key: Key,
    ) -> tuple[Any, Float[Array, " B"], Float[Array, "H B A"], Callable[..., Trajectory]]:
        """Prepares imagination: start states, whether they are alive, the policy's noise, and the imagining function.

        With N predictors there are B = N·S columns: the S start states are repeated for each predictor in turn.
        """
        c, uncertainty = self.config, self.config.uncertainty
        action_key, dynamics_key = jax.random.split(key)
        noise_of = lambda columns: state.actor.module.noise(c.horizon, columns, key=action_key)
        if uncertainty is None:
            noise = noise_of(len(alive))
            return start, alive, noise, partial(model.imagine, policy, start, noise, key=dynamics_key)
        number, common = uncertainty.posterior.samples, uncertainty.common_noise

        def each(x: Array) -> Array:
            """Repeats the start states ``[S, ...]`` for each of the N predictors."""
            return jnp.tile(x, (number, *(1,) * (x.ndim - 1)))

        noise = jnp.tile(noise_of(len(alive)), (1, number, 1)) if common else noise_of(number * len(alive))
        start, alive = jax.tree.map(each, (start, alive))
        roll = partial(
            imagine_each, symmetric(model), predictors, policy, start, noise, key=dynamics_key, common_noise=common
        )
        return start, alive, noise, roll

    def dream(
        self, state: DreamerState, trajectory: Trajectory, alive: Float[Array, " B"]
    ) -> tuple[Float[Array, ""], Dream]:
        """The actor's objective on imagined trajectories (a loss), and everything that was computed for it."""
        c = self.config
        discounts = c.discount * trajectory.continues
        rewards, penalty_metrics = self._rewards(state, trajectory)
        values = self.compute(state.critic).values(trajectory.critic_features)
        returns = lambda_returns(rewards, values, discounts, c.lambda_)
        weights = cumulative_discount(discounts)[:-1] * alive
        cost_values = self._cost_values(state, trajectory)
        cost_discounts = jnp.broadcast_to((c.budget.discount * trajectory.continues)[..., None], cost_values.shape)
        cost_returns = lambda_returns(trajectory.costs, cost_values, cost_discounts, c.lambda_)
        task, safety, metrics = self._select(returns, values, cost_returns, cost_values)
        estimate = self.cost_unit * jnp.stack([of(cost_returns[..., i]).mean() for i, of in enumerate(safety)])
        if state.episodes is not None:
            estimate = state.episodes.instead_of(estimate, self.spaces)
        violation = c.budget.measure(state.lived, estimate)
        loss = -(task(weights) * task(returns)).mean() / self._return_scale(state)
        constrained = c.constraint.loss(state.constraint, loss, violation)
        loss = jnp.where(self._constraint_active(state), constrained, loss)
        advantages = returns - values[:-1], cost_returns - cost_values[:-1]
        features = trajectory.critic_features[:-1]
        dream = Dream(
            trajectory=trajectory,
            returns=task(returns),
            weights=weights,
            estimate=estimate,
            violation=violation,
            advantage=self._advantage(state, *advantages, violation, task, safety),
            critic_batch=CriticBatch.flat(task(features), task(returns), task(weights)),
            cost_critic_batch=_cost_critic_batch(features, cost_returns, weights, safety),
            metrics=metrics | penalty_metrics | self._dream_metrics(state, task(returns), estimate),
        )
        return loss, jax.lax.stop_gradient(dream)

    def _rewards(self, state: DreamerState, trajectory: Trajectory) -> tuple[Float[Array, "states B"], Metrics]:
        """The imagined rewards, minus the penalty where the ensemble disagrees."""
        config = self.config.disagreement
        if config is None:
            return trajectory.rewards, {}
        members, model = self.compute((state.disagreement, symmetric(state.world_model.module)))
        found = config.ensemble.disagreement(members, model, trajectory.actor_features)
        return trajectory.rewards - config.weight * found, {"disagreement/imagined": found[1:].mean()}

    def _select(
        self,
        returns: Float[Array, "H B"],
        values: Float[Array, "H+1 B"],
        cost_returns: Float[Array, "H B C"],
        cost_values: Float[Array, "H+1 B C"],
    ) -> tuple[Selection, list[Selection], Metrics]:
        """Selects the trajectories that count for the task and for each constraint: with one model, all of them."""
        uncertainty, constraints = self.config.uncertainty, range(self.spaces.num_costs)
        if uncertainty is None:
            return Selection(None), [Selection(None) for _ in constraints], {}
        by_returns = uncertainty.of == "returns"
        rewards, costs = (returns, cost_returns) if by_returns else (values[:-1], cost_values[:-1])

        def by_model(x: Float[Array, "H B"]) -> Float[Array, "N S"]:
            """The mean along each trajectory, by model and start state."""
            return x.mean(0).reshape(uncertainty.posterior.samples, -1)

        def above(of: Selection, x: Float[Array, "H B"]) -> Float[Array, ""]:
            """How much the selected trajectories exceed the mean of all."""
            return of(x).mean() - x.mean()

        scores = by_model(rewards), [by_model(costs[..., i]) for i in constraints]
        task = select(scores[0], uncertainty.task, larger_is_better=True)
        safety = [select(cost, uncertainty.safety, larger_is_better=False) for cost in scores[1]]
        metrics = {
            "posterior/return_std": scores[0].std(0).mean(),
            "posterior/cost_std": jnp.stack(scores[1]).sum(0).std(0).mean(),
            "posterior/optimism": above(task, rewards),
            "posterior/pessimism": sum(above(of, costs[..., i]) for i, of in enumerate(safety)),
        }
        return task, safety, metrics

    @property
    def scores(self) -> bool:
        """Whether the actor learns with the score-function gradient (REINFORCE)."""
        discrete = self.spaces.action.kind == "discrete"
        return self.config.gradient == "reinforce" or (self.config.gradient == "auto" and discrete)

    def _cost_values(self, state: DreamerState, trajectory: Trajectory) -> Float[Array, "states B C"]:
        if state.cost_critic is None:
            return jnp.zeros_like(trajectory.costs)
        return self.compute(state.cost_critic).values(trajectory.critic_features)

    @property
    def cost_unit(self) -> float:
        """The factor that converts the mean cost return to the unit of ``budget.estimate``."""
        return self.config.budget.cost_unit(self.spaces, self.config.horizon)

    def exchange_rate(self, state: DreamerState) -> Float[Array, " C"]:
        """The return that the actor gives up for one unit of cost return, λ · unit · S.

        A planner's price is a multiple of this rate. λ is at least λ0 here, because a multiple of 0 would always be 0.
        If violations are not relative (the papers), the rate is 1.
        """
        constraint, budget = self.config.constraint, self.config.budget
        if not budget.relative or isinstance(constraint, Unconstrained):
            return jnp.ones(self.spaces.num_costs)
        multiplier = jnp.maximum(constraint.multiplier(state.constraint), constraint.multiplier_init)
        return multiplier / budget.unit_of_costs(state.lived) * self.cost_unit * self._return_scale(state)

    def _constraint_active(self, state: DreamerState) -> Bool[Array, ""]:
        return state.step >= self.config.budget.start

    def update_constraint(self, state: DreamerState, violation: Float[Array, " C"]) -> Any:
        """Takes one dual step while the actor acts. The episodes of a planner do not show the actor's costs."""
        pace = 1 / self.run_updates if self.config.budget.relative else 1.0
        updated = self.config.constraint.update(state.constraint, violation, pace)
        moves = self._constraint_active(state) & ~self.acts_by_plan(state)
        return jax.tree.map(lambda new, old: jnp.where(moves, new, old), updated, state.constraint)

    def acts_by_plan(self, state: DreamerState) -> Bool[Array, ""]:
        """Whether the planner acts, not the policy."""
        planning = self.config.planning
        return jnp.asarray(False) if planning is None else state.step >= planning.start

    def planning_price(self, state: DreamerState) -> Float[Array, " C"]:
        """The return that a plan gives up for one unit of cost return."""
        assert self.config.planning is not None
        return self.config.planning.price.multiplier(state.price) * self.exchange_rate(state)

    def rate(self, state: DreamerState) -> Float[Array, ""] | None:
        """Factor on all learning rates: 1, then a linear decrease to 0 over the cooldown at the end of the run.

        It is None without a cooldown.
        """
        return cooled(state.step, self.run_updates, self.config.cooldown)

    def _return_scale(self, state: DreamerState) -> Float[Array, ""]:
        return state.return_scale.scale if self.config.normalise_returns else jnp.ones(())

    def _advantage(
        self,
        state: DreamerState,
        advantage: Float[Array, "H B"],
        cost_advantage: Float[Array, "H B C"],
        violation: Float[Array, " C"],
        task: Selection,
        safety: list[Selection],
    ) -> Float[Array, "H B"]:
        """The advantage for the score-function gradient: (R^λ − V)/S and C^λ − V_c with their weights.

        The weights are the derivatives of the constraint's loss, so the gradient equals that of the loss to first
        order. A trajectory that is not selected has weight 0.
        """
        active, constraint = self._constraint_active(state), self.config.constraint
        reward_weight, cost_weights = constraint.weights(state.constraint, violation)
        reward_weight, cost_weights = jnp.where(active, reward_weight, 1.0), active * cost_weights
        total = reward_weight * task.share(advantage.shape[1]) * advantage / self._return_scale(state)
        unit = self.config.budget.unit_of_costs(state.lived)
        for i, of in enumerate(safety):
            cost = cost_advantage[..., i]
            total = total - self.cost_unit / unit[i] * cost_weights[i] * of.share(cost.shape[1]) * cost
        return total

    def _dream_metrics(self, state: DreamerState, returns: Array, estimate: Array) -> Metrics:
        metrics = {
            "imagined/return": returns.mean(),
            "imagined/return_scale": state.return_scale.scale,
        }
        if state.episodes is not None:
            metrics |= state.episodes.metrics(self.spaces)
        by_cost, config = self.spaces.by_cost, self.config
        metrics |= by_cost("imagined/cost", estimate)
        metrics |= by_cost("constraint/multiplier", config.constraint.multiplier(state.constraint))
        if isinstance(config.budget.violation, Lived) and config.budget.violation.approach is not None:
            metrics |= by_cost("constraint/target", config.budget.targets(state.lived))
        if config.planning is not None:
            metrics |= by_cost("plan/price", self.planning_price(state))
        return metrics


def _cost_critic_batch(
    features: Float[Array, "H B F"],
    returns: Float[Array, "H B C"],
    weights: Float[Array, "H B"],
    selections: list[Selection],
) -> CriticBatch:
    """The batch of the cost critic: for each constraint, the trajectories that count for it."""
    if len({id(of.columns) for of in selections}) == 1:
        of = selections[0]
        return CriticBatch.flat(of(features), of(returns), of(weights))
    own = len(selections) * jnp.eye(len(selections))
    apart = [
        CriticBatch.flat(of(features), of(returns), of(weights)[..., None] * own[i]) for i, of in enumerate(selections)
    ]
    return CriticBatch(*(jnp.concatenate(parts) for parts in zip(*apart, strict=True)))
