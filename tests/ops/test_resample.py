import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from jaxmedgen.ops.resample import (
    apply_matrices,
    low_resolution_matrix,
    resample,
    resample_labels,
    resize,
)

SHAPES = [(7, 9), (6, 7, 8)]


def _case(shape, channels=2, spread=1.5, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(2, *shape, channels)).astype(np.float32)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    coordinates = grid[None] + rng.uniform(-spread, spread, size=(2, *grid.shape))
    return image, coordinates.astype(np.float32)


def _scipy(image, coordinates, **kwargs):
    out = np.empty((*coordinates.shape[:-1], image.shape[-1]))
    for b in range(image.shape[0]):
        for c in range(image.shape[-1]):
            at = np.moveaxis(coordinates[b], -1, 0)
            out[b, ..., c] = ndimage.map_coordinates(image[b, ..., c], at, **kwargs)
    return out


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", [0, 1])
def test_border_and_constant_agree_with_scipy(shape, order):
    image, x = _case(shape)
    border = resample(jnp.asarray(image), jnp.asarray(x), order=order)
    np.testing.assert_allclose(border, _scipy(image, x, order=order, mode="nearest"), atol=2e-5)
    constant = resample(jnp.asarray(image), jnp.asarray(x), order=order, mode="constant", fill=3.0)
    expected = _scipy(image, x, order=order, mode="grid-constant", cval=3.0)
    np.testing.assert_allclose(constant, expected, atol=2e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_cubic_agrees_with_scipy_inside(shape):
    image, x = _case(shape)
    x = np.clip(x, 0, np.asarray(shape) - 1).astype(np.float32)
    out = resample(jnp.asarray(image), jnp.asarray(x), order=3)
    np.testing.assert_allclose(out, _scipy(image, x, order=3, mode="mirror"), atol=5e-5)


def test_output_shape_is_free_and_fill_is_per_channel():
    image = jnp.arange(2 * 4 * 5 * 2, dtype=jnp.float32).reshape(2, 4, 5, 2)
    x = jnp.asarray([[[1.0, 2.0], [-9.0, 2.0], [1e12, 0.0]]] * 2)
    fill = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])
    out = resample(image, x, mode="constant", fill=fill)
    assert out.shape == (2, 3, 2)
    np.testing.assert_allclose(out[:, 0], image[:, 1, 2])
    np.testing.assert_allclose(out[:, 1], fill)
    np.testing.assert_allclose(out[:, 2], fill)


@pytest.mark.parametrize("order", [1, 3])
def test_gradients_agree_with_finite_differences(order):
    rng = np.random.default_rng(1)
    image = jnp.asarray(rng.normal(size=(1, 5, 6, 2)))
    # Away from the integers, where linear interpolation has kinks.
    x = jnp.asarray(rng.integers(0, 4, size=(1, 7, 2)) + rng.uniform(0.2, 0.8, size=(1, 7, 2)))
    weight = jnp.asarray(rng.normal(size=(1, 7, 2)))
    with jax.enable_x64(True):
        image, x, weight = (jnp.asarray(np.asarray(a), jnp.float64) for a in (image, x, weight))

        def loss(image, x):
            return jnp.sum(weight * resample(image, x, order=order) ** 2)

        gradients = jax.grad(loss, (0, 1))(image, x)
        for position, gradient in enumerate(gradients):
            direction = jnp.asarray(rng.normal(size=gradient.shape))
            inputs = [image, x]

            def at(step, position=position, inputs=inputs, direction=direction):
                moved = list(inputs)
                moved[position] = moved[position] + step * direction
                return loss(*moved)

            numeric = (at(1e-5) - at(-1e-5)) / 2e-5
            np.testing.assert_allclose(jnp.vdot(gradient, direction), numeric, rtol=1e-6)


def test_labels_keep_ignore_values_and_fill_outside():
    labels = jnp.asarray([[[0, 255], [-1, 3]]], jnp.int32)
    x = jnp.asarray([[[0.4, 0.6], [0.6, 0.4], [0.9, 1.2], [-0.8, 0.0]]])
    np.testing.assert_array_equal(resample_labels(labels, x), [[255, -1, 3, 0]])
    np.testing.assert_array_equal(resample_labels(labels, x, fill=7), [[255, -1, 3, 7]])


@pytest.mark.parametrize("shape", SHAPES)
def test_linear_labels_equal_argmax_of_one_hot(shape):
    _, x = _case(shape, seed=3)
    labels = np.random.default_rng(4).integers(0, 4, size=(2, *shape)).astype(np.int32)
    one_hot = jax.nn.one_hot(labels, 4)
    background = jnp.asarray([[1.0, 0, 0, 0]] * 2)
    soft = resample(one_hot, jnp.asarray(x), mode="constant", fill=background)
    out = resample_labels(jnp.asarray(labels), jnp.asarray(x), order=1)
    np.testing.assert_array_equal(out, jnp.argmax(soft, -1))


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
    at = np.stack(np.meshgrid(*at, indexing="ij"), -1)[None].astype(np.float32)
    expected = _scipy(image, at, order=order, mode="nearest")
    np.testing.assert_allclose(resize(jnp.asarray(image), shape, order=order), expected, atol=1e-5)


@pytest.mark.parametrize("method,order", [("linear", 1), ("cubic", 3)])
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


def test_errors_name_value_and_fix():
    image, x = jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 4, 4, 3))
    with pytest.raises(ValueError, match="last axis must have size 2"):
        resample(image, x)
    with pytest.raises(ValueError, match=r"order 2 is unknown here: use one of \(0, 1, 3\)"):
        resample(image, x[..., :2], order=2)
    with pytest.raises(ValueError, match="order 3 is unknown"):
        resample_labels(jnp.zeros((1, 4, 4), jnp.int32), x[..., :2], order=3)
    with pytest.raises(ValueError, match="give one each"):
        resize(image, (2, 2, 2))
