import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.transform
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxmedgen.ops.kernels.native import register
from jaxmedgen.ops.kernels.radon_native import SYMBOLS, choose
from jaxmedgen.ops.radon import (
    back_projection,
    filtered_back_projection,
    inscribed_disc,
    parallel_angles,
    radon,
    radon_adjoint,
)
from jaxmedgen.ops.radon_filters import FILTERS, padded_size, ramp

RNG = np.random.default_rng(0)
# Away from half a turn too: nothing may depend on evenly spread angles.
ANGLES = np.array([0.0, 0.3, np.pi / 4, 1.2, np.pi / 2, 2.0, 3.0, -2.2, 5.9])


def backends():
    return ["xla", "native"] if register("radon", SYMBOLS) else ["xla"]


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@pytest.mark.parametrize("n", [24, 31])
def test_agrees_with_scikit_image(n):
    images = RNG.normal(size=(2, n, n, 2)) * inscribed_disc(n)[..., None]
    expected = skimage.transform.radon(images[1, ..., 0], np.degrees(ANGLES)).T
    out = radon(jnp.asarray(images, jnp.float32), jnp.asarray(ANGLES, jnp.float32))
    np.testing.assert_allclose(out[1, ..., 0], expected, atol=5e-5)
    with jax.enable_x64(True):
        exact = radon(jnp.asarray(images), jnp.asarray(ANGLES))[1, ..., 0]
        assert exact.dtype == jnp.float64 and np.abs(exact - expected).max() < 1e-12


