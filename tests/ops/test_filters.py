import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.ops.filters import (
    gaussian_filter,
    grey_dilation,
    grey_erosion,
    median_filter,
    sobel,
)

RNG = np.random.default_rng(0)


def test_gaussian_filter_agrees_with_scipy_and_width_may_differ_by_sample():
    x = RNG.normal(size=(2, 20, 24, 16, 2)).astype(np.float32)
    out = jax.jit(gaussian_filter)(jnp.asarray(x), jnp.asarray([1.5, 3.0]))
    for b, sigma in enumerate((1.5, 3.0)):
        for c in range(2):
            expected = ndimage.gaussian_filter(x[b, ..., c], sigma, mode="reflect", truncate=8)
            np.testing.assert_allclose(out[b, ..., c], expected, atol=1e-5)
    unequal = gaussian_filter(jnp.asarray(x), (1.0, 0.0, 2.0))
    expected = ndimage.gaussian_filter(x[0, ..., 0], (1.0, 0.0, 2.0), truncate=8)
    np.testing.assert_allclose(unequal[0, ..., 0], expected, atol=1e-5)
    np.testing.assert_allclose(gaussian_filter(jnp.asarray(x), 0.0), x, atol=1e-6)
    in_mm = gaussian_filter(jnp.asarray(x), 3.0, spacing=(1.0, 2.0, 6.0))
    expected = ndimage.gaussian_filter(x[0, ..., 0], (3.0, 1.5, 0.5), truncate=8)
    assert np.abs(in_mm[0, ..., 0] - expected).max() < 1e-5


@pytest.mark.parametrize("shape", [(9, 12), (7, 8, 9)])
def test_sobel_agrees_with_scipy_and_gives_the_slope_in_mm(shape):
    x = jnp.asarray(RNG.normal(size=(1, *shape, 1)), jnp.float32)
    out = sobel(x)
    for axis in range(len(shape)):
        expected = ndimage.sobel(np.asarray(x[0, ..., 0]), axis) / (2 * 4 ** (len(shape) - 1))
        np.testing.assert_allclose(out[0, ..., 0, axis], expected, atol=1e-5)
    slopes = np.arange(1.0, len(shape) + 1)
    ramp = jnp.asarray(np.tensordot(slopes, np.indices(shape), 1)[None, ..., None], jnp.float32)
    inner = (0, *(slice(1, -1),) * len(shape), 0)
    in_mm = sobel(ramp, spacing=(2.0,) * len(shape))[inner]
    assert np.abs(in_mm - slopes / 2).max() < 1e-5


@pytest.mark.parametrize(
    "shape, size", [((11, 12), 3), ((11, 12), (5, 3)), ((6, 7, 8), 3), ((9, 9), 7), ((5, 6), 1)]
)
def test_median_and_box_extremes_agree_with_scipy(shape, size):
    x = jnp.asarray(RNG.normal(size=(2, *shape, 2)), jnp.float32)
    pairs = [
        (median_filter, ndimage.median_filter),
        (grey_dilation, ndimage.grey_dilation),
        (grey_erosion, ndimage.grey_erosion),
    ]
    for ours, theirs in pairs:
        out = np.asarray(jax.jit(ours, static_argnums=1)(x, size))
        expected = theirs(
            np.asarray(x[1, ..., 0]), size=size if isinstance(size, tuple) else (size,) * len(shape)
        )
        assert np.array_equal(out[1, ..., 0], expected), ours.__name__
    labels = jnp.asarray(RNG.integers(0, 3, (1, *shape, 1)))
    grown = ndimage.grey_dilation(np.asarray(labels[0, ..., 0]), size=(3,) * len(shape))
    assert np.array_equal(grey_dilation(labels)[0, ..., 0], grown)


def test_median_removes_impulses_in_float64_and_has_a_gradient():
    with jax.enable_x64(True):
        x = jnp.zeros((1, 7, 7, 1), jnp.float64).at[0, 3, 3, 0].set(100.0) + 1.0
        assert float(median_filter(x).max()) == 1.0
        y = jnp.asarray(RNG.normal(size=(1, 6, 6, 1)))
        gradient = jax.grad(lambda y: median_filter(y).sum())(y)
        # Each median is one pixel's value: the gradient counts how often each was chosen.
        assert float(gradient.sum()) == pytest.approx(36)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: gaussian_filter(x, -1.0), "sigma -1.0 must not be negative"),
        (lambda x: gaussian_filter(x, (1.0, float("nan"))), "sigma .*nan"),
        (lambda x: gaussian_filter(x, 1.0, spacing=(1.0, 0.0)), r"spacing \(1.0, 0.0\)"),
        (lambda x: sobel(x, spacing=(1.0,)), r"spacing \(1.0,\) must be 2"),
        (lambda x: median_filter(x, 4), "size 4 must be odd"),
        (lambda x: median_filter(x, 9), "size 9 is larger"),
        (lambda x: grey_erosion(x, (3, 3, 3)), "size .* one an axis"),
    ],
)
def test_bad_settings_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.zeros((1, 8, 8, 1)))
