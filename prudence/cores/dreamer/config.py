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
from prudence.cores.dreamer.uncertainty import UncertaintyConfig
from prudence.critics import Critic, CriticConfig
from prudence.models.base import AbstractWorldModel
from prudence.models.config import PrivilegedConfig, WorldModelConfig
from prudence.models.rssm import LatentState
from prudence.ops.normalise import PercentileScale
from prudence.optim import Averaged, Optimised, OptimiserConfig
from prudence.ranges import Count, Few, NonNegative, Positive, Share, ShareBelowOne
from prudence.types import Spaces


@dataclass(frozen=True)
class DreamerConfig:
    """Sizes and choices of a Dreamer-like agent. Defaults follow SafeDreamer (2023 DreamerV3 base).

    Attributes:
        horizon: H, imagined steps.
        imagination_starts: posterior states from which to imagine, drawn at random from the batch;
            None takes all.
        discount: γ of rewards; 1 − 1/333 in the papers.
        lambda_: λ of both returns.
        entropy: weight of the policy's entropy.
        gradient: ``pathwise`` (through the dynamics), ``reinforce``, or ``auto``: pathwise for
            continuous and reinforce for discrete actions (DreamerV3, 2023 release).
        normalise_returns: divides the actor's returns by their running range; LAMBDA does not.
        return_scale_floor: smallest divisor of returns.
        budget: what episodes may cost, and how a violation is measured.
        replay_loss: weight of the critics' loss on replayed states beside that on imagined ones (current DreamerV3:
            .3; 2023 release and SafeDreamer: 0). Their targets hold real rewards and costs, bootstrapped from the
            critic; unlike DreamerV3's, their gradient stops at the world model.
        privileged: a second world model, of what only training sees, for critics and heads (AsymDreamer; then
            ``world_model`` is that of the other observations); None has one model of what acting sees.
        planning: how to plan what to do; None acts by the policy. A planner needs continuous actions and a time limit.
        uncertainty: what is believed about the model, and which of the trajectories under several of its samples count
            (LAMBDA); None imagines under the present weights alone.
        cooldown: last share of a run over which all learning rates fall linearly to 0, so that it ends near the middle
            of where it has been moving; 0 (the papers) keeps them.
        averaging: per gradient step, what stays of the exponential average of the actor's weights (of a planner, also
            of the model's and the critics') that acts in evaluation and is exported: not the last of many noisy steps.
            None (the papers) takes the present weights.
        evaluation: which actions of the policy are evaluated. ``mode``, or ``sample`` as SafeDreamer's released code
            does under a budget: the stochastic policy is the one whose cost was constrained, and its mode can cost
            far more (it may come to rest in a hazard that a sample drifts out of).
        compute_dtype: type of activations; parameters are always float32.
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
    cooldown: Share = 0.0
    averaging: ShareBelowOne | None = None
    evaluation: Literal["mode", "sample"] = "mode"
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def constrained(self) -> bool:
        return not isinstance(self.constraint, Unconstrained)

    @property
    def values_costs(self) -> bool:
        """Whether anything asks for a critic of costs."""
        return self.constrained or self.planning is not None


class DreamerState(eqx.Module):
    """Everything that training changes."""

    world_model: Optimised[AbstractWorldModel]
    posterior: Any
    actor: Optimised[Actor]
    critic: Critic
    cost_critic: Critic | None
    return_scale: PercentileScale
    constraint: Any
    price: Any
    lived: LivedCosts
    average: tuple[Averaged[Any], ...] | None
    step: Int[Array, ""]


class DreamerCarry(NamedTuple):
    """What acting remembers, for E environments; ``plan`` is the last one, if the agent plans."""

    latent: LatentState
    prev_action: Float[Array, "E A"]
    plan: Float[Array, "E H A"] | None


def check(config: DreamerConfig, spaces: Spaces) -> None:
    """Raises ValueError where the configuration does not suit the spaces, or itself."""
    config.budget.check(spaces, constrained=config.constrained)
    if not 0 <= config.cooldown <= 1:
        raise ValueError(f"cooldown={config.cooldown} is a share of the run: choose a number from 0 to 1")
    if config.averaging is not None and not 0 <= config.averaging < 1:
        raise ValueError(
            f"averaging={config.averaging} is what stays of an average at each step: choose a number from 0 to below 1 "
            "(.999 averages over the last thousand steps or so), or None"
        )
    hidden = sorted(set(config.world_model.encoder_keys or ()) & set(spaces.privileged))
    if hidden:
        raise ValueError(
            f"world_model.encoder_keys names {', '.join(hidden)}, which is privileged: this agent acts on what it "
            "encodes, and the robot will not have it. Leave it out, or do not declare it privileged "
            "(EnvConfig.privileged)"
        )
    if config.privileged is not None:
        _check_privileged(config, spaces)
    if config.planning is not None:
        _check_planning(config, spaces, config.planning)


def _check_privileged(config: DreamerConfig, spaces: Spaces) -> None:
    if not spaces.privileged:
        raise ValueError(
            "this agent learns from privileged observations, and the environment declares none: train with "
            "`--env.privileged paper` on a task of the AsymDreamer paper's, or name those of your environment "
            "(EnvConfig.privileged); asymdreamer-o needs none"
        )
    if config.planning is not None or config.uncertainty is not None:
        raise ValueError(
            "an agent with a privileged world model has neither planning nor uncertainty: a plan would need "
            "privileged observations where it acts, and a posterior is over one world model"
        )


def _check_planning(config: DreamerConfig, spaces: Spaces, planning: PlanningConfig) -> None:
    if spaces.action.kind == "discrete":
        raise ValueError("the planner searches continuous actions, and the environment's are discrete")
    if spaces.episode_steps is None:
        raise ValueError(
            "a planner holds a plan's cost against an episode's budget, but the environment has no time limit: set "
            "one (EnvConfig.time_limit)"
        )
    uncertainty = config.uncertainty
    if uncertainty is not None and planning.futures != uncertainty.posterior.samples:
        raise ValueError(
            f"each future of a plan is imagined by a model of its own: planning.futures={planning.futures} must "
            f"be the posterior's samples={uncertainty.posterior.samples}"
        )
    if planning.costs == "observation" and spaces.cost_function is None:
        raise ValueError(
            "planning.costs='observation' needs a cost function, and the environment supplies none: give it an "
            "attribute cost_function = 'module:function' (Safety-Gymnasium's tasks have one for the observation "
            "'coordinates', where hazards are the only cost), or choose planning.costs='head'"
        )