@pytest.mark.parametrize("name", FILTERS)
def test_reconstruction_agrees_with_scikit_image(name):
    n, count = 30, 25
    sinogram = RNG.normal(size=(count, n))
    theta = np.pi * np.arange(count) / count
    expected = skimage.transform.iradon(sinogram.T, np.degrees(theta), filter_name=name)

    def error(response):
        out = filtered_back_projection(
            jnp.asarray(sinogram)[None, ..., None], parallel_angles(count), filter=response
        )
        return np.abs(out[0, ..., 0] - expected).max() / np.abs(expected).max()

    with jax.enable_x64(True):
        if name not in ("hann", "hamming"):
            assert error(name) < 1e-8
            return
        # Their Hann and Hamming windows are centred half a sample beside frequency 0; taking the
        # real part averages the two sides.
        length = padded_size(n)
        theirs = np.fft.fftshift({"hann": np.hanning, "hamming": np.hamming}[name](length))
        both_sides = (theirs + theirs[-np.arange(length)]) / 2
        assert error(jnp.asarray(ramp(n) * both_sides[: length // 2 + 1])) < 1e-8
        assert 1e-4 < error(name) < 0.02


@functools.cache
def dot_products(n, backend):
    """Both sides of both dot tests, and their scales, as one compiled function."""

    def products(angles, x, y, z):
        def spread(z):
            return back_projection(z, angles, size=n, backend=backend)

        projected, (back, transpose) = radon(x, angles, backend=backend), jax.vjp(spread, z)
        adjoint = radon_adjoint(y, angles, backend=backend)
        sides = jnp.array(
            [
                [jnp.vdot(projected, y), jnp.vdot(x, adjoint)],
                [jnp.vdot(back, x), jnp.vdot(z, transpose(x)[0])],
            ]
        )
        sizes = [jnp.linalg.norm(v) for v in (projected, y, back, x)]
        return sides, jnp.array([sizes[0] * sizes[1], sizes[2] * sizes[3]])

    return jax.jit(products)


@settings(max_examples=25, deadline=None)
@given(
    angles=st.lists(st.floats(-7, 7, width=32), min_size=5, max_size=5),
    seed=st.integers(0, 2**31),
    n=st.sampled_from([1, 12, 13]),
)
def test_adjoints_pass_the_dot_test(angles, seed, n):
    rng = np.random.default_rng(seed)
    shapes = (1, n, n, 1), (1, 5, n, 1), (1, 5, n + 4, 1)
    x, y, z = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes)
    for backend in backends():
        sides, scale = dot_products(n, backend)(jnp.asarray(angles, jnp.float32), x, y, z)
        assert float(jnp.max(jnp.abs(sides[:, 0] - sides[:, 1]) / (scale + 1e-3))) < 1e-5


@pytest.mark.skipif("native" not in backends(), reason="no C++ compiler")
@pytest.mark.parametrize("n", [20, 141])
def test_native_agrees_with_xla(n):
    angles = jnp.asarray(ANGLES, jnp.float32)
    x, y, z = normal(2, n, n, 2), normal(2, 9, n, 2), normal(2, 9, n + 11, 2)

    def all_maps(backend):
        back = lambda z: back_projection(z, angles, size=n, backend=backend)  # noqa: E731
        return (
            radon(x, angles, backend=backend),
            radon_adjoint(y, angles, backend=backend),
            back(z),
            jax.linear_transpose(back, z)(x)[0],
        )

    for ours, theirs in zip(all_maps("native"), all_maps("xla")):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=5e-6 * n)


def test_a_pixel_is_never_misplaced_by_rounding():
    # 150 pixels at 8/11 of half a turn put samples within 1e-5 of pixels, where an index and its
    # weight, rounded differently, would be one off.
    x = normal(1, 150, 150, 1)
    with jax.enable_x64(True):
        exact = radon(jnp.asarray(np.asarray(x, np.float64)), parallel_angles(11))
        expected = np.asarray(exact)
    for backend in backends():
        out = radon(x, parallel_angles(11), backend=backend)
        assert np.abs(np.asarray(out) - expected).max() < 2e-3


@pytest.mark.parametrize("backend", backends())
def test_derivatives_of_any_order_and_batching(backend):
    angles = jnp.asarray(ANGLES, jnp.float32)
    x, v, y = normal(1, 9, 9, 1), normal(1, 9, 9, 1), normal(1, 9, 9, 1)

    def system(v):
        return filtered_back_projection(radon(v, angles, backend=backend), angles, backend=backend)

    def cost(x):
        return jnp.sum((system(x) - y) ** 2) / 2

    @jax.jit
    def curvatures(x, v):
        slope = jax.grad(cost)
        forward = jax.jvp(lambda x: jnp.vdot(slope(x), v), (x,), (v,))[1]
        reverse = jnp.vdot(jax.grad(lambda x: jnp.vdot(slope(x), v))(x), v)
        return jnp.array([jnp.sum(system(v) ** 2), forward, reverse])

    # The cost is quadratic: its curvature along v is |A v|^2, from any nesting of modes.
    expected, forward, reverse = (float(value) for value in curvatures(x, v))
    assert forward == pytest.approx(expected, rel=1e-4)
    assert reverse == pytest.approx(expected, rel=1e-4)

    @jax.jit
    def mapped(x):
        over_images = jax.vmap(jax.grad(cost))(jnp.stack([v, x]))
        over_angles = jax.vmap(lambda theta: radon(x, theta[None], backend=backend))(angles)
        return over_images[1], jax.grad(cost)(x), over_angles[:, 0, 0], radon(x, angles)[0]

    of_batch, alone, of_angles, together = mapped(x)
    np.testing.assert_allclose(of_batch, alone, atol=1e-4)
    np.testing.assert_allclose(of_angles, together, atol=1e-5)


def test_disc_projects_to_its_chords_and_comes_back():
    n, radius = 128, 40
    rows, columns = np.indices((8 * n, 8 * n)) / 8 - n // 2 - 7 / 16  # supersampled
    disc = (np.hypot(rows, columns) <= radius).reshape(n, 8, n, 8).mean((1, 3))
    angles = parallel_angles(100)
    sinogram = radon(jnp.asarray(disc, jnp.float32)[None, ..., None] * 0.3, angles)
    offset = np.arange(n) - n // 2
    chords = 0.6 * np.sqrt(np.maximum(radius**2 - offset**2, 0.0))
    inner = np.abs(offset) < radius - 2
    assert np.abs(sinogram[0, :, inner, 0] - chords[inner, None]).max() < 0.15
    np.testing.assert_allclose(sinogram[0, :, n // 2, 0], 2 * radius * 0.3, rtol=5e-3)
    image = filtered_back_projection(sinogram, angles)[0, ..., 0]
    away = np.abs(np.hypot(*np.indices((n, n)) - n // 2) - radius) > 3
    error = (np.asarray(image) - 0.3 * disc)[away & inscribed_disc(n)]
    assert np.sqrt(np.mean(error**2)) < 0.006 and abs(error.mean()) < 0.002


IMAGE, SINOGRAM = jnp.zeros((1, 8, 8, 1)), jnp.zeros((1, 3, 8, 1))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: radon(jnp.zeros((1, 8, 9, 1)), parallel_angles(3)), r"image .*\(1, 8, 9, 1\)"),
        (lambda: radon(jnp.zeros((1, 8, 8, 8, 1)), parallel_angles(3)), "image .* square"),
        (lambda: radon(IMAGE, jnp.array([0.0, jnp.nan])), "angles .*nan"),
        (lambda: choose("native", jnp.dtype("float64")), "backend 'native' for float64"),
        (lambda: choose.__wrapped__("gpu", jnp.dtype("float32")), "backend 'gpu'"),
        (lambda: parallel_angles(0), "count 0"),
        (lambda: back_projection.__wrapped__(SINOGRAM, parallel_angles(4)), "angles of shape"),
        (lambda: back_projection(SINOGRAM, parallel_angles(3), size=0), "size 0"),
        (
            lambda: filtered_back_projection(SINOGRAM, parallel_angles(3), filter=jnp.ones(5)),
            r"filter of shape \(5,\)",
        ),
        (
            lambda: filtered_back_projection(SINOGRAM, parallel_angles(3), filter="box"),
            "filter 'box'",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
