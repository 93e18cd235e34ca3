import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.field_measures import (
    bending_energy,
    curl,
    divergence,
    folding_count,
    folding_percentage,
    jacobian_determinant,
    jacobian_matrix,
    log_jacobian_determinant,
)
from jaxmedgen.ops.fields import identity_grid


def _linear(shape, matrix):
    return jnp.asarray(np.asarray(identity_grid(shape)) @ matrix.T, jnp.float32)[None]


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


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 7)])
def test_derivatives_of_a_linear_map_in_voxels_and_mm(shape):
    axes = len(shape)
    matrix = np.random.default_rng(0).normal(size=(axes, axes))
    u = _linear(shape, matrix)
    spacing = np.asarray([1.0, 2.5, 4.0])[:axes]
    metric = matrix * spacing[:, None] / spacing  # of u in mm by positions in mm
    np.testing.assert_allclose(
        jacobian_matrix(u)[0, 2, 3],
        np.broadcast_to(matrix, jacobian_matrix(u)[0, 2, 3].shape),
        atol=1e-4,
    )
    wide = jacobian_matrix(u, spacing.tolist())
    np.testing.assert_allclose(wide, np.broadcast_to(metric, wide.shape), atol=1e-4)
    np.testing.assert_allclose(divergence(u), np.trace(matrix), atol=1e-4)
    if axes == 2:
        expected = [metric[1, 0] - metric[0, 1]]
    else:
        anti = metric - metric.T
        expected = [anti[2, 1], anti[0, 2], anti[1, 0]]
    rotation = curl(u, spacing.tolist())
    np.testing.assert_allclose(rotation, np.broadcast_to(expected, rotation.shape), atol=1e-4)
    assert float(bending_energy(u, spacing.tolist())[0]) < 1e-6


def test_curl_is_twice_the_angle_of_a_small_rotation():
    angle = np.array([0.001, -0.002, 0.003])
    cross = np.array([[0, -angle[2], angle[1]], [angle[2], 0, -angle[0]], [-angle[1], angle[0], 0]])
    np.testing.assert_allclose(curl(_linear((4, 4, 4), cross))[0, 1, 1, 1], 2 * angle, atol=1e-6)


@pytest.mark.parametrize("axes", [2, 3])
def test_bending_energy_of_a_quadratic_is_exact(axes):
    rng = np.random.default_rng(1)
    spacing = np.asarray([1.0, 1.5, 2.0])[:axes]
    hessian = rng.normal(size=(axes, axes, axes))
    hessian += hessian.swapaxes(1, 2)
    mm = (np.asarray(identity_grid((7, 6, 5)[:axes])) - 2) * spacing
    u_mm = 0.5 * np.einsum("...j,ijk,...k->...i", mm, hessian, mm)
    with jax.enable_x64(True):
        energy = bending_energy(jnp.asarray(u_mm / spacing)[None], spacing.tolist())
    np.testing.assert_allclose(energy, [np.sum(hessian**2)], rtol=1e-9)


def test_folded_voxels_are_counted_and_their_logarithm_is_bounded():
    u = np.zeros((2, 8, 10, 2), np.float32)
    u[1, 4, 5, 0] = 3.0  # du/dx = -1.5 at (5, 5): that voxel alone folds
    u = jnp.asarray(u)
    expected = np.sum(np.asarray(jacobian_determinant(u)) <= 0, (1, 2))
    np.testing.assert_array_equal(expected, [0, 1])
    np.testing.assert_array_equal(folding_count(u), expected)
    np.testing.assert_allclose(folding_percentage(u), [0.0, 100 / 80])
    log = log_jacobian_determinant(u, minimum=1e-3)
    assert float(log.min()) == pytest.approx(np.log(1e-3))
    assert float(log[1, 3, 5]) == pytest.approx(np.log(2.5))
    assert bool(jnp.all(jnp.isfinite(jax.grad(lambda u: log_jacobian_determinant(u).sum())(u))))


def test_fields_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"field of shape \(1, 4, 4, 3\)"):
        divergence(jnp.zeros((1, 4, 4, 3)))
    with pytest.raises(ValueError, match="at least 3 voxels an axis"):
        bending_energy(jnp.zeros((1, 2, 4, 2)))
    with pytest.raises(ValueError, match=r"spacing \(1.0, 0.0\)"):
        curl(jnp.zeros((1, 4, 4, 2)), (1.0, 0.0))
