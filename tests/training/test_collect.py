"""The collector: what it asks of an agent, and how it sums up episodes."""

from __future__ import annotations

import jax
import numpy as np

from prudence.envs.base import EnvConfig
from prudence.envs.vector import make_vector
from prudence.presets import preset
from prudence.systems import find_system
from prudence.training.collect import Collector
from prudence.training.learning.online import spaces_of
from prudence.training.progress import ACT, INIT, Counters, Keys


def collector_of(task: str, num_envs: int = 2):
    config, env = preset("debug", "ppo", EnvConfig(task)), make_vector(EnvConfig(task), num_envs, seed=0)
    agent, keys, counters = find_system("ppo").agent(spaces_of(env), config.agent), Keys(3), Counters()
    collector = Collector(agent, env, spaces_of(env), counters, keys, 3)
    collector.start()
    return collector, agent, agent.init(key=keys(INIT, 0)), counters


def test_decides_as_the_agent_does_with_the_keys_of_the_run():
    """For the second state, too: nothing of the first is kept."""
    collector, agent, first, counters = collector_of("probe/policy")
    for state in (first, jax.tree.map(lambda x: x + 1, first)):
        for _ in range(2):
            last, key = collector.last, Keys(3)(ACT, counters.decisions)
            expected, _, _ = agent.act(state, (), last.observation, last.is_first, key=key, mode="train")
            decided = collector.act(state)
            np.testing.assert_array_equal(decided, expected)
            collector.step(decided)


def test_the_keys_of_a_run_are_folded_from_purpose_and_index():
    expected = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), ACT), 7)
    np.testing.assert_array_equal(jax.random.key_data(Keys(3)(ACT, 7)), jax.random.key_data(expected))


def test_sums_begin_anew_with_every_episode():
    """L = 20 at 1/2 each without risk; then 20 at 1 each, which cost 1 each."""
    collector, *_ = collector_of("probe/cost-discrete")
    arms = np.eye(2, dtype=np.float32)
    for arm in (0, 1):
        for _ in range(21):  # The last begins the next episode.
            collector.step(np.stack([arms[arm]] * 2))
    found = [(s.episode_return, s.episode_cost.tolist(), s.length) for s in collector.finished]
    assert found == [(10.0, [0.0], 20)] * 2 + [(20.0, [20.0], 20)] * 2
