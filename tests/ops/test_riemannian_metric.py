"""The metric against loops in float64 and finite differences; far points do not underflow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops import riemannian_metric as rm

T, LAMBDA = 0.8, 1e-3


def draw(n=7, d=3, b=5, seed=0):
    """Centroids, factors and points, float64."""
    rng = np.random.default_rng(seed)
    factors = np.tril(0.5 * rng.standard_normal((n, d, d)), -1)
    factors += np.exp(0.3 * rng.standard_normal((n, d)))[..., None] * np.eye(d)
    return rng.standard_normal((n, d)), factors, 0.7 * rng.standard_normal((b, d))


def inverse(z, centroids, factors, temperature=T, regularisation=LAMBDA):
    """The definition, one point."""
    total = regularisation * np.eye(len(z))
    for c, factor in zip(centroids, factors):
        total += np.exp(-((z - c) ** 2).sum() / temperature**2) * factor @ factor.T
    return total


def half_log_det(z, *arguments):
    return 0.5 * np.linalg.slogdet(inverse(z, *arguments))[1]


def differences(f, z, h=1e-5):
    """Gradient of f by central differences."""
    steps = h * np.eye(len(z))
    return np.array([(f(z + step) - f(z - step)) / (2 * h) for step in steps])


def test_sums_gradients_and_momenta_are_those_of_the_definition():
    centroids, factors, z = draw()
    q = np.random.default_rng(1).standard_normal(z.shape)

    with jax.enable_x64(True):

        @jax.jit
        def everything(centroids, factors, z, q):
            metric = rm.metric_of_factors(centroids, factors, T, LAMBDA)
            v = rm.velocity_of(metric, z, q)
            return {
                "inverse": rm.inverse_metric(metric, z),
                "volume": rm.inverse_log_volume(metric, z),
                "gradient": rm.inverse_log_volume_gradient(metric, z)[1],
                "slope": rm.geodesic_slope(metric, z, q),
                "energy": rm.kinetic_energy(metric, z, q),
                "back": rm.momentum_of(metric, z, v),
                "draw": rm.draw_momentum(metric, z, q),
                "nearest": rm.nearest_centroid(metric, z),
            }

        found = jax.tree.map(np.asarray, everything(centroids, factors, z, q))
    model = (centroids, factors)
    expected = np.stack([inverse(p, *model) for p in z])
    np.testing.assert_allclose(found["inverse"], expected, rtol=1e-12)
    np.testing.assert_allclose(found["volume"], [half_log_det(p, *model) for p in z], rtol=1e-10)
    for k, (p, m) in enumerate(zip(z, q)):
        gradient = differences(lambda x: half_log_det(x, *model), p)
        np.testing.assert_allclose(found["gradient"][k], gradient, rtol=1e-6, atol=1e-8)
        force = -differences(lambda x, m=m: 0.5 * m @ inverse(x, *model) @ m, p)
        np.testing.assert_allclose(found["slope"][1][k], force, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(found["slope"][0][k], expected[k] @ m, rtol=1e-10)
        np.testing.assert_allclose(found["energy"][k], 0.5 * m @ expected[k] @ m, rtol=1e-10)
        # q^T G^-1 q of a draw is the squared length of its noise.
        np.testing.assert_allclose(found["draw"][k] @ expected[k] @ found["draw"][k], m @ m)
    np.testing.assert_allclose(found["back"], q, rtol=1e-8)
    nearest = np.linalg.norm(z[:, None] - centroids, axis=-1).min(-1)
    np.testing.assert_allclose(found["nearest"], nearest)


def test_far_from_the_data_the_volume_is_that_of_lambda_in_float32():
    centroids, factors, _ = draw(d=10)
    far = np.full((1, 10), 50.0, np.float32)
    with jax.numpy_dtype_promotion("standard"):
        metric = rm.metric_of_factors(
            jnp.asarray(centroids, jnp.float32), jnp.asarray(factors, jnp.float32), 1.5, LAMBDA
        )
        volume, gradient = jax.jit(rm.inverse_log_volume_gradient)(metric, jnp.asarray(far))
    np.testing.assert_allclose(volume, 5 * np.log(LAMBDA), rtol=1e-5)  # det G^-1 is 1e-30
    np.testing.assert_allclose(gradient, 0, atol=1e-30)


def test_settings_that_do_not_fit_are_refused():
    arrays = jnp.zeros((2, 3)), jnp.zeros((2, 3, 3))
    with pytest.raises(ValueError, match="temperature=0 must be positive"):
        rm.metric_of_factors(*arrays, 0, 1e-3)
    metric = rm.metric_of_factors(*arrays, 1.0, 1e-3)
    with pytest.raises(ValueError, match="backend='cuda'"):
        rm.centroid_sums(metric, jnp.zeros((1, 3)), jnp.zeros((1, 3, 3)), "cuda")
