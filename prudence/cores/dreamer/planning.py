"""Planning in a world model: SafeDreamer's online planning and similar planners.

The planners differ in their configuration: the elite rule of the cross-entropy search, the price of cost in a plan's
score, whether critics evaluate the time after the horizon, and how many futures of each plan are imagined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
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
    """The configuration of a planner.

    Attributes:
        search: the cross-entropy method and its elite rule.
        price: the multiplier λ of costs in a plan's score R^λ − λ C^λ. Unconstrained is a price of 0.
        beyond: what a plan's score has for the time after the horizon: the critics' ``value``, or ``nothing``. The
            latter uses only sums of rewards and costs, as in CEM-MPC.
        futures: number of imagined futures of each plan. Its score is their mean. If a search compares its last few
            plans again (``CrossEntropy.execute``), each has more futures, so that no fewer trajectories are imagined.
        common_noise: whether all plans of an iteration have the same noise, so that they differ only by their actions.
            With separate noise (the papers), the best of N plans is partly the luckiest.
        pessimism: the cost of a plan is the ``mean`` over its futures, or their ``max``.
        costs: where a plan's costs come from: the model's ``head``, or the decoded ``observation``, to which the
            environment's :class:`~prudence.types.CostFunction` is applied (SafeDreamer's low-dimensional planner).
        start: number of gradient steps before the planner acts (0 in the papers). Until then the policy acts, which is
            much faster, and episodes do not change the price. An earlier search would exploit the errors of a model
            that has seen little data.
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
    """Everything that the score of a plan depends on.

    Attributes:
        model, actor, critic, cost_critic: the networks, cast to the type of activations.
        price: ``[C]`` price of each cost.
        costs_of: computes costs from features ``[*batch, F]``. None uses the model's head.
        predictors: ``[N, ...]`` samples of a posterior over models, one for each future of a plan. None if one model
            imagines all futures.
    """

    model: WorldModel
    actor: Actor
    critic: Critic
    cost_critic: Critic | None
    price: Float[Array, " C"]
    costs_of: Callable[[Float[Array, "*batch F"]], Float[Array, "*batch C"]] | None = None
    predictors: Any = None


class Discounts(NamedTuple):
    """Discounts of the λ-returns, and the number of decisions in an episode, to scale a plan's cost to an episode."""

    discount: float
    cost_discount: float
    lambda_: float
    episode_steps: int


class Preview(NamedTuple):
    """The candidates of one decision, and what the model predicts for them.

    The N candidates are those of the search's last iteration. The executed plan was made from them.

    Attributes:
        forecast: scores and costs of the candidates. They determined the elites.
        safe: which candidates keep within the budgets.
        elite: which candidates are elites, to which the search was refitted.
        price: price of each cost in the score.
        plan: the executed plan, the result of the search.
        observations: decoded vectors by name, in symlog space, from the current state on: along each candidate and,
            as the last entry, along the executed plan.
        cost: predicted costs of each decision of the executed plan.
    """

    forecast: Forecast
    safe: Bool[Array, " N"]
    elite: Bool[Array, " N"]
    price: Float[Array, " C"]
    plan: Float[Array, "H A"]
    observations: dict[str, Float[Array, "N+1 H+1 _"]]
    cost: Float[Array, "H C"]


class Plans(NamedTuple):
    """The result of planning for E environments: actions, plans, diagnostics ``[E]``, and the last candidates.

    The next search starts from the plans.
    """

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
    """Plans for each of E environments separately.

    The result for an environment depends only on its own state and index.
    """

    def one(search_state: SearchState) -> Plans:
        latent, proposals, search, key = search_state
        foresee = _foresee(config, networks, discounts, latent)
        action, search, metrics, candidates = config.search.plan(foresee, search, proposals, limits, key=key)
        return Plans(action, config.search.executed(search), metrics, candidates)

    return jax.vmap(one)(begin(config, networks, latent, last, is_first, key=key))


class SearchState(NamedTuple):
    """The state of a search between two iterations, for E environments."""

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
    """The search of :func:`plan` with the same arguments, before its first iteration."""

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
    """Runs iteration ``index`` of a search. Returns the next state of the search, and diagnostics ``[E]``."""

    def one(u: SearchState) -> tuple[SearchState, Metrics]:
        foresee = _foresee(config, networks, discounts, u.latent)
        search, metrics, _ = config.search.iterate(foresee, u.search, u.proposals, limits, index, key=u.key)
        return u._replace(search=search), metrics

    return jax.vmap(one)(search_state)


