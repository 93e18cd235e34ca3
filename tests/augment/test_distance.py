import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.augment.distance import signed_distance


@pytest.mark.parametrize("shape,spacing", [((13, 9), (1.0, 1.0)), ((9, 8, 7), (1.0, 2.5, 0.7))])
def test_distances_are_scipys(shape, spacing):
    mask = np.random.default_rng(0).uniform(size=(3, *shape)) < 0.2
    found = jax.jit(lambda m: signed_distance(m, spacing))(jnp.asarray(mask))
    for one, distance in zip(mask, found):
        outside = ndimage.distance_transform_edt(~one, sampling=spacing)
        inside = ndimage.distance_transform_edt(one, sampling=spacing)
        np.testing.assert_allclose(distance, outside - inside, atol=1e-4)
        assert ((np.asarray(distance) < 0) == one).all()


def test_an_empty_mask_is_far_from_everything():
    empty = jnp.zeros((1, 5, 5), bool)
    assert float(signed_distance(empty, (1.0, 1.0)).min()) > 1e4
    assert float(signed_distance(~empty, (1.0, 1.0)).max()) < -1e4
