import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.epdiff import velocity_slope
from jaxmedgen.ops.flash import band_filter, flash_slope, from_band, shoot_flash, to_band
from jaxmedgen.ops.shooting import shoot
from jaxmedgen.ops.sobolev import SobolevMetric, energy, sharp

METRIC, SHAPE = SobolevMetric(), (24, 24, 24)


def velocity(shape=SHAPE, largest=3.0):
    v = sharp(jnp.asarray(np.random.default_rng(0).normal(size=(1, *shape, len(shape)))), METRIC)
    return largest * v / jnp.sqrt((v**2).sum(-1)).max()


def test_band_keeps_the_low_frequencies():
    with jax.enable_x64(True):
        v = np.asarray(velocity((12, 11)))
        out = from_band(to_band(jnp.asarray(v), 5), (12, 11))
        low = np.fft.fft2(v, axes=(1, 2))
        frequency = [np.abs(np.fft.fftfreq(n, 1 / n)) <= 2 for n in (12, 11)]
        low = low * frequency[0][:, None, None] * frequency[1][:, None]
        np.testing.assert_allclose(out, np.fft.ifft2(low, axes=(1, 2)).real, atol=1e-12)
        metric = band_filter(to_band(out, 5), (12, 11), METRIC, -1)
        energy_in_band = 0.5 * float(jnp.sum(metric * to_band(out, 5)))
        assert energy_in_band == pytest.approx(float(energy(out, METRIC)[0]), rel=1e-12)


def test_slope_is_the_full_grids_projected_on_the_band():
    # A band whose products the full grid holds: both slopes agree there to round-off.
    with jax.enable_x64(True):
        c = to_band(velocity((16, 15)), 5)
        full = velocity_slope(jnp.moveaxis(from_band(c, (16, 15)), -1, 1), METRIC)
        expected = to_band(jnp.moveaxis(full, 1, -1), 5)
        np.testing.assert_allclose(flash_slope(c, (16, 15), METRIC), expected, atol=1e-12)
        assert float(jnp.abs(expected).max()) > 0.01


def test_geodesic_agrees_with_the_full_grid():
    with jax.enable_x64(True):
        c = to_band(velocity(largest=2.0), 13)
        full = jax.jit(functools.partial(shoot, metric=METRIC))(from_band(c, SHAPE))
        end, u = jax.jit(lambda c: shoot_flash(c, SHAPE, METRIC))(c)
        for found, expected, tolerance in (
            (end, full.velocity, 0.01),
            (u, full.inverse, 0.05),  # linear interpolation of the map on the full grid
        ):
            off = jnp.linalg.norm(from_band(found, SHAPE) - expected) / jnp.linalg.norm(expected)
            assert float(off) < tolerance


def test_energy_drift():
    with jax.enable_x64(True):
        c = to_band(velocity(), 13)
        start = float(jnp.sum(c * band_filter(c, SHAPE, METRIC, -1)))
        for steps, expected in ((5, 2e-5), (10, 8e-7), (20, 3e-8)):
            end, _ = jax.jit(lambda c, n=steps: shoot_flash(c, SHAPE, METRIC, steps=n))(c)
            drift = 1 - float(jnp.sum(end * band_filter(end, SHAPE, METRIC, -1))) / start
            assert 0.5 * expected < drift < 2 * expected, steps


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: to_band(jnp.zeros((1, 8, 8, 2)), 4), "band 4 must be odd"),
        (lambda: shoot_flash(jnp.zeros((1, 2, 9, 9)), (8, 8), METRIC), "band 9"),
        (lambda: band_filter(jnp.zeros((1, 2, 3, 3)), (8, 8), SobolevMetric(beta=1), 1), "beta"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