def end(
    config: PlanningConfig,
    networks: PlannerNetworks,
    discounts: Discounts,
    search_state: SearchState,
    limits: Float[Array, " C"],
) -> tuple[Float[Array, "E A"], Float[Array, "E H A"]]:
    """The actions and the executed plans of a search after its last iteration."""

    def one(u: SearchState) -> tuple[Float[Array, " A"], Float[Array, "H A"]]:
        foresee = _foresee(config, networks, discounts, u.latent)
        search = config.search.checked(foresee, u.search, limits, key=u.key)
        return config.search.action(search, key=u.key), config.search.executed(search)

    return jax.vmap(one)(search_state)


def _foresee(
    config: PlanningConfig, networks: PlannerNetworks, discounts: Discounts, latent: LatentState
) -> Callable[[Float[Array, "N H A"], Key], Forecast]:
    """:func:`forecast` of plans from ``latent``. Fewer plans than an iteration has get more futures each."""

    def foresee(plans: Float[Array, "N H A"], key: Key) -> Forecast:
        more = config.search.plans // len(plans) if networks.predictors is None else 1  # Else each is of one model.
        several = replace(config, futures=config.futures * max(1, more))
        return forecast(several, networks, discounts, latent, plans, key=key)

    return foresee


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

    The score of a plan is the λ-return at the state minus price × the cost λ-return (section 4.2). Its cost is
    :math:`\frac{T}{H}\sum_t c_t` until an imagined end of the episode: the cost of an episode of T decisions at the
    same rate.
    """
    number, length, _ = plans.shape
    repeated = jnp.tile(plans, (config.futures, 1, 1)).swapaxes(0, 1)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (number * config.futures, *x.shape)), latent)
    act = lambda _, action: action
    alike = number if config.common_noise else 1
    if networks.predictors is None:
        dream = networks.model.imagine(act, start, repeated, key=key, alike=alike)
    else:
        dream = imagine_each(networks.model, networks.predictors, act, start, repeated, key=key, alike=alike)
    step_costs = _step_costs(networks, dream)

    def by_future(x: Array) -> Array:
        """``[futures·N, ...]`` to ``[futures, N, ...]``."""
        return x.reshape(config.futures, number, *x.shape[1:])

    costs = by_future((alive(dream.continues)[..., None] * step_costs[1:]).sum(0) * (discounts.episode_steps / length))
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
    """Imagines the candidates of one state again, with one future each, and decodes the trajectories.

    The executed plan's observations and costs are means over ``futures`` futures.
    """
    number = len(candidates.plans)
    plans = jnp.concatenate([candidates.plans, jnp.broadcast_to(executed, (futures, *executed.shape))])
    dream = follow(networks.model.imagine, latent, plans, key=key)

    def summarise(x: Array) -> Array:
        """Replaces the futures of the executed plan by their mean."""
        return jnp.concatenate([x[:number], x[number:].mean(0, keepdims=True)])

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


def follow(
    imagine: Callable[..., Trajectory], latent: LatentState, plans: Float[Array, "N H A"], *, key: Key
) -> Trajectory:
    """Imagines one future of each of N plans from one state. ``imagine`` is that of a world model."""
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(plans), *x.shape)), latent)
    return imagine(lambda _, action: action, start, plans.swapaxes(0, 1), key=key)


def alive(continues: Float[Array, "states N"]) -> Float[Array, "states-1 N"]:
    """The probability that the episode has not ended when decision t = 1 … H is taken.

    The reward and costs that arrive with state t count even if the episode ends in that state.
    """
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
        return (alive(continues) * (rewards[1:] - (networks.price * costs[1:]).sum(-1))).sum(0)
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
    """Plans that the actor proposes: its actions along imagined trajectories."""
    search, actor = config.search, networks.actor
    if not search.num_proposals:
        return jnp.zeros((0, search.horizon, actor.action.size))
    noise_key, imagine_key = jax.random.split(key)
    noise = actor.noise(search.horizon, search.num_proposals, key=noise_key)
    start = jax.tree.map(lambda x: jnp.broadcast_to(x, (search.num_proposals, *x.shape)), latent)
    policy = lambda features, noise: actor(features).sample(noise)
    return networks.model.imagine(policy, start, noise, key=imagine_key).actions.swapaxes(0, 1)
