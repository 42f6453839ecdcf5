"""Critics: targets move the values, and the slow copy follows."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.cores.dreamer.config import DreamerConfig
from prudence.critics import ActionCritics, Critic, CriticBatch, CriticConfig, together
from prudence.envs.base import EnvConfig
from prudence.models.world_model import HeadConfig
from prudence.nets import cast
from prudence.optim import OptimiserConfig
from prudence.presets import preset
from prudence.systems import SYSTEMS

CONFIG = CriticConfig(HeadConfig(layers=1, units=16, bins=21, limit=3.0), OptimiserConfig(1e-2))
FEATURES = jnp.array([[1.0, -0.5], [-1.0, 0.5]])


def regress(config: CriticConfig, shape: tuple[int, ...], targets, weights=(1.0, 1.0), steps: int = 200) -> Critic:
    critic = Critic.init(2, shape, config, key=jax.random.key(0))
    step = jax.jit(lambda c: c.update(CriticBatch(FEATURES, jnp.array(targets), jnp.array(weights)), name="critic")[0])
    for _ in range(steps):
        critic = step(critic)
    return critic


def test_a_fresh_critic_expects_nothing():
    critic = Critic.init(2, (3,), CONFIG, key=jax.random.key(0))
    np.testing.assert_allclose(critic.values(FEATURES), np.zeros((2, 3)), atol=1e-6)


@pytest.mark.parametrize("kind", ["twohot", "symexp_twohot", "symlog_mse"])
def test_values_reach_their_targets(kind):
    config = replace(CONFIG, head=replace(CONFIG.head, kind=kind), slow_regulariser=0.0)
    np.testing.assert_allclose(regress(config, (), [5.0, -2.0]).values(FEATURES), [5.0, -2.0], atol=0.3)


def test_c_costs_have_c_values():
    config = replace(CONFIG, slow_regulariser=0.0)
    critic = regress(config, (2,), [[5.0, 0.0], [1.0, 3.0]])
    np.testing.assert_allclose(critic.values(FEATURES), [[5.0, 0.0], [1.0, 3.0]], atol=0.3)


def test_states_of_weight_zero_are_not_learned():
    critic = regress(replace(CONFIG, slow_regulariser=0.0), (), [5.0, 5.0], (1.0, 0.0), steps=1)
    other = regress(replace(CONFIG, slow_regulariser=0.0), (), [5.0, -2.0], (1.0, 0.0), steps=1)
    jax.tree.map(np.testing.assert_array_equal, critic.online.module, other.online.module)
    assert critic.values(FEATURES)[0] > 0


def test_the_slow_copy_is_a_moving_average():
    config = replace(CONFIG, slow_rate=0.25)
    before = Critic.init(2, (), config, key=jax.random.key(0))
    after, metrics = before.update(CriticBatch(FEATURES, jnp.array([5.0, -2.0]), jnp.ones(2)), name="critic")
    mixed = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, before.slow, after.online.module)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), after.slow, mixed)
    assert metrics["critic/target"] == 1.5


def test_slow_targets_come_from_the_slow_copy():
    online = regress(replace(CONFIG, slow_rate=0.0), (), [5.0, 5.0], steps=20)
    slow = regress(replace(CONFIG, slow_rate=0.0, slow_target=True), (), [5.0, 5.0], steps=20)
    assert online.values(FEATURES).min() > 0.1
    np.testing.assert_allclose(slow.values(FEATURES), 0.0, atol=1e-6)


def test_the_regulariser_holds_the_critic_near_its_past():
    free, held = (
        regress(replace(CONFIG, slow_rate=0.0, slow_regulariser=w), (), [5.0, 5.0]).values(FEATURES) for w in (0.0, 1.0)
    )
    # Cross-entropy to the target and, as strongly, to the slow copy's 0: half the mass on each.
    assert free.min() > 4.5
    assert held.max() < 2.5


def test_lambdas_slow_copy_is_replaced_every_so_often():
    config = replace(CONFIG, slow_rate=1.0, slow_every=3)
    critic = Critic.init(2, (), config, key=jax.random.key(0))
    start, copied = critic.slow, []
    for _ in range(6):
        critic, _ = critic.update(CriticBatch(FEATURES, jnp.array([5.0, -2.0]), jnp.ones(2)), name="critic")
        same = jax.tree.map(np.array_equal, critic.slow, critic.online.module)
        copied.append(all(jax.tree.leaves(same)))
    assert copied == [False, False, True, False, False, True]
    assert not np.array_equal(start.net.output.bias, critic.slow.net.output.bias)


def test_weights_may_be_of_each_cost():
    critic_batch = CriticBatch(FEATURES, jnp.array([[5.0, 5.0], [5.0, 5.0]]), jnp.array([[1.0, 0.0], [1.0, 0.0]]))
    config = replace(CONFIG, slow_regulariser=0.0)
    critic = Critic.init(2, (2,), config, key=jax.random.key(0))
    values = critic.update(critic_batch, name="critic")[0].values(FEATURES)
    assert (values[:, 0] > 0).all()
    before = critic.online.module.net.output.weight
    after = critic.update(critic_batch, name="critic")[0].online.module.net.output.weight
    bins = config.head.bins
    assert not np.array_equal(before[:, :bins], after[:, :bins])
    np.testing.assert_array_equal(before[:, bins:], after[:, bins:])


def test_lessons_are_balanced():
    imagined = CriticBatch(jnp.zeros((4, 1)), jnp.zeros((4, 2)), jnp.ones((4, 2)))
    replayed = CriticBatch(jnp.ones((2, 1)), jnp.ones((2, 2)), jnp.full(2, 0.5))
    both = together(imagined, replayed)
    # mean(imagined) + mean(replayed) = 1 + .5, as one mean over six.
    np.testing.assert_allclose(both.weights.mean(0), [1.5, 1.5])
    np.testing.assert_allclose(both.weights[4:], 0.5 * 6 / 2)
    assert together(imagined, None) is imagined
    # A weight for each cost on either side.
    by_cost = replayed._replace(weights=jnp.array([[0.5, 0.1], [0.5, 0.1]]))
    plain = imagined._replace(weights=jnp.ones(4))
    np.testing.assert_allclose(together(plain, by_cost).weights.mean(0), [1.5, 1.1], rtol=1e-6)


def test_the_critics_of_actions_differ_and_each_learns():
    config = replace(CONFIG, head=replace(CONFIG.head, out_scale=1.0), slow_regulariser=0.0, slow_rate=1.0)
    critics = ActionCritics.init(1, 1, (), config, number=2, key=jax.random.key(0))
    state, action = FEATURES[:, :1], FEATURES[:, 1:]
    before = critics.slow_values(state, action)
    assert before.shape == (2, 2)
    assert not np.allclose(before[0], before[1])
    step = jax.jit(lambda c: c.update(CriticBatch(FEATURES, jnp.array([3.0, -2.0]), jnp.ones(2)), name="critic")[0])
    for _ in range(200):
        critics = step(critics)
    np.testing.assert_allclose(critics.slow_values(state, action), [[3.0, -2.0]] * 2, atol=0.3)


def safe_cost_heads() -> list[str]:
    """The kinds of head by which safe agents value costs in the presets that are ours; ``paper`` has the papers'."""
    env = EnvConfig("SafetyPointGoal1-v0")
    agents = [n for n, system in SYSTEMS.items() if system.config is DreamerConfig and n != "dreamerv3"]
    return sorted({preset(name, agent, env).agent.cost_critic.head.kind for agent in agents for name in ("cpu", "gpu")})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", safe_cost_heads())
def test_a_rare_cost_is_worth_what_it_costs_on_average(kind, dtype):
    """One state; a cost of 10 follows in 5 of 100 cases, so that its value is .5: two-hot in symlog space says .13."""
    config = CriticConfig(HeadConfig(kind, units=16, bins=63), OptimiserConfig(1e-2), slow_regulariser=0.0)
    critic = Critic.init(2, (1,), config, key=jax.random.key(0))
    features = jnp.ones((100, 2), dtype)
    critic_batch = CriticBatch(features, jnp.where(jnp.arange(100) < 5, 10.0, 0.0)[:, None], jnp.ones(100))
    update = eqx.filter_jit(lambda critic: critic.update(critic_batch, name="critic")[0])
    for _ in range(300):
        critic = update(critic)
    np.testing.assert_allclose(cast(critic, jnp.dtype(dtype)).values(features[:1]), [[0.5]], rtol=0.1)
