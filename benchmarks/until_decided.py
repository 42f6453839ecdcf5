"""Error rate and speed of `prudence evaluate --until-decided`, on simulated and on recorded costs.

    python benchmarks/until_decided.py --repetitions 1000
    python benchmarks/until_decided.py --families "15 %, exponential" "recorded: lambda"

Each repetition draws 400 independent episode costs and tests them at the same looks as the command. *Wrong* is the
share of repetitions with a wrong verdict at any look. The budget is the expectation itself, the hardest case, so both
"holds" and "exceeded" count as wrong. For comparison, the bound for a fixed number of episodes is used at every look,
and at the last look only. Episodes until decided are medians, or ∞ if more than half of the repetitions stay undecided,
with the undecided share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rows import show

from prudence.evidence.sequential import bootstrap_t, bounds, planned_looks, spent

RESULTS = Path(__file__).parent.parent / "results"
Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]
CONFIDENCE = 0.95
BUDGETS = {"holds, budget 3.3 x mean": 2 / 0.6, "holds, 1.5 x": 25 / 17, "exceeded, 0.5 x": 0.5}
"""Ratios of budget to expected cost for the number of episodes until decided: 2 to 0.6, 25 to 17, 2 to 4."""


@dataclass(frozen=True)
class Config:
    """
    Attributes:
        repetitions: number of repetitions for each family of costs.
        families: selects the families whose names begin with one of these; all by default.
        most: maximum number of episodes.
        out: JSON file to write.
    """

    repetitions: int = 1000
    families: tuple[str, ...] = ()
    most: int = 400
    seed: int = 0
    out: Path | None = None


def some(share: float, draw: Draw) -> Draw:
    """Costs that are 0 except in a ``share`` of the episodes."""
    return lambda rng, shape: (rng.random(shape) < share) * draw(rng, shape)


def lognormal(mean: float, deviation: float) -> Draw:
    """Lognormal costs. ``deviation`` is the standard deviation of their logarithm."""
    return lambda rng, shape: rng.lognormal(np.log(mean) - deviation**2 / 2, deviation, shape)


def gamma(mean: float, form: float) -> Draw:
    return lambda rng, shape: rng.gamma(form, mean / form, shape)


def pareto(mean: float, tail: float) -> Draw:
    return lambda rng, shape: (1 + rng.pareto(tail, shape)) * mean * (tail - 1) / tail


def recorded(name: str, run: int = 0) -> tuple[Draw, float]:
    """Costs of evaluation episodes in results/, drawn with replacement, and their mean."""
    found = json.loads((RESULTS / name / "result.json").read_text())["runs"][run]["evaluation"]
    costs = np.array(found["costs"])[:, 0]
    return lambda rng, shape: rng.choice(costs, shape), float(costs.mean())


def families() -> dict[str, tuple[Draw, float]]:
    """Families of costs by name: how to draw them, and their mean."""
    made = {
        "all episodes, normal": (lambda rng, shape: np.abs(rng.normal(30, 5, shape)), 30.0),
        "75 %, gamma (1.2)": (some(0.75, gamma(100 / 3, 1.2)), 25.0),
        "50 %, Pareto (2.5)": (some(0.5, pareto(12, 2.5)), 6.0),
        "30 %, gamma (0.7)": (some(0.3, gamma(30, 0.7)), 9.0),
        "15 %, exponential": (some(0.15, gamma(40 / 3, 1)), 2.0),
        "15 %, lognormal (1)": (some(0.15, lognormal(40 / 3, 1)), 2.0),
        "15 %, lognormal (1.5)": (some(0.15, lognormal(40 / 3, 1.5)), 2.0),
        "5 %, exponential": (some(0.05, gamma(20, 1)), 1.0),
        "5 %, lognormal (1)": (some(0.05, lognormal(20, 1)), 1.0),
        # Added after the method was fixed.
        "new: 90 %, gamma (0.5)": (some(0.9, gamma(10, 0.5)), 9.0),
        "new: 2 %, exponential": (some(0.02, gamma(50, 1)), 1.0),
        "new: 10 %, Pareto (1.8)": (some(0.1, pareto(20, 1.8)), 2.0),
        "new: 10 %, lognormal (2)": (some(0.1, lognormal(20, 2)), 2.0),
    }
    names = {
        "OSRP-Lag, lidar": ("safedreamer-osrp-lag-pointgoal1-lidar", 1),
        "BSRP-Lag, lidar": ("safedreamer-bsrp-lag-pointgoal1-lidar", 2),
        "OSRP-Lag, coordinates": ("safedreamer-osrp-lag-pointgoal1-coordinates-late-price", 0),
        "lambda": ("lambda-pointgoal1-lidar", 0),
        "PPO-Lag": ("ppo-lag-pointgoal1-lidar", 0),
        "Sauté PPO": ("saute-ppo-pointgoal1-lidar", 0),
        "FOCOPS, one of 777": ("focops-omnisafe-steps-pointgoal1-lidar", 0),
        "PPO shaped, one of 935": ("ppo-reward-shaping-pointgoal1-lidar", 0),
    }
    return made | {f"recorded: {label}": recorded(*name) for label, name in names.items()}


def every_look(
    costs: np.ndarray, looks: tuple[int, ...], at: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds ``[K, R]`` at each look, by ``at(costs so far, number of the look)``."""
    found = [at(costs[:, :number], index) for index, number in enumerate(looks)]
    return np.stack([lower for lower, _ in found]), np.stack([upper for _, upper in found])


