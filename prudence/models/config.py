"""Configuration of world models: sizes and losses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from prudence.models.heads import HeadConfig
from prudence.models.pictures import Patches
from prudence.models.rssm import RSSMConfig
from prudence.nets import Activation, NormKind
from prudence.ranges import Depth, NonNegative, Positive, Size


@dataclass(frozen=True)
class LossScales:
    """Weights of the world model's losses (DreamerV3's defaults; 2023 release: dynamics .5)."""

    image: NonNegative = 1.0
    vector: NonNegative = 1.0
    reward: NonNegative = 1.0
    cost: NonNegative = 1.0
    continue_: NonNegative = 1.0
    dynamics: NonNegative = 0.5
    representation: NonNegative = 0.1

    @property
    def of_heads(self) -> dict[str, float]:
        """Weights of the losses of the heads, by name."""
        return {"reward": self.reward, "cost": self.cost, "continue": self.continue_}


@dataclass(frozen=True)
class WorldModelConfig:
    """Sizes and losses of a world model.

    Attributes:
        encoder_keys: observations that the encoder sees; None means all that are not privileged.
        decoder_keys: observations that the decoder reconstructs; None means those that the encoder sees.
        heads_see: input of the heads for reward, costs and continuation. ``features`` is (h_t, z_t), as in the papers.
            ``deter`` is h_t alone, which holds only what was predictable before x_t. From features the heads can learn
            to rely on hints in x_t that an imagined z_t rarely contains: for example, that a reached goal has moved
            (docs/algorithms/safedreamer.md).
        mlp_layers, mlp_units: depth and width of the MLPs for vectors.
        cnn_depth: channels after the first convolution for images.
        patches: images are encoded and decoded as patches, by matrix products; None means by convolutions.
        unsafe_weight: factor on the cost loss where the real cost is positive, because unsafe samples are rare
            (SafeDreamer 10, LAMBDA 100).
        free_nats: free bits of the summed KL, in nats.
        free_nats_of: what the free bits are compared with: the KL of each latent ``state`` (DreamerV3, SafeDreamer), or
            the ``mean`` of the KL over the batch (Dreamer-V1, LAMBDA).
        vector_std: None gives vectors a likelihood of unit variance (the papers); ``scales.vector`` alone then sets
            their precision. A number calibrates the variance (Rybkin et al. 2021, optimal σ): each entry has the
            variance of its own error in the batch. The number is the lower bound of the standard deviation, in symlog
            space. The model then spends no capacity on noisy sensors and predicts exact ones as exactly as it can.
        precise_std: the same bound for entries in which small errors matter (``Spaces.precise``). None is
            ``vector_std``.
    """

    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    encoder_keys: tuple[str, ...] | None = None
    decoder_keys: tuple[str, ...] | None = None
    heads_see: Literal["features", "deter"] = "features"
    mlp_layers: Depth = 2
    mlp_units: Size = 512
    cnn_depth: Size = 32
    patches: Patches | None = None
    reward: HeadConfig = field(default_factory=HeadConfig)
    cost: HeadConfig = field(default_factory=lambda: HeadConfig(out_scale=1.0))
    continue_: HeadConfig = field(default_factory=lambda: HeadConfig(kind="bernoulli", out_scale=1.0))
    scales: LossScales = field(default_factory=LossScales)
    unsafe_weight: NonNegative = 10.0
    free_nats: NonNegative = 1.0
    free_nats_of: Literal["state", "mean"] = "state"
    vector_std: Positive | None = None
    precise_std: Positive | None = None
    norm: NormKind = "layer"
    activation: Activation = "silu"

    @property
    def heads(self) -> tuple[HeadConfig, HeadConfig, HeadConfig]:
        """Configurations of the heads for reward, costs and continuation."""
        return self.reward, self.cost, self.continue_

    @property
    def head_size(self) -> int:
        """Number of inputs of the heads for reward, costs and continuation."""
        return self.rssm.feature_size if self.heads_see == "features" else self.rssm.deter


@dataclass(frozen=True)
class PrivilegedConfig:
    """The privileged half of a paired world model (prudence/models/paired.py).

    Losses, likelihoods and style of layers are as in the observation half. The heads see both halves and are configured
    there, too.

    Attributes:
        rssm: dynamics of the privileged half. Its kind of latents may differ from the observation half's.
        mlp_layers, mlp_units: depth and width of its encoder and decoder.
        critics_see: ``union`` shows the critics the states of both halves; ``privileged`` shows them the privileged
            state only (AsymDreamer(S)).
    """

    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    mlp_layers: Depth = 2
    mlp_units: Size = 512
    critics_see: Literal["union", "privileged"] = "union"
