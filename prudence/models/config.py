"""Sizes and losses of world models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from prudence.models.heads import HeadConfig
from prudence.models.rssm import RSSMConfig
from prudence.nets import Activation, NormKind


@dataclass(frozen=True)
class LossScales:
    """Weights of the world model's losses (DreamerV3's defaults; 2023 release: dynamics .5)."""

    image: float = 1.0
    vector: float = 1.0
    reward: float = 1.0
    cost: float = 1.0
    continue_: float = 1.0
    dynamics: float = 0.5
    representation: float = 0.1

    @property
    def of_heads(self) -> dict[str, float]:
        """Those of the heads' losses, by name."""
        return {"reward": self.reward, "cost": self.cost, "continue": self.continue_}


@dataclass(frozen=True)
class WorldModelConfig:
    """Sizes and losses of a world model.

    Attributes:
        encoder_keys: observations that the encoder sees; None means all that are not privileged.
        decoder_keys: observations that are reconstructed; None means those that the encoder sees.
        heads_see: what reward, costs and continuation are predicted from: ``features``, (h_t, z_t), as in the papers,
            or ``deter``, h_t alone: what could be foreseen before x_t. From features they may be read off what x_t
            gives away: that a reached goal has moved, as an imagined z_t hardly does (docs/algorithms/safedreamer.md).
        unsafe_weight: factor on the cost loss where the real cost is positive (SafeDreamer 10,
            LAMBDA 100): unsafe samples are rare.
        free_nats: free bits of the summed KL.
        free_nats_of: below which a latent ``state``'s KL counts for nothing (DreamerV3, SafeDreamer), or the KL's
            ``mean`` over the batch (Dreamer-V1, LAMBDA).
        vector_std: None gives vectors a likelihood of unit variance (the papers), so that ``scales.vector``
            alone says how exact they are to be. A number calibrates instead (Rybkin et al. 2021, optimal σ):
            each entry has the variance of its own error in the batch, with this standard deviation (in
            symlog space) as its floor. Noisy sensors then cost no capacity, and exact ones are predicted
            as exactly as the model can.
    """

    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    encoder_keys: tuple[str, ...] | None = None
    decoder_keys: tuple[str, ...] | None = None
    heads_see: Literal["features", "deter"] = "features"
    mlp_layers: int = 2
    mlp_units: int = 512
    cnn_depth: int = 32
    reward: HeadConfig = field(default_factory=HeadConfig)
    cost: HeadConfig = field(default_factory=lambda: HeadConfig(out_scale=1.0))
    continue_: HeadConfig = field(default_factory=lambda: HeadConfig(kind="bernoulli", out_scale=1.0))
    scales: LossScales = field(default_factory=LossScales)
    unsafe_weight: float = 10.0
    free_nats: float = 1.0
    free_nats_of: Literal["state", "mean"] = "state"
    vector_std: float | None = None
    norm: NormKind = "layer"
    activation: Activation = "silu"

    @property
    def heads(self) -> tuple[HeadConfig, HeadConfig, HeadConfig]:
        """For reward, costs and continuation."""
        return self.reward, self.cost, self.continue_

    @property
    def head_size(self) -> int:
        """Length of what the heads for reward, costs and continuation see."""
        return self.rssm.feature_size if self.heads_see == "features" else self.rssm.deter


@dataclass(frozen=True)
class PrivilegedConfig:
    """The privileged half of a paired world model (prudence/models/paired.py). What is not said here, losses,
    likelihoods and style, is as in its other half, and so are the heads, which see both.

    Attributes:
        rssm: of the privileged half; its latents may be of another kind than the other half's.
        mlp_layers, mlp_units: of its encoder and its decoder.
        critics_see: ``union``, the states of both halves, or ``privileged``, that of this one (AsymDreamer(S)).
    """

    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    mlp_layers: int = 2
    mlp_units: int = 512
    critics_see: Literal["union", "privileged"] = "union"
