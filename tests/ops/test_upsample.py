"""Upsampling and pooling against numpy and scipy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import zoom

from jaxmedgen.ops.upsample import average_pool, average_pool3, max_pool, upsample


def _image(*size):
    return jnp.asarray(np.random.default_rng(0).normal(size=(2, *size, 3)), jnp.float32)


@pytest.mark.parametrize("factor", [2, (1, 3, 2)], ids=str)
def test_nearest_repeats_voxels(factor):
    x = _image(3, 2, 4)
    factors = (factor,) * 3 if isinstance(factor, int) else factor
    expected = np.asarray(x)
    for axis, f in enumerate(factors, start=1):
        expected = expected.repeat(f, axis)
    np.testing.assert_array_equal(upsample(x, factor), expected)


def test_nearest_keeps_integer_labels():
    labels = jnp.arange(8, dtype=jnp.int32).reshape(1, 2, 2, 2)
    assert upsample(labels, 2).dtype == jnp.int32


@pytest.mark.parametrize("factor", [2, 3])
def test_linear_equals_scipy_zoom(factor):
    x = _image(4, 5)
    expected = zoom(np.float64(x), (1, factor, factor, 1), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(upsample(x, factor, "linear"), expected, atol=1e-5)


def test_linear_reproduces_a_ramp_inside():
    ramp = jnp.arange(6.0).reshape(1, 6, 1, 1) * jnp.ones((1, 6, 4, 1))
    up = upsample(ramp, (4, 1), "linear")
    np.testing.assert_allclose(up[0, 2:-2, 0, 0], (np.arange(2, 22) + 0.5) / 4 - 0.5, atol=1e-6)


def test_pools_invert_nearest():
    x = _image(3, 2, 4)
    np.testing.assert_allclose(average_pool(upsample(x, (1, 2, 4)), (1, 2, 4)), x, rtol=1e-6)
    np.testing.assert_array_equal(max_pool(upsample(x, 2), 2), x)


def test_pools_against_loops():
    x = np.asarray(_image(4, 6))
    blocks = x.reshape(2, 2, 2, 3, 2, 3)
    np.testing.assert_allclose(average_pool(jnp.asarray(x), 2), blocks.mean((2, 4)), rtol=1e-5)
    np.testing.assert_array_equal(max_pool(jnp.asarray(x), 2), blocks.max((2, 4)))


def test_errors():
    with pytest.raises(ValueError, match="not divisible"):
        average_pool(_image(5, 4), 2)
    with pytest.raises(ValueError, match="factor=0"):
        upsample(_image(5, 4), 0)


def test_windows_of_three_do_not_count_voxels_outside():
    x = np.random.default_rng(0).normal(size=(1, 7, 8, 2)).astype(np.float32)
    expected = np.zeros((1, 4, 4, 2), np.float32)
    for i in range(4):
        for j in range(4):
            rows, columns = (slice(max(2 * k - 1, 0), 2 * k + 2) for k in (i, j))
            expected[:, i, j] = x[:, rows, columns].mean((1, 2))
    np.testing.assert_allclose(average_pool3(jnp.asarray(x)), expected, rtol=1e-5, atol=1e-6)
