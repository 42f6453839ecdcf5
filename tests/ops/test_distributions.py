"""Distributions against closed numbers, identities and Monte Carlo."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prudence.ops.distributions import (
    Bernoulli,
    ClippedNormal,
    Normal,
    OneHot,
    SymlogMSE,
    TanhNormal,
    TwoHot,
    kl_divergence,
    two_hot,
)


def key() -> jax.Array:
    return jax.random.key(0)


def one_hot(*probabilities: float, unimix: float = 0.0) -> OneHot:
    return OneHot.create(jnp.log(jnp.array([probabilities], jnp.float32)), unimix)


# --- OneHot -------------------------------------------------------------------------------------


def test_one_hot_kl_by_hand():
    # .5 ln(.5/.25) + .5 ln(.5/.75) = .5 ln(4/3)
    assert one_hot(0.5, 0.5).kl(one_hot(0.25, 0.75)) == pytest.approx(0.5 * np.log(4 / 3), rel=1e-5)
    assert one_hot(0.2, 0.8).kl(one_hot(0.2, 0.8)) == pytest.approx(0.0, abs=1e-7)


def test_one_hot_sums_over_its_latents():
    p, q = one_hot(0.5, 0.5), one_hot(0.25, 0.75)
    both = lambda d: OneHot(jnp.concatenate([d.logits, d.logits]))
    assert both(p).kl(both(q)) == pytest.approx(2 * float(p.kl(q)), rel=1e-6)
    assert both(p).entropy() == pytest.approx(2 * np.log(2), rel=1e-6)


def test_one_hot_log_prob_and_entropy_by_hand():
    p = one_hot(0.2, 0.3, 0.5)
    assert p.log_prob(jnp.array([[0.0, 1.0, 0.0]])) == pytest.approx(np.log(0.3), rel=1e-5)
    assert p.entropy() == pytest.approx(-(0.2 * np.log(0.2) + 0.3 * np.log(0.3) + 0.5 * np.log(0.5)), rel=1e-5)


def test_unimix_bounds_probabilities_and_kl():
    p, q = (
        OneHot.create(jnp.array([[1e4, 0.0, 0.0, 0.0]]), 0.01),
        OneHot.create(jnp.array([[0.0, 1e4, 0.0, 0.0]]), 0.01),
    )
    np.testing.assert_allclose(p.probs[0], [0.9925, 0.0025, 0.0025, 0.0025], rtol=1e-5)
    assert p.kl(q) == pytest.approx(0.99 * np.log(0.9925 / 0.0025), rel=1e-4)


def test_one_hot_samples_have_its_probabilities():
    p = one_hot(0.2, 0.3, 0.5)
    samples = jax.vmap(p.sample)(OneHot.noise(key(), (20_000, 1, 3)))
    np.testing.assert_array_equal(jnp.sort(samples, -1)[:, 0], jnp.tile(jnp.array([0.0, 0.0, 1.0]), (20_000, 1)))
    np.testing.assert_allclose(samples.mean(0)[0], [0.2, 0.3, 0.5], atol=0.015)
    np.testing.assert_allclose(p.mode(), [[0.0, 0.0, 1.0]], atol=1e-6)


def test_the_gradient_of_a_sample_is_that_of_the_probabilities():
    logits, weight = jnp.array([[0.3, -0.7, 0.1]]), jnp.array([[1.0, 2.0, -3.0]])
    noise = OneHot.noise(key(), (1, 3))
    straight = jax.grad(lambda x: (weight * OneHot.create(x, 0.01).sample(noise)).sum())(logits)
    smooth = jax.grad(lambda x: (weight * OneHot.create(x, 0.01).probs).sum())(logits)
    np.testing.assert_allclose(straight, smooth, rtol=1e-5)
    assert jnp.abs(smooth).max() > 0.1


# --- Normal and TanhNormal ------------------------------------------------------------------------


def test_normal_by_hand():
    p = Normal(jnp.array([1.0]), jnp.array([2.0]))
    q = Normal(jnp.array([0.0]), jnp.array([1.0]))
    # ln(1/2) + (4 + 1)/2 - 1/2
    assert p.kl(q) == pytest.approx(np.log(0.5) + 2.0, rel=1e-5)
    assert p.log_prob(jnp.array([3.0])) == pytest.approx(-0.5 - np.log(2) - 0.5 * np.log(2 * np.pi), rel=1e-5)
    assert p.entropy() == pytest.approx(np.log(2) + 0.5 * np.log(2 * np.pi * np.e), rel=1e-5)
    np.testing.assert_allclose(p.sample(jnp.array([-1.5])), [-2.0])


@pytest.mark.parametrize(
    ("p", "q", "shape"),
    [
        (one_hot(0.1, 0.2, 0.7), one_hot(0.3, 0.3, 0.4), (1, 3)),
        (Normal(jnp.array([0.5, -1.0]), jnp.array([0.7, 1.2])), Normal(jnp.zeros(2), jnp.ones(2)), (2,)),
    ],
    ids=["one-hot", "normal"],
)
def test_kl_matches_monte_carlo(p, q, shape):
    samples = jax.vmap(p.sample)(p.noise(key(), (50_000, *shape)))
    ratio = jax.vmap(lambda x: p.log_prob(x) - q.log_prob(x))(samples)
    error = 4 * float(ratio.std()) / np.sqrt(50_000)
    assert kl_divergence(p, q) == pytest.approx(float(ratio.mean()), abs=error)


def test_kl_of_different_classes_is_refused():
    with pytest.raises(TypeError, match="between OneHot and Normal"):
        kl_divergence(one_hot(0.5, 0.5), Normal(jnp.zeros(1), jnp.ones(1)))


def test_tanh_normal_density_integrates_to_one():
    p = TanhNormal(Normal(jnp.array([0.4]), jnp.array([0.6])))
    actions = np.linspace(-1, 1, 20_001, dtype=np.float32)[1:-1]
    density = np.exp(jax.vmap(p.log_prob)(jnp.asarray(actions)[:, None]))
    assert np.trapezoid(density, actions) == pytest.approx(1.0, abs=1e-3)


def test_tanh_normal_log_prob_is_the_change_of_variables():
    p = TanhNormal(Normal(jnp.array([0.0]), jnp.array([1.0])))
    # x = 0.5: standard normal density there, divided by 1 - tanh(.5)².
    expected = -0.125 - 0.5 * np.log(2 * np.pi) - np.log(1 - np.tanh(0.5) ** 2)
    assert p.log_prob(jnp.tanh(jnp.array([0.5]))) == pytest.approx(expected, rel=1e-4)
    assert p.mode() == pytest.approx(0.0)
    assert p.sample(jnp.array([2.0])) == pytest.approx(np.tanh(2.0), rel=1e-6)


def test_a_tanh_normal_sample_knows_its_likelihood_near_the_border_too():
    p = TanhNormal(Normal(jnp.array([0.5]), jnp.array([1.0])))
    value, log_prob = p.sample_with_log_prob(jnp.array([0.25]))
    np.testing.assert_allclose(value, np.tanh([0.75]), rtol=1e-6)
    np.testing.assert_allclose(log_prob, p.log_prob(value), rtol=1e-4)
    # x = 20.5: tanh is 1 in any float. ln(1 - tanh² x) = 2 ln 2 - 2x there.
    value, log_prob = p.sample_with_log_prob(jnp.array([20.0]))
    assert value == 1.0
    np.testing.assert_allclose(log_prob, -200 - 0.5 * np.log(2 * np.pi) - 2 * np.log(2) + 41, rtol=1e-6)


def test_tanh_normal_stays_finite_at_the_border():
    p = TanhNormal(Normal(jnp.array([0.0]), jnp.array([1.0])))
    assert jnp.isfinite(p.log_prob(jnp.array([1.0])))


# --- TwoHot ---------------------------------------------------------------------------------------


def test_two_hot_weights_by_hand():
    bins = jnp.array([-2.0, 0.0, 1.0, 3.0])
    np.testing.assert_allclose(two_hot(jnp.array(0.25), bins), [0.0, 0.75, 0.25, 0.0])
    np.testing.assert_allclose(two_hot(jnp.array(1.0), bins), [0.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(two_hot(jnp.array(-1.0), bins), [0.5, 0.5, 0.0, 0.0])


def test_two_hot_clips_outside_its_range():
    bins = jnp.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(two_hot(jnp.array([-9.0, 9.0]), bins), [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("symexp_bins", [False, True])
@pytest.mark.parametrize("value", [-300.0, -1.0, -0.01, 0.0, 0.3, 7.0, 1234.5])
def test_two_hot_round_trip(symexp_bins, value):
    empty = TwoHot(jnp.zeros(255), 20.0, symexp_bins)
    space = value if symexp_bins else np.sign(value) * np.log1p(abs(value))
    weights = two_hot(jnp.array(space, jnp.float32), empty.bins)
    decoded = TwoHot(jnp.log(weights + 1e-30), 20.0, symexp_bins).mean
    assert decoded == pytest.approx(value, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("symexp_bins", [False, True])
@pytest.mark.parametrize("bins", [10, 255])
def test_symmetric_probabilities_mean_exactly_zero(symexp_bins, bins):
    half = jax.random.normal(key(), (bins // 2,))
    middle = jnp.ones(bins % 2)
    logits = jnp.concatenate([half, middle, half[::-1]])
    tolerance = 0.0 if symexp_bins else 1e-5
    assert abs(float(TwoHot(logits, 20.0, symexp_bins).mean)) <= tolerance
    assert float(TwoHot(jnp.zeros(bins), 20.0, symexp_bins).mean) == pytest.approx(0.0, abs=tolerance)


def test_two_hot_log_prob_is_the_cross_entropy():
    # Bins at symlog -1, 0, 1; the target's symlog is 0.5: half the weight on each of the last two.
    head = TwoHot(jnp.log(jnp.array([0.2, 0.3, 0.5])), 1.0, False)
    expected = 0.5 * np.log(0.3) + 0.5 * np.log(0.5)
    assert head.log_prob(jnp.expm1(jnp.array(0.5))) == pytest.approx(expected, rel=1e-5)


def test_symexp_two_hot_is_unbiased_for_a_noisy_target():
    # Fitted to targets 0 and 100 in equal shares, it predicts their mean, and the symlog kind predicts less.
    def fitted(symexp_bins: bool) -> float:
        bins = TwoHot(jnp.zeros(255), 20.0, symexp_bins).bins
        targets = jnp.array([0.0, 100.0]) if symexp_bins else jnp.log1p(jnp.array([0.0, 100.0]))
        return float(TwoHot(jnp.log(two_hot(targets, bins).mean(0) + 1e-30), 20.0, symexp_bins).mean)

    assert fitted(True) == pytest.approx(50.0, rel=1e-3)
    assert fitted(False) == pytest.approx(np.sqrt(101) - 1, rel=1e-2)


# --- the rest -------------------------------------------------------------------------------------


def test_bernoulli_by_hand():
    p = Bernoulli(jnp.log(jnp.array(3.0)))  # Odds of 3 to 1.
    assert p.mean == pytest.approx(0.75)
    assert p.mode() == 1.0
    assert p.log_prob(jnp.array(1.0)) == pytest.approx(np.log(0.75), rel=1e-5)
    assert p.log_prob(jnp.array(0.5)) == pytest.approx(0.5 * np.log(0.75) + 0.5 * np.log(0.25), rel=1e-5)


def test_symlog_mse_by_hand():
    head = SymlogMSE(jnp.array([1.0, -1.0]))
    np.testing.assert_allclose(head.mean, [np.e - 1, 1 - np.e], rtol=1e-6)
    np.testing.assert_allclose(head.log_prob(jnp.array([0.0, 1 - np.e], jnp.float32)), [-1.0, 0.0], atol=1e-6)


def test_clipped_normal_is_a_distribution():
    """Density inside, by the trapezoid rule, and the two borders."""
    policy = ClippedNormal(Normal(jnp.array([0.4]), jnp.array([0.7])))
    xs = jnp.linspace(-1 + 1e-6, 1 - 1e-6, 2001)
    inside = jax.vmap(policy.log_prob)(xs[:, None])
    borders = jnp.exp(policy.log_prob(jnp.array([1.0]))) + jnp.exp(policy.log_prob(jnp.array([-1.0])))
    assert float(jnp.trapezoid(jnp.exp(inside), xs) + borders) == pytest.approx(1.0, abs=1e-4)


def test_clipped_normal_by_hand():
    # μ = 1, σ = 1: half of the samples are executed as 1. Two entries: the logarithms add.
    policy = ClippedNormal(Normal(jnp.array([1.0, 0.0]), jnp.ones(2)))
    assert float(policy.log_prob(jnp.array([1.0, 0.0]))) == pytest.approx(np.log(0.5) - 0.5 * np.log(2 * np.pi))
    np.testing.assert_allclose(policy.sample(jnp.array([0.5, -3.0])), [1.0, -1.0])
    np.testing.assert_allclose(policy.mode(), [1.0, 0.0])


def test_clipped_normals_score_has_mean_zero():
    """E[∂ log p(a)] = 0 holds for the likelihood of what was executed; the Gaussian's at clipped actions misses it."""
    noise = jax.random.normal(jax.random.key(0), (20_000, 1))

    def scores(log_prob):
        executed = jnp.clip(0.8 + noise, -1, 1)
        return jax.vmap(jax.grad(log_prob), (None, 0))(jnp.array([0.8]), executed).mean()

    exact = scores(lambda mean, action: ClippedNormal(Normal(mean, jnp.ones(1))).log_prob(action))
    wrong = scores(lambda mean, action: Normal(mean, jnp.ones(1)).log_prob(action))
    assert abs(float(exact)) < 0.02 < 0.1 < abs(float(wrong))
