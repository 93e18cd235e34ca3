import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.fields import (
    compose,
    exp_velocity,
    identity_grid,
    jacobian_determinant,
    random_diffeomorphism,
    random_smooth_field,
    random_velocity,
    warp,
)
from jaxmedgen.ops.filters import gaussian_filter
from jaxmedgen.ops.resize import resize

KEYS = jax.random.split(jax.random.key(0), 2)


@pytest.mark.parametrize("shape", [(8, 9), (5, 6, 7)])
def test_constant_velocity_is_a_translation(shape):
    shift = jnp.arange(1.0, len(shape) + 1)
    v = jnp.broadcast_to(shift, (1, *shape, len(shape)))
    np.testing.assert_allclose(exp_velocity(v), v, rtol=1e-6)
    np.testing.assert_allclose(jacobian_determinant(exp_velocity(v)), 1.0, atol=1e-5)


def test_linear_velocity_agrees_with_the_matrix_exponential():
    import scipy.linalg

    a = np.array([[0.1, -0.3], [0.25, -0.05]])
    grid = np.asarray(identity_grid((33, 33))) - 16
    v = jnp.asarray(grid @ a.T, jnp.float32)[None]
    expected = grid @ (scipy.linalg.expm(a) - np.eye(2)).T
    inner = (slice(8, 25), slice(8, 25))
    np.testing.assert_allclose(exp_velocity(v)[0][inner], expected[inner], atol=2e-2)
    determinant = jacobian_determinant(exp_velocity(v))[0][inner]
    np.testing.assert_allclose(determinant, np.exp(np.trace(a)), atol=1e-2)


def test_exponential_is_inverted_by_the_opposite_velocity_and_does_not_fold():
    shape, spacing = (32, 32, 32), (2.0, 2.0, 2.0)
    # The strongest setting of the presets: 10 mm smooth, 4 mm RMS.
    v = random_velocity(KEYS, shape, spacing, sigma=10.0, rms=4.0)
    forward, backward = exp_velocity(v), exp_velocity(-v)
    assert float(jacobian_determinant(forward).min()) > 0.1
    inner = (slice(None), *(slice(6, -6),) * 3)
    residual = jnp.abs(compose(forward, backward))[inner]
    assert float(residual.max()) < 0.08 and float(jnp.abs(forward).max()) > 1.0


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


def test_determinant_of_a_known_map():
    grid = identity_grid((6, 7, 8))
    linear = np.array([[0.1, 0.2, 0.0], [0.0, -0.2, 0.1], [0.3, 0.0, 0.05]])
    u = jnp.asarray(np.asarray(grid) @ linear.T, jnp.float32)[None]
    expected = np.linalg.det(np.eye(3) + linear)
    np.testing.assert_allclose(jacobian_determinant(u), expected, atol=1e-4)
    fold = jnp.asarray(-1.5 * np.asarray(identity_grid((5, 5))), jnp.float32)[None] * jnp.asarray(
        [1.0, 0.0]
    )
    assert float(jacobian_determinant(fold).max()) < 0


def test_warp_of_a_ramp_adds_the_displacement():
    grid = identity_grid((9, 9))[None]
    u = 0.5 * jnp.sin(grid)
    inner = (0, slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(warp(grid, u)[inner], (grid + u)[inner], atol=1e-5)


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


def test_gradient_through_the_exponential_agrees_with_finite_differences():
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        v = jnp.asarray(rng.normal(size=(1, 8, 8, 2)), jnp.float64)
        v = gaussian_filter(v, 2.0) * 3 + 0.3
        direction = jnp.asarray(rng.normal(size=v.shape))

        def loss(v):
            return jnp.sum(jnp.sin(exp_velocity(v, steps=4)))

        numeric = (loss(v + 1e-6 * direction) - loss(v - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose(jnp.vdot(jax.grad(loss)(v), direction), numeric, rtol=1e-4)


def test_smooth_field_needs_a_width():
    with pytest.raises(ValueError, match="sigma 0 must be positive"):
        random_smooth_field(KEYS, (8, 8), 0)
