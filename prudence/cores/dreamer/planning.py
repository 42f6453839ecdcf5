"""Acting by planning in a world model: SafeDreamer's online planning and its relatives.

What differs between them is configuration: the elite rule of the cross-entropy search, the price of cost in a plan's
score, whether critics value what lies beyond the horizon, and how many futures of each plan are imagined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from prudence.actors import Actor
from prudence.constraints import PIDLagrangian, Unconstrained
from prudence.critics import Critic
from prudence.models.posterior import imagine_each
from prudence.models.rssm import LatentState
from prudence.models.world_model import WorldModel
from prudence.ops.returns import lambda_returns
from prudence.planners import Candidates, CrossEntropy, Forecast, Search, is_safe
from prudence.ranges import Few, Natural
from prudence.types import Key, Metrics, Trajectory


@dataclass(frozen=True)
class PlanningConfig:
    """How an agent plans.

    Attributes:
        search: the cross-entropy method and its elite rule.
        price: the multiplier λ of costs in a plan's score R^λ − λ C^λ; Unconstrained is a price of 0.
        beyond: what follows the horizon in a plan's score: the critics' ``value``, or ``nothing`` (sums of rewards and
            costs alone, as CEM-MPC has it).
        futures: imagined futures of each plan; its score is their mean.
        common_noise: all plans of a round are imagined with the same noise, so that they differ by their actions only;
            with noise of their own (the papers) the best of N plans is partly the luckiest.
        pessimism: the cost of a plan is the ``mean`` over its futures, or their ``max``.
        costs: a plan's costs are predicted by the model's ``head``, or read off the ``observation`` that it decodes, by
            the environment's :class:`~prudence.types.CostFunction` (SafeDreamer's low-dimensional planner).
        start: gradient steps before plans are acted on (0 in the papers). Until then the policy acts, which is much
            quicker, and no episode moves the price: searching a model that has seen little finds its errors.
    """

    search: CrossEntropy = field(default_factory=CrossEntropy)
    price: PIDLagrangian | Unconstrained = field(default_factory=Unconstrained)
    beyond: Literal["value", "nothing"] = "value"
    futures: Few = 1
    common_noise: bool = False
    pessimism: Literal["mean", "max"] = "mean"
    costs: Literal["head", "observation"] = "head"
    start: Natural = 0


class PlannerNetworks(NamedTuple):
    """What a plan is judged by: the networks, in the type they compute in, and the price of cost ``[C]``; with
    ``costs_of``, which is given features ``[*batch, F]``, if costs are not the model's head's; and with ``predictors``
    ``[N, ...]`` of a posterior over models if each of a plan's futures is imagined by another."""

    model: WorldModel
    actor: Actor
    critic: Critic
    cost_critic: Critic | None
    price: Float[Array, " C"]
    costs_of: Callable[[Float[Array, "*batch F"]], Float[Array, "*batch C"]] | None = None
    predictors: Any = None


class Discounts(NamedTuple):
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
    networks: PlannerNetworks,
    discounts: Discounts,
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

    def one(search_state: SearchState) -> Plans:
        latent, proposals, search, key = search_state
        foresee = lambda plans, key: forecast(config, networks, discounts, latent, plans, key=key)
        action, search, metrics, candidates = config.search.plan(foresee, search, proposals, limits, key=key)
        return Plans(action, config.search.executed(search), metrics, candidates)

    return jax.vmap(one)(begin(config, networks, latent, last, is_first, key=key))


class SearchState(NamedTuple):
    """A search between two iterations, for E environments."""

    latent: LatentState
    proposals: Float[Array, "E M H A"]
    search: Search
    key: Key


def begin(
    config: PlanningConfig,
    networks: PlannerNetworks,
    latent: LatentState,
    last: Float[Array, "E H A"],
    is_first: Bool[Array, " E"],
    *,
    key: Key,
) -> SearchState:
    """The search that :func:`plan` does with the same arguments, before its first iteration."""

    def one(latent: LatentState, last: Array, first: Array, key: Key) -> SearchState:
        actor_key, search_key = jax.random.split(key)
        proposals = _proposals(config, networks, latent, key=actor_key)
        return SearchState(latent, proposals, config.search.begin(last, first), search_key)

    return jax.vmap(one)(latent, last, is_first, jax.random.split(key, len(is_first)))


def iterate(
    config: PlanningConfig,
    networks: PlannerNetworks,
    discounts: Discounts,
    search_state: SearchState,
    index: int | Int[Array, ""],
    limits: Float[Array, " C"],
) -> tuple[SearchState, Metrics]:
    """Iteration ``index`` of a search, and its diagnostics ``[E]``."""

    def one(u: SearchState) -> tuple[SearchState, Metrics]:
        foresee = lambda plans, key: forecast(config, networks, discounts, u.latent, plans, key=key)
        search, metrics, _ = config.search.iterate(foresee, u.search, u.proposals, limits, index, key=u.key)
        return u._replace(search=search), metrics

    return jax.vmap(one)(search_state)