def in_parts(costs: np.ndarray, level: float, bound: Callable[..., tuple[np.ndarray, np.ndarray]]) -> Any:
    """Applies ``bound`` to a hundred samples at a time, to limit memory."""
    parts = [bound(costs[start : start + 100], level) for start in range(0, len(costs), 100)]
    return tuple(np.concatenate(side) for side in zip(*parts, strict=True))


def until(decided: np.ndarray, looks: tuple[int, ...]) -> str:
    """Median number of episodes until decided and undecided share, from ``decided`` ``[K, R]``."""
    found = decided.any(0)
    median = np.median(np.where(found, np.array(looks)[decided.argmax(0)], np.inf))
    return f"{median:.0f} ({np.mean(~found):.0%})".replace("inf", "∞")


def measure(draw: Draw, mean: float, config: Config) -> dict[str, Any]:
    """Measures the shares of wrong repetitions, and the episodes until decided."""
    looks = planned_looks(config.most)
    levels = spent(looks, CONFIDENCE)
    costs = draw(np.random.default_rng([config.seed, 1]), (config.repetitions, config.most))
    lower, upper = every_look(costs, looks, lambda so_far, k: in_parts(so_far, levels[k], bounds))
    plain_lower, plain_upper = every_look(costs, looks, lambda so_far, _: in_parts(so_far, 1 - CONFIDENCE, bootstrap_t))
    row: dict[str, Any] = {
        "wrong: holds": (upper < mean).any(0).mean(),
        "wrong: exceeded": (lower > mean).any(0).mean(),
        "fixed bound at every look: holds": (plain_upper < mean).any(0).mean(),
        "fixed bound at every look: exceeded": (plain_lower > mean).any(0).mean(),
        "fixed bound once: holds": (plain_upper[-1] < mean).mean(),
        "fixed bound once: exceeded": (plain_lower[-1] > mean).mean(),
    }
    row = {name: f"{share:.3f}" for name, share in row.items()}
    for name, ratio in BUDGETS.items():
        row[name] = until(upper <= ratio * mean if ratio > 1 else lower > ratio * mean, looks)
    return row


def main(config: Config) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for name, (draw, mean) in families().items():
            if not config.families or name.startswith(config.families):
                yield {"costs": name, "mean": f"{mean:.2f}", **measure(draw, mean, config)}

    show(rows(), config.out)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
