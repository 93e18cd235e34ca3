"""Densities and KL terms against numerical integration and scipy; bounds against a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxmedgen.losses import variational


@pytest.mark.parametrize("prior", [(0.0, 0.0), (-0.7, 0.8)])
@pytest.mark.parametrize(("mean", "log_variance"), [(0.0, 0.0), (1.3, -2.0), (-0.4, 1.1)])
def test_kl_is_the_integral(mean, log_variance, prior):
    q = stats.norm(mean, np.exp(log_variance / 2))
    p = stats.norm(prior[0], np.exp(prior[1] / 2))

    def integrand(z):
        return q.pdf(z) * (q.logpdf(z) - p.logpdf(z))

    expected, _ = integrate.quad(integrand, mean - 30, mean + 30, points=[mean], limit=400)
    found = variational.gaussian_kl(jnp.float32(mean), jnp.float32(log_variance), *prior)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-7)


def test_kl_keeps_its_precision_near_the_prior():
    """``exp(r) - 1 - r`` is 5e-9 for r = 1e-4; in float32 the plain form gives zero or 1e-7."""
    found = variational.gaussian_kl(jnp.float32(0), jnp.float32(1e-4))
    np.testing.assert_allclose(found, 1e-8 / 4, rtol=0.02)


def test_densities_are_scipys():
    rng = np.random.default_rng(0)
    x, mean = rng.normal(size=(2, 7)).astype(np.float32)
    spread = rng.uniform(0.2, 2, 7).astype(np.float32)
    expected = stats.norm(mean, np.sqrt(spread)).logpdf(x)
    found = variational.gaussian_log_density(*map(jnp.asarray, (x, mean, np.log(spread))))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    found = variational.gaussian_log_likelihood(*map(jnp.asarray, (x, mean, spread - 1e-5)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    coin, p = jnp.array([1.0, 0.0, 1.0, 0.0]), jnp.array([0.3, 0.3, 0.0, 1.0])
    found = variational.bernoulli_log_likelihood(coin, p)
    expected = stats.bernoulli([0.3, 0.3, 1e-5, 1 - 1e-5]).logpmf([1, 0, 1, 0])
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_a_warped_variance_of_zero_stays_finite():
    zero = jnp.zeros(3)
    value, slope = jax.value_and_grad(
        lambda m: variational.gaussian_log_likelihood(zero, m, zero).sum()
    )(zero + 0.1)
    assert np.isfinite(value) and np.isfinite(slope).all()


def test_bounds_of_a_linear_gaussian_model():
    """x = 2 z + noise of variance 0.25, so x ~ N(0, 4.25): ELBO <= IWAE(8) <= log p."""
    x, q = jnp.float32(1.7), (0.6, float(np.log(0.2)))
    truth = stats.norm(0, np.sqrt(4.25)).logpdf(1.7)

    @jax.jit
    def bounds(key):
        z = q[0] + np.exp(q[1] / 2) * jax.random.normal(key, (8, 20000))
        likelihood = variational.gaussian_log_density(
            jnp.full_like(z, x), 2 * z, float(np.log(0.25))
        )
        weights = likelihood + variational.gaussian_log_density(z)
        weights = weights - variational.gaussian_log_density(z, *q)
        many = variational.importance_weighted_bound(weights.reshape(-1, 10))
        elbo = likelihood.mean() - variational.gaussian_kl(*map(jnp.float32, q))
        return elbo, weights.mean(), variational.importance_weighted_bound(weights).mean(), many

    elbo, sampled_elbo, iwae, many = map(np.asarray, bounds(jax.random.key(0)))
    np.testing.assert_allclose(elbo, sampled_elbo, atol=0.01)
    assert elbo + 0.05 < iwae < truth
    np.testing.assert_allclose(many, truth, atol=0.03)


def test_kl_by_draws_is_the_closed_form_within_its_error():
    """One draw has no bias, many have its error less a root; weights are made of one."""
    posterior = jnp.array([[0.6, -1.0], [0.0, 2.0]]), jnp.array([[-1.5, 0.4], [0.3, -0.8]])
    prior = jnp.array([[0.1, 0.0], [-0.5, 1.0]]), jnp.array([[0.2, -0.3], [0.0, 0.5]])
    noise = jax.random.normal(jax.random.key(0), (40000, 2, 2))
    z = posterior[0] + jnp.exp(0.5 * posterior[1]) * noise
    for other in (None, prior):
        exact = variational.gaussian_kl(*posterior, *(other or ())).sum(-1)
        one = jax.vmap(lambda z, other=other: variational.monte_carlo_kl(z[None], posterior, other))
        each = np.asarray(one(z))
        error = each.std(0) / np.sqrt(len(z))
        many = np.asarray(variational.monte_carlo_kl(z, posterior, other))
        np.testing.assert_allclose(each.mean(0), many, rtol=1e-3)
        assert (np.abs(many - exact) < 4 * error).all() and (error < 0.02).all()
    likelihood = jnp.array([-3.0, 2.0])
    weight = variational.log_importance_weight(likelihood, z[0], posterior, prior)
    densities = [stats.norm(m, np.exp(v / 2)).logpdf(z[0]).sum(-1) for m, v in (posterior, prior)]
    np.testing.assert_allclose(weight, likelihood - densities[0] + densities[1], rtol=1e-4)


def test_free_bits_hold_a_dimension_up():
    divergence = jnp.array([[0.01, 0.5], [0.03, 0.1]])
    value, slope = jax.value_and_grad(lambda d: variational.free_bits(d, 0.05).sum())(divergence)
    np.testing.assert_allclose(value, 0.05 + 0.5 + 0.05 + 0.1, rtol=1e-6)
    np.testing.assert_array_equal(slope, [[0, 1], [0, 1]])
    np.testing.assert_allclose(variational.free_bits(divergence, 0), divergence.sum(-1))
    with pytest.raises(ValueError, match="least=-1"):
        variational.free_bits(divergence, -1)


def test_warm_up_rises_to_one():
    np.testing.assert_allclose([variational.warm_up(s, 4) for s in (0, 2, 9)], [0, 0.5, 1])
    assert variational.warm_up(0, 0) == 1


def test_full_gaussian_kl_is_the_textbook_formula_and_the_diagonal_pair():
    rng = np.random.default_rng(1)
    m1, m2 = rng.normal(size=(2, 3))
    s1, s2 = (a @ a.T + 0.5 * np.eye(3) for a in rng.normal(size=(2, 3, 3)))
    inverse = np.linalg.inv(s2)
    expected = 0.5 * (np.trace(inverse @ s1) + (m2 - m1) @ inverse @ (m2 - m1) - 3)
    expected += 0.5 * np.log(np.linalg.det(s2) / np.linalg.det(s1))
    found = variational.full_gaussian_kl(*(jnp.float32(a) for a in (m1, s1, m2, s2)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    v1, v2 = np.diag(s1), np.diag(s2)
    pair = variational.gaussian_kl(*(jnp.float32(a) for a in (m1, np.log(v1), m2, np.log(v2))))
    full = variational.full_gaussian_kl(
        *(jnp.float32(a) for a in (m1, np.diag(v1), m2, np.diag(v2)))
    )
    np.testing.assert_allclose(full, pair.sum(), rtol=1e-4)


def test_levels_are_summed_and_kept_apart():
    kl = {"top": jnp.array([[0.01, 2.0], [0.03, 4.0]]), "bottom": jnp.array([[1.0], [3.0]])}
    loss, metrics = variational.negative_elbo(jnp.array([10.0, 20.0]), kl, 0.5, least=0.1)
    np.testing.assert_allclose(loss, 15 + 0.5 * (0.1 + 3 + 2), rtol=1e-6)
    expected = {"reconstruction": 15, "kl": 5.02, "elbo": -20.02, "kl_top": 3.02, "kl_bottom": 2}
    expected["used"] = 2  # the first dimension of the top says 0.02 nats
    assert {name: pytest.approx(float(v)) for name, v in metrics.items()} == expected
