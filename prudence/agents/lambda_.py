"""LAMBDA (As et al. 2022): constrained policy optimisation in a posterior over world models.

In ``lambda``, N models from a SWAG posterior imagine a trajectory from every start state. The actor improves the best
of N returns and keeps the worst of N costs within the budget, with an augmented Lagrangian (section 4.2, Algorithms 1
and 2). ``lambda-unsafe`` (Appendix E) has no constraint. ``lambda-greedy`` (Appendix G) takes means over the models
instead of the best and the worst.

CEM-MPC (section 5.3) plans without actor and critics. The score of a plan is the sum of its imagined rewards over the
horizon. A plan is rejected if its most pessimistic future exceeds the budget. In ``lambda-cem-mpc`` (Appendix F), a
different model of the posterior imagines each future of a plan. In ``cem-mpc``, the futures are samples of one model's
latents.
"""

from __future__ import annotations

from dataclasses import replace

from prudence.actors import ActorConfig
from prudence.budgets import Budget, Imagined
from prudence.constraints import AugmentedLagrangian, Unconstrained
from prudence.cores.dreamer.config import DreamerConfig
from prudence.cores.dreamer.dreamer import Dreamer
from prudence.cores.dreamer.planning import PlanningConfig
from prudence.cores.dreamer.sizes import safedreamer_published
from prudence.cores.dreamer.uncertainty import UncertaintyConfig
from prudence.cores.system import Needs, Published, System
from prudence.critics import CriticConfig
from prudence.loops import ReplayLoop
from prudence.models.config import HeadConfig, LossScales, WorldModelConfig
from prudence.models.rssm import RSSMConfig
from prudence.nets import Style
from prudence.optim import OptimiserConfig
from prudence.planners import CrossEntropy
from prudence.types import Spaces

_PAPER = "As et al. 2022, arXiv 2201.09802"
_ACTION_REPEAT = 2
_FUTURES = 5  # The number of futures of one model, without a posterior.


