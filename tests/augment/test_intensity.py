import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.augment.draws import Draw
from jaxmedgen.augment.intensity import (
    Intensity,
    apply_intensity,
    contrast,
    gamma,
    gaussian_blur,
    gaussian_noise,
    low_resolution,
    sample_intensity,
)

FULL = Intensity(
    bias=Draw(-0.5, 0.5, p=0.5),
    noise=Draw(0.0, 0.1, p=0.5),
    blur=Draw(0.5, 1.0, p=0.5, p_channel=0.5),
    brightness=Draw(0.75, 1.25, p=0.5),
    shift=Draw(-0.3, 0.3, p=0.5),
    contrast=Draw(0.65, 1.5, p=0.5),
    low_resolution=Draw(0.5, 1.0, p=0.5, p_channel=0.5),
    inverted_gamma=Draw(0.7, 1.5, p=0.5),
    gamma=Draw(0.7, 1.5, p=0.5),
)


def _keys(n, seed=0):
    return jax.random.split(jax.random.key(seed), n)


def _image(shape=(2, 8, 9, 10, 2), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _full(value, image):
    return jnp.full((image.shape[0], image.shape[-1]), value)


def test_gamma_is_monotone_keeps_stats_and_is_the_identity_at_one():
    image = _image()
    np.testing.assert_allclose(gamma(image, _full(1.0, image)), image, atol=1e-5)
    out = gamma(image, jnp.asarray([[0.7, 1.5], [1.4, 0.8]]))
    np.testing.assert_allclose(out.mean((1, 2, 3)), image.mean((1, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(out.std((1, 2, 3)), image.std((1, 2, 3)), atol=1e-5)
    for b in range(2):
        for c in range(2):
            order = np.argsort(np.asarray(image[b, ..., c]).ravel())
            assert (np.diff(np.asarray(out[b, ..., c]).ravel()[order]) >= -1e-6).all()
    x = np.asarray(image[0, ..., 0], np.float64)
    unit = (x - x.min()) / (x.max() - x.min())
    expected = unit**0.7 * (x.max() - x.min()) + x.min()
    plain = gamma(image, _full(0.7, image), retain_stats=False)
    np.testing.assert_allclose(plain[0, ..., 0], expected, atol=1e-5)


def test_gamma_of_a_constant_image_is_finite():
    image = jnp.full((1, 4, 4, 1), 2.0)
    np.testing.assert_allclose(gamma(image, jnp.full((1, 1), 0.5)), 2.0, atol=1e-5)


def test_contrast_is_clipped_to_the_old_range():
    image = _image()
    out = contrast(image, _full(1.5, image))
    assert float(out.max()) <= float(image.max()) and float(out.min()) >= float(image.min())
    x = np.asarray(image[1, ..., 1])
    expected = np.clip((x - x.mean()) * 1.5 + x.mean(), x.min(), x.max())
    np.testing.assert_allclose(out[1, ..., 1], expected, atol=1e-5)


def test_blur_and_low_resolution_are_per_channel():
    image = _image()
    out = gaussian_blur(image, jnp.asarray([[0.0, 1.0], [0.7, 0.0]]))
    np.testing.assert_allclose(out[0, ..., 0], image[0, ..., 0], atol=1e-6)
    expected = ndimage.gaussian_filter(np.asarray(image[0, ..., 1]), 1.0, truncate=8)
    np.testing.assert_allclose(out[0, ..., 1], expected, atol=1e-5)
    coarse = low_resolution(image, jnp.asarray([[1.0, 0.5], [0.5, 1.0]]))
    np.testing.assert_allclose(coarse[0, ..., 0], image[0, ..., 0], atol=1e-5)
    # A smooth image loses little, white noise much.
    assert float(jnp.abs(coarse[0, ..., 1] - image[0, ..., 1]).mean()) > 0.3
    ramp = jnp.broadcast_to(jnp.arange(16.0)[:, None, None], (1, 16, 16, 1))
    np.testing.assert_allclose(
        low_resolution(ramp, jnp.full((1, 1), 0.5))[0, 4:12], ramp[0, 4:12], atol=0.6
    )


def test_noise_has_its_deviation_and_depends_on_its_key_alone():
    image = jnp.zeros((2, 40, 40, 2))
    out = gaussian_noise(_keys(2), image, jnp.asarray([[0.1, 0.5], [1.0, 0.0]]))
    np.testing.assert_allclose(out.std((1, 2)), [[0.1, 0.5], [1.0, 0.0]], rtol=0.08)
    alone = gaussian_noise(_keys(2)[1:], image[1:], jnp.asarray([[1.0, 0.0]]))
    np.testing.assert_array_equal(out[1:], alone)


def test_samples_that_are_left_alone_stay_bit_equal():
    settings = dataclasses.replace(
        FULL,
        **{
            f.name: dataclasses.replace(getattr(FULL, f.name), p=0.08)
            for f in dataclasses.fields(FULL)
            if not f.name.startswith("bias_") and f.name != "retain_stats"
        },
    )
    image = _image((16, 6, 6, 6, 1))
    drawn = sample_intensity(settings, _keys(16), 1, 3)
    out = np.asarray(apply_intensity(settings, drawn, image))
    neutral = {"brightness": 1, "contrast": 1, "low_resolution": 1, "gamma": 1, "inverted_gamma": 1}
    on = np.zeros(16, bool)
    for name, value in drawn.items():
        if name != "noise_keys":
            on |= (np.asarray(value) != neutral.get(name, 0)).any(1)
    assert 2 <= on.sum() <= 14
    changed = (out != np.asarray(image)).any((1, 2, 3, 4))
    np.testing.assert_array_equal(changed, on)


def test_each_transform_has_its_own_probability_and_row():
    drawn = sample_intensity(FULL, _keys(3000), 2, 3)
    for name in ("noise", "gamma", "inverted_gamma", "contrast"):
        on = np.asarray(drawn[name]) != (0.0 if name == "noise" else 1.0)
        assert on.any(1).mean() == pytest.approx(0.5, abs=0.04)
    assert (np.asarray(drawn["blur"]) > 0).mean() == pytest.approx(0.25, abs=0.03)
    exponent = np.asarray(drawn["gamma"])
    assert (exponent < 1).mean() == pytest.approx((exponent > 1).mean(), abs=0.04)
    assert 0.7 <= exponent.min() and exponent.max() <= 1.5
    assert not np.array_equal(exponent[:, 0], exponent[:, 1])
    # Switching a transform off leaves the draws of the others alone.
    fewer = sample_intensity(dataclasses.replace(FULL, blur=None), _keys(3000), 2, 3)
    assert "blur" not in fewer
    np.testing.assert_array_equal(fewer["gamma"], drawn["gamma"])


@pytest.mark.parametrize("name", ["bias", "contrast", "inverted_gamma", "gamma"])
def test_a_mask_keeps_the_background_and_its_statistics_out(name):
    """Changing the air around a head changes nothing inside of it, and the air itself stays."""
    rng = np.random.default_rng(0)
    mask = jnp.zeros((4, 10, 12), bool).at[:, 3:8, 4:10].set(True)
    head = jnp.asarray(rng.normal(size=(4, 10, 12, 2)), jnp.float32)
    settings = Intensity(**{name: dataclasses.replace(getattr(FULL, name), p=1.0)})
    drawn = sample_intensity(settings, _keys(4), 2, 2)
    outs = []
    for air in (0.0, -9.0):
        image = jnp.where(mask[..., None], head, air)
        out = apply_intensity(settings, drawn, image, mask)
        assert bool((jnp.where(mask[..., None], air, out) == air).all())
        outs.append(np.asarray(out)[np.asarray(mask)])
    np.testing.assert_array_equal(outs[0], outs[1])
    inside = np.asarray(head)[np.asarray(mask)].reshape(4, -1, 2)
    after = outs[0].reshape(4, -1, 2)
    assert np.abs(after - inside).max() > 0.05
    if name != "contrast":
        np.testing.assert_allclose(after.mean(1), inside.mean(1), atol=1e-5)
        np.testing.assert_allclose(after.std(1), inside.std(1), atol=1e-5)


def test_an_empty_mask_counts_everything():
    image = _image((1, 6, 6, 1))
    empty = jnp.zeros((1, 6, 6), bool)
    whole = gamma(image, _full(0.7, image))
    np.testing.assert_allclose(gamma(image, _full(0.7, image), mask=empty), whole, atol=1e-6)
    assert bool(jnp.isfinite(whole).all())
