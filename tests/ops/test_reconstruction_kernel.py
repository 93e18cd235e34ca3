import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.ops.radon import inscribed_disc
from jaxmedgen.ops.radon_filters import filter_response, kernel_response, padded_size, ramp, window
from jaxmedgen.ops.reconstruction_kernel import (
    attenuation_to_hu,
    change_kernel,
    hu_to_attenuation,
)


def ellipse(n, centre, axes):
    rows, columns = np.indices((n, n)) - n // 2
    return ((rows - centre[0]) / axes[0]) ** 2 + ((columns - centre[1]) / axes[1]) ** 2 <= 1


@functools.cache
def torso():
    """The published protocol's test object: 256 x 256, in HU."""
    n = 256
    image = np.full((n, n), -1000.0)
    body = ellipse(n, (0, 0), (85, 110))
    image[body] = 40
    for side in (-50, 50):
        image[ellipse(n, (0, side), (55, 35))] = -850
    image[ellipse(n, (10, 50), (12, 12))] = -450
    image[ellipse(n, (60, 0), (12, 12))] = 500
    image = ndimage.gaussian_filter(image, 0.7)
    rng = np.random.default_rng(0)
    grain = ndimage.gaussian_filter(rng.normal(0, 60, (n, n)), 0.8)
    return (image + body * grain).astype(np.float32)


def changed(a, b, **settings):
    images = jnp.broadcast_to(jnp.asarray(torso())[None, ..., None], (len(a), 256, 256, 1))
    change = jax.jit(functools.partial(change_kernel, angles=128, **settings))
    out = change(images, jnp.asarray(a), jnp.asarray(b))
    return np.asarray(out)[..., 0]


def test_ramp_has_the_published_values():
    r = ramp(256)
    assert padded_size(256) == 1024 and len(r) == 513
    np.testing.assert_allclose(r[[0, 1, 512]], [3.96e-4, 1.907e-3, 0.9996], rtol=1e-3)
    # |f| is approached: the ramp is doubled frequency in cycles a bin.
    np.testing.assert_allclose(r[20:], 2 * np.arange(20, 513) / 1024, atol=5e-4)


