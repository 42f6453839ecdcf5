"""An on-policy agent that learns in a model: real steps fit the model, and imagined rollouts improve the policy.

An update has two parts. It fits an ensemble to all recorded steps (:mod:`prudence.models.dynamics`). Then an on-policy
agent (:class:`~prudence.cores.on_policy.on_policy.OnPolicy`) learns from rollouts of the ensemble, one after another,
as long as most members of the ensemble see its policy improve (MBPPO-Lag: Jayant and Bhatnagar 2022, algorithm 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from prudence.actors import ActorConfig
from prudence.budgets import Budget, Imagined, Lived
from prudence.constraints import DualAscent
from prudence.cores.base import Agent, Mode, compiled
from prudence.cores.on_policy.improvement import ClippedSurrogate
from prudence.cores.on_policy.on_policy import RUN_UPDATES, OnPolicy, OnPolicyConfig, OnPolicyState, ValueConfig
from prudence.models.dynamics import Dynamics, DynamicsConfig, DynamicsState, Simulator
from prudence.models.records import Records
from prudence.models.vectors import named
from prudence.optim import OptimiserConfig
from prudence.ranges import Few, Share, Size
from prudence.types import Batch, Key, Metrics, Observation, Spaces, tree_index


@dataclass(frozen=True)
class ModelBasedConfig:
    """The configuration of an on-policy agent that learns in a model. Defaults are MBPPO-Lag's, where it says them.

    Attributes:
        dynamics: the model.
        improvement, constraint, actor, critic, actor_optimiser, discount, lambda_, cost_lambda, evaluation: as in
            :class:`~prudence.cores.on_policy.on_policy.OnPolicyConfig`, for the agent that learns in the model.
        budget: what episodes may cost. Its violation is imagined: T / H times the mean cost of imagined rollouts, for
            episodes of T decisions, less the target. The paper compares the cost of a rollout with .02 d instead, since
            rollouts are shorter than episodes. With its T = 750 that is a ``margin`` of 1 - .02 · 750 / 80 = .8125.
        final_rate: as in ``OnPolicyConfig``. It counts all rollouts that the run may imagine.
        horizon: H, decisions of an imagined rollout.
        rollouts: number of rollouts from which the policy learns at a time. A multiple of the elites.
        updates: largest number of updates of the policy after each fit.
        trials: number of rollouts by which each elite judges a policy.
        agreement: share of the elites that must see an improvement for learning to go on.

    Raises:
        ValueError: ``rollouts`` is not a multiple of the elites, or the budget's violation is another one.
    """

    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    improvement: ClippedSurrogate = field(default_factory=lambda: ClippedSurrogate(80, 30_240, kl_limit=0.012))
    constraint: DualAscent = field(default_factory=lambda: DualAscent(0.974, 0.05))
    actor: ActorConfig = field(default_factory=lambda: OnPolicyConfig().actor)
    critic: ValueConfig = field(
        default_factory=lambda: ValueConfig(
            optimiser=OptimiserConfig(1e-3, clip=40.0), passes=80, batch_size=30_240, shrinkage=0.0
        )
    )
    actor_optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(3e-4, clip=40.0))
    discount: Share = 0.99
    lambda_: Share = 0.97
    cost_lambda: Share = 0.97
    budget: Budget = field(
        default_factory=lambda: Budget(18.0, discount=0.99, margin=0.8125, violation=Imagined("episode"))
    )
    final_rate: Share = 1.0
    evaluation: Literal["mode", "sample"] = "sample"
    horizon: Few = 80
    rollouts: Size = 378
    updates: Few = 50
    trials: Few = 32
    agreement: Share = 0.66

    def __post_init__(self) -> None:
        rest = self.rollouts % self.dynamics.elites
        if rest:
            raise ValueError(
                f"rollouts={self.rollouts} must be a multiple of dynamics.elites={self.dynamics.elites}, each of which "
                f"steps as many: choose {self.rollouts - rest + self.dynamics.elites}"
            )
        if self.budget.violation != Imagined("episode"):
            raise ValueError(
                "an agent that learns in a model measures the cost of its imagined episodes: choose "
                "budget.violation=Imagined('episode')"
            )

    @property
    def policy(self) -> OnPolicyConfig:
        """The agent that learns in the model. The episodes that it lives through are imagined, and only the newest
        rollouts count: those of its present policy."""
        names = ("improvement", "constraint", "actor", "critic", "actor_optimiser", "discount", "lambda_")
        kept = {name: getattr(self, name) for name in (*names, "cost_lambda", "final_rate", "evaluation")}
        budget = replace(self.budget, violation=Lived(memory=1.0, relative=False))
        return OnPolicyConfig(**kept, budget=budget)


class ModelBasedState(eqx.Module):
    """The state of the agent. ``step`` is the number of fits."""

    policy: OnPolicyState
    dynamics: DynamicsState
    step: Int[Array, ""]


class Trial(NamedTuple):
    """What each elite makes of a policy: the mean return of its rollouts, and the cost of an episode."""

    returns: Float[Array, " E"]
    costs: Float[Array, "E C"]


def improves(before: Trial, after: Trial, targets: Float[Array, " C"]) -> Bool[Array, " E"]:
    """Whether each elite sees an improvement: a larger return, or a smaller excess of the worst cost over its target.

    The latter counts only where the target was exceeded before.
    """
    excess, now = ((trial.costs - targets).max(-1) for trial in (before, after))
    return (after.returns > before.returns) | ((excess > 0) & (now < excess))


@dataclass(frozen=True)
class ModelBased(Agent):
    """An on-policy agent that learns in a model of the environment. An update gets all steps recorded so far.

    Attributes:
        spaces: the environment's spaces.
        config: the configuration.
        run_updates: number of fits of the whole run.

    Raises:
        ValueError: an observation is a picture, the environment has no time limit, or the configuration does not suit
            the spaces.
    """

    spaces: Spaces
    config: ModelBasedConfig
    run_updates: int = RUN_UPDATES

    def __post_init__(self) -> None:
        self.config.budget.check(self.spaces, constrained=True)
        _ = self.dynamics, self.policy  # They check the spaces.

    @property
    def dynamics(self) -> Dynamics:
        """The model."""
        return Dynamics(self.spaces, self.config.dynamics)

    @property
    def policy(self) -> OnPolicy:
        """The agent that learns in the model."""
        return OnPolicy(self.spaces, self.config.policy, self.run_updates * self.config.updates)

    @property
    def cost_limits(self) -> Float[Array, " C"]:
        """The budgets d."""
        return self.config.budget.limits(self.spaces.num_costs)

    def init(self, *, key: Key) -> ModelBasedState:
        policy_key, dynamics_key = jax.random.split(key)
        policy, dynamics = self.policy.init(key=policy_key), self.dynamics.init(key=dynamics_key)
        return ModelBasedState(policy, dynamics, jnp.zeros((), jnp.int32))

    # --- acting -------------------------------------------------------------------------------

    def init_carry(self, num_envs: int) -> tuple[()]:
        """Empty: the agent remembers nothing between decisions."""
        return ()

    def act(
        self,
        state: ModelBasedState,
        carry: tuple[()],
        observation: Observation,
        is_first: Bool[Array | np.ndarray, " E"],
        *,
        key: Key,
        mode: Mode,
    ) -> tuple[Float[Array, "E A"], tuple[()], Metrics]:
        """The policy acts, without the model."""
        return self.policy.act(state.policy, carry, observation, is_first, key=key, mode=mode)

    # --- learning -----------------------------------------------------------------------------

    def update(self, state: ModelBasedState, batches: Batch, *, key: Key) -> tuple[ModelBasedState, Metrics]:
        """Learns from recorded steps ``[U, E, T, ...]``: a fit and a number of imagined rollouts for each of the U."""
        metrics = {}
        for index in range(len(batches.reward)):
            fit_key, learn_key = jax.random.split(jax.random.fold_in(key, index))
            records = Records.of(tree_index(batches, index), self.spaces)
            dynamics, fitted = self.dynamics.fit(state.dynamics, records, key=fit_key)
            world = self.dynamics.simulator(dynamics)
            policy, learned = self._practise(state.policy, world, records.observations, key=learn_key)
            state, metrics = ModelBasedState(policy, dynamics, state.step + 1), fitted | learned
        return state, metrics

    def _practise(
        self, policy: OnPolicyState, world: Simulator, recorded: np.ndarray, *, key: Key
    ) -> tuple[OnPolicyState, Metrics]:
        """Improves the policy until too few elites see an improvement. Rollouts begin at ``recorded [n, F]``.

        The last update is then taken back, but not what the multiplier learned from it. The first one is always kept,
        as in the released code. All trials have the same start states and the same noise.
        """
        c, targets = self.config, self.config.budget.targets(policy.lived)
        start_key, trial_key, key = jax.random.split(key, 3)
        tried = _some(recorded, c.trials, key=start_key)
        before = self._try(policy, world, tried, key=jax.random.clone(trial_key))
        metrics, share, kept = {}, 1.0, 0
        for index in range(c.updates):
            start_key, learn_key = jax.random.split(jax.random.fold_in(key, index))
            moved, metrics = self._learn(policy, world, _some(recorded, c.rollouts, key=start_key), key=learn_key)
            after = self._try(moved, world, tried, key=jax.random.clone(trial_key))
            share = float(improves(before, after, targets).mean())
            if index and share < c.agreement:
                policy = replace(policy, constraint=moved.constraint)
                break
            policy, before, kept = moved, after, kept + 1
        found = {"imagined/updates": kept, "imagined/agreement": share, "imagined/return": before.returns.mean()}
        return policy, metrics | found | {"imagined/cost": before.costs.sum(-1).mean()}

    @compiled("self")
    def _try(self, policy: OnPolicyState, world: Simulator, starts: Float[Array, "trials F"], *, key: Key) -> Trial:
        """Each elite's judgement of the policy, from the same start states."""
        elites, trials = self.config.dynamics.elites, self.config.trials
        orders = jnp.broadcast_to(jnp.arange(elites * trials), (self.config.horizon, elites * trials))
        rows = self.imagine(policy, world, jnp.tile(starts, (elites, 1)), orders, key=key)
        of_elite = lambda x: x.sum(1).reshape(elites, trials, *x.shape[2:]).mean(1)
        return Trial(of_elite(jnp.asarray(rows.reward)), of_elite(jnp.asarray(rows.cost)) * self._episode)

    @compiled("self")
    def _learn(
        self, policy: OnPolicyState, world: Simulator, starts: Float[Array, "B F"], *, key: Key
    ) -> tuple[OnPolicyState, Metrics]:
        """One update of multiplier, policy and critics, from rollouts with a random elite at each step."""
        order_key, imagine_key, update_key = jax.random.split(key, 3)
        orders = jnp.argsort(jax.random.uniform(order_key, (self.config.horizon, len(starts))), -1)
        rows = self.imagine(policy, world, starts, orders, key=imagine_key)
        cost = jnp.asarray(rows.cost).sum(1).mean(0) * self._episode
        policy = replace(policy, lived=policy.lived.update(cost))
        return self.policy.update(policy, jax.tree.map(lambda x: jnp.asarray(x)[None], rows), key=update_key)

    @property
    def _episode(self) -> float:
        """T / H, which converts the cost of a rollout to that of an episode."""
        assert self.spaces.episode_steps is not None  # The budget's check asks for it.
        return self.spaces.episode_steps / self.config.horizon

    def imagine(
        self,
        policy: OnPolicyState,
        world: Simulator,
        first: Float[Array, "B F"],
        orders: Int[Array, "H B"],
        *,
        key: Key,
    ) -> Batch:
        """Rollouts of the policy in the model, as recorded ones would be.

        They are cut off after H decisions, which is no termination. Where the model terminates an episode, the rows
        that follow are not decisions (``is_last``).

        Args:
            policy: the state of the agent that acts.
            world: the model.
            first: the first observations.
            orders: which elite steps which trajectory (:meth:`Simulator.step`).

        Returns:
            Rows ``[B, H+1, ...]``.
        """
        act_key, noise_key = jax.random.split(key)
        specs = self.spaces.observations

        def act(vector: Array, ended: Array, key: Key) -> Array:
            return self.policy.act(policy, (), named(vector, specs), ended, key=key, mode="explore")[0]

        rows = world.rollout(act, first, orders, jax.random.split(act_key, len(orders)), key=noise_key)
        # The first row has an observation and nothing else.
        rows = [jnp.concatenate([jnp.zeros_like(x[:1]), x]).swapaxes(0, 1) for x in rows]
        vectors, actions, rewards, costs, over = rows
        observation = named(vectors.at[:, 0].set(first), specs)
        is_first = jnp.zeros_like(over).at[:, 0].set(True)
        return Batch(observation, actions, rewards, costs, is_first, over, over)


def _some(recorded: np.ndarray, number: int, *, key: Key) -> Float[Array, "B F"]:
    """``number`` rows at random. On the host, since the number of all rows is another one each time."""
    return jnp.asarray(recorded[np.asarray(jax.random.randint(key, (number,), 0, len(recorded)))])
