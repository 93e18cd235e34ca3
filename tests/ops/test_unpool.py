"""Pooling with places and its inverse against scipy and a loop."""

import jax
import numpy as np
import pytest
import scipy.ndimage

from jaxmedgen.ops.unpool import max_pool_places, max_unpool


@pytest.mark.parametrize("shape", [(5, 6), (4, 3, 2)])
def test_values_return_to_where_the_maxima_were(shape):
    """Odd sizes too: unpooling the maxima leaves them in place and zeros elsewhere."""
    x = np.random.default_rng(0).normal(size=(2, *shape, 3)).astype(np.float32)

    @jax.jit
    def both(x):
        values, places = max_pool_places(x)
        return values, max_unpool(values, places)

    values, back = map(np.asarray, both(x))
    size = (1, *(2,) * len(shape), 1)
    corner = (slice(None), *(slice(None, None, 2),) * len(shape))
    padded = np.pad(x, [(0, 0), *[(0, n % 2) for n in shape], (0, 0)], constant_values=-9)
    # An even window of scipy's is centred on its second voxel.
    largest = scipy.ndimage.maximum_filter(
        padded, size, mode="constant", cval=-9, origin=[0, *[-1] * len(shape), 0]
    )[corner]
    np.testing.assert_array_equal(values, largest)
    inside = back[(slice(None), *(slice(n) for n in shape))]
    up = values
    for axis, n in enumerate(shape, start=1):
        up = np.take(up.repeat(2, axis), range(n), axis)
    np.testing.assert_array_equal(inside, np.where(x == up, x, 0))