def test_windows_taper_to_their_cutoff():
    count = padded_size(64) // 2 + 1
    ends = {"ramp": 1, "shepp-logan": 2 / np.pi, "cosine": 0, "hamming": 0.08, "hann": 0}
    for name, end in ends.items():
        gains = window(name, 64)
        assert gains[0] == pytest.approx(1) and gains[-1] == pytest.approx(end, abs=1e-12)
        half = window(name, 64, cutoff=0.5)
        np.testing.assert_allclose(half[: count // 2 + 1], gains[::2], atol=1e-12)
        assert np.all(half[count // 2 + 1 :] == 0)
        np.testing.assert_array_equal(filter_response(name, 64), ramp(64) * gains)


def test_kernel_keeps_its_gain_at_nyquist_and_differentiates():
    a, b = jnp.array([30.0, -1.0, 0.0]), jnp.array([3.0, 0.7, 2.0])
    response = kernel_response(a, b, 64)
    np.testing.assert_allclose(response[:, -1], 1 + a, rtol=0.01, atol=2e-3)
    np.testing.assert_allclose(response[2], ramp(64), rtol=1e-6)
    gradient = jax.grad(lambda b: kernel_response(a, b, 64).sum())(b)
    assert bool(jnp.all(jnp.isfinite(gradient))) and float(gradient[0]) < 0


def test_known_kernels_give_the_published_hounsfield_units():
    a = [0.0, -1.0, -1.0, 10.0, 40.0, 40.0, 10.0]
    b = [1.0, 0.7, 0.1, 1.0, 1.0, 4.0, 4.0]
    soft = ellipse(256, (0, 0), (15, 8))
    lung = ellipse(256, (0, -50), (40, 25))
    out = changed(a, b)
    # Plain reconstruction gives the slice back.
    inner = ellipse(256, (0, 0), (0.9 * 128, 0.9 * 128))
    error = (out[0] - np.maximum(torso(), -1000))[inner]
    assert np.sqrt(np.mean(error**2)) < 20 and abs(error.mean()) < 2
    expected = [(-5, -840), (-612, -906), (152, -886), (492, -883), (40, -845)]
    for image, (in_soft, in_lung) in zip(out[1:6], expected):
        assert image[soft].mean() == pytest.approx(in_soft, rel=0.1, abs=15)
        assert image[lung].mean() == pytest.approx(in_lung, rel=0.1, abs=15)
    assert 90 < out[5][soft].std() < 130
    assert out[6][soft].std() < 60
    assert np.all(out[:, ~inscribed_disc(256)] == -1000)


def test_fourier_mode_agrees_for_smoothing():
    by_radon, by_fourier = changed([-1.0], [0.7])[0], changed([-1.0], [0.7], mode="fourier")[0]
    inside = inscribed_disc(256)
    assert np.corrcoef(by_radon[inside], by_fourier[inside])[0, 1] > 0.999
    assert np.sqrt(np.mean((by_radon - by_fourier)[inside] ** 2)) < 15


def slices(n=32, count=3, seed=0):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(count, n, n, 1)), (0, 2, 2, 0))
    return jnp.asarray(500 + 800 * smooth, jnp.float32)


@pytest.mark.parametrize("mode", ["radon", "fourier"])
def test_linear_in_attenuation_before_clipping(mode):
    x, y = slices(), slices(seed=1)
    a, b = jnp.array([-0.4, 0.3, 1.0]), jnp.array([0.7, 1.0, 2.0])

    change = jax.jit(functools.partial(change_kernel, angles=20, mode=mode))

    def attenuation(image):
        out = change(image, a, b)
        # Near the rim of the disc the object ends, and ringing may reach the clip.
        inner = ellipse(32, (0, 0), (11, 11))
        assert float(out[:, inner].min()) > -999 and float(out[:, inner].max()) < 2999
        return hu_to_attenuation(out[:, inner])

    mixed = attenuation_to_hu(0.3 * hu_to_attenuation(x) + 0.7 * hu_to_attenuation(y))
    expected = 0.3 * attenuation(x) + 0.7 * attenuation(y)
    np.testing.assert_allclose(attenuation(mixed), expected, rtol=2e-4)
    # Each slice has its own kernel.
    alone = change(x[1:2], a[1:2], b[1:2])
    assert float(jnp.abs(change(x, a, b)[1] - alone[0]).max()) < 0.1


def test_mean_can_be_matched_and_the_outside_kept_on_slices_that_are_not_square():
    x = slices(40)[:, 4:37]
    a, b = jnp.array([-0.8, -0.3, 0.5]), jnp.array([0.3, 0.3, 1.0])
    disc = inscribed_disc(40)[4:37]  # the centre row 20 stays pixel 20 of 40
    kept = change_kernel(x, a, b, angles=30, dc_match=True, outside="keep")
    assert kept.shape == x.shape
    np.testing.assert_array_equal(kept[:, ~disc], x[:, ~disc])
    air = change_kernel(x, a, b, angles=30, dc_match=True)
    np.testing.assert_array_equal(air[:, disc], kept[:, disc])
    assert bool(jnp.all(air[:, ~disc] == -1000))
    means = hu_to_attenuation(kept[:, disc]).mean((1, 2)) / hu_to_attenuation(x[:, disc]).mean(
        (1, 2)
    )
    unmatched = change_kernel(x, a, b, angles=30)[:, disc]
    drift = hu_to_attenuation(unmatched).mean((1, 2)) / hu_to_attenuation(x[:, disc]).mean((1, 2))
    assert float(jnp.abs(means - 1).max()) < 0.05 < 0.2 < float(jnp.abs(drift - 1).max())


def test_units_of_water_and_air():
    hu = jnp.array([-1000.0, 0.0, 40.0])
    np.testing.assert_allclose(hu_to_attenuation(hu)[:2], [1.2041e-6, 1e-4], rtol=1e-5)
    assert np.allclose(attenuation_to_hu(hu_to_attenuation(hu)), hu, atol=1e-2)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"b": jnp.array([-0.5])}, r"b \[-0.5\] must not be negative"),
        ({"a": jnp.array([jnp.nan])}, r"a \[nan\] must be finite"),
        ({"a": jnp.ones(2)}, r"a of shape \(2,\)"),
        ({"slices": jnp.zeros((1, 8, 8, 8, 1))}, "slices of shape"),
        ({"angles": 0}, "count 0"),
        ({"mode": "wavelet"}, "mode 'wavelet'"),
        ({"outside": "noise"}, "outside 'noise'"),
    ],
)
def test_bad_input_is_named(changes, message):
    good = {"slices": jnp.zeros((1, 8, 8, 1)), "a": jnp.ones(1), "b": jnp.ones(1), "angles": 4}
    with pytest.raises(ValueError, match=message):
        change_kernel.__wrapped__(**good | changes)  # without the tests' check of shapes
