"""Heads: networks that predict numbers from features. A world model has three: reward, costs and continuation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from prudence.nets import MLP, Activation, NormKind, Style
from prudence.ops.distributions import Bernoulli, SymlogMSE, TwoHot, UnitNormal
from prudence.ranges import Depth, EitherSign, NonNegative, Positive, Size, between
from prudence.types import Batch, Key, Trajectory

HeadKind = Literal["twohot", "symexp_twohot", "symlog_mse", "normal", "bernoulli"]


@dataclass(frozen=True)
class HeadConfig:
    """A head that maps features to a distribution over one number.

    Attributes:
        kind: ``twohot`` (bins uniform in symlog space; DreamerV3, 2023 release), ``symexp_twohot`` (current
            generation), ``symlog_mse``, ``normal`` (of variance 1; LAMBDA), or ``bernoulli`` (the probability that
            the target is > 0; the prediction is its mean times ``bernoulli_scale``; LAMBDA).
        layers, units: depth and width of the network.
        bins: number of bins of the two-hot kinds.
        limit: position of the outermost bin in symlog space.
        out_scale: factor on the initial variance of the last layer's weights. With 0 the output is 0 at first.
        init_logit: initial bias of the last layer of a ``bernoulli`` head: −4 starts at a probability of .018.
    """

    kind: HeadKind = "twohot"
    layers: Depth = 2
    units: Size = 512
    bins: Annotated[int, between(2, 65_536)] = 255
    limit: Annotated[float, between(0, 80, open_low=True)] = 20.0
    out_scale: NonNegative = 0.0
    bernoulli_scale: Positive = 1.0
    init_logit: EitherSign = 0.0
    norm: NormKind = "layer"
    activation: Activation = "silu"


class Head(eqx.Module):
    """Maps features ``[F]`` to a distribution over an array of ``shape`` (``()`` or ``(C,)``)."""

    net: MLP
    shape: tuple[int, ...] = eqx.field(static=True)
    config: HeadConfig = eqx.field(static=True)

    def __init__(self, in_size: int, shape: tuple[int, ...], config: HeadConfig, *, key: Key):
        c = config
        numbers = 1 if not shape else shape[0]
        out_size = numbers * (c.bins if "twohot" in c.kind else 1)
        style: Style = {"norm": c.norm, "activation": c.activation}
        self.net = MLP(in_size, c.units, c.layers, out_size, **style, out_scale=c.out_scale, key=key)
        if c.init_logit:
            bias = jnp.full(out_size, c.init_logit, jnp.float32)
            self.net = eqx.tree_at(lambda net: net.output.bias, self.net, bias)
        self.shape = shape
        self.config = config

    def __call__(self, features: Float[Array, "*batch F"]) -> TwoHot | SymlogMSE | UnitNormal | Bernoulli:
        """A distribution whose ``mean`` and ``log_prob`` have shape ``[*batch, *shape]``."""
        c = self.config
        out = self.net(features)
        if "twohot" in c.kind:
            return TwoHot(out.reshape(*out.shape[:-1], *self.shape, c.bins), c.limit, c.kind == "symexp_twohot")
        # In float32, like the means of the other heads, because returns are summed in float32.
        out = out.reshape(*out.shape[:-1], *self.shape).astype(jnp.float32)
        return {"bernoulli": Bernoulli, "normal": UnitNormal, "symlog_mse": SymlogMSE}[c.kind](out)

    def predict(self, features: Float[Array, "*batch F"]) -> Float[Array, "*batch *shape"]:
        """The expected value."""
        mean = self(features).mean
        return mean * self.config.bernoulli_scale if self.config.kind == "bernoulli" else mean

    def negative_log_likelihood(
        self, features: Float[Array, "*batch F"], target: Float[Array, "*batch *shape"]
    ) -> Float[Array, "*batch *shape"]:
        """Negative log-likelihood of each number. A Bernoulli head's target is whether the number is positive."""
        if self.config.kind == "bernoulli":
            target = (target > 0).astype(jnp.float32)
        return -self(features).log_prob(target)


class Heads(NamedTuple):
    """The heads of a world model: reward, C costs, and the probability that the episode goes on."""

    reward: Head
    cost: Head
    continue_: Head

    @classmethod
    def init(
        cls, in_size: int, num_costs: int, configs: tuple[HeadConfig, HeadConfig, HeadConfig], keys: Array
    ) -> Heads:
        """Fresh heads. Consumes three keys."""
        shapes: tuple[tuple[int, ...], ...] = ((), (num_costs,), ())
        return cls(*(Head(in_size, *of, key=keys[i]) for i, of in enumerate(zip(shapes, configs, strict=True))))

    def losses(
        self, features: Float[Array, "B T G"], batch: Batch, unsafe_weight: float
    ) -> dict[str, Float[Array, "B T"]]:
        """Negative log-likelihoods by name. That of a positive cost has the weight ``unsafe_weight``."""
        reward, cost, terminal = (jnp.asarray(x) for x in (batch.reward, batch.cost, batch.is_terminal))
        unsafe = jnp.where(cost > 0, unsafe_weight, 1.0)
        return {
            "reward": self.reward.negative_log_likelihood(features, reward),
            "cost": (unsafe * self.cost.negative_log_likelihood(features, cost)).sum(-1),
            "continue": self.continue_.negative_log_likelihood(features, 1 - terminal.astype(jnp.float32)),
        }

    def predict(self, features: Float[Array, "*batch G"]) -> dict[str, Array]:
        """The expected ``reward`` ``[*batch]`` and ``cost`` ``[*batch, C]``."""
        return {"reward": self.reward.predict(features), "cost": self.cost.predict(features)}

    def trajectory(
        self,
        features: Float[Array, "states B G"],
        actor_features: Float[Array, "states B F"],
        critic_features: Float[Array, "states B K"],
        actions: Float[Array, "H B A"],
        states: Any,
    ) -> Trajectory:
        """Builds a trajectory from imagined ``states [H+1, B, ...]``. The heads predict from ``features``."""
        return Trajectory(
            actor_features=actor_features,
            critic_features=critic_features,
            actions=actions,
            rewards=self.reward.predict(features),
            costs=self.cost.predict(features),
            continues=jax.lax.stop_gradient(self.continue_.predict(features)),
            states=states,
        )
