"""Recovery RL (Thananjeyan et al. 2021), model-based, in the latents of a world model.

The task policy learns as DreamerV3's actor does, without costs. Risk critics learn from recorded steps how probable a
violation is after an action (equation 1). Where the policy's action is too risky, the agent takes the first action of
the plan with the least risk. FOSP's Appendix F has it as a baseline, pretrained on recorded data.
"""

from __future__ import annotations

from dataclasses import replace

from prudence.constraints import Unconstrained
from prudence.cores.dreamer.config import DreamerConfig
from prudence.cores.dreamer.dreamer import Dreamer
from prudence.cores.dreamer.recovery import RecoveryConfig
from prudence.cores.dreamer.sizes import safedreamer_published
from prudence.cores.dreamer.uncertainty import DisagreementConfig
from prudence.cores.system import Needs, Published, System
from prudence.types import Spaces


def recovery_rl(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """Makes Recovery RL for an environment's spaces.

    Raises:
        ValueError: ``config`` has no recovery, or its actor has a constraint.
    """
    if config.recovery is None:
        raise ValueError("Recovery RL needs risk critics: give it a RecoveryConfig, or train dreamerv3 without them")
    if config.constrained:
        raise ValueError("Recovery RL's task policy ignores costs: leave the constraint out")
    return Dreamer(spaces, config)


def published(vision: bool) -> Published[DreamerConfig]:
    """SafeDreamer's sizes and protocol, since FOSP gives none for this baseline, with the search of RecoveryConfig."""
    base = safedreamer_published(vision)
    assert base.agent.planning is not None
    planning = replace(base.agent.planning, search=RecoveryConfig().search)
    return replace(base, agent=replace(base.agent, planning=planning))


def _compose(config: DreamerConfig) -> DreamerConfig:
    """The search is as large as the preset's planner, and the risk critics are as large as the critic."""
    assert config.planning is not None
    recovery, value = RecoveryConfig(), config.critic
    head = replace(recovery.critic.head, layers=value.head.layers, units=value.head.units)
    recovery = replace(
        recovery,
        critic=replace(recovery.critic, head=head, optimiser=value.optimiser),
        search=replace(config.planning.search, proposals=0.0, momentum=0.0, rule="best"),
    )
    return replace(
        config, constraint=Unconstrained(), planning=None, uncertainty=None, privileged=None, recovery=recovery
    )


def _offline(config: DreamerConfig) -> DreamerConfig:
    """Imagined rewards are less where an ensemble disagrees, as for DreamerV3."""
    return replace(config, disagreement=DisagreementConfig())


SYSTEMS = (
    System(
        "recovery-rl",
        "Recovery RL: a policy that ignores costs; the least risky plan acts where its action is too risky",
        "Thananjeyan et al. 2021, arXiv 2010.15920; model-based as in FOSP's Appendix F",
        DreamerConfig,
        recovery_rl,
        published,
        _compose,
        Needs(budget=False),
        _offline,
    ),
)
