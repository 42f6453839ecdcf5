"""Recovery (Thananjeyan et al. 2021, *Recovery RL*): where the policy's action is too risky, a plan takes its place.

The risk of an action is the discounted probability that a violation follows. Critics learn it from recorded steps. The
policy learns as without them: its objective has no costs. A search looks for the plan with the least risk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.actors import Actor
from prudence.cores.dreamer.planning import alive, follow
from prudence.cores.pairs import Pairs
from prudence.critics import ActionCritics, CriticBatch, CriticConfig, join
from prudence.models.heads import HeadConfig
from prudence.models.rssm import LatentState
from prudence.models.world_model import WorldModel
from prudence.ops.ensembles import most
from prudence.ops.offline import risk_targets, with_share
from prudence.optim import OptimiserConfig
from prudence.planners import CrossEntropy, Forecast
from prudence.ranges import Share, ShareBelowOne, between
from prudence.types import Key, Metrics


def _cautious() -> CriticConfig:
    """It starts at a probability of .018, below the threshold, so that the policy acts until risks are known."""
    head = HeadConfig("bernoulli", init_logit=-4.0)
    return CriticConfig(head, OptimiserConfig(3e-5, eps=1e-5), slow_rate=0.005, slow_regulariser=0.0)


@dataclass(frozen=True)
class RecoveryConfig:
    """How the risk of actions is learned, and what the agent does where it is too high.

    A violation is any positive cost. So there is one risk, also of several constraints.

    Attributes:
        critic: the network of a risk critic. Its head is ``bernoulli``.
        number: number of risk critics. The largest risk counts.
        discount: γ_s. A violation counts if it follows within about 1/(1 − γ_s) decisions.
        threshold: ε, the largest risk that the policy's action may have.
        share: the least share of violating steps in a batch. Where there are fewer, they weigh more. Risks are then
            overestimated where the same action is sometimes safe.
        search: the search for a plan. Its horizon is the number of imagined decisions whose risks are summed.
    """

    critic: CriticConfig = field(default_factory=_cautious)
    number: Annotated[int, between(1, 2)] = 2
    discount: ShareBelowOne = 0.8
    threshold: Share = 0.2
    share: ShareBelowOne = 0.3
    search: CrossEntropy = field(
        default_factory=lambda: CrossEntropy(
            horizon=10, plans=400, elites=10, iterations=10, momentum=0.0, init_std=0.5, rule="best"
        )
    )

    def check(self) -> None:
        """Raises ValueError if the critics' head or the search does not suit a risk."""
        if self.critic.head.kind != "bernoulli":
            raise ValueError(
                f"recovery.critic.head.kind={self.critic.head.kind!r} does not suit a risk, which is a probability: "
                "choose 'bernoulli'"
            )
        if self.search.num_proposals:
            raise ValueError(
                f"recovery.search.proposals={self.search.proposals} are plans of the policy, but recovery begins where "
                "the policy's action is too risky: choose 0"
            )


class Recovery(eqx.Module):
    """The risk critics Q, and the search for plans with the least risk."""

    risk: ActionCritics
    config: RecoveryConfig = eqx.field(static=True)

    @classmethod
    def init(cls, in_size: int, action_size: int, config: RecoveryConfig, *, key: Key) -> Recovery:
        """Fresh critics of features ``[in_size]`` and actions ``[action_size]``. Consumes ``key``."""
        return cls(ActionCritics.init(in_size, action_size, (), config.critic, number=config.number, key=key), config)

    def update(
        self, actor: Actor, pairs: Pairs, rate: Float[Array, ""] | None, *, key: Key
    ) -> tuple[Recovery, Metrics]:
        """One gradient step of the critics on recorded steps (Recovery RL eq. 1, FOSP's Appendix F).

        The next action is the policy's, not the recorded one. Consumes ``key``.

        Args:
            actor: the policy.
            pairs: recorded steps.
            rate: factor on the learning rate; None is 1.
        """
        action = actor(pairs.next_features).sample(actor.noise(len(pairs.weights), key=key))
        following = most(self.risk.slow_values(pairs.next_features, action))
        violations = (pairs.costs > 0).any(-1).astype(jnp.float32)
        batch = CriticBatch(
            join(pairs.features, pairs.actions),
            risk_targets(violations, pairs.continues, following, self.config.discount),
            with_share(violations, pairs.weights, self.config.share),
        )
        risk, metrics = self.risk.update(batch, name="risk", rate=rate)
        recorded = jnp.maximum(pairs.weights.sum(), 1.0)
        return Recovery(risk, self.config), metrics | {"risk/violations": (pairs.weights * violations).sum() / recorded}

    def act(
        self, model: WorldModel, latent: LatentState, action: Float[Array, "E A"], *, key: Key
    ) -> tuple[Float[Array, "E A"], Metrics]:
        """Replaces the actions of E environments whose risk exceeds ε by those of plans (FOSP's Appendix F).

        It searches only if an action is too risky. Consumes ``key``.

        Args:
            model: imagines the plans.
            latent: the states ``[E, ...]`` in which the agent acts.
            action: the policy's actions.

        Returns:
            The actions, and diagnostics ``[E]``: ``recovery/share`` (1 where a plan acts) and ``recovery/risk`` (of the
            policy's action).
        """
        risks = most(self.risk.values(latent.features, action))
        risky = risks > self.config.threshold

        def search() -> Float[Array, "E A"]:
            plan = lambda latent, key: self.plan(model, latent, key=key)
            return jax.vmap(plan)(latent, jax.random.split(key, len(risks)))

        planned = jax.lax.cond(risky.any(), search, lambda: action)
        metrics = {"recovery/share": risky.astype(jnp.float32), "recovery/risk": risks}
        return jnp.where(risky[:, None], planned, action), metrics

    def plan(self, model: WorldModel, latent: LatentState, *, key: Key) -> Float[Array, " A"]:
        r"""The first action of the plan with the least :math:`\sum_{h=0}^{H-1} Q(\hat s_h, a_h)` from one state.

        A decision after an imagined end of the episode has no risk. Consumes ``key``.
        """

        def foresee(plans: Float[Array, "N H A"], key: Key) -> Forecast:
            dream = follow(model.imagine, latent, plans, key=key)
            risks = most(self.risk.values(dream.critic_features[:-1], dream.actions))
            without_costs = jnp.zeros((len(plans), 0))  # They are in the risk.
            return Forecast(-(alive(dream.continues) * risks).sum(0), without_costs)

        search, size = self.config.search, model.rssm.action_size
        begin = search.begin(jnp.zeros((search.horizon, size)), jnp.asarray(True))
        return search.plan(foresee, begin, jnp.zeros((0, search.horizon, size)), jnp.zeros(0), key=key)[0]