def lambda_agent(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """Makes LAMBDA for an environment's spaces.

    Raises:
        ValueError: ``config`` has no posterior over models.
    """
    if config.uncertainty is None:
        raise ValueError("LAMBDA needs a posterior over models: give it an UncertaintyConfig")
    return Dreamer(spaces, config)


def cem_mpc(spaces: Spaces, config: DreamerConfig) -> Dreamer:
    """Makes CEM-MPC for an environment's spaces.

    Raises:
        ValueError: ``config`` does not plan, or its planner uses critics or the actor.
    """
    planning = config.planning
    if planning is None or planning.beyond != "nothing" or planning.search.num_proposals:
        raise ValueError("CEM-MPC plans with the model alone: PlanningConfig(beyond='nothing') without proposals")
    return Dreamer(spaces, config)


def _published(vision: bool) -> Published[DreamerConfig]:
    """Table 1 and the released code. They have no sizes for vectors, so encoder and decoder have those of the heads."""
    style: Style = {"norm": "none", "activation": "elu"}
    head = HeadConfig("normal", layers=2, units=400, out_scale=1.0, **style)
    binary = replace(head, kind="bernoulli")
    model = WorldModelConfig(
        rssm=RSSMConfig(deter=200, units=200, latent="gaussian", stoch=30, **style),
        mlp_units=400,
        reward=head,
        cost=replace(binary, bernoulli_scale=float(_ACTION_REPEAT)),
        continue_=binary,
        # Observations of unit variance: half the squared error.
        scales=LossScales(image=0.5, vector=0.5, dynamics=0.8, representation=0.2),
        unsafe_weight=100.0,
        free_nats=3.0,
        free_nats_of="mean",
        **style,
    )
    value = replace(head, layers=3)
    slow = {"slow_rate": 1.0, "slow_every": 100, "slow_target": True, "slow_regulariser": 0.0}
    agent = DreamerConfig(
        model,
        ActorConfig(layers=4, units=400, continuous="tanh_normal", **style),
        CriticConfig(value, OptimiserConfig(8e-5, clip=1.0, eps=1e-5), **slow),
        CriticConfig(value, OptimiserConfig(2e-4, clip=50.0, eps=1e-5), **slow),
        model_optimiser=OptimiserConfig(1e-4, clip=100.0, eps=1e-5, cycle=400),
        actor_optimiser=OptimiserConfig(8e-5, clip=5.0, eps=1e-5),
        constraint=AugmentedLagrangian(),
        discount=0.99,
        entropy=0.0,
        normalise_returns=False,
        budget=Budget(25.0, discount=0.995, violation=Imagined("mean")),
        planning=PlanningConfig(CrossEntropy(horizon=8, plans=150, elites=15, iterations=10, momentum=0.0)),
        uncertainty=UncertaintyConfig(),
    )
    loop = ReplayLoop(prefill=2500, updates_per_decision=0.2, batch_size=32, batch_length=50, evaluate_episodes=10)
    return Published(agent, loop, _ACTION_REPEAT, counts_raw_steps=True)


def _cem_mpc_published(vision: bool) -> Published[DreamerConfig]:
    """The same with a world model of SafeDreamer's size."""
    return replace(safedreamer_published(vision), action_repeat=_ACTION_REPEAT)


def _lambda(config: DreamerConfig) -> DreamerConfig:
    return replace(config, planning=None, privileged=None)


def _unsafe(config: DreamerConfig) -> DreamerConfig:
    return replace(_lambda(config), constraint=Unconstrained())


def _greedy(config: DreamerConfig) -> DreamerConfig:
    assert config.uncertainty is not None
    return replace(_lambda(config), uncertainty=replace(config.uncertainty, task="mean", safety="mean"))


def _lambda_cem_mpc(config: DreamerConfig) -> DreamerConfig:
    """Scores plans by sums of rewards over the horizon. The worst future of a plan decides whether it is safe."""
    assert config.planning is not None
    planning = replace(
        config.planning,
        search=replace(config.planning.search, proposals=0.0),
        price=Unconstrained(),
        beyond="nothing",
        futures=_FUTURES if config.uncertainty is None else config.uncertainty.posterior.samples,
        pessimism="max",
        start=0,
    )
    return replace(config, constraint=Unconstrained(), planning=planning, privileged=None)


def _cem_mpc(config: DreamerConfig) -> DreamerConfig:
    return _lambda_cem_mpc(replace(config, uncertainty=None))


SYSTEMS = (
    System(
        "lambda",
        "LAMBDA: an actor that is optimistic about reward and pessimistic about cost over a posterior of models",
        _PAPER,
        DreamerConfig,
        lambda_agent,
        _published,
        _lambda,
        Needs(posterior=True),
    ),
    System(
        "lambda-unsafe",
        "LAMBDA's ablation without a constraint",
        f"{_PAPER}, Appendix E",
        DreamerConfig,
        lambda_agent,
        _published,
        _unsafe,
        Needs(posterior=True),
    ),
    System(
        "lambda-greedy",
        "LAMBDA's ablation that takes means over the posterior, neither optimistic nor pessimistic",
        f"{_PAPER}, Appendix G",
        DreamerConfig,
        lambda_agent,
        _published,
        _greedy,
        Needs(posterior=True),
    ),
    System(
        "lambda-cem-mpc",
        "LAMBDA's ablation that plans; another model of the posterior imagines each future of a plan",
        f"{_PAPER}, Appendix F",
        DreamerConfig,
        cem_mpc,
        _published,
        _lambda_cem_mpc,
        Needs(posterior=True),
    ),
    System(
        "cem-mpc",
        "the same planner with one model: pessimistic about costs, without critics",
        f"{_PAPER}, section 5.3",
        DreamerConfig,
        cem_mpc,
        _cem_mpc_published,
        _cem_mpc,
        Needs(budget=False),
    ),
)
