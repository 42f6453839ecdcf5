"""Named configurations: which agent, on which task, with which sizes.

A preset is a function to a :class:`RunConfig`. ``paper`` has the papers' sizes, ``comparison`` these by the protocol
of SafeDreamer's comparison, ``gpu`` the papers' in bfloat16 with larger dispatches, ``cpu`` learns a low-dimensional
task in minutes on two cores, and ``debug`` runs in seconds and learns nothing. Those of the model-free
baselines are in :mod:`prudence.baselines`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args

from prudence.actors import ActorConfig
from prudence.agents.asymdreamer import asymdreamer, asymdreamer_o, asymdreamer_s
from prudence.agents.base import Agent
from prudence.agents.cem_mpc import cem_mpc
from prudence.agents.dreamer import DreamerConfig
from prudence.agents.dreamerv3 import dreamerv3
from prudence.agents.lambda_ import lambda_agent
from prudence.agents.on_policy import OnPolicyConfig
from prudence.agents.planning import PlanningConfig
from prudence.agents.safedreamer import bsrp_lag, osrp, osrp_lag
from prudence.agents.uncertainty import UncertaintyConfig
from prudence.baselines import BASELINES, OnPolicyLoopConfig, baseline
from prudence.constraints import AugmentedLagrangian, PIDLagrangian, Unconstrained
from prudence.critics import CriticConfig
from prudence.envs.base import EnvConfig
from prudence.envs.registry import offers_observations
from prudence.models.rssm import RSSMConfig
from prudence.models.swag import SWAG
from prudence.models.world_model import HeadConfig, LossScales, PrivilegedConfig, WorldModelConfig
from prudence.nets import Style
from prudence.optim import OptimiserConfig
from prudence.planners import CrossEntropy
from prudence.schedule import Schedule
from prudence.types import Spaces

AgentName = Literal[
    "safedreamer-bsrp-lag",
    "safedreamer-osrp",
    "safedreamer-osrp-lag",
    "lambda",
    "lambda-unsafe",
    "lambda-greedy",
    "lambda-cem-mpc",
    "cem-mpc",
    "dreamerv3",
    "asymdreamer",
    "asymdreamer-s",
    "asymdreamer-o",
    "ppo",
    "ppo-reward-shaping",
    "ppo-lag",
    "ppo-pid",
    "trpo-lag",
    "trpo-pid",
    "cpo",
    "focops",
    "saute-ppo",
    "saute-trpo",
]
PresetName = Literal["debug", "cpu", "paper", "gpu", "comparison", "suite"]

DREAMERS: dict[str, Callable[[Spaces, DreamerConfig], Agent]] = {
    "safedreamer-bsrp-lag": bsrp_lag,
    "safedreamer-osrp": osrp,
    "safedreamer-osrp-lag": osrp_lag,
    "lambda": lambda_agent,
    "lambda-unsafe": lambda_agent,
    "lambda-greedy": lambda_agent,
    "lambda-cem-mpc": cem_mpc,
    "cem-mpc": cem_mpc,
    "dreamerv3": dreamerv3,
    "asymdreamer": asymdreamer,
    "asymdreamer-s": asymdreamer_s,
    "asymdreamer-o": asymdreamer_o,
}
AGENTS: dict[str, Callable[[Spaces, Any], Agent]] = {
    **DREAMERS,
    **{name: found.make for name, found in BASELINES.items()},
}
SUMMARIES = {
    "safedreamer-bsrp-lag": "SafeDreamer's actor trained in imagination under an augmented Lagrangian",
    "safedreamer-osrp": "SafeDreamer's planner: the best of the plans whose imagined cost keeps within the budget",
    "safedreamer-osrp-lag": "the same, with a price on cost that a PID controller sets from episodes",
    "lambda": "LAMBDA: an actor that is optimistic about reward and pessimistic about cost over a posterior of models",
    "lambda-unsafe": "its ablation without a constraint",
    "lambda-greedy": "its ablation that takes means over the posterior, neither optimistic nor pessimistic",
    "lambda-cem-mpc": "its ablation that plans, each future of a plan by another model of the posterior",
    "cem-mpc": "the same planner with one model: pessimistic about costs, without critics",
    "dreamerv3": "DreamerV3: predicts costs but ignores them",
    "asymdreamer": "AsymDreamer: critics and heads also see privileged observations, in a second world model",
    "asymdreamer-s": "its ablation whose critics see the privileged state only",
    "asymdreamer-o": "its ablation without anything privileged, which is BSRP-Lag",
} | {name: found.summary for name, found in BASELINES.items()}


_CONSTRAINED = ("safedreamer-bsrp-lag", "lambda", "lambda-greedy")
_LAMBDA_SEARCH = CrossEntropy(horizon=8, plans=150, elites=15, iterations=10, momentum=0.0)

_PAPER_REPEATS = {
    "safedreamer-bsrp-lag": 4,
    "safedreamer-osrp": 4,
    "safedreamer-osrp-lag": 4,
    "lambda": 2,
    "lambda-unsafe": 2,
    "lambda-greedy": 2,
    "lambda-cem-mpc": 2,
    "cem-mpc": 2,
    "dreamerv3": 4,
}


@dataclass(frozen=True)
class LoopConfig(Schedule):
    """How experience and gradient steps alternate. Acting and updates run side by side, so actions come from weights
    that are ``decisions_per_iteration`` old at the most.

    Attributes:
        prefill: decisions taken at random before the first update.
        updates_per_decision: gradient steps for each decision ("train ratio" / (batch size × length)).
        updates_per_dispatch: gradient steps in one call of the compiled update.
        batch_size: B. batch_length: T.
        replay_capacity: decisions kept.
    """

    steps: int = 1_000_000
    num_envs: int = 1
    workers: int = 0
    decisions_per_iteration: int = 2
    log_every: int = 1000
    evaluate_every: int = 25_000
    checkpoint_every: int = 25_000
    prefill: int = 1000
    updates_per_decision: float = 0.5
    updates_per_dispatch: int = 1
    batch_size: int = 16
    batch_length: int = 64
    replay_capacity: int = 1_000_000

    def run_updates(self, raw_steps: int) -> int:
        return max(1, int(self.updates_per_decision * (self.steps // raw_steps - self.prefill)))

    def steps_at(self, update: int, raw_steps: int) -> int:
        """Raw steps after which an update is made."""
        return raw_steps * (self.prefill + math.ceil(update / self.updates_per_decision))


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a run; stored as its ``config.json``."""

    agent_name: AgentName
    env: EnvConfig
    agent: DreamerConfig | OnPolicyConfig = field(default_factory=DreamerConfig)
    loop: LoopConfig | OnPolicyLoopConfig = field(default_factory=LoopConfig)
    seed: int = 0

    @property
    def run_updates(self) -> int:
        """Updates of the whole run."""
        return self.loop.run_updates(self.env.action_repeat)

    @property
    def planning_starts(self) -> int | None:
        """Raw steps from which on plans are acted on; None for an agent that does not plan."""
        if not isinstance(self.agent, DreamerConfig) or self.agent.planning is None:
            return None
        assert isinstance(self.loop, LoopConfig)
        return self.loop.steps_at(self.agent.planning.start, self.env.action_repeat) if self.agent.planning.start else 0

    def make_agent(self, spaces: Spaces) -> Agent:
        """The agent that this run trains.

        Raises:
            ValueError: as :func:`make_agent`, or the run ends before an agent that plans would begin to.
        """
        start = self.planning_starts
        if start is not None and start >= self.loop.steps:
            raise ValueError(
                f"{self.agent_name} acts by plans from {start:,} steps on, and this run ends at {self.loop.steps:,}: "
                "until then its policy acts, so that no plan ever would. Give more --steps, or begin sooner "
                "(--agent.planning.start, in gradient steps)"
            )
        return make_agent(self.agent_name, spaces, self.agent, run_updates=self.run_updates)


