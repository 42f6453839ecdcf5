"""Critics of rare costs, compared by the likelihood of their heads: the figure of docs/studies/cost-critic.md.

A state is a number x in [0, 1]. A passage through a hazard, of cost 10, follows it with probability p(x) = x² / 2. The
true value is therefore 5x². All critics see the same outcomes. Run it from the root of the repository:

    .venv/bin/python tools/cost_critic.py [docs/images/cost-critic.png]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from prudence.critics import Critic, CriticBatch, CriticConfig
from prudence.models.heads import HeadConfig
from prudence.optim import OptimiserConfig

COST, UPDATES, STATES = 10.0, 2000, 1024
_PLAIN = HeadConfig(layers=2, units=128, bins=63)
HEADS = {
    "two-hot in symlog space (the papers)": _PLAIN,
    "two-hot, bins at symexp": replace(_PLAIN, kind="symexp_twohot", limit=6.0),
    "normal (cpu and gpu presets)": replace(_PLAIN, kind="normal"),
}


def value(x: np.ndarray) -> np.ndarray:
    """True values of states."""
    return COST * x**2 / 2


def features(x: jax.Array) -> jax.Array:
    """Features of states: smooth bumps, so that critics need not learn features."""
    return jnp.exp(-jnp.square((x[:, None] - jnp.linspace(0, 1, 16)) / 0.08) / 2)


def learned(head: HeadConfig, seed: int = 0) -> np.ndarray:
    """Learned values at 101 states, averaged over the last 100 updates."""
    config = CriticConfig(head, OptimiserConfig(3e-4, eps=1e-5), slow_regulariser=0.0)
    critic = Critic.init(16, (1,), config, key=jax.random.key(seed))
    grid = features(jnp.linspace(0, 1, 101))

    @eqx.filter_jit
    def update(critic: Critic, key: jax.Array) -> Critic:
        state_key, outcome_key = jax.random.split(key)
        x = jax.random.uniform(state_key, (STATES,))
        passes = jax.random.uniform(outcome_key, (STATES,)) < x**2 / 2
        critic_batch = CriticBatch(features(x), COST * passes[:, None].astype(jnp.float32), jnp.ones(STATES))
        return critic.update(critic_batch, name="critic")[0]

    found = []
    for number in range(UPDATES):
        critic = update(critic, jax.random.fold_in(jax.random.key(seed + 1), number))
        if number >= UPDATES - 100:
            found.append(np.asarray(critic.values(grid))[:, 0])
    return np.mean(found, 0)


def main(path: Path) -> None:
    """Draws the figure and prints its numbers."""
    x = np.linspace(0, 1, 101)
    likely = (value(x) > 0.5) & (value(x) < 2)
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(value(x), value(x), color="0.2", linestyle="--", label="the truth")
    print(f"{'head':40s} mean value / true   where it is .5 to 2   slope / true there")
    for (name, head), colour in zip(HEADS.items(), ("#d55e00", "#009e73", "#0072b2"), strict=True):
        values = learned(head)
        axes.plot(value(x), values, color=colour, label=name, linewidth=2)
        slope = np.polyfit(value(x)[likely], values[likely], 1)[0]
        of = values.mean() / value(x).mean(), values[likely].mean() / value(x)[likely].mean()
        print(f"{name:40s} {of[0]:17.2f} {of[1]:21.2f} {slope:20.2f}")
    axes.set(
        xlabel="expected cost", ylabel="learned value", title="A passage that costs 10 comes with some probability"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=140)
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images/cost-critic.png"))
