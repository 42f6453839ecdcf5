"""Acting by planning in a world model: SafeDreamer's online planning and its relatives.

What differs between them is configuration: the elite rule of the cross-entropy search, the price of cost in a plan's
score, whether critics value what lies beyond the horizon, and how many futures of each plan are imagined.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from prudence.actors import Actor
from prudence.constraints import PIDLagrangian, Unconstrained
from prudence.critics import Critic
from prudence.models.rssm import LatentState
from prudence.models.world_model import WorldModel
from prudence.ops.returns import lambda_returns
from prudence.planners import Candidates, CrossEntropy, Forecast, is_safe
from prudence.types import Key, Metrics


@dataclass(frozen=True)
class PlanningConfig:
    """How an agent plans.

    Attributes:
        search: the cross-entropy method and its elite rule.
        price: the multiplier λ of costs in a plan's score R^λ − λ C^λ; Unconstrained is a price of 0.
        beyond: what follows the horizon in a plan's score: the critics' ``value``, or ``nothing`` (sums of rewards and
            costs alone, as CEM-MPC has it).
        futures: imagined futures of each plan; its score is their mean.
        pessimism: the cost of a plan is the ``mean`` over its futures, or their ``max``.
        start: gradient steps before plans are acted on (0 in the papers). Until then the policy acts, which is much
            quicker, and no episode moves the price: searching a model that has seen little finds its errors.
    """

    search: CrossEntropy = field(default_factory=CrossEntropy)
    price: PIDLagrangian | Unconstrained = field(default_factory=Unconstrained)
    beyond: Literal["value", "nothing"] = "value"
    futures: int = 1
    pessimism: Literal["mean", "max"] = "mean"
    start: int = 0


class Believed(NamedTuple):
    """What a plan is judged by: the networks, in the type they compute in, and the price of cost ``[C]``."""

    model: WorldModel
    actor: Actor
    critic: Critic
    cost_critic: Critic | None
    price: Float[Array, " C"]


class Horizon(NamedTuple):
    """Discounts of the λ-returns, and the decisions in an episode (what turns a plan's cost into an episode's)."""

    discount: float
    cost_discount: float
    lambda_: float
    episode_steps: int


class Preview(NamedTuple):
    """What one decision was chosen from, and what the model foresees of it: N candidates of the search's last
    iteration, and the plan that was made of them.

    Attributes:
        forecast: of the candidates, by which the elites were chosen.
        safe, elite: which of them keep within the budgets, and to which the search was refitted.
        price: of cost in a score.
        plan: the executed one: what the search was refitted to.
        observations: decoded vectors by name, in symlog space, from the present on: along each candidate and, last,
            the executed plan.
        cost: predicted for each decision of the executed plan.
    """

    forecast: Forecast
    safe: Bool[Array, " N"]
    elite: Bool[Array, " N"]
    price: Float[Array, " C"]
    plan: Float[Array, "H A"]
    observations: dict[str, Float[Array, "N+1 H+1 _"]]
    cost: Float[Array, "H C"]


class Plans(NamedTuple):
    """What planning for E environments gives: actions, plans (the next warm starts), diagnostics ``[E]``, and the
    last candidates."""

    action: Float[Array, "E A"]
    plan: Float[Array, "E H A"]
    metrics: Metrics
    candidates: Candidates


def plan(
    config: PlanningConfig,
    belief: Believed,
    horizon: Horizon,
    latent: LatentState,
    last: Float[Array, "E H A"],
    is_first: Bool[Array, " E"],
    limits: Float[Array, " C"],
    *,
    key: Key,
) -> Plans:
    """Plans for E environments, each by itself.

    An environment's outcome depends on its own state and number only.
    """

    def one(latent: LatentState, last: Array, first: Array, key: Key) -> Plans:
        actor_key, search_key = jax.random.split(key)
        proposals = _proposals(config, belief, latent, key=actor_key)
        begin = config.search.begin(last, first)
        action, search, metrics, candidates = config.search.plan(
            lambda plans, key: forecast(config, belief, horizon, latent, plans, key=key),
            begin,
            proposals,
            limits,
            key=search_key,
        )
        return Plans(action, search.mean, metrics, candidates)

    return jax.vmap(one)(latent, last, is_first, jax.random.split(key, len(is_first)))


def forecast(
    config: PlanningConfig,
    belief: Believed,
    horizon: Horizon,
    latent: LatentState,
    plans: Float[Array, "N H A"],
    *,
    key: Key,
) -> Forecast:
    r"""Imagines every plan from one state (SafeDreamer Algorithm 1).

    Score: the λ-return at the state, less price × the cost λ-return (section 4.2). Cost: :math:`\frac{T}{H}\sum_t c_t`,
    what an episode of T decisions would cost if it went on like this.
    """
    number, length, _ = plans.shape
    repeated = jnp.repeat(plans, config.futures, 0).swapaxes(0, 1)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (number * config.futures, *x.shape)), latent)
    dream = belief.model.imagine(lambda _, action: action, start, repeated, key=key)
    by_plan = lambda x: x.reshape(number, config.futures, *x.shape[1:])  # noqa: E731
    costs = by_plan(dream.costs[1:].sum(0) * (horizon.episode_steps / length))
    score = _score(config, belief, horizon, dream.rewards, dream.costs, dream.critic_features, dream.continues)
    pessimistic = costs.max(1) if config.pessimism == "max" else costs.mean(1)
    return Forecast(by_plan(score).mean(1), pessimistic)


def preview(
    config: PlanningConfig,
    belief: Believed,
    latent: LatentState,
    executed: Float[Array, "H A"],
    candidates: Candidates,
    limits: Float[Array, " C"],
    *,
    key: Key,
    futures: int = 16,
) -> Preview:
    """Imagines the candidates of one state once more, in one future each, and decodes it. The executed plan's
    observations and costs are means over ``futures``.
    """
    number = len(candidates.plans)
    plans = jnp.concatenate([candidates.plans, jnp.broadcast_to(executed, (futures, *executed.shape))]).swapaxes(0, 1)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (number + futures, *x.shape)), latent)
    dream = belief.model.imagine(lambda _, action: action, start, plans, key=key)
    summarise = lambda x: jnp.concatenate([x[:number], x[number:].mean(0, keepdims=True)])  # noqa: E731
    decoded = belief.model.decoder(dream.actor_features)
    vectors = {name: summarise(decoded[name].swapaxes(0, 1)) for name, _ in belief.model.decoder.sizes}
    elite = config.search.elite(candidates.forecast, limits)
    return Preview(
        forecast=candidates.forecast,
        safe=is_safe(candidates.forecast, limits),
        elite=jnp.zeros(number, bool).at[elite].set(True),
        price=belief.price,
        plan=executed,
        observations=vectors,
        cost=dream.costs[1:, number:].mean(1),
    )


def _score(
    config: PlanningConfig,
    belief: Believed,
    horizon: Horizon,
    rewards: Float[Array, "states N"],
    costs: Float[Array, "states N C"],
    features: Float[Array, "states N F"],
    continues: Float[Array, "states N"],
) -> Float[Array, " N"]:
    if config.beyond == "nothing":
        alive = jnp.cumprod(continues[1:], 0)
        return (alive * (rewards[1:] - (belief.price * costs[1:]).sum(-1))).sum(0)
    values = belief.critic.values(features)
    score = lambda_returns(rewards, values, horizon.discount * continues, horizon.lambda_)[0]
    if belief.cost_critic is None:
        return score
    cost_values = belief.cost_critic.values(features)
    discounts = jnp.broadcast_to((horizon.cost_discount * continues)[..., None], cost_values.shape)
    return score - (belief.price * lambda_returns(costs, cost_values, discounts, horizon.lambda_)[0]).sum(-1)


def _proposals(config: PlanningConfig, belief: Believed, latent: LatentState, *, key: Key) -> Float[Array, "M H A"]:
    """Plans that the actor would follow, rolled out once."""
    search, actor = config.search, belief.actor
    if not search.num_proposals:
        return jnp.zeros((0, search.horizon, actor.action.size))
    noise_key, imagine_key = jax.random.split(key)
    noise = actor.noise(search.horizon, search.num_proposals, key=noise_key)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (search.num_proposals, *x.shape)), latent)
    policy = lambda features, noise: actor(features).sample(noise)  # noqa: E731
    return belief.model.imagine(policy, start, noise, key=imagine_key).actions.swapaxes(0, 1)
