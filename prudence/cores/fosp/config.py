"""The configuration and the state of the FOSP core (prudence/cores/fosp/fosp.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, Int

from prudence.actors import Actor, ActorConfig
from prudence.budgets import Budget, Imagined, LivedCosts
from prudence.constraints import AugmentedLagrangian, Unconstrained
from prudence.cores.fosp.critics import Values, ValuesConfig
from prudence.cores.fosp.feasibility import Feasibility, FeasibilityConfig
from prudence.models.base import AbstractWorldModel
from prudence.models.config import WorldModelConfig
from prudence.models.rssm import LatentState
from prudence.optim import Averaged, Optimised, OptimiserConfig
from prudence.ranges import Count, Few, NonNegative, Share, ShareBelowOne, between
from prudence.types import Spaces

Bound = Annotated[float, between(1, 1_000_000)]


@dataclass(frozen=True)
class RegressionConfig:
    """The weights with which recorded actions are imitated (:func:`prudence.ops.offline.regression_weights`).

    Attributes:
        temperature, cost_temperature: β1 and β2, inverse temperatures of the advantages of rewards and of costs.
        clip, cost_clip: bounds of the two weights.
        unit: what advantages are divided by. ``range``: the running range of returns, and of costs (FOSP).
            ``deviation``: their own standard deviation in the batch, so that β is the same in every task.
        cost_share: ω, what a cost advantage of 1 takes from a reward advantage in feasible states (FOSP: 0).
        safe_action: f, the feasibility of an action in a feasible state. ``none``: 1 (FOSP eq. 19). ``next``: the
            feasibility of the recorded next state. ``critic``: 1 if Q^c is within the budget, else 0 (FISOR, and FOSP's
            released code).
    """

    temperature: NonNegative = 10.0
    cost_temperature: NonNegative = 10.0
    clip: Bound = 100.0
    cost_clip: Bound = 150.0
    unit: Literal["range", "deviation"] = "range"
    cost_share: NonNegative = 0.0
    safe_action: Literal["none", "next", "critic"] = "none"


@dataclass(frozen=True)
class ExpansionConfig:
    """Policy expansion: the policy of the offline phase and a new one propose actions, and one of them is taken.

    Attributes:
        inverse_temperature: α of the choice (:func:`prudence.ops.offline.expansion_probabilities`).
        cost_share: ω, the weight of cost values in a proposal's score.
        policy: whether the new policy begins ``fresh`` (FOSP Algorithm 1), or as a ``copy`` of the offline one.
        evaluation: whether evaluation takes the ``best`` proposal, or draws a ``sample`` as training does.
    """

    inverse_temperature: NonNegative = 10.0
    cost_share: NonNegative = 1.0
    policy: Literal["fresh", "copy"] = "fresh"
    evaluation: Literal["best", "sample"] = "best"


@dataclass(frozen=True)
class FineTuningConfig:
    """How the policy improves with experience of its own (FOSP eq. 23): by imagined advantages, not by imitation.

    Attributes:
        temperature, cost_temperature: β1 and β2, the weights of advantages of rewards in feasible states, and of costs
            elsewhere. They only weigh both against entropy and the penalty on costs.
        expansion: policy expansion. None trains the policy of the offline phase further.
    """

    temperature: NonNegative = 10.0
    cost_temperature: NonNegative = 10.0
    expansion: ExpansionConfig | None = None


@dataclass(frozen=True)
class FospConfig:
    """The configuration of FOSP, offline and online. Defaults follow the paper.

    Attributes:
        world_model, actor, values: networks and losses of the parts.
        model_optimiser, actor_optimiser: optimisers of the world model and of the actor.
        regression: the weights of recorded actions. None gives every action the weight 1: behaviour cloning, without
            critics and without imagination.
        fine_tuning: how the policy improves in an environment. None learns from recorded actions, as ``regression``
            says.
        feasibility: how the feasibility u of states is estimated. None takes every state as feasible.
        constraint: the penalty on imagined costs, in addition to the weights (FOSP eq. 20).
        budget: what episodes may cost. Without ``fine_tuning`` violations are imagined, because data has no episodes of
            the policy.
        horizon: H, the number of imagined steps.
        imagination_starts: number of posterior states from which trajectories are imagined. None takes all.
        discount: γ of rewards.
        lambda_: λ of the λ-returns of rewards and of costs.
        entropy: weight of the policy's entropy.
        cooldown, averaging: as :class:`prudence.cores.dreamer.config.DreamerConfig`.
        evaluation: whether evaluation takes the policy's ``mode`` or a ``sample``.
        compute_dtype: type of activations. Parameters are always float32.
    """

    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    values: ValuesConfig = field(default_factory=ValuesConfig)
    model_optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(1e-4, clip=1000.0))
    actor_optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(3e-5, eps=1e-5))
    regression: RegressionConfig | None = field(default_factory=RegressionConfig)
    fine_tuning: FineTuningConfig | None = None
    feasibility: FeasibilityConfig | None = field(default_factory=FeasibilityConfig)
    constraint: AugmentedLagrangian | Unconstrained = field(default_factory=AugmentedLagrangian)
    budget: Budget = field(default_factory=lambda: Budget(violation=Imagined("episode")))
    horizon: Few = 15
    imagination_starts: Count | None = None
    discount: Share = 1 - 1 / 333
    lambda_: Share = 0.95
    entropy: NonNegative = 3e-4
    cooldown: Share = 0.0
    averaging: ShareBelowOne | None = None
    evaluation: Literal["mode", "sample"] = "mode"
    compute_dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def expansion(self) -> ExpansionConfig | None:
        """Policy expansion, if there is one."""
        return None if self.fine_tuning is None else self.fine_tuning.expansion

    @property
    def constrained(self) -> bool:
        """Whether the actor has a penalty on imagined costs."""
        return not isinstance(self.constraint, Unconstrained)


class FospState(eqx.Module):
    """The state of the agent: everything that training changes. ``step`` is the number of gradient steps.

    Attributes:
        values: values of rewards and of costs. None for behaviour cloning.
        feasibility: the estimate of feasibility; None without one.
        prior: π_0, the policy of the offline phase, which proposes actions; None without policy expansion.
    """

    world_model: Optimised[AbstractWorldModel]
    actor: Optimised[Actor]
    values: Values | None
    feasibility: Feasibility | None
    constraint: Any
    lived: LivedCosts
    average: Averaged[Actor] | None
    prior: Actor | None
    step: Int[Array, ""]


class FospCarry(NamedTuple):
    """What ``act`` remembers for E environments."""

    latent: LatentState
    prev_action: Float[Array, "E A"]


def check(config: FospConfig, spaces: Spaces) -> None:
    """Checks that the configuration is consistent and suits the spaces.

    Raises:
        ValueError: it does not.
    """
    config.budget.check(spaces, constrained=config.constrained)
    if config.constrained and config.fine_tuning is None and not isinstance(config.budget.violation, Imagined):
        raise ValueError(
            "this agent learns from recorded actions, so no episodes of its policy measure its costs: give it "
            "budget.violation=Imagined('episode')"
        )
    if config.feasibility is not None:
        config.feasibility.check()
    if config.regression is None:
        if config.fine_tuning is not None:
            raise ValueError("behaviour cloning learns from recorded actions only: leave fine_tuning out")
        if config.constrained or config.feasibility is not None:
            raise ValueError(
                "regression=None is behaviour cloning, which imagines nothing and values nothing: give it "
                "constraint=Unconstrained() and feasibility=None"
            )
        return
    if config.regression.safe_action == "next" and config.feasibility is None:
        raise ValueError(
            "safe_action='next' is the feasibility of the next state: give a feasibility, or choose 'none'"
        )
    if config.regression.safe_action == "critic" and spaces.episode_steps is None:
        raise ValueError(
            "safe_action='critic' compares Q^c with the budget of an episode, but the environment has no time limit: "
            "choose 'next', or set one (EnvConfig.time_limit)"
        )
