"""Sizes of the Dreamer core, and those that SafeDreamer publishes for it."""

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
    latent: Literal["discrete", "gaussian"] = "discrete",
    head_layers: int = 2,
) -> tuple[WorldModelConfig, ActorConfig, CriticConfig]:
    """World model, actor and critic of one size."""
    head = HeadConfig(layers=head_layers, units=units, bins=bins)
    model = WorldModelConfig(
        rssm=RSSMConfig(deter=deter, units=units, latent=latent, stoch=stoch, classes=classes),
        mlp_layers=mlp_layers,
        mlp_units=mlp_units or units,
        cnn_depth=cnn_depth,
        reward=head,
        cost=replace(head, out_scale=1.0),
        continue_=replace(head, kind="bernoulli", out_scale=1.0),
    )
    return model, ActorConfig(layers=head_layers, units=units), CriticConfig(head=head)


def privileged_half(model: WorldModelConfig) -> PrivilegedConfig:
    """A privileged world model as large as ``model`` (AsymDreamer)."""
    return PrivilegedConfig(model.rssm, model.mlp_layers, model.rssm.units)


def safedreamer_published(vision: bool) -> Published[DreamerConfig]:
    """SafeDreamer's Appendix C, for itself and for the baselines that it trains likewise.

    48x48 latents and 512 units from pixels, 16x16 and 256 from vectors; its planner as CrossEntropy's defaults have it,
    with plans of the actor from vectors only. It has every part that a system may take.
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
