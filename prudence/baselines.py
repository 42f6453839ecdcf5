"""Named configurations of the model-free baselines, which learn on-policy.

``debug`` runs in seconds and learns nothing; ``suite`` is Safety-Gymnasium's customary protocol (budget 25, 1e7 steps,
20,000 an iteration; the constants are OmniSafe's); ``paper`` that of the world-model papers (budget 2, networks of
4x512); ``cpu`` the suite's in 1e6 steps, with smaller rollouts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from prudence.agents.cpo import cpo
from prudence.agents.focops import focops
from prudence.agents.on_policy import OnPolicy, OnPolicyConfig, ValueConfig
from prudence.agents.ppo import ppo, ppo_lag, ppo_reward_shaping
from prudence.agents.saute import saute_ppo, saute_trpo
from prudence.agents.trpo import trpo_lag
from prudence.constraints import CostPenalty, DualAscent, PIDLagrangian, Saute, Unconstrained
from prudence.envs.base import EnvConfig
from prudence.improvement import ConstrainedTrustRegion, FirstOrder, PenalisedDivergence, TrustRegion
from prudence.optim import OptimiserConfig
from prudence.schedule import Schedule
from prudence.types import Spaces


@dataclass(frozen=True)
class OnPolicyLoopConfig(Schedule):
    """How experience and updates alternate: an iteration is one rollout of all environments and one update on it."""

    steps: int = 10_000_000
    num_envs: int = 8
    workers: int = 1
    decisions_per_iteration: int = 20_000
    log_every: int = 1
    evaluate_every: int = 500_000
    checkpoint_every: int = 100_000

    def run_updates(self, raw_steps: int) -> int:
        return max(1, self.steps // (self.decisions_per_iteration * raw_steps))


@dataclass(frozen=True)
class Baseline:
    """A model-free agent: what makes it, what it is, and the choices that are its own."""

    make: Callable[[Spaces, OnPolicyConfig], OnPolicy]
    summary: str
    config: OnPolicyConfig


_SECOND_ORDER = ValueConfig(optimiser=OptimiserConfig(1e-3, clip=40.0), batch_size=128)
# Episodes move it, of which there are twenty in an iteration of the suite's protocol.
_PID = PIDLagrangian(0.1, 5e-4, 0.01, maximum=100.0, smoothing=0.95, cost_smoothing=0.95, delay=20)

BASELINES: dict[str, Baseline] = {
    "ppo": Baseline(ppo, "proximal policy optimisation: minds no costs", OnPolicyConfig()),
    "ppo-reward-shaping": Baseline(
        ppo_reward_shaping, "PPO with costs subtracted from rewards", OnPolicyConfig(constraint=CostPenalty())
    ),
    "ppo-lag": Baseline(ppo_lag, "PPO with a price on cost, by dual ascent", OnPolicyConfig(constraint=DualAscent())),
    "ppo-pid": Baseline(ppo_lag, "PPO with a price on cost, by a PID controller", OnPolicyConfig(constraint=_PID)),
    "trpo-lag": Baseline(
        trpo_lag,
        "trust-region policy optimisation with a price on cost, by dual ascent",
        OnPolicyConfig(TrustRegion(), DualAscent(), critic=_SECOND_ORDER),
    ),
    "trpo-pid": Baseline(
        trpo_lag, "the same, by a PID controller", OnPolicyConfig(TrustRegion(), _PID, critic=_SECOND_ORDER)
    ),
    "cpo": Baseline(
        cpo,
        "constrained policy optimisation: the trust-region step keeps the budget itself",
        OnPolicyConfig(ConstrainedTrustRegion(), Unconstrained(), critic=_SECOND_ORDER),
    ),
    "focops": Baseline(
        focops,
        "first-order constrained optimisation in policy space",
        OnPolicyConfig(PenalisedDivergence(), DualAscent(maximum=2.0)),
    ),
    "saute-ppo": Baseline(
        saute_ppo,
        "PPO that sees what is left of its budget, and earns nothing beyond",
        OnPolicyConfig(constraint=Saute()),
    ),
    "saute-trpo": Baseline(
        saute_trpo, "the same with TRPO", OnPolicyConfig(TrustRegion(), Saute(), critic=_SECOND_ORDER)
    ),
}


def baseline(preset: str, agent: str, env: EnvConfig) -> tuple[EnvConfig, OnPolicyConfig, OnPolicyLoopConfig]:
    """The configuration ``preset`` of an agent: its environment, itself, and its loop.

    Raises:
        ValueError: there is no such preset of these agents.
    """
    presets = {"debug": _debug, "cpu": _cpu, "paper": _paper, "suite": _suite}
    if preset not in presets:
        raise ValueError(f"{agent} has no preset '{preset}': choose from {', '.join(presets)}")
    config = BASELINES[agent].config
    config, loop = presets[preset](config)
    # Sautéed agents look at what an episode has cost so far.
    env = replace(env, spent=True) if isinstance(config.constraint, Saute) else env
    return env, config, loop


def _suite(config: OnPolicyConfig) -> tuple[OnPolicyConfig, OnPolicyLoopConfig]:
    return config, OnPolicyLoopConfig()


def _paper(config: OnPolicyConfig) -> tuple[OnPolicyConfig, OnPolicyLoopConfig]:
    actor = replace(config.actor, layers=4, units=512)
    critic = replace(config.critic, layers=4, units=512)
    return replace(config, actor=actor, critic=critic, cost_limit=2.0), OnPolicyLoopConfig()


def _cpu(config: OnPolicyConfig) -> tuple[OnPolicyConfig, OnPolicyLoopConfig]:
    loop = OnPolicyLoopConfig(steps=1_000_000, decisions_per_iteration=8_000, evaluate_every=250_000)
    # Rollouts as small as these promise what is noise, the more so the more costs are priced.
    improvement, priced = config.improvement, isinstance(config.constraint, DualAscent | PIDLagrangian)
    if isinstance(improvement, ConstrainedTrustRegion):
        config = replace(config, improvement=replace(improvement, discount_promises=True))
    if isinstance(improvement, FirstOrder) and priced:  # They would go farther along it than a trust region does.
        # FOCOPS's loss holds back by itself; its λ ≤ 2 is that of an advantage not divided by 1 + λ.
        holds_back = isinstance(improvement, PenalisedDivergence)
        config = replace(
            config,
            improvement=replace(improvement, passes=10, batch_size=256, kl_limit=0.005 if holds_back else 0.002),
            constraint=replace(config.constraint, maximum=10.0) if holds_back else config.constraint,
            actor_optimiser=replace(config.actor_optimiser, learning_rate=1e-4),
        )
    return config, loop


def _debug(config: OnPolicyConfig) -> tuple[OnPolicyConfig, OnPolicyLoopConfig]:
    actor, critic = replace(config.actor, units=8), replace(config.critic, units=8, passes=2, batch_size=16)
    improvement = config.improvement
    if isinstance(improvement, FirstOrder):
        improvement = replace(improvement, passes=2, batch_size=16)
    config = replace(config, improvement=improvement, actor=actor, critic=critic, cnn_depth=2)
    loop = OnPolicyLoopConfig(
        steps=400,
        num_envs=2,
        workers=0,
        decisions_per_iteration=40,
        evaluate_every=200,
        evaluate_episodes=1,
        checkpoint_every=80,
    )
    return config, loop
