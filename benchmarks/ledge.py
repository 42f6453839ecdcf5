"""Pessimism about an unsafe region that is rare in the data: probe/ledge, learned from recorded steps.

    python benchmarks/ledge.py [--seeds 0 1 2 3 4]

The recording has 400 steps, one of which is on the ledge. Two agents learn only from it. They first learn the models,
which they share, and then a policy. They differ only in ``uncertainty.safety``: the mean of the models' costs (greedy),
or the highest of them (pessimistic). ``knowing`` is the share of models that predict a cost above 1/2 for the ledge.
Its real cost is 1 in a step and 20 in an episode.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np
from rows import show

from prudence.budgets import Budget, Imagined
from prudence.constraints import AugmentedLagrangian
from prudence.cores.dreamer.dreamer import Dreamer, DreamerConfig, DreamerState
from prudence.cores.dreamer.sizes import sizes
from prudence.cores.dreamer.uncertainty import UncertaintyConfig
from prudence.data.replay import Replay
from prudence.envs.base import EnvConfig
from prudence.envs.vector import make_vector
from prudence.evidence.evaluate import evaluate_agent
from prudence.models.ensemble import Ensemble
from prudence.models.heads import HeadConfig
from prudence.optim import OptimiserConfig
from prudence.presets import preset
from prudence.types import Batch, Key, Spaces

ENV = EnvConfig("probe/ledge")
BUDGET = 5.0
LEDGE = 2


def agent_of(spaces: Spaces, safety: Literal["mean", "pessimistic"]) -> Dreamer:
    """An agent that learns in seconds. It has sixteen models, and each learns from a quarter of the steps."""
    config = preset("debug", "safedreamer-bsrp-lag", ENV).agent
    assert isinstance(config, DreamerConfig)
    model, actor, critic = sizes(16, 32, 4, 4, bins=41)

    def narrow(head: HeadConfig) -> HeadConfig:
        """The same head with bins in a smaller range."""
        return replace(head, limit=5.0)

    model = replace(model, free_nats=0.1, unsafe_weight=3.0, reward=narrow(model.reward), cost=narrow(model.cost))
    critic = replace(critic, head=narrow(critic.head), optimiser=OptimiserConfig(2e-3, eps=1e-5))
    ensemble = Ensemble(16, OptimiserConfig(5e-3, clip=1000.0), share=0.25)
    config = replace(
        config,
        world_model=model,
        actor=actor,
        critic=critic,
        cost_critic=critic,
        model_optimiser=OptimiserConfig(2e-3, clip=1000.0),
        actor_optimiser=OptimiserConfig(3e-3, eps=1e-5),
        constraint=AugmentedLagrangian(multiplier_init=0.1, penalty_factor_init=0.3, growth=0.0, dual_rate=0.01),
        horizon=5,
        imagination_starts=16,
        discount=0.9,
        budget=Budget(BUDGET, discount=0.9, violation=Imagined("episode")),
        uncertainty=UncertaintyConfig(ensemble, safety=safety, common_noise=True),
    )
    return Dreamer(spaces, config)


def play(arms: np.ndarray, seed: int) -> tuple[list[Batch], Spaces]:
    """Steps ``[E, ...]`` under ``arms`` ``[T, E]``, including the first step of the episode."""
    with closing(make_vector(ENV, arms.shape[1], seed=seed)) as envs:
        rows = [envs.reset()]
        rows += [envs.step(np.eye(3, dtype=np.float32)[row]) for row in arms]
        return jax.tree.map(np.copy, rows), envs.spaces


def record(seed: int, directory: Path) -> tuple[Replay, Spaces]:
    """Records 100 steps of four environments with random safe actions, except for one step onto the ledge."""
    rng = np.random.default_rng(seed)
    arms = rng.integers(2, size=(100, 4))
    arms[rng.integers(10, 90), rng.integers(4)] = LEDGE
    rows, spaces = play(arms, seed)
    replay = Replay(directory, spaces, 4, capacity=1000, seed=seed)
    for row in rows:
        replay.add(row)
    return replay, spaces


def learn(agent: Dreamer, state: DreamerState, replay: Replay, updates: int, *, key: Key) -> DreamerState:
    """Makes ``updates`` gradient steps on the recording."""
    for number in range(updates // 50):
        batches = replay.gather(replay.draw(8, 12, 50))
        state, _ = agent.update(state, batches, key=jax.random.fold_in(key, number))
    return state


def knowing(agent: Dreamer, state: DreamerState) -> float:
    """Share of the models that predict a cost above 1/2 for a step onto the ledge."""
    rows, _ = play(np.array([[0], [1], [LEDGE]]).repeat(16, 1), seed=7)
    batch = jax.tree.map(lambda *steps: np.stack(steps, 1), *rows)
    costs = agent.predictions_by_model(state, batch, key=jax.random.key(2), context=3, draws=1)["cost"]
    return float((costs.mean((1, 2, 3)) > 0.5).mean())


def measure(seed: int, updates: int) -> Iterator[dict[str, Any]]:
    """Measures both agents. They begin with the same trained models and with untrained actors."""
    model_key, actor_key, first_key, then_key = jax.random.split(jax.random.key(seed), 4)
    with tempfile.TemporaryDirectory() as directory:
        replay, spaces = record(seed, Path(directory))
        agents = {safety: agent_of(spaces, safety) for safety in ("mean", "pessimistic")}
        first = agents["mean"]
        known = learn(first, first.init(key=model_key), replay, updates, key=first_key)
        fresh = first.init(key=actor_key)
        start = eqx.tree_at(lambda s: (s.world_model, s.posterior), fresh, (known.world_model, known.posterior))
        moment = replay.state()
        for safety, agent in agents.items():
            replay.restore(moment)
            state = learn(agent, start, replay, updates, key=then_key)
            evaluation = evaluate_agent(agent, state, ENV, episodes=20, seed=1)
            yield {
                "seed": seed,
                "safety": safety,
                "knowing": round(knowing(agent, state), 2),
                "return": round(float(evaluation.returns.mean()), 2),
                "cost": round(float(evaluation.costs.mean()), 2),
                "budget": BUDGET,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--updates", type=int, default=500, help="before the actors begin, and after")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    show((row for seed in args.seeds for row in measure(seed, args.updates)), args.out)


if __name__ == "__main__":
    main()