def make_agent(
    name: str, spaces: Spaces, config: DreamerConfig | OnPolicyConfig, *, run_updates: int | None = None
) -> Agent:
    """The agent called ``name``; ``run_updates`` are those of the whole run, if it is known how long it is.

    Raises:
        ValueError: the name is unknown, or the configuration does not suit the agent or the spaces.
    """
    if name not in AGENTS:
        raise ValueError(f"unknown agent '{name}': choose from {', '.join(AGENTS)}")
    wanted = DreamerConfig if name in DREAMERS else OnPolicyConfig
    if not isinstance(config, wanted):
        raise ValueError(f"{name} is configured by a {wanted.__name__}, not by a {type(config).__name__}")
    agent = AGENTS[name](spaces, config)
    return agent if run_updates is None else replace(cast(Any, agent), run_updates=run_updates)


def preset(name: str, agent: str, env: EnvConfig) -> RunConfig:
    """The configuration ``name`` for an agent and an environment.

    Raises:
        ValueError: there is no such preset or agent.
    """
    if name not in get_args(PresetName):
        raise ValueError(f"unknown preset '{name}': choose from {', '.join(get_args(PresetName))}")
    if agent not in AGENTS:
        raise ValueError(f"unknown agent '{agent}': choose from {', '.join(AGENTS)}")
    if agent in BASELINES:
        env, settings, loop = baseline(name, agent, env)
        return RunConfig(cast(AgentName, agent), env, settings, loop)
    if name == "suite":
        raise ValueError(
            f"{agent} has no preset 'suite', which is that of model-free agents: choose debug, cpu, paper, gpu or "
            "comparison"
        )
    if agent.startswith("asymdreamer"):
        return _asymmetric(name, cast(AgentName, agent), env)
    vision = "vision" in env.obs
    makers = {"debug": _debug, "cpu": _cpu, "paper": _paper, "gpu": _gpu, "comparison": _comparison}
    config = makers[name](cast(AgentName, agent), env, vision)
    assert isinstance(config.agent, DreamerConfig)
    return replace(config, agent=_choices(agent, config.agent))


