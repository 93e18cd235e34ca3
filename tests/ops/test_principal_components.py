"""Principal components against scikit-learn, scipy and the analytic likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, stats
from sklearn.decomposition import PCA

from jaxmedgen.ops import principal_components as pc

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("n", "d"), [(60, 9), (12, 40)])
def test_components_are_scikit_learns(n, d):
    x = (RNG.normal(size=(n, d)) * np.linspace(3, 0.3, d) + 2).astype(np.float32)
    reference = PCA(4).fit(x)

    @jax.jit
    def look(x):
        model = pc.fit_principal_components(x, 4)
        return model, model.decode(model.encode(x)), pc.components_for(model, 0.6)

    model, back, kept = look(jnp.asarray(x))
    np.testing.assert_allclose(model.eigenvalues, reference.explained_variance_, rtol=1e-3)
    np.testing.assert_allclose(model.total, x.var(0, ddof=1).sum(), rtol=1e-4)
    expected = reference.inverse_transform(reference.transform(x))
    np.testing.assert_allclose(back, expected, atol=5e-3)
    shares = np.cumsum(reference.explained_variance_ratio_)
    assert kept.sum() == min(4, 1 + (shares < 0.6).sum())
    np.testing.assert_allclose(model.components @ model.components.T, np.eye(4), atol=1e-4)


def test_probabilistic_components_have_the_gaussians_likelihood():
    x = RNG.normal(size=(300, 3)) @ RNG.normal(size=(3, 7)) + RNG.normal(size=(300, 7)) * 0.4 + 1
    x = x.astype(np.float32)

    @jax.jit
    def look(x):
        model = pc.probabilistic(pc.fit_principal_components(x, 3))
        return model, model.log_likelihood(x), *model.posterior(x)

    model, found, mean, variance = look(jnp.asarray(x))
    weights, noise = np.asarray(model.weights, np.float64), float(model.noise)
    covariance = weights.T @ weights + noise * np.eye(7)
    expected = stats.multivariate_normal(np.asarray(model.mean), covariance).logpdf(x)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-2)
    reference = PCA(3).fit(x)  # the same model: divides by N - 1 as well
    np.testing.assert_allclose(found.mean(), reference.score(x), rtol=1e-3)
    inverse = np.linalg.inv(weights @ weights.T + noise * np.eye(3))
    np.testing.assert_allclose(variance, noise * np.diag(inverse), rtol=1e-3)
    expected = (x - np.asarray(model.mean)) @ weights.T @ inverse
    np.testing.assert_allclose(mean, expected, atol=2e-3)


def test_angle_is_scipys_and_keeps_small_ones():
    a, b = RNG.normal(size=(2, 3, 8))
    look = jax.jit(pc.principal_angle)
    expected = np.rad2deg(linalg.subspace_angles(a.T, b.T).max())
    np.testing.assert_allclose(look(jnp.float32(a), jnp.float32(b)), expected, rtol=1e-3)
    turned = a.copy()
    turned[0] += 1e-3 * b[0]
    expected = np.rad2deg(linalg.subspace_angles(a.T, turned.T).max())
    np.testing.assert_allclose(look(jnp.float32(a), jnp.float32(turned)), expected, rtol=0.02)


def test_more_components_than_there_are_is_refused():
    with pytest.raises(ValueError, match="give 1 to 4"):
        pc.fit_principal_components(jnp.ones((5, 9)), 5)
