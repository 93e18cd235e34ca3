import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from jaxmedgen.ops.distance import distance_transform, signed_distance

DISTANCE = jax.jit(distance_transform)


@pytest.mark.parametrize(
    "shape, spacing", [((23, 17), None), ((12, 15, 9), (1.0, 0.7, 3.0)), ((31, 5), (0.5, 2.0))]
)
def test_agrees_with_scipy(shape, spacing):
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(3, *shape)), (0, *(2.0,) * len(shape)))
    masks = np.stack([smooth[0] > 0, smooth[1] > -0.2, rng.uniform(size=shape) < 0.98])
    out = jax.jit(lambda m: distance_transform(m, spacing=spacing))(jnp.asarray(masks))
    for mask, ours in zip(masks, out):
        expected = ndimage.distance_transform_edt(mask, sampling=spacing)
        np.testing.assert_allclose(ours, expected, rtol=1e-6)
    assert float(out.max()) > 3


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 10)), min_size=1, max_size=4))
def test_is_the_minimum_over_all_background_voxels(holes):
    mask = np.ones((1, 9, 11), bool)
    for row, column in holes:
        mask[0, row, column] = False
    rows, columns = np.indices((9, 11))
    squared = [(rows - r) ** 2 + (columns - c) ** 2 for r, c in holes]
    out = np.asarray(DISTANCE(jnp.asarray(mask))[0])
    assert np.allclose(out, np.sqrt(np.min(squared, 0)), rtol=1e-6)


def test_mask_without_background_is_infinitely_deep_and_an_empty_one_flat():
    masks = jnp.stack([jnp.ones((4, 5), bool), jnp.zeros((4, 5), bool)])
    out = distance_transform(masks)
    assert bool(jnp.all(jnp.isinf(out[0]))) and bool(jnp.all(out[1] == 0))


@pytest.mark.parametrize("shape,spacing", [((13, 9), (1.0, 1.0)), ((9, 8, 7), (1.0, 2.5, 0.7))])
def test_signed_distances_are_scipys(shape, spacing):
    mask = np.random.default_rng(0).uniform(size=(3, *shape)) < 0.2
    found = jax.jit(lambda m: signed_distance(m, spacing=spacing))(jnp.asarray(mask))
    for one, distance in zip(mask, found):
        outside = ndimage.distance_transform_edt(~one, sampling=spacing)
        inside = ndimage.distance_transform_edt(one, sampling=spacing)
        np.testing.assert_allclose(distance, outside - inside, atol=1e-4)
        assert ((np.asarray(distance) < 0) == one).all()


def test_an_empty_mask_is_far_from_everything():
    empty = jnp.zeros((1, 5, 5), bool)
    assert float(signed_distance(empty).min()) > 1e4
    assert float(signed_distance(~empty).max()) < -1e4


def test_spacing_is_checked():
    with pytest.raises(ValueError, match=r"spacing \(1.0, -1.0\)"):
        distance_transform(jnp.ones((1, 4, 4), bool), spacing=(1.0, -1.0))
