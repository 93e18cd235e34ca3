import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.field_measures import jacobian_determinant
from jaxmedgen.ops.fields import (
    compose,
    compose_velocities,
    exp_velocity,
    identity_grid,
    invert,
    lie_bracket,
    log_displacement,
    squarings,
    warp,
)
from jaxmedgen.ops.filters import gaussian_filter
from jaxmedgen.ops.random_fields import random_velocity

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


def test_warp_of_a_ramp_adds_the_displacement():
    grid = identity_grid((9, 9))[None]
    u = 0.5 * jnp.sin(grid)
    inner = (0, slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(warp(grid, u)[inner], (grid + u)[inner], atol=1e-5)


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


def _tapered(shape, sigma, largest, seed=0):
    """Smooth random velocity that vanishes at the border, of a given largest speed."""
    rng = np.random.default_rng(seed)
    noise = jnp.asarray(rng.normal(size=(1, *shape, len(shape))), jnp.float32)
    v = gaussian_filter(noise, float(sigma))
    for axis, size in enumerate(shape):
        window = np.clip(np.minimum(np.arange(size), np.arange(size)[::-1]) / (size / 4), 0, 1)
        taper = np.sin(np.pi / 2 * window) ** 2
        v = v * taper.reshape(1, *(-1 if i == axis else 1 for i in range(len(shape))), 1)
    return v * (largest / jnp.max(jnp.linalg.norm(v, axis=-1)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("largest", "sigma", "max_error", "mean_error", "determinant"),
    [(3, 6, 0.095, 0.003, 0.53), (6, 8, 0.18, 0.005, 0.44), (10, 8, 0.29, 0.010, 0.37)],
)
def test_inverse_error_of_the_exponential_is_the_published_one(
    largest, sigma, max_error, mean_error, determinant
):
    v = _tapered((48, 48, 48), sigma, largest)
    forward, backward = exp_velocity(v), exp_velocity(-v)
    error = jnp.linalg.norm(compose(forward, backward), axis=-1)
    # Other random fields than the published ones, so the same numbers only roughly.
    assert max_error / 4 < float(error.max()) < max_error
    assert mean_error / 4 < float(error.mean()) < 2 * mean_error
    assert float(jacobian_determinant(forward).min()) > 0.6 * determinant


def test_number_of_squarings_adapts_to_each_sample():
    v = (
        jnp.zeros((5, 6, 6, 2))
        .at[:, 2, 3]
        .set(jnp.asarray([[0.0, 0.0], [0.3, 0.39], [0.3, 0.4], [3.0, 4.0], [1e5, 0.0]]))
    )
    np.testing.assert_array_equal(squarings(v), [0, 0, 1, 4, 12])
    smooth = jnp.concatenate([_tapered((24, 24), 4, speed) for speed in (0.4, 5.0)])
    adaptive = jax.jit(lambda v: exp_velocity(v, steps=None))(smooth)
    np.testing.assert_allclose(adaptive[0], smooth[0], atol=1e-6)  # weak: no squaring needed
    np.testing.assert_allclose(adaptive[1:], exp_velocity(smooth[1:], steps=4), atol=1e-5)
    gradient = jax.grad(lambda v: jnp.sum(exp_velocity(v, steps=None) ** 2))(smooth[1:])
    fixed = jax.grad(lambda v: jnp.sum(exp_velocity(v, steps=4) ** 2))(smooth[1:])
    np.testing.assert_allclose(gradient, fixed, atol=1e-4)


def test_cubic_composition_is_more_accurate_than_linear():
    v = _tapered((32, 32), 4, 5.0)
    errors = []
    for order, steps in ((1, 7), (3, 10)):
        u, w = (exp_velocity(s * v, steps=steps, order=order) for s in (1, -1))
        errors.append(float(jnp.linalg.norm(compose(u, w, order=3), axis=-1).mean()))
    assert errors[1] < 0.1 * errors[0]


@pytest.mark.parametrize("shape", [(24, 20), (14, 16, 15)])
def test_inverse_undoes_the_map(shape):
    # Exact for the interpolant that it inverts, where exponentials of +-v only agree roughly.
    u = exp_velocity(_tapered(shape, 4, 2.5))
    w = invert(u)
    assert float(jnp.abs(u).max()) > 1.0
    assert float(jnp.abs(compose(u, w)).max()) < 2e-4


def test_inverse_exists_where_the_plain_iteration_diverges():
    # Stretches by 3.2 in the middle: the fixed-point map has the slope -2.2 there.
    x = np.arange(40.0) - 19.5
    u = jnp.asarray(2.2 * x * np.exp(-((x / 9) ** 2)), jnp.float32)
    u = jnp.zeros((1, 40, 8, 2)).at[..., 0].set(u[:, None])
    assert float(jacobian_determinant(u).min()) > 0
    w = invert(u)
    assert float(jnp.abs(compose(u, w)).max()) < 2e-4
    plain = -u
    for _ in range(50):
        plain = -warp(u, plain)
    assert float(jnp.abs(compose(u, plain)).max()) > 0.1


def test_inverse_of_an_affine_map_is_known():
    grid = np.asarray(identity_grid((21, 21))) - 10
    a = np.array([[0.2, -0.3], [0.1, -0.25]])
    u = jnp.asarray(grid @ a.T, jnp.float32)[None]
    expected = grid @ (np.linalg.inv(np.eye(2) + a) - np.eye(2)).T
    inner = (slice(6, 15), slice(6, 15))
    np.testing.assert_allclose(invert(u)[0][inner], expected[inner], atol=1e-3)


@pytest.mark.parametrize("shape", [(8, 9), (5, 6, 5)])
def test_gradient_of_the_inverse_agrees_with_finite_differences(shape):
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        noise = jnp.asarray(rng.normal(size=(1, *shape, len(shape))))
        u = 0.3 + 0.8 * gaussian_filter(noise, 1.5)  # no point at a kink of the interpolant
        d, e = (jnp.asarray(rng.normal(size=u.shape)) for _ in range(2))

        def loss(u):
            return jnp.sum(jnp.sin(invert(u, iterations=200, tolerance=1e-13) + 0.3))

        def slope(u):
            return jnp.vdot(jax.grad(loss)(u), d)

        slope, loss = jax.jit(slope), jax.jit(loss)
        h = 1e-6
        numeric = (loss(u + h * d) - loss(u - h * d)) / (2 * h)
        np.testing.assert_allclose(slope(u), numeric, rtol=1e-6)
        if len(shape) == 3:
            return
        second = jnp.vdot(jax.jit(jax.grad(slope))(u), e)
        numeric = (slope(u + h * e) - slope(u - h * e)) / (2 * h)
        np.testing.assert_allclose(second, numeric, rtol=1e-5)


def test_bracket_and_composition_of_velocities_follow_the_matrices():
    import scipy.linalg

    rng = np.random.default_rng(0)
    a, b = 0.25 * rng.normal(size=(2, 3, 3))
    grid = np.asarray(identity_grid((7, 7, 7)), np.float64) - 3

    def field(matrix):
        return jnp.asarray(grid @ matrix.T, jnp.float32)[None]

    np.testing.assert_allclose(lie_bracket(field(a), field(b)), field(a @ b - b @ a), atol=1e-5)
    exact = scipy.linalg.logm(scipy.linalg.expm(a) @ scipy.linalg.expm(b))
    errors = [
        float(jnp.abs(compose_velocities(field(a), field(b), terms=k) - field(exact)).max())
        for k in (1, 2, 3)
    ]
    assert errors[1] < 0.5 * errors[0] and errors[2] < 0.5 * errors[1]


def test_logarithm_gives_the_velocity_back():
    v = _tapered((24, 24), 4, 3.0)
    u = exp_velocity(v, order=3)
    log = jax.jit(log_displacement)(u)
    assert float(jnp.abs(u - v).max()) > 0.3  # else there is nothing to find
    assert float(jnp.abs(log - v).max()) < 0.06
    assert float(jnp.abs(log - v).mean()) < 0.1 * float(jnp.abs(u - v).mean())


def test_wrong_settings_are_named():
    u = jnp.zeros((1, 4, 4, 2))
    with pytest.raises(ValueError, match="steps -1"):
        exp_velocity(u, steps=-1)
    with pytest.raises(ValueError, match="iterations 0"):
        invert(u, iterations=0, tolerance=0.1)
    with pytest.raises(ValueError, match="terms 4"):
        compose_velocities(u, u, terms=4)