def _choices(agent: str, config: DreamerConfig) -> DreamerConfig:
    """What makes ``config``, which has everything that any agent needs, the agent's own."""
    planning = config.planning
    assert planning is not None
    if agent.startswith("safedreamer"):
        config = replace(config, evaluation="sample")
    if agent == "safedreamer-bsrp-lag":
        return replace(config, planning=None)
    if agent == "safedreamer-osrp-lag":
        return config
    if agent == "lambda":
        return replace(config, planning=None)
    if agent == "lambda-greedy":
        assert config.uncertainty is not None
        return replace(config, planning=None, uncertainty=replace(config.uncertainty, task="mean", safety="mean"))
    planning = replace(planning, price=Unconstrained())
    if agent == "safedreamer-osrp":
        return replace(config, planning=planning)
    config = replace(config, constraint=Unconstrained())
    if agent in ("dreamerv3", "lambda-unsafe"):
        return replace(config, planning=None)
    search = replace(planning.search, proposals=0.0)
    futures = 5 if config.uncertainty is None else config.uncertainty.posterior.samples
    planning = replace(planning, search=search, beyond="nothing", futures=futures, pessimism="max", start=0)
    return replace(config, planning=planning)


def _asymmetric(name: str, agent: AgentName, env: EnvConfig) -> RunConfig:
    """BSRP-Lag's configuration with a privileged world model: in ``paper`` and what follows it as large as the other
    half, as there; in ``cpu`` about half of it, since it is a short vector that is modelled. Where the
    paper has privileged observations for a suite's task, they are the default."""
    config = replace(preset(name, "safedreamer-bsrp-lag", env), agent_name=agent)
    if agent == "asymdreamer-o":
        return config
    assert isinstance(config.agent, DreamerConfig)
    model = config.agent.world_model
    half = PrivilegedConfig(model.rssm, model.mlp_layers, model.rssm.units)
    if name == "cpu":
        half = PrivilegedConfig(replace(model.rssm, deter=64, units=64, stoch=16), mlp_units=64)
    if agent == "asymdreamer-s":
        half = replace(half, critics_see="privileged")
    env = config.env
    if not env.privileged and offers_observations(env.task):
        env = replace(env, privileged="paper")
    return replace(config, env=env, agent=replace(config.agent, privileged=half))


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


