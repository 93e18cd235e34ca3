import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.ops.percentiles import from_window, percentile_window, scale_intensities, to_window

RNG = np.random.default_rng(0)
# Two volumes, slices first; each slice brighter than the one before.
STACKS = RNG.gamma(2.0, size=(2, 3, 16, 12, 1)) * np.arange(1, 4).reshape(3, 1, 1, 1)
STACKS = STACKS.astype(np.float32)


def expected(image):
    low, high = np.percentile(image, (1, 99))
    return 2 * (np.clip(image, low, high) - low) / (high - low) - 1


def test_scaling_by_slice_and_by_volume():
    by_slice = np.asarray(scale_intensities(jnp.asarray(STACKS), "slice"))
    by_volume = np.asarray(scale_intensities(jnp.asarray(STACKS), "volume"))
    np.testing.assert_allclose(by_slice[1, 2], expected(STACKS[1, 2]), atol=1e-5)
    np.testing.assert_allclose(by_volume[1], expected(STACKS[1]), atol=1e-5)
    # Slice by slice the brightness beside each other is lost.
    assert np.ptp(by_slice.mean((2, 3, 4)), axis=1).max() < 0.15
    assert np.ptp(by_volume.mean((2, 3, 4)), axis=1).min() > 0.3


def test_slices_may_carry_their_volumes_window():
    window = np.stack([np.percentile(v.reshape(-1, 1), (1, 99), axis=0) for v in STACKS])
    found = scale_intensities(jnp.asarray(STACKS[:, 0]), "volume", jnp.asarray(window, jnp.float32))
    np.testing.assert_allclose(found[1], expected(STACKS[1])[0], atol=1e-5)


def test_windows_lead_back_and_empty_ones_to_the_lowest_value():
    image = jnp.asarray(STACKS[:, 0])
    window = percentile_window(image, (1, 2), 0, 100)
    np.testing.assert_allclose(from_window(to_window(image, window), window), image, rtol=1e-4)
    flat = jnp.full((1, 4, 4, 1), 3.0)
    np.testing.assert_array_equal(scale_intensities(flat, "slice"), -1.0)
    np.testing.assert_array_equal(scale_intensities(flat, "none"), flat)
    with pytest.raises(ValueError, match="slice, volume, none"):
        scale_intensities(flat, "patient")
