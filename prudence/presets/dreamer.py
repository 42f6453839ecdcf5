"""Presets of the Dreamer core's systems (:mod:`prudence.presets` describes them).

A preset builds a configuration with the parts of all systems. ``System.compose`` then adapts it to one system.
"""

from __future__ import annotations

from dataclasses import replace

from prudence.budgets import Budget, Lived
from prudence.constraints import AugmentedLagrangian, PIDLagrangian
from prudence.cores.dreamer.config import DreamerConfig
from prudence.cores.dreamer.planning import PlanningConfig
from prudence.cores.dreamer.sizes import privileged_half, sizes
from prudence.cores.dreamer.uncertainty import UncertaintyConfig
from prudence.cores.system import System
from prudence.critics import CriticConfig
from prudence.envs.base import EnvConfig
from prudence.envs.registry import shows_pictures, where_offered
from prudence.loops import ReplayLoop
from prudence.models.config import PrivilegedConfig
from prudence.models.pictures import Patches
from prudence.models.swag import SWAG
from prudence.optim import OptimiserConfig
from prudence.planners import CrossEntropy
from prudence.presets.environments import easy

Choices = tuple[EnvConfig, DreamerConfig, ReplayLoop]


def with_action_repeat(agent: DreamerConfig, factor: float) -> DreamerConfig:
    """The configuration for decisions that last ``factor`` times as long.

    A Bernoulli head predicts a cost of at most 1 per raw step. So its scale for a decision grows with ``factor``.
    """
    cost = agent.world_model.cost
    if cost.kind != "bernoulli":
        return agent
    cost = replace(cost, bernoulli_scale=cost.bernoulli_scale * factor)
    return replace(agent, world_model=replace(agent.world_model, cost=cost))


def _paper(system: System[DreamerConfig], env: EnvConfig) -> Choices:
    published = system.published(shows_pictures(env))
    assert isinstance(published.loop, ReplayLoop)
    env = where_offered(replace(env, action_repeat=published.action_repeat), cameras=published.cameras)
    return env, system.compose(published.agent), published.loop


def _comparison(system: System[DreamerConfig], env: EnvConfig) -> Choices:
    """The papers' sizes with the protocol of SafeDreamer's comparison: an action repeat of 4 and a budget of 2."""
    env, agent, loop = _paper(system, env)
    factor = 4 / env.action_repeat
    loop = replace(loop, steps=2_000_000)
    if system.published(False).counts_raw_steps:
        loop = replace(
            loop, prefill=round(loop.prefill / factor), updates_per_decision=loop.updates_per_decision * factor
        )
    agent = replace(with_action_repeat(agent, factor), budget=replace(agent.budget, limit=2.0))
    return replace(env, action_repeat=4), agent, loop


def _gpu(system: System[DreamerConfig], env: EnvConfig) -> Choices:
    """The papers' sizes and update ratio in bfloat16, with eight environments and eight updates per dispatch.

    The cost critic is unbiased (:func:`_unbiased`).
    """
    env, agent, loop = _paper(system, env)
    agent = replace(agent, cost_critic=_unbiased(agent.cost_critic), compute_dtype="bfloat16")
    loop = replace(loop, num_envs=8, workers=8, updates_per_dispatch=8, decisions_per_iteration=16, log_every=4000)
    return env, agent, loop


def _unbiased(critic: CriticConfig) -> CriticConfig:
    """A critic that learns the mean of its targets.

    The papers' two-hot critic in symlog space predicts a value several times too low if costs are rare
    (docs/studies/cost-critic.md).
    """
    return replace(critic, head=replace(critic.head, kind="normal"))


