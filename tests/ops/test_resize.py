"""Resizing against scipy, PIL and jax.image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from jaxmedgen.ops.resize import apply_matrices, low_resolution_matrix, resize


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("shape", [(12, 5), (4, 9), (8, 8)])
def test_resize_agrees_with_scipy_zoom_grid_mode(order, shape):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 8, 6, 1)).astype(np.float32)
    if order == 3:  # Keys' kernel reproduces quadratics, away from the border.
        i, j = np.meshgrid(np.arange(8.0), np.arange(6.0), indexing="ij")
        image[0, ..., 0] = 0.3 * i**2 + i * j - j
        x = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip((8, 6), shape)]
        i, j = np.meshgrid(*x, indexing="ij")
        expected = 0.3 * i**2 + i * j - j
        inside = (i >= 1) & (i <= 6) & (j >= 1) & (j <= 4)
        out = resize(jnp.asarray(image), shape, order=3)[0, ..., 0]
        np.testing.assert_allclose(out[inside], expected[inside], atol=1e-4)
        return
    at = [(np.arange(m) + 0.5) * n / m - 0.5 for n, m in zip((8, 6), shape)]
    at = np.meshgrid(*at, indexing="ij")
    expected = ndimage.map_coordinates(image[0, ..., 0], at, order=order, mode="nearest")
    out = resize(jnp.asarray(image), shape, order=order)
    np.testing.assert_allclose(out[0, ..., 0], expected, atol=1e-5)


@pytest.mark.parametrize("method,order", [("linear", 1), ("cubic", 3), ("lanczos3", "lanczos")])
def test_antialiased_resize_agrees_with_jax_image(method, order):
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 12, 10, 3)), jnp.float32)
    expected = jax.image.resize(image, (2, 6, 7, 20, 3), method, antialias=True)
    out = resize(image, (6, 7, 20), order=order, antialias=True)
    np.testing.assert_allclose(out, expected, atol=1e-5)


@settings(max_examples=6, deadline=None)
@given(size=st.integers(2, 17), count=st.integers(1, 17))
def test_low_resolution_matrix_is_down_then_up(size, count):
    count = min(count, size)
    matrix = low_resolution_matrix(size, count / size)
    x = np.random.default_rng(size).normal(size=(1, size, 1, 1)).astype(np.float32)
    expected = resize(resize(jnp.asarray(x), (count, 1), order=0), (size, 1), order=3)
    inner = slice(None) if count == size else slice(2 * size // count, size - 2 * size // count)
    out = apply_matrices(jnp.asarray(x), [matrix, jnp.eye(1)])
    np.testing.assert_allclose(out[:, inner], expected[:, inner], atol=1e-4)
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 10), (33, 16), (15, 40)])
@pytest.mark.parametrize("order,method", [(3, Image.BICUBIC), ("lanczos", Image.LANCZOS)])
def test_antialiased_resize_agrees_with_pillow(order, method, shape):
    image = np.random.default_rng(1).normal(size=(24, 31)).astype(np.float32)
    expected = Image.fromarray(image).resize(shape[::-1], method)
    out = resize(jnp.asarray(image)[None, ..., None], shape, order=order, antialias=True)
    np.testing.assert_allclose(out[0, ..., 0], expected, atol=2e-5)


def test_lanczos_averages_out_what_the_coarse_grid_cannot_show():
    fast = jnp.tile(jnp.asarray([1.0, -1.0]), 32)[None, :, None, None] * jnp.ones((1, 64, 4, 1))
    averaged = resize(fast, (16, 4), order="lanczos")
    # Without antialiasing the centres lie half-way between voxels; a third of the grid aliases.
    aliased = resize(fast, (21, 4), order="lanczos", antialias=False)
    assert float(jnp.abs(averaged[:, 2:-2]).max()) < 0.02 < 0.5 < float(jnp.abs(aliased).max())


def test_resize_keeps_float64():
    image = np.random.default_rng(2).normal(size=(1, 9, 8, 1))
    with jax.enable_x64(True):
        out = resize(jnp.asarray(image), (4, 16), order="lanczos")
        back = resize(jnp.ones((1, 9, 8, 1), jnp.float64), (4, 16), order="lanczos")
        assert out.dtype == jnp.float64
        np.testing.assert_allclose(back, 1.0, rtol=1e-15)


def test_errors_name_value_and_fix():
    image = jnp.zeros((1, 4, 4, 1))
    with pytest.raises(ValueError, match="give one each"):
        resize(image, (2, 2, 2))
    with pytest.raises(ValueError, match="at least 1"):
        resize(image, (2, 0))
    with pytest.raises(ValueError, match="order 'sinc' is unknown to resize"):
        resize(image, (2, 2), order="sinc")
    with pytest.raises(ValueError, match="give one an axis"):
        apply_matrices(image, [np.eye(4)])
