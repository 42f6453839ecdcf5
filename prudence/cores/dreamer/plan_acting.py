"""Acting with a planner: the networks for a search, and the search of one decision, at once or step by step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
from jaxtyping import Array, Bool, Float, Int

from prudence.cores.dreamer.config import DreamerCarry, DreamerConfig, DreamerState
from prudence.cores.dreamer.imagination import Imagination
from prudence.cores.dreamer.planning import (
    Discounts,
    PlannerNetworks,
    PlanningConfig,
    Plans,
    Preview,
    SearchState,
    begin,
    end,
    iterate,
    plan,
    preview,
)
from prudence.models.rssm import LatentState
from prudence.models.world_model import WorldModel, symmetric
from prudence.ops.normalise import symexp
from prudence.types import Key, Metrics, Spaces, tree_index


@dataclass(frozen=True)
class PlanActing:
    """The planner of an agent. prudence/cores/dreamer/planning.py defines the score of a plan."""

    spaces: Spaces
    config: DreamerConfig
    imagination: Imagination

    def plan(
        self,
        state: DreamerState,
        latent: LatentState,
        last: Float[Array, "E H A"],
        is_first: Bool[Array, " E"],
        *,
        key: Key,
    ) -> Plans:
        """Plans for E environments from the latent states. ``last`` has their previous plans."""
        networks, limits = self.networks(state), self.imagination.cost_limits
        return plan(self._planning, networks, self._discounts, latent, last, is_first, limits, key=key)

    def preview(
        self,
        state: DreamerState,
        latent: LatentState,
        last: Float[Array, "E H A"],
        is_first: Bool[Array, " E"],
        *,
        key: Key,
        futures_key: Key,
    ) -> Preview:
        """The candidates for the first environment's decision. They are imagined again with ``futures_key``."""
        found = self.plan(state, latent, last, is_first, key=key)
        latent, executed, candidates = tree_index((latent, found.plan, found.candidates), 0)
        limits, networks = self.imagination.cost_limits, self.networks(state)
        return preview(self._planning, networks, latent, executed, candidates, limits, key=futures_key)

    def begin(
        self,
        state: DreamerState,
        latent: LatentState,
        last: Float[Array, "E H A"],
        is_first: Bool[Array, " E"],
        *,
        key: Key,
    ) -> SearchState:
        """A search before its first iteration."""
        return begin(self._planning, self.networks(state), latent, last, is_first, key=key)

    def iterate(
        self, state: DreamerState, search: SearchState, index: int | Int[Array, ""]
    ) -> tuple[SearchState, Metrics]:
        """Runs iteration ``index`` of the search."""
        limits = self.imagination.cost_limits
        return iterate(self._planning, self.networks(state), self._discounts, search, index, limits)

    def end(self, state: DreamerState, found: SearchState) -> tuple[Float[Array, "E A"], DreamerCarry]:
        """The actions, and the carry for the next decision."""
        limits = self.imagination.cost_limits
        action, plan = end(self._planning, self.networks(state), self._discounts, found, limits)
        return action, DreamerCarry(found.latent, action, plan)

    def networks(self, state: DreamerState) -> PlannerNetworks:
        """The networks and the price that give plans their scores."""
        parts = (symmetric(state.world_model.module), state.actor.module, state.critic, state.cost_critic)
        compute, uncertainty, predictors = self.imagination.compute, self.config.uncertainty, None
        networks = compute(parts)
        if uncertainty is not None:  # The key is the same until the next update, so all plans have the same models.
            key = jax.random.fold_in(jax.random.key(0), state.step)
            predictors = compute(uncertainty.posterior.sample(state.posterior, parts[0], key=key))
        reads = partial(self._read_costs, networks[0]) if self._planning.costs == "observation" else None
        price = self.imagination.planning_price(state)
        return PlannerNetworks(*networks, price=price, costs_of=reads, predictors=predictors)

    @property
    def _planning(self) -> PlanningConfig:
        assert self.config.planning is not None
        return self.config.planning

    @property
    def _discounts(self) -> Discounts:
        c = self.config
        assert self.spaces.episode_steps is not None
        return Discounts(c.discount, c.budget.discount, c.lambda_, self.spaces.episode_steps)

    def _read_costs(self, model: WorldModel, features: Float[Array, "*batch F"]) -> Float[Array, "*batch C"]:
        """The costs that the environment's cost function computes from the decoded observations."""
        lead, specs, function = features.shape[:-1], self.spaces.observations, self.spaces.cost_function
        assert function is not None

        def restore(name: str, x: Array) -> Array:
            """A decoded observation as the environment has it: not in symlog space, and in its own shape."""
            return x if specs[name].is_image else symexp(x).reshape(*lead, *specs[name].shape)

        costs = function({name: restore(name, x) for name, x in model.decoder(features).items()})
        if costs.shape != (*lead, self.spaces.num_costs):
            raise ValueError(
                f"the cost function {function.path} returned shape {costs.shape} for a batch of shape {lead}: it must "
                f"return {(*lead, self.spaces.num_costs)}, one cost for each of {', '.join(self.spaces.costs)}"
            )
        return costs
