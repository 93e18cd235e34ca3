"""Total correlation and covariance of Gaussians with known answers; the same on eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.losses.disentanglement import covariance_penalty, total_correlation
from jaxmedgen.ops.collectives import batch_axis

_OWN = 0.1  # variance of each posterior


def posterior(count=2048, correlation=0.8):
    """Means such that q(z) is normal with unit variances and the given correlation."""
    rng = np.random.default_rng(0)
    covariance = np.array([[1, correlation], [correlation, 1]])
    mean = rng.multivariate_normal([0, 0], covariance - _OWN * np.eye(2), count)
    z = mean + np.sqrt(_OWN) * rng.normal(size=mean.shape)
    spread = np.full_like(mean, np.log(_OWN))
    return tuple(jnp.asarray(x, jnp.float32) for x in (z, mean, spread))


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_total_correlation_of_a_gaussian(correlation):
    """``-log(1 - r^2) / 2``, up to the constant ``log N`` of minibatch-weighted sampling."""
    found = jax.jit(total_correlation, static_argnums=3)(*posterior(correlation=correlation), 5000)
    expected = -0.5 * np.log(1 - correlation**2)
    np.testing.assert_allclose(found - np.log(5000), expected, atol=0.04)


def test_covariance_penalty_of_a_gaussian():
    _, mean, spread = posterior()
    found = covariance_penalty(mean, spread, off_diagonal=2.0, diagonal=3.0)
    covariance = np.cov(np.asarray(mean).T, bias=True) + _OWN * np.eye(2)
    expected = 2 * 2 * covariance[0, 1] ** 2 + 3 * ((np.diag(covariance) - 1) ** 2).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_devices_agree_on_both():
    values = posterior(count=64)

    def both(z, mean, spread):
        penalty = covariance_penalty(mean, spread, off_diagonal=1.0, diagonal=1.0)
        return total_correlation(z, mean, spread, 64) + penalty

    def shard(*parts):
        with batch_axis("data"):
            return jax.lax.pmean(both(*parts), "data")

    parts = [v.reshape(8, 8, 2) for v in values]
    np.testing.assert_allclose(jax.pmap(shard, "data")(*parts), both(*values), rtol=1e-5)
