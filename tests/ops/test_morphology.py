import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.ops import morphology
from jaxmedgen.ops.morphology import elliptical_element

RNG = np.random.default_rng(0)
FLAT = RNG.random((3, 20, 17)) < 0.4
SOLID = RNG.random((2, 5, 12, 9)) < 0.4
CROSS = ndimage.generate_binary_structure(2, 1)


@pytest.mark.parametrize(("name", "reference"), [
    ("dilate", lambda m, n: ndimage.binary_dilation(m, CROSS, n)),
    ("erode", lambda m, n: ndimage.binary_erosion(m, CROSS, n, border_value=1)),
    ("binary_open", lambda m, n: ndimage.binary_dilation(
        ndimage.binary_erosion(m, CROSS, n, border_value=1), CROSS, n)),
    ("binary_close", lambda m, n: ndimage.binary_erosion(
        ndimage.binary_dilation(m, CROSS, n), CROSS, n, border_value=1)),
])  # fmt: skip
def test_operations_agree_with_scipy_at_one_count_a_sample(name, reference):
    counts = np.asarray([0, 1, 2])
    made = getattr(morphology, name)(jnp.asarray(FLAT), jnp.asarray(counts))
    for mask, count, out in zip(FLAT, counts, np.asarray(made)):
        expected = reference(mask, int(count)) if count else mask
        np.testing.assert_array_equal(out, expected)


def test_thick_slices_keep_to_themselves():
    element = elliptical_element((1, 3, 3))
    made = morphology.dilate(jnp.asarray(SOLID), 2, element=element)
    for mask, out in zip(SOLID, np.asarray(made)):
        np.testing.assert_array_equal(out, ndimage.binary_dilation(mask, element, 2))


def test_growth_stays_within_what_is_allowed():
    allowed = RNG.random(FLAT.shape) < 0.7
    made = morphology.dilate(jnp.asarray(FLAT), 5, within=jnp.asarray(allowed))
    for mask, limits, out in zip(FLAT, allowed, np.asarray(made)):
        np.testing.assert_array_equal(
            out, ndimage.binary_dilation(mask, CROSS, 5, mask=limits | mask)
        )


def test_elements_are_ellipses():
    np.testing.assert_array_equal(elliptical_element((3, 3)), CROSS)
    five = elliptical_element((5, 5))
    assert five.sum() == 13  # the disc of radius 2
    with pytest.raises(ValueError, match="odd sizes"):
        elliptical_element((2, 3))
    with pytest.raises(ValueError, match="element of 2 axes"):
        morphology.dilate(jnp.asarray(SOLID), element=CROSS)