def _lambda_paper(agent: AgentName, env: EnvConfig) -> RunConfig:
    """LAMBDA's Table 1 and released code; the sizes for vectors, which it has not, are its heads'."""
    repeat = _PAPER_REPEATS[agent]
    style: Style = {"norm": "none", "activation": "elu"}
    head = HeadConfig("normal", layers=2, units=400, out_scale=1.0, **style)
    binary = replace(head, kind="bernoulli")
    model = WorldModelConfig(
        rssm=RSSMConfig(deter=200, units=200, latent="gaussian", stoch=30, **style),
        mlp_units=400,
        reward=head,
        cost=replace(binary, bernoulli_scale=float(repeat)),
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
    return RunConfig(
        agent_name=agent,
        env=replace(env, action_repeat=repeat),
        agent=DreamerConfig(
            model,
            ActorConfig(layers=4, units=400, continuous="tanh_normal", **style),
            CriticConfig(value, OptimiserConfig(8e-5, clip=1.0, eps=1e-5), **slow),
            CriticConfig(value, OptimiserConfig(2e-4, clip=50.0, eps=1e-5), **slow),
            model_optimiser=OptimiserConfig(1e-4, clip=100.0, eps=1e-5, cycle=400),
            actor_optimiser=OptimiserConfig(8e-5, clip=5.0, eps=1e-5),
            constraint=AugmentedLagrangian(),
            discount=0.99,
            cost_discount=0.995,
            entropy=0.0,
            normalise_returns=False,
            cost_limit=25.0,
            cost_estimate="mean",
            planning=PlanningConfig(_LAMBDA_SEARCH),
            uncertainty=UncertaintyConfig(),
        ),
        loop=LoopConfig(prefill=2500, updates_per_decision=0.2, batch_size=32, batch_length=50, evaluate_episodes=10),
    )


def with_action_repeat(config: RunConfig, repeat: int) -> RunConfig:
    """The configuration with another action repeat, and what goes with it: a Bernoulli head's cost of a decision, which
    the presets take for at most one a raw step."""
    agent = config.agent
    if isinstance(agent, DreamerConfig) and agent.world_model.cost.kind == "bernoulli":
        scale = agent.world_model.cost.bernoulli_scale * repeat / config.env.action_repeat
        cost = replace(agent.world_model.cost, bernoulli_scale=scale)
        agent = replace(agent, world_model=replace(agent.world_model, cost=cost))
    return replace(config, agent=agent, env=replace(config.env, action_repeat=repeat))


def _comparison(agent: AgentName, env: EnvConfig, vision: bool) -> RunConfig:
    """The papers' sizes by the protocol of SafeDreamer's comparison: actions repeated 4 times, a budget of 2."""
    config = with_action_repeat(_paper(agent, env, vision), 4)
    loop = replace(config.loop, steps=2_000_000)
    if agent.startswith("lambda"):  # As many updates, and random steps, for a raw step as with a repeat of 2.
        loop = replace(loop, prefill=1250, updates_per_decision=0.4)
    return replace(config, agent=replace(config.agent, cost_limit=2.0), loop=loop)


def _paper(agent: AgentName, env: EnvConfig, vision: bool) -> RunConfig:
    """SafeDreamer's Appendix C: 48x48 latents and 512 units from pixels, 16x16 and 256 from vectors; its planner as
    CrossEntropy's defaults have it, with plans of the actor from vectors only."""
    if agent.startswith("lambda"):
        return _lambda_paper(agent, env)
    if vision:
        model, actor, critic = sizes(512, 512, 48, 48, mlp_layers=5, mlp_units=1024)
    else:
        model, actor, critic = sizes(256, 256, 16, 16, mlp_layers=3)
        model = replace(model, scales=replace(model.scales, vector=5.0))
    return RunConfig(
        agent_name=agent,
        env=replace(env, action_repeat=_PAPER_REPEATS[agent], cameras="both" if vision else env.cameras),
        agent=DreamerConfig(
            model,
            actor,
            critic,
            critic,
            constraint=AugmentedLagrangian() if agent in _CONSTRAINED else Unconstrained(),
            planning=PlanningConfig(CrossEntropy(proposals=0.0 if vision else 0.05), PIDLagrangian()),
        ),
        loop=LoopConfig(steps=2_000_000, evaluate_episodes=10),
    )


def _gpu(agent: AgentName, env: EnvConfig, vision: bool) -> RunConfig:
    """The papers' sizes and update ratio in bfloat16, eight environments and eight updates a dispatch; and a critic of
    costs that is not biased (:func:`_unbiased`)."""
    config = _paper(agent, env, vision)
    assert isinstance(config.agent, DreamerConfig)
    config = replace(config, agent=replace(config.agent, cost_critic=_unbiased(config.agent.cost_critic)))
    loop = replace(
        config.loop, num_envs=8, workers=8, updates_per_dispatch=8, decisions_per_iteration=16, log_every=4000
    )
    return replace(config, agent=replace(config.agent, compute_dtype="bfloat16"), loop=loop)


def _unbiased(critic: CriticConfig) -> CriticConfig:
    """A critic whose mean is that of its targets: two-hot in symlog space, as in the papers, values a cost that is rare
    several times too low (docs/studies/cost-critic.md)."""
    return replace(critic, head=replace(critic.head, kind="normal"))


def _cpu(agent: AgentName, env: EnvConfig, vision: bool) -> RunConfig:
    """Two cores, a low-dimensional observation, minutes: see docs/algorithms/safedreamer.md for each choice."""
    model, actor, critic = sizes(128, 128, 32, 1, bins=63, latent="gaussian", cnn_depth=8)
    # A mean that is right for rare costs needs no weight on them.
    model = replace(model, vector_std=0.1, unsafe_weight=1.0, cost=replace(model.cost, kind="normal", out_scale=0.0))
    critic = replace(critic, optimiser=OptimiserConfig(3e-4, eps=1e-5))
    # A policy under a budget finds whatever the model does not know of costs: it imagines less far, and its critics
    # learn from what really came, too.
    safe = agent.startswith(("safedreamer", "lambda"))
    horizon, starts, replay_loss = (5, 128, 0.3) if safe else (12, 64, 0.0)
    uncertainty, limit, model_optimiser = None, 2.0, OptimiserConfig(3e-3, clip=1000.0)
    if agent.startswith("lambda"):
        limit, starts = 25.0, 32
        # Five raw steps a decision. The same noise for all models: a CPU's few start states would otherwise be valued
        # by the luckiest of N samples rather than by the best of N models.
        model = replace(model, cost=replace(model.cost, kind="bernoulli", bernoulli_scale=5.0), unsafe_weight=3.0)
        uncertainty = UncertaintyConfig(SWAG(warm=10), common_noise=True)
        model_optimiser = OptimiserConfig(4e-4, clip=1000.0, cycle=400, cycle_peak=4.0)
    # SafeDreamer's planners have BSRP-Lag's actor and critics: half of the few plans that a CPU has time for are the
    # actor's, and what lies beyond a short horizon is valued under a policy that minds costs.
    search = CrossEntropy(
        horizon=6, plans=64, elites=8, iterations=3, proposals=0.5, init_std=0.5, keep_mean=True, execute="best"
    )
    # The price starts a little above the actor's own exchange rate of cost for reward after a BSRP-Lag run.
    price = PIDLagrangian(0.0, 0.01, 0.0, maximum=5.0, integral_init=1.5, cost_smoothing=0.9)
    plans = agent.startswith("safedreamer-osrp")
    agent_config = DreamerConfig(
        model,
        actor,
        critic,
        _unbiased(critic),
        model_optimiser=model_optimiser,
        actor_optimiser=OptimiserConfig(2e-4, eps=1e-5),
        # A price of half the usual cost buys safety without return; what the budget takes beyond is found in the run.
        constraint=AugmentedLagrangian(multiplier_init=0.3, penalty_factor_init=0.05, growth=0.0, dual_rate=1.8),
        constraint_start=2000,
        cooldown=0.2,
        averaging=0.999,
        horizon=horizon,
        imagination_starts=starts,
        replay_loss=replay_loss,
        planning=PlanningConfig(search, price, common_noise=True, start=23_700),
        uncertainty=uncertainty,
        cost_limit=limit,
        cost_discount=0.97,
        cost_estimate="episode",
        violation_source="episodes",
        violation_bound=2.0,
        margin=0.2,
    )
    return RunConfig(
        agent_name=agent,
        env=replace(env, action_repeat=5, lidar_scale="inverse", nearest_first=True),
        agent=agent_config,
        loop=LoopConfig(
            steps=460_000 if plans else 400_000,
            num_envs=4,
            prefill=1000,
            updates_per_decision=0.3,
            # XLA's CPU backend computes convolutions about ten times more slowly inside a loop of several updates.
            updates_per_dispatch=1 if vision else 4,
            decisions_per_iteration=40,
            batch_length=32,
            replay_capacity=500_000,
            log_every=2000,
        ),
    )


def _debug(agent: AgentName, env: EnvConfig, vision: bool) -> RunConfig:
    """Tiny sizes: compiles and runs in seconds."""
    model, actor, critic = sizes(8, 8, 4, 4, bins=11, cnn_depth=2)
    if agent.startswith("lambda"):
        model, actor, critic = sizes(8, 8, 4, 1, bins=11, cnn_depth=2, latent="gaussian")
        model = replace(model, cost=replace(model.cost, kind="bernoulli"), free_nats_of="mean")
    search = CrossEntropy(horizon=3, plans=8, elites=2, iterations=2, proposals=0.25)
    posterior = SWAG(samples=2, burn_in=2, period=2, deviations=3, warm=3)
    return RunConfig(
        agent_name=agent,
        env=env,
        agent=DreamerConfig(
            model,
            actor,
            critic,
            critic,
            constraint=AugmentedLagrangian() if agent in _CONSTRAINED else Unconstrained(),
            horizon=3,
            imagination_starts=4,
            cooldown=0.2,
            averaging=0.9,
            planning=PlanningConfig(search, PIDLagrangian()),
            uncertainty=UncertaintyConfig(posterior) if agent.startswith("lambda") else None,
        ),
        loop=LoopConfig(
            steps=400,
            num_envs=2,
            prefill=40,
            updates_per_dispatch=2,
            decisions_per_iteration=8,
            batch_size=2,
            batch_length=8,
            replay_capacity=1000,
            log_every=50,
            evaluate_every=200,
            evaluate_episodes=1,
            checkpoint_every=100,
        ),
    )