def forecast(
    config: PlanningConfig,
    networks: PlannerNetworks,
    discounts: Discounts,
    latent: LatentState,
    plans: Float[Array, "N H A"],
    *,
    key: Key,
) -> Forecast:
    r"""Imagines every plan from one state (SafeDreamer Algorithm 1).

    Score: the λ-return at the state, less price × the cost λ-return (section 4.2). Cost: :math:`\frac{T}{H}\sum_t c_t`
    up to an imagined end, what an episode of T decisions would cost if it went on like this.
    """
    number, length, _ = plans.shape
    repeated = jnp.tile(plans, (config.futures, 1, 1)).swapaxes(0, 1)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (number * config.futures, *x.shape)), latent)
    follow = lambda _, action: action
    alike = number if config.common_noise else 1
    if networks.predictors is None:
        dream = networks.model.imagine(follow, start, repeated, key=key, alike=alike)
    else:
        dream = imagine_each(networks.model, networks.predictors, follow, start, repeated, key=key, alike=alike)
    step_costs = _step_costs(networks, dream)
    alive = _alive(dream.continues)
    by_future = lambda x: x.reshape(config.futures, number, *x.shape[1:])
    costs = by_future((alive[..., None] * step_costs[1:]).sum(0) * (discounts.episode_steps / length))
    score = _score(config, networks, discounts, dream.rewards, step_costs, dream.critic_features, dream.continues)
    pessimistic = costs.max(0) if config.pessimism == "max" else costs.mean(0)
    return Forecast(by_future(score).mean(0), pessimistic)


def preview(
    config: PlanningConfig,
    networks: PlannerNetworks,
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
    dream = networks.model.imagine(lambda _, action: action, start, plans, key=key)
    summarise = lambda x: jnp.concatenate([x[:number], x[number:].mean(0, keepdims=True)])
    decoded = networks.model.decoder(dream.actor_features)
    vectors = {name: summarise(decoded[name].swapaxes(0, 1)) for name, _ in networks.model.decoder.sizes}
    elite = config.search.elite(candidates.forecast, limits)
    return Preview(
        forecast=candidates.forecast,
        safe=is_safe(candidates.forecast, limits),
        elite=jnp.zeros(number, bool).at[elite].set(True),
        price=networks.price,
        plan=executed,
        observations=vectors,
        cost=_step_costs(networks, dream)[1:, number:].mean(1),
    )


def _alive(continues: Float[Array, "states N"]) -> Float[Array, "states-1 N"]:
    """Probability that the episode still goes on when decision t = 1 … H is taken: what arrives with state t counts
    even where the episode ends there."""
    return jnp.cumprod(jnp.concatenate([jnp.ones_like(continues[:1]), continues[1:-1]]), 0)


def _step_costs(networks: PlannerNetworks, dream: Trajectory) -> Float[Array, "states N C"]:
    return dream.costs if networks.costs_of is None else networks.costs_of(dream.critic_features)


def _score(
    config: PlanningConfig,
    networks: PlannerNetworks,
    discounts: Discounts,
    rewards: Float[Array, "states N"],
    costs: Float[Array, "states N C"],
    features: Float[Array, "states N F"],
    continues: Float[Array, "states N"],
) -> Float[Array, " N"]:
    if config.beyond == "nothing":
        return (_alive(continues) * (rewards[1:] - (networks.price * costs[1:]).sum(-1))).sum(0)
    values = networks.critic.values(features)
    score = lambda_returns(rewards, values, discounts.discount * continues, discounts.lambda_)[0]
    if networks.cost_critic is None:
        return score
    cost_values = networks.cost_critic.values(features)
    by_cost = jnp.broadcast_to((discounts.cost_discount * continues)[..., None], cost_values.shape)
    return score - (networks.price * lambda_returns(costs, cost_values, by_cost, discounts.lambda_)[0]).sum(-1)


def _proposals(
    config: PlanningConfig, networks: PlannerNetworks, latent: LatentState, *, key: Key
) -> Float[Array, "M H A"]:
    """Plans that the actor would follow, rolled out once."""
    search, actor = config.search, networks.actor
    if not search.num_proposals:
        return jnp.zeros((0, search.horizon, actor.action.size))
    noise_key, imagine_key = jax.random.split(key)
    noise = actor.noise(search.horizon, search.num_proposals, key=noise_key)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (search.num_proposals, *x.shape)), latent)
    policy = lambda features, noise: actor(features).sample(noise)
    return networks.model.imagine(policy, start, noise, key=imagine_key).actions.swapaxes(0, 1)
