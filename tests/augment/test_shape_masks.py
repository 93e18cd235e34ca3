"""Augmentation of shapes: spread of the drawn maps, closing by scipy, phases that stay together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from jaxmedgen.augment.shape_masks import ShapeAugmentation, close_by_cube


def test_drawn_maps_have_the_spread_of_the_reference():
    keys = jax.random.split(jax.random.key(0), 4000)
    parts = (
        ShapeAugmentation(shear=0.0, scale=0.0),
        ShapeAugmentation(shear=0.0, rotation=(0.0, 0.0), scale=0.03),
        ShapeAugmentation(scale=0.0, rotation=(0.0, 0.0)),
    )
    drawn = jax.jit(lambda keys: [part.matrices(keys, 3) for part in parts])(keys)
    turns, factors, shears = (np.asarray(x, np.float64)[:, :3, :3] for x in drawn)
    angles = np.rad2deg(Rotation.from_matrix(turns).as_euler("XYZ"))
    np.testing.assert_allclose(angles.std(0), [9, 6, 6], rtol=0.05)
    assert np.corrcoef(angles.T)[1, 2] > 0.99 and abs(np.corrcoef(angles.T)[0, 1]) < 0.1
    across = 1 / factors[:, 1, 1]
    assert across.min() == pytest.approx(0.95) and across.max() == pytest.approx(1.05)
    np.testing.assert_allclose(factors[:, 0, 0], 1)
    np.testing.assert_array_equal(factors[:, 1, 1], factors[:, 2, 2])
    drawn = shears[:, [0, 0, 1], [1, 2, 2]]
    assert ((drawn != 0).sum(1) == 1).all()
    np.testing.assert_allclose((drawn != 0).mean(0), 1 / 3, atol=0.03)
    np.testing.assert_allclose(drawn.sum(1).std(), 0.05, rtol=0.05)


def test_masks():
    rng = np.random.default_rng(0)
    image = np.zeros((4, 12, 12, 12, 2), np.float32)
    image[:, 3:9, 3:9, 3:9] = rng.random((4, 6, 6, 6, 1)) < 0.6
    keys = jax.random.split(jax.random.key(0), 4)
    still = ShapeAugmentation(0.0, (0.0, 0.0), 0.0, closing=0.0)

    @jax.jit
    def look(keys, image):
        closed = close_by_cube(image > 0.5)
        return closed, still(keys, image), ShapeAugmentation()(keys, image)

    closed, same, moved = (np.asarray(x) for x in look(keys, jnp.asarray(image)))
    expected = ndimage.binary_closing(image[1, ..., 0] > 0.5, np.ones((2, 2, 2)))
    np.testing.assert_array_equal(closed[1, ..., 0], expected)
    assert (closed[1, ..., 0] != image[1, ..., 0]).any()
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(moved[..., 0], moved[..., 1])
    assert set(np.unique(moved)) == {0.0, 1.0} and (moved != image).any()
    with pytest.raises(ValueError, match="closing=2 is no probability"):
        ShapeAugmentation(closing=2)