def _cpu(system: System[DreamerConfig], env: EnvConfig) -> Choices:
    """For two cores: minutes from vectors, an hour or more from pictures. docs/algorithms/safedreamer.md explains the
    choices."""
    pictures = shows_pictures(env)
    model, actor, critic = sizes(128, 128, 32, 1, bins=63, latent="gaussian", cnn_depth=8)
    # The privileged vector is short, so its model has half the size of the other one.
    privileged = PrivilegedConfig(replace(model.rssm, deter=64, units=64, stoch=16), mlp_units=64)
    if pictures:
        # With Gaussian latents the KL is 49 nats a step, and the policy learns three times as slowly.
        rssm, scales = replace(model.rssm, latent="discrete", stoch=16, classes=16), replace(model.scales, image=0.3)
        model = replace(model, rssm=rssm, scales=scales, patches=Patches())
    # This head predicts the right mean even if costs are rare, so unsafe steps need no extra weight.
    cost = replace(model.cost, kind="normal", out_scale=0.0)
    model = replace(model, vector_std=0.1, precise_std=0.01, unsafe_weight=1.0, cost=cost)
    critic = replace(critic, optimiser=OptimiserConfig(3e-4, eps=1e-5))
    # A policy under a budget exploits errors of the model's costs. So it imagines fewer steps, and its critics also
    # learn from real rewards and costs.
    horizon, starts, replay_loss = (5, 128, 0.3) if system.needs.budget else (12, 64, 0.0)
    limit, model_optimiser = 2.0, OptimiserConfig(3e-3, clip=1000.0)
    if system.needs.posterior:
        limit, starts = 25.0, 32
        # A decision has five raw steps.
        model = replace(model, cost=replace(model.cost, kind="bernoulli", bernoulli_scale=5.0), unsafe_weight=3.0)
        model_optimiser = OptimiserConfig(4e-4, clip=1000.0, cycle=400, cycle_peak=4.0)
    # Of plans with independent noise, hardly one brakes for three decisions (docs/studies/budgets.md).
    search = CrossEntropy(
        horizon=6, plans=64, elites=8, iterations=3, proposals=0.5, correlation=0.9, keep_mean=True, execute="mean"
    )
    # The price starts a little above the actor's own exchange rate of cost for reward after a BSRP-Lag run.
    price = PIDLagrangian(0.0, 0.01, 0.0, maximum=5.0, integral_init=1.5, cost_smoothing=0.9)
    # A high initial multiplier gives safety without return. So it starts low, and the run finds what the budget needs.
    constraint = AugmentedLagrangian(multiplier_init=0.3, penalty_factor_init=0.05, growth=0.0, dual_rate=0.65)
    agent = DreamerConfig(
        model,
        actor,
        critic,
        _unbiased(critic),
        model_optimiser=model_optimiser,
        actor_optimiser=OptimiserConfig(2e-4, eps=1e-5),
        constraint=constraint,
        entropy=1e-4 if system.needs.budget else 3e-4,
        cooldown=0.2,
        averaging=0.999,
        horizon=horizon,
        imagination_starts=starts,
        replay_loss=replay_loss,
        planning=PlanningConfig(search, price, common_noise=True, start=8700),
        # All models have the same noise. Otherwise the few start states of a CPU would be valued by the luckiest of N
        # samples, not by the best of N models.
        uncertainty=UncertaintyConfig(SWAG(warm=10), common_noise=True),
        privileged=privileged,
        budget=Budget(limit, discount=0.97, margin=0.2, start=2000, violation=Lived(bound=2.0)),
    )
    agent = system.compose(agent)
    plans_late = agent.planning is not None and agent.planning.start > 0
    if agent.planning is not None and plans_late:
        # Of many plans, some are safe in one future by luck.
        planning = replace(agent.planning, futures=4, search=replace(agent.planning.search, plans=32, elites=6))
        # The actor has to keep the budget, too: it acts until the planner starts, it proposes half of the few plans
        # that a CPU has time for, and the critics evaluate its policy after the short horizon.
        # A planner costs more than the actor that it improves on.
        budget = replace(agent.budget, margin=0.5)
        # Its price rises twice as fast, so that it is near its last value when the planner starts.
        agent = replace(agent, planning=planning, constraint=replace(constraint, dual_rate=1.3), budget=budget)
    loop = ReplayLoop(
        steps=300_000 if plans_late else 400_000,
        num_envs=4,
        prefill=1000,
        updates_per_decision=0.5 if pictures else 0.3,
        updates_per_dispatch=4,
        decisions_per_iteration=40,
        batch_length=16 if pictures else 32,
        replay_capacity=100_000 if pictures else 500_000,
        log_every=2000,
    )
    env = easy(env, cameras=system.published(pictures).cameras)
    return env, agent, loop


def _debug(system: System[DreamerConfig], env: EnvConfig) -> Choices:
    """Tiny sizes, which compile and run in seconds."""
    pictures = shows_pictures(env)
    patches = Patches(units=2) if pictures else None
    latent, classes = ("gaussian", 1) if system.needs.posterior else ("discrete", 4)
    model, actor, critic = sizes(
        8, 8, 4, classes, mlp_layers=1, head_layers=1, bins=11, cnn_depth=2, patches=patches, latent=latent
    )
    if system.needs.posterior:
        model = replace(model, cost=replace(model.cost, kind="bernoulli"), free_nats_of="mean")
    search = CrossEntropy(horizon=3, plans=8, elites=2, iterations=2, proposals=0.25)
    agent = DreamerConfig(
        model,
        actor,
        critic,
        critic,
        constraint=AugmentedLagrangian(),
        horizon=3,
        imagination_starts=4,
        cooldown=0.2,
        averaging=0.9,
        planning=PlanningConfig(search, PIDLagrangian()),
        uncertainty=UncertaintyConfig(SWAG(samples=2, burn_in=2, period=2, deviations=3, warm=3)),
        privileged=privileged_half(model),
    )
    loop = ReplayLoop(
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
    )
    env = where_offered(env, cameras=system.published(pictures).cameras)
    return env, system.compose(agent), loop


PRESETS = {"debug": _debug, "cpu": _cpu, "paper": _paper, "gpu": _gpu, "comparison": _comparison}
