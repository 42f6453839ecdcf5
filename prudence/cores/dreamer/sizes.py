"""Network sizes of the Dreamer core, and the sizes and protocol that SafeDreamer publishes."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from prudence.actors import ActorConfig
from prudence.constraints import AugmentedLagrangian, PIDLagrangian
from prudence.cores.dreamer.config import DreamerConfig
from prudence.cores.dreamer.planning import PlanningConfig
from prudence.cores.system import Published
from prudence.critics import CriticConfig
from prudence.loops import ReplayLoop
from prudence.models.config import HeadConfig, PrivilegedConfig, WorldModelConfig
from prudence.models.pictures import Patches
from prudence.models.rssm import RSSMConfig
from prudence.planners import CrossEntropy


def sizes(
    deter: int,
    units: int,
    stoch: int,
    classes: int,
    *,
    mlp_layers: int = 2,
    mlp_units: int | None = None,
    bins: int = 255,
    cnn_depth: int = 32,
    patches: Patches | None = None,
    latent: Literal["discrete", "gaussian"] = "discrete",
    head_layers: int = 2,
) -> tuple[WorldModelConfig, ActorConfig, CriticConfig]:
    """The configurations of a world model, an actor and a critic of one size."""
    head = HeadConfig(layers=head_layers, units=units, bins=bins)
    model = WorldModelConfig(
        rssm=RSSMConfig(deter=deter, units=units, latent=latent, stoch=stoch, classes=classes),
        mlp_layers=mlp_layers,
        mlp_units=mlp_units or units,
        cnn_depth=cnn_depth,
        patches=patches,
        reward=head,
        cost=replace(head, out_scale=1.0),
        continue_=replace(head, kind="bernoulli", out_scale=1.0),
    )
    return model, ActorConfig(layers=head_layers, units=units), CriticConfig(head=head)


def privileged_half(model: WorldModelConfig) -> PrivilegedConfig:
    """A privileged world model as large as ``model`` (AsymDreamer)."""
    return PrivilegedConfig(model.rssm, model.mlp_layers, model.rssm.units)


def safedreamer_published(vision: bool) -> Published[DreamerConfig]:
    """SafeDreamer's Appendix C: the sizes and protocol of SafeDreamer and of its baselines.

    With pixels, the model has 48x48 latents and 512 units. With vectors it has 16x16 latents and 256 units. The planner
    has CrossEntropy's defaults; only with vectors does the actor propose plans. The configuration has the parts of all
    systems.
    """
    if vision:
        model, actor, critic = sizes(512, 512, 48, 48, mlp_layers=5, mlp_units=1024)
    else:
        model, actor, critic = sizes(256, 256, 16, 16, mlp_layers=3)
        model = replace(model, scales=replace(model.scales, vector=5.0))
    agent = DreamerConfig(
        model,
        actor,
        critic,
        critic,
        constraint=AugmentedLagrangian(),
        planning=PlanningConfig(CrossEntropy(proposals=0.0 if vision else 0.05), PIDLagrangian()),
        privileged=privileged_half(model),
    )
    loop = ReplayLoop(steps=2_000_000, evaluate_episodes=10)
    return Published(agent, loop, action_repeat=4, cameras="both" if vision else "front")
