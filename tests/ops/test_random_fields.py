import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.ops.field_measures import jacobian_determinant
from jaxmedgen.ops.fields import exp_velocity
from jaxmedgen.ops.random_fields import (
    random_diffeomorphism,
    random_elastic_displacement,
    random_smooth_field,
    random_velocity,
)
from jaxmedgen.ops.resize import resize

KEYS = jax.random.split(jax.random.key(0), 2)


def test_coarse_integration_agrees_with_the_full_grid():
    # Sigma 8 voxels: the flow is integrated on a grid of half the resolution.
    v = random_velocity(KEYS, (24, 24, 24), (2.0, 2.0, 2.0), sigma=8.0, rms=3.0)
    full = exp_velocity(2 * resize(v, (48, 48, 48), order=3))
    u = random_diffeomorphism(KEYS, (48, 48, 48), (1.0, 1.0, 1.0), sigma=8.0, rms=3.0)
    inner = (slice(None), *(slice(4, -4),) * 3)
    assert float(jnp.abs(full).max()) > 4
    np.testing.assert_allclose(u[inner], full[inner], atol=0.2)
    assert float(jnp.sqrt(jnp.mean((u - full)[inner] ** 2))) < 0.02
    assert float(jacobian_determinant(u).min()) > 0.2


def test_random_velocity_has_the_requested_strength_in_mm():
    spacing = (1.0, 2.0, 4.0)
    v = random_velocity(KEYS, (16, 12, 8), spacing, sigma=8.0, rms=jnp.asarray([1.0, 3.0]))
    mm = np.asarray(v) * np.asarray(spacing)
    np.testing.assert_allclose(np.sqrt((mm**2).sum(-1).mean((1, 2, 3))), [1.0, 3.0], rtol=1e-5)


@pytest.mark.parametrize("sigma", [0.6, 4.0])
def test_smooth_field_has_unit_variance_and_gaussian_covariance(sigma):
    keys = jax.random.split(jax.random.key(1), 1000)
    field = np.asarray(random_smooth_field(keys, (24, 5), sigma))[..., 0]
    np.testing.assert_allclose(field.var(0), 1.0, atol=0.2)
    assert field.var() == pytest.approx(1.0, abs=0.1)
    lag = 4
    covariance = (field[:, lag:] * field[:, :-lag]).mean()
    assert covariance == pytest.approx(np.exp(-(lag**2) / (4 * sigma**2)), abs=0.06)


def test_each_sample_depends_on_its_own_key_alone():
    both = random_smooth_field(KEYS, (8, 8), 2.0, channels=2)
    second = random_smooth_field(KEYS[1:], (8, 8), 2.0, channels=2)
    np.testing.assert_array_equal(both[1:], second)


def test_smooth_field_needs_a_width():
    with pytest.raises(ValueError, match="sigma 0 must be positive"):
        random_smooth_field(KEYS, (8, 8), 0)


def test_elastic_noise_agrees_with_scipy_and_has_the_predicted_strength():
    shape, alpha, sigma = (20, 24), (30.0, 80.0), (2.0, 4.0)
    u = random_elastic_displacement(KEYS, shape, alpha=jnp.asarray(alpha), sigma=jnp.asarray(sigma))
    for b in range(2):
        noise = alpha[b] * jax.random.uniform(KEYS[b], (*shape, 2), minval=-1.0)
        for c in range(2):
            expected = ndimage.gaussian_filter(
                noise[..., c], sigma[b], mode="constant", truncate=4.0
            )
            np.testing.assert_allclose(u[b, ..., c], expected, atol=1e-3)
    keys = jax.random.split(jax.random.key(1), 500)
    u = random_elastic_displacement(keys, (41, 41), alpha=100.0, sigma=5.0)
    expected = 100 / np.sqrt(3) / (2 * np.sqrt(np.pi) * 5)
    assert np.std(u[:, 20, 20]) == pytest.approx(expected, rel=0.08)


def test_spacing_must_be_positive():
    with pytest.raises(ValueError, match=r"spacing \(1.0, -2.0\): give 2 positive sizes in mm"):
        random_velocity(KEYS, (8, 8), (1.0, -2.0), sigma=3.0, rms=1.0)
