"""Improvements of a policy: losses by hand, and what each step promises, on a bandit whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from prudence.actors import Policy
from prudence.cores.on_policy.improvement import (
    ClippedSurrogate,
    ConstrainedTrustRegion,
    PenalisedDivergence,
    Rollout,
    TrustRegion,
    minibatches,
)
from prudence.ops.distributions import OneHot
from prudence.optim import Optimised, OptimiserConfig

ARMS = jnp.eye(3)


class Bandit(eqx.Module):
    """A policy over three arms that sees nothing."""

    logits: Float[Array, " A"]

    def __call__(self, inputs: Array) -> Policy:
        return Policy(OneHot.create(jnp.broadcast_to(self.logits, (len(inputs), 1, 3))))


def bandit(logits=(0.0, 0.0, 0.0)) -> Optimised[Bandit]:
    return Optimised.init(Bandit(jnp.array(logits)), OptimiserConfig(0.01))


def rollout(
    actor: Optimised[Bandit], gains=(0.0, 0.0, 0.0), harms=(0.0, 0.0, 0.0), violation=-1.0, copies=40
) -> Rollout:
    """Every arm as often as the policy would take it, with these advantages."""
    inputs = jnp.zeros((3 * copies, 1))
    actions = jnp.tile(ARMS, (copies, 1))
    old = actor.module(inputs)
    weights = jnp.tile(3 * jnp.exp(old.distribution.logits[0, 0]), copies)
    centred = lambda values: jnp.tile(jnp.array(values) - (weights[:3] * jnp.array(values)).mean(), copies)
    return Rollout(
        inputs=inputs,
        actions=actions,
        old=old,
        log_probs=old.log_prob(actions),
        advantages=centred(gains),
        cost_advantages=centred(harms)[:, None],
        weights=weights,
        violation=jnp.array([violation]),
        rate=jnp.ones(()),
    )


def probabilities(actor: Optimised[Bandit]) -> np.ndarray:
    return np.asarray(jax.nn.softmax(actor.module.logits))


def three_decisions(**changes) -> Rollout:
    taught = rollout(bandit(), copies=1)
    return taught._replace(advantages=jnp.array([1.0, -1.0, 0.5]), weights=jnp.ones(3), **changes)


def test_clipped_surrogate_by_hand():
    # Probabilities (1/2, 1/4, 1/4) instead of thirds: ratios 1.5, .75, .75 and clipped 1.2, .8, .8.
    # min(1.5, 1.2) + min(-.75, -.8) + min(.375, .4) = 1.2 - .8 + .375
    policy = bandit(np.log([0.5, 0.25, 0.25])).module(jnp.zeros((3, 1)))
    assert float(ClippedSurrogate().loss(policy, three_decisions())) == pytest.approx(-0.775 / 3, rel=1e-5)
    # Without the middle one: (1.2 + .375) / 2.
    masked = three_decisions()._replace(weights=jnp.array([1.0, 0.0, 1.0]))
    assert float(ClippedSurrogate().loss(policy, masked)) == pytest.approx(-1.575 / 2, rel=1e-5)


def test_penalised_divergence_by_hand():
    policy = bandit(np.log([0.5, 0.25, 0.25])).module(jnp.zeros((3, 1)))
    kl = 0.5 * np.log(1.5) + 0.5 * np.log(0.75)  # KL(new ‖ old) = .0589
    rule = PenalisedDivergence(temperature=2.0, divergence_limit=0.1)
    # Ratios times advantages: 1.5 - .75 + .375
    assert float(rule.loss(policy, three_decisions())) == pytest.approx(kl - 1.125 / 3 / 2, rel=1e-4)
    assert float(replace(rule, divergence_limit=0.05).loss(policy, three_decisions())) == 0.0


@pytest.mark.parametrize("rule", [ClippedSurrogate(batch_size=16), PenalisedDivergence(batch_size=16)])
def test_first_order_rules_move_to_the_better_arm_until_they_are_far_enough(rule):
    actor = bandit()
    after, metrics = rule.improve(actor, rollout(actor, gains=(1.0, 0.0, 0.0)), key=jax.random.key(0))
    assert probabilities(after)[0] > 0.36
    assert probabilities(after)[1] == pytest.approx(probabilities(after)[2], abs=0.02)
    assert 1 <= metrics["actor/passes"] <= 40
    # Without a limit it goes on to the last pass.
    free, more = replace(rule, kl_limit=1e9).improve(actor, rollout(actor, gains=(1.0, 0, 0)), key=jax.random.key(0))
    assert more["actor/passes"] == 40
    assert probabilities(free)[0] >= probabilities(after)[0]


def test_the_rate_scales_the_steps():
    actor = bandit()
    taught = rollout(actor, gains=(1.0, 0.0, 0.0))
    rule = ClippedSurrogate(passes=1, batch_size=120)
    moves = []
    for rate in (1.0, 0.25):
        after, _ = rule.improve(actor, taught._replace(rate=jnp.asarray(rate)), key=jax.random.key(0))
        moves.append(np.asarray(after.module.logits - actor.module.logits))
    np.testing.assert_allclose(moves[1], 0.25 * moves[0], rtol=1e-4, atol=1e-8)


def test_a_pass_takes_every_decision_at_most_once():
    order = np.asarray(minibatches(10, 4, key=jax.random.key(0)))
    assert order.shape == (2, 4)
    assert len(set(order.ravel())) == 8
    assert minibatches(3, 64, key=jax.random.key(1)).shape == (1, 3)


def divergence(before: Optimised[Bandit], after: Optimised[Bandit]) -> float:
    p, q = probabilities(before), probabilities(after)
    return float((p * np.log(p / q)).sum())


@pytest.mark.parametrize("logits", [(0.0, 0.0, 0.0), (1.0, -1.0, 0.0)])
def test_a_trust_region_step_ends_near_its_border(logits):
    actor, rule = bandit(logits), TrustRegion(damping=1e-4)
    after, metrics = rule.improve(actor, rollout(actor, gains=(1.0, 0.5, 0.0)), key=jax.random.key(0))
    assert 0.6 * rule.kl_limit < divergence(actor, after) <= rule.kl_limit * 1.001
    assert metrics["actor/kl"] == pytest.approx(divergence(actor, after), rel=1e-2)
    gained = probabilities(after) - probabilities(actor)
    assert gained @ np.array([1.0, 0.5, 0.0]) > 0


def test_without_advantages_a_trust_region_step_goes_nowhere():
    actor = bandit((1.0, -1.0, 0.0))
    after, metrics = TrustRegion().improve(actor, rollout(actor), key=jax.random.key(0))
    np.testing.assert_allclose(probabilities(after), probabilities(actor), atol=1e-6)
    assert metrics["actor/step_fraction"] == 0.0


def constrained(harms, violation) -> tuple[np.ndarray, float]:
    """The change of the probabilities, and the case; arm 0 pays 1, arm 1 a half."""
    actor = bandit()
    taught = rollout(actor, gains=(1.0, 0.5, 0.0), harms=harms, violation=violation)
    after, metrics = ConstrainedTrustRegion(damping=1e-4).improve(actor, taught, key=jax.random.key(0))
    assert divergence(actor, after) <= 0.01 * 1.001
    return probabilities(after) - probabilities(actor), float(metrics["cpo/case"])


def test_far_below_its_budget_cpo_is_trpo():
    moved, case = constrained((1.0, 0.0, 0.0), violation=-10.0)
    actor = bandit()
    free, _ = TrustRegion(damping=1e-4).improve(actor, rollout(actor, gains=(1.0, 0.5, 0.0)), key=jax.random.key(0))
    assert case == 3
    np.testing.assert_allclose(moved, probabilities(free) - probabilities(actor), atol=1e-5)


def test_at_its_budget_cpo_gains_what_costs_nothing():
    """Arm 0 pays most and costs; arm 1 pays and does not."""
    moved, case = constrained((1.0, 0.0, 0.0), violation=0.0)
    assert case == 1
    assert moved[1] > 0.01
    assert moved[0] <= 1e-3


def test_beyond_its_budget_cpo_reduces_the_cost_and_reward_may_fall():
    moved, case = constrained((1.0, 0.0, 0.0), violation=0.01)
    assert case == 1
    assert moved[0] < -0.005
    moved, case = constrained((1.0, 0.0, 0.0), violation=10.0)
    assert case == 0
    assert moved[0] < -0.03
    assert moved[1] == pytest.approx(moved[2], abs=1e-3)  # Reward plays no part.


def test_cpo_believes_a_promise_as_far_as_the_rollouts_halves_agree():
    """Within the trust region the violation can be mended by what the whole rollout says, half of which contradicts."""
    actor, rule = bandit(), ConstrainedTrustRegion(damping=1e-4)
    wary = replace(rule, discount_promises=True)
    agreed = rollout(actor, gains=(1.0, 0.5, 0.0), harms=(1.0, 0.0, 0.0), violation=0.01)
    steps = [probabilities(r.improve(actor, agreed, key=jax.random.key(0))[0]) for r in (rule, wary)]
    np.testing.assert_allclose(*steps, atol=1e-5)
    half = len(agreed.weights) // 2
    signs = jnp.where(jnp.arange(2 * half) < half, 3.0, -1.0)
    disputed = agreed._replace(cost_advantages=signs[:, None] * agreed.cost_advantages)  # Of the same mean.
    _, believing = rule.improve(actor, disputed, key=jax.random.key(0))
    after, doubting = wary.improve(actor, disputed, key=jax.random.key(0))
    assert (believing["cpo/case"], doubting["cpo/case"]) == (1, 0)
    assert doubting["cpo/kept"] == pytest.approx(1e-3)
    assert probabilities(after)[0] < steps[0][0]


def test_cpo_mends_two_constraints_together():
    """Arms 0 and 2 pay and each has a cost of its own; taken one by one the constraints would only swap the arms."""
    actor = bandit((1.0, -1.0, 1.0))
    taught = rollout(actor, gains=(1.0, 0.2, 1.0))
    harms = jnp.stack(
        [
            rollout(actor, harms=(1.0, 0.0, 0.0)).cost_advantages[:, 0],
            rollout(actor, harms=(0.0, 0.0, 1.0)).cost_advantages[:, 0],
        ],
        1,
    )
    taught = taught._replace(cost_advantages=harms, violation=jnp.array([1.0, 1.0]))
    after, metrics = ConstrainedTrustRegion(damping=1e-4).improve(actor, taught, key=jax.random.key(0))
    assert metrics["cpo/case"] == 0
    moved = probabilities(after) - probabilities(actor)
    assert moved[1] > 0.02
    assert moved[0] == pytest.approx(moved[2], abs=1e-3)
