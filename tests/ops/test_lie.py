import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from jaxmedgen.ops.lie import (
    affine_exponential,
    affine_logarithm,
    matrix_exponential,
    rigid_exponential,
    rigid_logarithm,
)


def test_matrix_exponential_agrees_with_scipy_over_all_sizes():
    rng = np.random.default_rng(0)
    norms = np.array([0.0, 1e-8, 1e-3, 0.4, 0.5, 1.0, 7.0, 30.0])
    a = rng.normal(size=(8, 2, 4, 4))
    a *= norms[:, None, None, None] / np.abs(a).sum(-1).max(-1)[..., None, None]
    expected = scipy.linalg.expm(a)
    with jax.enable_x64(True):
        np.testing.assert_allclose(matrix_exponential(jnp.asarray(a)), expected, rtol=1e-9)
    single = np.asarray(matrix_exponential(jnp.asarray(a, jnp.float32)))
    scale = np.abs(expected).max((-1, -2), keepdims=True)
    assert np.abs(single - expected)[:-1].max() / scale.min() < 1e-3
    assert (np.abs(single - expected) / scale).max() < 2e-5


@pytest.mark.parametrize("count", [6, 12])
def test_opposite_parameters_give_the_inverse_map(count):
    g = jnp.asarray(0.5 * np.random.default_rng(1).normal(size=(5, count)), jnp.float32)
    product = jnp.matmul(affine_exponential(g), affine_exponential(-g), precision="highest")
    size = {6: 3, 12: 4}[count]
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(size), product.shape), atol=1e-5)
    identity = affine_exponential(jnp.zeros((1, count)))
    np.testing.assert_array_equal(identity[0], np.eye(size))


def test_affine_parameters_stand_in_the_published_order():
    g = np.array([0.1, -0.2, 0.5, 0.3, 0.05, -0.4])  # [g11 g12 t1; g21 g22 t2]
    expected = scipy.linalg.expm(np.array([g[:3], g[3:], np.zeros(3)]))
    np.testing.assert_allclose(affine_exponential(jnp.asarray([g]))[0], expected, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([6, 12]))
def test_affine_logarithm_inverts_the_exponential(seed, count):
    g = np.random.default_rng(seed).uniform(-0.8, 0.8, size=(3, count)).astype(np.float32)
    matrix = affine_exponential(jnp.asarray(g))
    np.testing.assert_allclose(affine_logarithm(matrix), g, atol=5e-5)


def test_affine_logarithm_agrees_with_scipy_for_strong_maps():
    turn = Rotation.from_rotvec([2.0, -1.0, 1.5]).as_matrix()
    for linear in (turn, np.diag([0.05, 1.0, 20.0]), turn @ np.diag([0.5, 1.2, 3.0])):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = linear, (3.0, -8.0, 20.0)
        expected = scipy.linalg.logm(matrix)[:3].reshape(-1)
        with jax.enable_x64(True):
            log = affine_logarithm(jnp.asarray(matrix)[None])[0]
        np.testing.assert_allclose(log, expected, atol=1e-9)
        single = affine_logarithm(jnp.asarray(matrix, jnp.float32)[None])[0]
        np.testing.assert_allclose(single, expected, atol=5e-4)


def test_rigid_exponential_agrees_with_scipy_at_all_angles():
    rng = np.random.default_rng(2)
    for angle in (0.0, 1e-5, 0.05, 0.0999, 0.1001, 1.0, 3.0, 3.14159):
        axis = rng.normal(size=3)
        rotation = angle * axis / np.linalg.norm(axis)
        velocity = rng.normal(size=3)
        algebra = np.zeros((4, 4))
        x, y, z = rotation
        algebra[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
        algebra[:3, 3] = velocity
        parameters = jnp.asarray([[*rotation, *velocity]], jnp.float32)
        matrix = rigid_exponential(parameters)
        np.testing.assert_allclose(matrix[0], scipy.linalg.expm(algebra), atol=2e-6)
        expected = Rotation.from_rotvec(rotation).as_matrix()
        np.testing.assert_allclose(matrix[0, :3, :3], expected, atol=1e-6)
        np.testing.assert_allclose(rigid_logarithm(matrix), parameters, atol=2e-5)


def test_plane_rotation_turns_axis_0_to_axis_1_and_back():
    parameters = jnp.asarray([[np.pi / 2, 1.0, 0.0], [-3.0, 0.3, 0.2], [0.0, 2.0, 3.0]])
    matrix = rigid_exponential(parameters)
    np.testing.assert_allclose(matrix[0, :2, :2] @ np.array([1, 0]), [0, 1], atol=1e-6)
    np.testing.assert_allclose(rigid_logarithm(matrix), parameters, atol=1e-5)


@pytest.mark.parametrize("count", [3, 6])
def test_rigid_maps_are_differentiable_at_the_identity(count):
    rng = np.random.default_rng(3)
    with jax.enable_x64(True):
        for start in (np.zeros((1, count)), 0.04 * rng.normal(size=(1, count))):
            jacobian = jax.jit(jax.jacrev(rigid_exponential))(jnp.asarray(start))
            numeric = np.zeros(jacobian.shape)
            for k in range(count):
                step = 1e-6 * np.eye(count)[k]
                above, below = (rigid_exponential(jnp.asarray(start + s * step)) for s in (1, -1))
                numeric[..., 0, k] = (above - below) / 2e-6
            np.testing.assert_allclose(jacobian, numeric, atol=1e-8)

            def there_and_back(p):
                return rigid_logarithm(rigid_exponential(p))

            round_trip = jax.jit(jax.jacrev(there_and_back))(jnp.asarray(start))[0, :, 0]
            np.testing.assert_allclose(round_trip, np.eye(count), atol=1e-8)


def test_affine_gradients_agree_with_differences():
    rng = np.random.default_rng(4)
    with jax.enable_x64(True):
        g, d = (jnp.asarray(s * rng.normal(size=(2, 12))) for s in (0.3, 1.0))
        for function in (
            lambda g: affine_exponential(g)[:, :3],
            lambda g: affine_logarithm(affine_exponential(g) + 0.01),
        ):
            function = jax.jit(function)
            slope = jax.jit(lambda g, d, f=function: jax.jvp(f, (g,), (d,))[1])(g, d)
            numeric = (function(g + 1e-6 * d) - function(g - 1e-6 * d)) / 2e-6
            np.testing.assert_allclose(slope, numeric, atol=1e-7)


def test_maps_without_logarithm_are_refused():
    flip = jnp.asarray(np.diag([-1.0, 1, 1, 1])[None], jnp.float32)
    with pytest.raises(ValueError, match=r"matrix 0 is a reflection \(determinant -1\)"):
        affine_logarithm(flip)
    with pytest.raises(ValueError, match="matrix 1 is singular"):
        affine_logarithm(jnp.stack([jnp.eye(4), jnp.diag(jnp.asarray([1.0, 0, 1, 1]))]))
    with pytest.raises(ValueError, match="a negative one has no real logarithm"):
        affine_logarithm(jnp.asarray(np.diag([-1.0, -2.0, 1, 1])[None], jnp.float32))
    with pytest.raises(ValueError, match="matrix 0 is not rigid"):
        rigid_logarithm(jnp.asarray(np.diag([2.0, 1, 1, 1])[None], jnp.float32))
    with pytest.raises(ValueError, match="7 parameters a map: give 6 in 2D, 12 in 3D"):
        affine_exponential(jnp.zeros((1, 7)))
