import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.affine import (
    affine_coordinates,
    affine_displacement,
    affine_matrix,
    transform_coordinates,
)
from jaxmedgen.ops.resample import resample


def _rotation(angles):
    angles = jnp.asarray(angles, jnp.float32)
    return affine_matrix(angles, jnp.ones((len(angles), {1: 2, 3: 3}[angles.shape[1]])))


def test_quarter_turn_equals_rot90_and_four_give_identity():
    image = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 6, 5, 1)), jnp.float32)
    matrix = _rotation([[0.0, 0.0, np.pi / 2]])  # about axis 2; the picture turns the other way
    turned = resample(image, affine_coordinates(matrix, image.shape[1:-1]))
    np.testing.assert_allclose(turned[0, ..., 0], np.rot90(image[0, ..., 0], -1), atol=1e-5)
    four = jnp.linalg.matrix_power(matrix[0], 4)
    np.testing.assert_allclose(four, jnp.eye(4), atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rotation_keeps_its_axis_and_is_orthogonal(axis):
    angles = np.zeros((1, 3))
    angles[0, axis] = 0.3
    linear = np.asarray(_rotation(angles))[0, :3, :3]
    np.testing.assert_allclose(linear @ np.eye(3)[axis], np.eye(3)[axis], atol=1e-6)
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(linear) == pytest.approx(1.0, abs=1e-6)
    assert np.trace(linear) == pytest.approx(1 + 2 * np.cos(0.3), abs=1e-6)


def test_spacing_turns_a_rotation_in_mm_into_voxels():
    # 4 x 2 mm voxels: one voxel along axis 0 from the centre is 4 mm, that is 2 voxels of axis 1.
    x = transform_coordinates(
        _rotation([[np.pi / 2]]), jnp.asarray([[[3.0, 2.0]]]), (5, 5), (4.0, 2.0)
    )
    np.testing.assert_allclose(x, [[[2.0, 4.0]]], atol=1e-5)


def test_factors_are_applied_in_the_documented_order():
    matrix = affine_matrix(
        jnp.asarray([[np.pi / 2]]),
        jnp.asarray([[2.0, 3.0]]),
        jnp.asarray([[0.5]]),
        jnp.asarray([[10.0, 20.0]]),
    )
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    expected = turn @ np.array([[1, 0.5], [0, 1]]) @ np.diag([2.0, 3.0])
    np.testing.assert_allclose(matrix[0, :2, :2], expected, atol=1e-6)
    np.testing.assert_allclose(matrix[0, :, 2], [10, 20, 1])


def test_identity_displaces_nothing():
    matrix = affine_matrix(
        jnp.zeros((2, 3)), jnp.ones((2, 3)), jnp.zeros((2, 3)), jnp.zeros((2, 3))
    )
    assert float(jnp.abs(affine_displacement(matrix, (4, 5, 6), (1.0, 0.7, 3.0))).max()) < 1e-6


def test_wrong_number_of_angles_is_named():
    with pytest.raises(ValueError, match="3 angles for 2 axes: 2D takes 1, 3D takes 3"):
        affine_matrix(jnp.zeros((1, 3)), jnp.ones((1, 2)))
