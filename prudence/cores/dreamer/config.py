"""The configuration and the state of the Dreamer core (prudence/cores/dreamer/dreamer.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, Int

from prudence.actors import Actor, ActorConfig
from prudence.budgets import Budget, LivedCosts
from prudence.constraints import AugmentedLagrangian, Unconstrained
from prudence.cores.dreamer.planning import PlanningConfig
from prudence.cores.dreamer.recovery import Recovery, RecoveryConfig
from prudence.cores.dreamer.uncertainty import DisagreementConfig, UncertaintyConfig
from prudence.cores.imagined_episodes import ImaginedEpisodes
from prudence.critics import Critic, CriticConfig
from prudence.models.base import AbstractWorldModel
from prudence.models.config import PrivilegedConfig, WorldModelConfig
from prudence.models.rssm import LatentState
from prudence.models.world_model import Predictor
from prudence.ops.normalise import PercentileScale
from prudence.optim import Averaged, Optimised, OptimiserConfig
from prudence.ranges import Count, Few, NonNegative, Positive, Share, ShareBelowOne
from prudence.types import Spaces


@dataclass(frozen=True)
class DreamerConfig:
    """The configuration of a Dreamer-like agent. Defaults follow SafeDreamer (2023 DreamerV3 base).

    Attributes:
        world_model, actor, critic, cost_critic: networks and losses of the parts.
        model_optimiser, actor_optimiser: optimisers of the world model and of the actor.
        constraint: how costs enter the actor's objective.
        horizon: H, the number of imagined steps.
        imagination_starts: number of posterior states from which trajectories are imagined, drawn at random from the
            batch. None takes all.
        discount: γ of rewards; 1 − 1/333 in the papers.
        lambda_: λ of the λ-returns of rewards and of costs.
        entropy: weight of the policy's entropy.
        gradient: ``pathwise`` (through the dynamics), ``reinforce``, or ``auto``. ``auto`` is pathwise for continuous
            and reinforce for discrete actions (DreamerV3, 2023 release).
        normalise_returns: divides the actor's returns by their running range. LAMBDA does not.
        return_scale_floor: smallest divisor of returns.
        budget: what episodes may cost, and how a violation is measured.
        replay_loss: weight of the critics' loss on replayed states, in addition to the loss on imagined states
            (current DreamerV3: .3; 2023 release and SafeDreamer: 0). The targets contain real rewards and costs, and
            bootstrap from the critic. Unlike in DreamerV3, the gradient stops at the world model.
        privileged: a second world model, of the observations that only training uses, for critics and heads
            (AsymDreamer). ``world_model`` is then the model of the other observations. None uses one model, of the
            observations that the policy sees.
        planning: how the agent plans. None acts with the policy. A planner needs continuous actions and a time limit.
        uncertainty: the posterior over models, and which of the trajectories under its samples count (LAMBDA). None
            imagines only with the current weights.
        disagreement: a penalty on imagined rewards where an ensemble disagrees, for learning from a fixed data set.
            None has no penalty.
        recovery: the risk of actions, and the plans that act where the policy's action is too risky (Recovery RL). It
            needs continuous actions. None always takes the policy's action.
        cooldown: share of the run at its end in which all learning rates fall linearly to 0. The weights then end near
            the middle of the region in which they moved. 0 (the papers) keeps the learning rates constant.
        averaging: share that an exponential average of weights keeps at each gradient step. The average has the actor's
            weights and, for a planner, also the model's and the critics'. It is less noisy than the weights after the
            last step. It acts in evaluation and is exported. None (the papers) uses the current weights.
        evaluation: which of the policy's actions are evaluated: ``mode``, or ``sample`` as in SafeDreamer's released
            code with a budget. The constraint holds for the stochastic policy, and its mode can cost far more. For
            example, the mode may stop in a hazard, while samples drift out of it.
        compute_dtype: type of activations. Parameters are always float32.
    """

    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    cost_critic: CriticConfig = field(default_factory=CriticConfig)
    model_optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(1e-4, clip=1000.0))
    actor_optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(3e-5, eps=1e-5))
    constraint: AugmentedLagrangian | Unconstrained = field(default_factory=Unconstrained)
    horizon: Few = 15
    imagination_starts: Count | None = None
    discount: Share = 1 - 1 / 333
    lambda_: Share = 0.95
    entropy: NonNegative = 3e-4
    gradient: Literal["auto", "pathwise", "reinforce"] = "auto"
    normalise_returns: bool = True
    return_scale_floor: Positive = 1.0
    budget: Budget = field(default_factory=Budget)
    replay_loss: NonNegative = 0.0
    privileged: PrivilegedConfig | None = None
    planning: PlanningConfig | None = None
    uncertainty: UncertaintyConfig | None = None
    disagreement: DisagreementConfig | None = None
    recovery: RecoveryConfig | None = None
    cooldown: Share = 0.0
    averaging: ShareBelowOne | None = None
    evaluation: Literal["mode", "sample"] = "mode"
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def constrained(self) -> bool:
        """Whether the actor has a constraint."""
        return not isinstance(self.constraint, Unconstrained)

    @property
    def measures_episodes(self) -> bool:
        """Whether imagined episodes measure what the policy costs."""
        return self.constrained and self.budget.on_policy

    @property
    def values_costs(self) -> bool:
        """Whether the agent needs a cost critic."""
        return self.constrained or self.planning is not None


class DreamerState(eqx.Module):
    """The state of the agent: everything that training changes. ``step`` is the number of gradient steps."""

    world_model: Optimised[AbstractWorldModel]
    posterior: Any
    disagreement: Optimised[Predictor] | None
    actor: Optimised[Actor]
    critic: Critic
    cost_critic: Critic | None
    recovery: Recovery | None
    return_scale: PercentileScale
    constraint: Any
    price: Any
    lived: LivedCosts
    episodes: ImaginedEpisodes | None
    average: tuple[Averaged[Any], ...] | None
    step: Int[Array, ""]


class DreamerCarry(NamedTuple):
    """What ``act`` remembers for E environments. ``plan`` is the last plan, or None if the agent does not plan."""

    latent: LatentState
    prev_action: Float[Array, "E A"]
    plan: Float[Array, "E H A"] | None


def check(config: DreamerConfig, spaces: Spaces) -> None:
    """Checks that the configuration is consistent and suits the spaces.

    Raises:
        ValueError: it does not.
    """
    config.budget.check(spaces, constrained=config.constrained)
    if not 0 <= config.cooldown <= 1:
        raise ValueError(f"cooldown={config.cooldown} is a share of the run: choose a number from 0 to 1")
    if config.averaging is not None and not 0 <= config.averaging < 1:
        raise ValueError(
            f"averaging={config.averaging} is the share that an average keeps at each step: choose a number from 0 to "
            "below 1 (.999 averages over about the last thousand steps), or None"
        )
    hidden = sorted(set(config.world_model.encoder_keys or ()) & set(spaces.privileged))
    if hidden:
        raise ValueError(
            f"world_model.encoder_keys names {', '.join(hidden)}, which is privileged: this agent acts on what it "
            "encodes, but the robot will not have this observation. Leave it out, or do not declare it privileged "
            "(EnvConfig.privileged)"
        )
    if config.privileged is not None:
        _check_privileged(config, spaces)
    if config.disagreement is not None and config.privileged is not None:
        raise ValueError(
            "an ensemble's members predict the states of one world model: leave disagreement or privileged out"
        )
    if config.planning is not None:
        _check_planning(config, spaces, config.planning)
    if config.recovery is not None:
        _check_recovery(config, spaces, config.recovery)


def _check_privileged(config: DreamerConfig, spaces: Spaces) -> None:
    if not spaces.privileged:
        raise ValueError(
            "this agent learns from privileged observations, but the environment declares none: train with "
            "`--env.privileged paper` on a task of the AsymDreamer paper, or name those of your environment "
            "(EnvConfig.privileged). asymdreamer-o needs none"
        )
    if config.planning is not None or config.uncertainty is not None:
        raise ValueError(
            "an agent with a privileged world model has neither planning nor uncertainty: a planner would need "
            "privileged observations when it acts, and a posterior is over one world model. Set both to None"
        )


def _check_planning(config: DreamerConfig, spaces: Spaces, planning: PlanningConfig) -> None:
    if spaces.action.kind == "discrete":
        raise ValueError("the planner searches continuous actions, but the environment's are discrete")
    if spaces.episode_steps is None:
        raise ValueError(
            "a planner compares a plan's cost with an episode's budget, but the environment has no time limit: set "
            "one (EnvConfig.time_limit)"
        )
    uncertainty = config.uncertainty
    if uncertainty is not None and planning.futures != uncertainty.posterior.samples:
        raise ValueError(
            f"a separate model imagines each future of a plan: planning.futures={planning.futures} must equal the "
            f"posterior's samples={uncertainty.posterior.samples}"
        )
    if planning.costs == "observation" and spaces.cost_function is None:
        raise ValueError(
            "planning.costs='observation' needs a cost function, but the environment has none: give it an "
            "attribute cost_function = 'module:function' (Safety-Gymnasium's tasks have one where hazards are the only "
            "cost, for 'coordinates', and for 'lidar' with --env.lidar-nearest), or choose planning.costs='head'"
        )


def _check_recovery(config: DreamerConfig, spaces: Spaces, recovery: RecoveryConfig) -> None:
    if spaces.action.kind == "discrete":
        raise ValueError("recovery searches continuous actions, but the environment's are discrete")
    if config.planning is not None or config.privileged is not None:
        raise ValueError(
            "recovery takes the place of a risky action of the policy, and imagines with one world model: leave "
            "planning and privileged out"
        )
    recovery.check()
