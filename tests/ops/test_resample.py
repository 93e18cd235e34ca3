"""Sampling at arbitrary coordinates against scipy and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.ops.kernels import resample_native
from jaxmedgen.ops.resample import resample

SHAPES = [(7, 9), (6, 7, 8)]
SCIPY = {"border": "nearest", "constant": "grid-constant", "reflect": "mirror", "wrap": "grid-wrap"}
BACKENDS = [
    "xla",
    pytest.param(
        "native", marks=pytest.mark.skipif(not resample_native.available(), reason="no compiler")
    ),
]


def _case(shape, channels=2, seed=0):
    """Random images, and points up to two image sizes outside of them."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(2, *shape, channels)).astype(np.float32)
    far = [rng.uniform(-2.0 * n, 3.0 * n, size=(2, 100)) for n in shape]
    near = [rng.uniform(-2.0, n + 1.0, size=(2, 100)) for n in shape]
    x = np.concatenate([np.stack(far, -1), np.stack(near, -1)], 1)
    return image, x.astype(np.float32).reshape(2, 20, 10, -1)


def _scipy(image, x, order, mode, fill):
    """`ndimage.map_coordinates`; its cubic "nearest" is the spline of other data than ours."""
    name = SCIPY[mode]
    if mode == "border" and order == 3:
        x, name = np.clip(x, 0, np.asarray(image.shape[1:-1]) - 1), "mirror"
    out = np.empty((*x.shape[:-1], image.shape[-1]))
    for b in range(image.shape[0]):
        at = np.moveaxis(x[b].astype(np.float64), -1, 0)
        for c in range(image.shape[-1]):
            voxels = image[b, ..., c].astype(np.float64)
            out[b, ..., c] = ndimage.map_coordinates(voxels, at, order=order, mode=name, cval=fill)
    return out


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_every_mode_agrees_with_scipy(order, shape, backend):
    image, x = _case(shape)
    for mode in SCIPY:
        options = dict(order=order, mode=mode, fill=1.5)
        sample = jax.jit(functools.partial(resample, backend=backend, **options))
        out = np.asarray(sample(image, x))
        # Coordinates far outside lose digits when they are folded back, in float32.
        close = np.abs(out - _scipy(image, x, **options)) < 1e-4
        assert close.all(), f"{mode}: {np.count_nonzero(~close)} of {close.size} differ"


def test_the_shortest_axes():
    image = np.random.default_rng(2).normal(size=(1, 1, 2, 3, 1)).astype(np.float32)
    x = np.random.default_rng(3).uniform(-4, 6, size=(1, 60, 3)).astype(np.float32)
    for mode in ("reflect", "wrap"):  # scipy folds an axis of one voxel likewise
        for order in (1, 3):
            out = resample(jnp.asarray(image), jnp.asarray(x), order=order, mode=mode)
            expected = _scipy(image, x, order, mode, 0.0)
            np.testing.assert_allclose(out, expected, atol=1e-4)
            assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("backend", BACKENDS)
def test_output_shape_is_free_and_fill_is_per_channel(backend):
    image = jnp.arange(2 * 4 * 5 * 2, dtype=jnp.float32).reshape(2, 4, 5, 2)
    x = jnp.asarray([[[1.0, 2.0], [-9.0, 2.0], [1e12, 0.0]]] * 2)
    fill = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])
    out = resample(image, x, mode="constant", fill=fill, backend=backend)
    assert out.shape == (2, 3, 2)
    np.testing.assert_allclose(out[:, 0], image[:, 1, 2])
    np.testing.assert_allclose(out[:, 1], fill)
    np.testing.assert_allclose(out[:, 2], fill)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", [1, 3])
def test_undefined_coordinates_show(order, backend):
    image = jnp.ones((1, 4, 5, 1))
    x = jnp.asarray([[[1.0, jnp.nan], [1.0, 2.0]]])
    for mode in SCIPY:
        out = resample(image, x, order=order, mode=mode, backend=backend)
        assert np.isnan(out[0, 0, 0]) and np.isfinite(out[0, 1, 0]), mode


@pytest.mark.parametrize(
    "order,mode", [(1, "constant"), (1, "reflect"), (3, "border"), (3, "constant"), (3, "wrap")]
)
def test_derivatives_agree_with_finite_differences(order, mode):
    """Gradient and Hessian-vector product to image and coordinates, float64."""
    rng = np.random.default_rng(1)
    # Away from the integers, where linear interpolation has kinks; some outside of the image.
    x = rng.integers(-2, 7, size=(1, 9, 2)) + rng.uniform(0.2, 0.8, size=(1, 9, 2))
    with jax.enable_x64(True):
        at = [jnp.asarray(rng.normal(size=(1, 5, 6, 2))), jnp.asarray(x)]
        along = [jnp.asarray(rng.normal(size=a.shape)) for a in at]

        @jax.jit
        def moved(step):
            def loss(image, x):
                return jnp.sum(jnp.sin(resample(image, x, order=order, mode=mode, fill=0.3)))

            here = [a + step * d for a, d in zip(at, along)]
            gradient = jax.grad(loss, (0, 1))
            return loss(*here), gradient(*here), jax.jvp(gradient, here, along)[1]

        step = 1e-5
        (_, gradient, product) = moved(0.0)
        (above, gradient_above, _), (below, gradient_below, _) = moved(step), moved(-step)
        slope = sum(jnp.vdot(g, d) for g, d in zip(gradient, along))
        np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-6)
        for found, high, low in zip(product, gradient_above, gradient_below):
            np.testing.assert_allclose(found, (high - low) / (2 * step), atol=1e-6)
            assert float(jnp.abs(found).max()) > 0.1


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivative_at_voxel_centres_is_that_of_a_cell_of_the_image(backend):
    ramp = jnp.asarray([1.0, 2.0, 4.0, 8.0]).reshape(1, 4, 1, 1) * jnp.ones((1, 4, 3, 1))
    x = jnp.stack(jnp.meshgrid(jnp.arange(4.0), jnp.arange(3.0), indexing="ij"), -1)[None]
    gradient = jax.grad(lambda x: resample(ramp, x, backend=backend).sum())(x)
    expected = np.broadcast_to(np.asarray([1.0, 2.0, 4.0, 4.0])[:, None], (4, 3))
    np.testing.assert_array_equal(gradient[0, ..., 0], expected)
    assert not np.any(gradient[0, ..., 1])


def test_errors_name_value_and_fix():
    image, x = jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 4, 4, 2))
    with pytest.raises(ValueError, match="last axis must have size 2"):
        resample(image, jnp.zeros((1, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"order 2 is unknown here: use one of \(0, 1, 3\)"):
        resample(image, x, order=2)
    with pytest.raises(ValueError, match="mode 'mirror' is unknown: use one of"):
        resample(image, x, mode="mirror")
    with pytest.raises(ValueError, match=r"image of shape \(1, 4, 4\): it needs 2 or 3 axes"):
        resample(image[..., 0], x)
    with pytest.raises(ValueError, match="backend 'native' for image bfloat16"):
        resample(image.astype(jnp.bfloat16), x, backend="native")
