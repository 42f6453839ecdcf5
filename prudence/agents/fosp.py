"""FOSP (Cao et al. 2025): safe policies from recorded data, through a world model.

``fosp`` learns a world model from the data. Values are expectiles over actions (equation 7), so they do not trust
actions that were never tried. The policy imitates recorded actions, weighted by their advantages: of rewards in
feasible states, of costs elsewhere (equations 16 to 19). An augmented Lagrangian on imagined costs keeps the budget
(equation 20). In an environment it goes on with the same values and feasibility: a new policy ascends imagined
advantages (equation 23), while the offline policy proposes actions beside it (equations 21 and 22). The paper's
ablations leave out one part each (Figure 4).

``bc`` is behaviour cloning in the same latents, the control for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from prudence.actors import ActorConfig
from prudence.budgets import Budget, Imagined
from prudence.constraints import AugmentedLagrangian, Unconstrained
from prudence.cores.dreamer.sizes import safedreamer_published
from prudence.cores.fosp.config import ExpansionConfig, FineTuningConfig, FospConfig, RegressionConfig
from prudence.cores.fosp.critics import ValuesConfig
from prudence.cores.fosp.feasibility import FeasibilityConfig
from prudence.cores.fosp.fosp import Fosp
from prudence.cores.system import Needs, Published, System
from prudence.loops import ReplayLoop
from prudence.optim import OptimiserConfig
from prudence.types import Spaces

_PAPER = "Cao et al. 2025, arXiv 2407.04942"


def fosp(spaces: Spaces, config: FospConfig) -> Fosp:
    """Makes FOSP, or an ablation of it, for an environment's spaces.

    Raises:
        ValueError: ``config`` clones behaviour, or does not suit the spaces.
    """
    if config.regression is None:
        raise ValueError("FOSP weighs recorded actions: give it a RegressionConfig, or train bc, which does not")
    return Fosp(spaces, config)


def bc(spaces: Spaces, config: FospConfig) -> Fosp:
    """Makes behaviour cloning for an environment's spaces. It ignores all parts of ``config`` that weigh actions."""
    return Fosp(spaces, _cloning(config))


def published(vision: bool) -> Published[FospConfig]:
    """FOSP's Table 4, with the sizes of its released code. (The page of the system lists misprints of the table.)"""
    base = safedreamer_published(vision)
    head = base.agent.critic.head
    valued = replace(ValuesConfig().state, head=replace(head, kind="symexp_twohot", limit=10.0))
    values = ValuesConfig(valued, valued, number=1)
    feasibility = FeasibilityConfig()
    sized = replace(feasibility.critic, head=replace(feasibility.critic.head, units=head.units, layers=head.layers))
    agent = FospConfig(
        world_model=base.agent.world_model,
        actor=ActorConfig(layers=base.agent.actor.layers, units=base.agent.actor.units),
        values=values,
        model_optimiser=OptimiserConfig(1e-4, clip=1000.0),
        actor_optimiser=OptimiserConfig(3e-5, eps=1e-5),
        regression=RegressionConfig(),
        fine_tuning=FineTuningConfig(),
        feasibility=replace(feasibility, critic=sized),
        constraint=AugmentedLagrangian(),
        budget=Budget(0.0, violation=Imagined("sum")),
    )
    loop = ReplayLoop(steps=500_000, updates_per_decision=0.5, evaluate_episodes=10)
    return Published(agent, loop, action_repeat=4, cameras="both" if vision else "front")


def _no_expectile(config: FospConfig) -> FospConfig:
    """(i) Values are means over actions, not expectiles."""
    return replace(config, values=replace(config.values, expectile=0.5, cost_expectile=0.5))


def _no_reachability(config: FospConfig) -> FospConfig:
    """(iii) Every state counts as feasible, so costs have no weight of their own."""
    assert config.regression is not None
    regression = replace(config.regression, safe_action="none")
    return replace(config, feasibility=None, regression=regression)


def _no_lagrangian(config: FospConfig) -> FospConfig:
    """(iv) No penalty on imagined costs; feasibility by Hamilton-Jacobi reachability (Fisac et al. 2019)."""
    assert config.feasibility is not None
    critic = config.feasibility.critic
    critic = replace(critic, head=replace(critic.head, kind="normal", init_logit=0.0))
    return replace(
        config, constraint=Unconstrained(), feasibility=replace(config.feasibility, kind="hj", critic=critic)
    )


def _cloning(config: FospConfig) -> FospConfig:
    return replace(config, regression=None, fine_tuning=None, feasibility=None, constraint=Unconstrained())


def _offline(config: FospConfig) -> FospConfig:
    return replace(config, fine_tuning=None)


def _expanding(config: FospConfig) -> FospConfig:
    """Online after the offline phase, the offline policy and a new one propose actions."""
    assert config.fine_tuning is not None
    return replace(config, fine_tuning=replace(config.fine_tuning, expansion=ExpansionConfig()))


def _same(config: FospConfig) -> FospConfig:
    return config


def _system(
    name: str,
    summary: str,
    compose: Callable[[FospConfig], FospConfig] = _same,
    online: Callable[[FospConfig], FospConfig] = _expanding,
) -> System[FospConfig]:
    return System(name, summary, _PAPER, FospConfig, fosp, published, compose, offline=_offline, online=online)


SYSTEMS = (
    _system("fosp", "FOSP: in-sample values and feasibility-weighted regression on recorded actions"),
    _system("fosp-no-expectile", "FOSP whose values are means over actions (its ablation i)", _no_expectile),
    _system(
        "fosp-no-expansion",
        "FOSP whose offline policy learns on in an environment (its ablation ii)",
        online=_same,
    ),
    _system(
        "fosp-no-reachability",
        "FOSP without feasibility: costs count only in its Lagrangian (its ablation iii)",
        _no_reachability,
    ),
    _system(
        "fosp-no-lagrangian",
        "FOSP with Hamilton-Jacobi feasibility instead of a Lagrangian (its ablation iv)",
        _no_lagrangian,
    ),
    System(
        "bc",
        "Behaviour cloning in the latents of a world model",
        "Pomerleau 1989; in FOSP's latents, as its control",
        FospConfig,
        bc,
        published,
        _cloning,
        Needs(budget=False, dataset=True),
    ),
)
