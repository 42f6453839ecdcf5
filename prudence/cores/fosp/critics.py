"""In-sample values (FOSP section 4.1): expectiles over the actions of the data, and of the policy in imagination."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

import equinox as eqx
from jax import random
from jaxtyping import Array, Float

from prudence.cores.pairs import Pairs
from prudence.critics import ActionCritics, Critic, CriticBatch, CriticConfig, join, together
from prudence.models.heads import HeadConfig
from prudence.ops.ensembles import least, most
from prudence.ops.normalise import PercentileScale
from prudence.ops.offline import expectile_weights
from prudence.ops.returns import one_step_returns
from prudence.optim import OptimiserConfig
from prudence.ranges import NonNegative, Positive, Share, between
from prudence.types import Key, Metrics


class ImaginedReturns(NamedTuple):
    """ImaginedReturns states in which the policy acted, with the λ-returns that followed (of rewards, or of C costs).

    ``weights`` is the cumulative discount.
    """

    features: Float[Array, "H B F"]
    actions: Float[Array, "H B A"]
    returns: Float[Array, "H B *C"]
    weights: Float[Array, "H B"]


def _exact(learning_rate: float) -> CriticConfig:
    """A critic whose weighted loss is least at the exact expectile, not at that of symlog values."""
    head = HeadConfig("symexp_twohot", limit=10.0)
    return CriticConfig(head, OptimiserConfig(learning_rate, eps=1e-5), slow_regulariser=0.0)


@dataclass(frozen=True)
class ValuesConfig:
    """Networks and targets of V, Q, V^c and Q^c.

    Attributes:
        state, action: networks of V and V^c, and of Q and Q^c.
        expectile, cost_expectile: κ of V and of V^c. Above .5, V is optimistic about rewards and V^c is pessimistic
            about costs (FOSP: .8 for both).
        number: number of critics Q and of critics Q^c. The smallest Q and the largest Q^c count. FOSP has 1.
        imagined: weight of imagined states in the loss of V and V^c, beside that of recorded ones. 0 is implicit
            Q-learning.
        anchor: weight of recorded transitions in the loss of Q and Q^c, beside that of imagined ones (FOSP eq. 10).
        scale_floor: smallest divisor of advantages. The divisors are the running ranges of returns and of costs.
    """

    state: CriticConfig = field(default_factory=lambda: _exact(3e-5))
    action: CriticConfig = field(default_factory=lambda: _exact(3e-5))
    expectile: Share = 0.8
    cost_expectile: Share = 0.8
    number: Annotated[int, between(1, 2)] = 2
    imagined: NonNegative = 1.0
    anchor: NonNegative = 1.0
    scale_floor: Positive = 1.0


class InSampleValues(eqx.Module):
    """V and Q of rewards, or V^c and Q^c of C costs, and the running range of the returns.

    Attributes:
        state: V.
        action: the critics Q.
        scale: the range, ``()`` or ``[C]``.
        pessimist: the Q that counts: the smallest of rewards, the largest of costs.
    """

    state: Critic
    action: ActionCritics
    scale: PercentileScale
    pessimist: Literal["min", "max"] = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        sizes: tuple[int, int],
        shape: tuple[int, ...],
        config: ValuesConfig,
        pessimist: Literal["min", "max"],
        *,
        key: Key,
    ) -> InSampleValues:
        """Fresh critics. ``sizes`` are those of features and actions; ``shape`` is that of one return."""
        state_key, action_key = random.split(key)
        return cls(
            Critic.init(sizes[0], shape, config.state, key=state_key),
            ActionCritics.init(*sizes, shape, config.action, number=config.number, key=action_key),
            PercentileScale.init(floor=config.scale_floor, shape=shape),
            pessimist,
        )

    def of_actions(
        self, features: Float[Array, "*batch F"], actions: Float[Array, "*batch A"]
    ) -> Float[Array, "*batch *C"]:
        """The Q that counts, from the slow copies."""
        values = self.action.slow_values(features, actions)
        return least(values) if self.pessimist == "min" else most(values)

    def advantages(self, pairs: Pairs) -> Float[Array, "n *C"]:
        """(Q − V)/S of recorded actions."""
        return (self.of_actions(pairs.features, pairs.actions) - self.state.values(pairs.features)) / self.scale.scale

    def update(
        self,
        dream: ImaginedReturns,
        pairs: Pairs,
        rewards: Float[Array, "n *C"],
        config: ValuesConfig,
        *,
        expectile: float,
        discount: float,
        rate: Float[Array, ""] | None,
        name: str,
    ) -> tuple[InSampleValues, Metrics]:
        """One gradient step of V, and then one of Q with the new V.

        V learns the expectile of Q over imagined and recorded actions (FOSP eq. 7). Q learns the λ-returns of imagined
        actions (eq. 9) and r + γ V(s') of recorded ones (eq. 10).

        Args:
            dream: imagined states, with the returns under the old V.
            pairs: recorded states and actions.
            rewards: what followed the recorded actions: rewards, or costs.
            expectile: κ.
            discount: γ.
            rate: factor on the learning rates; None is 1.
            name: group of the metrics.
        """
        recorded = CriticBatch(pairs.features, self.of_actions(pairs.features, pairs.actions), pairs.weights)
        batch = self._in_expectile(recorded, expectile)
        if config.imagined:
            targets = self.of_actions(dream.features, dream.actions)
            imagined = CriticBatch.flat(dream.features, targets, config.imagined * dream.weights)
            batch = together(self._in_expectile(imagined, expectile), batch)
        state, metrics = self.state.update(batch, name=name, rate=rate)

        following = state.values(pairs.next_features)
        batch = CriticBatch.flat(join(dream.features, dream.actions), dream.returns, dream.weights)
        if config.anchor:
            targets = one_step_returns(rewards, pairs.continues, following, discount)
            anchor = CriticBatch(join(pairs.features, pairs.actions), targets, config.anchor * pairs.weights)
            batch = together(batch, anchor)
        action, more = self.action.update(batch, name=f"action_{name}", rate=rate)
        return InSampleValues(state, action, self.scale.update(dream.returns), self.pessimist), metrics | more

    def _in_expectile(self, batch: CriticBatch, expectile: float) -> CriticBatch:
        """The batch with weights that make V an expectile of the targets."""
        of = expectile_weights(batch.targets, self.state.values(batch.features), expectile)
        weights = batch.weights.reshape(-1, *(1,) * (of.ndim - 1))
        return batch._replace(weights=weights * of)


class Values(NamedTuple):
    """The values of rewards and of costs."""

    rewards: InSampleValues
    costs: InSampleValues
