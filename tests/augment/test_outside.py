"""Air around skull-stripped heads: found in z-scored scans, kept, and let in from outside."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.augment.intensity import Intensity
from jaxmedgen.augment.latent import LatentAugmentation
from jaxmedgen.augment.outside import lowest_level, outside_of
from jaxmedgen.augment.presets import configured, preset
from jaxmedgen.configuration import load_config
from jaxmedgen.data.preprocess import Preprocessing
from jaxmedgen.ops.transformers import DiffeomorphicAffine


def heads(spacing=1.0, count=8, channels=2, size=24):
    """Skull-stripped scans as the library z-scores them, and where their air is."""
    rng = np.random.default_rng(0)
    middle = (size - 1) / 2
    grid = np.stack(np.meshgrid(*[np.arange(size) - middle] * 3, indexing="ij"), -1)
    raw = rng.normal(100, 15, size=(size, size, size, channels)) * np.linspace(1, 3, channels)
    raw[np.linalg.norm(grid, axis=-1) > size / 3] = 0.0
    settings = Preprocessing(spacing=(float(spacing),) * 3)
    image = settings.apply((1.0,) * 3, raw.astype(np.float32))[0]["image"]
    image = jnp.repeat(jnp.asarray(image)[None], count, 0)
    at = (np.arange(image.shape[1]) - (image.shape[1] - 1) / 2) * spacing
    air = np.linalg.norm(np.stack(np.meshgrid(at, at, at, indexing="ij"), -1), axis=-1) > size / 3
    return image, air


KEYS = jax.random.split(jax.random.key(0), 8)


@pytest.mark.parametrize("name", ["affine", "gamma", "nnunet3d"])
def test_air_of_a_z_scored_head_stays_and_comes_in_from_outside(name):
    image, air = heads()
    corner = np.asarray(image[0, 0, 0, 0])
    assert (corner < -1).all() and corner[0] != corner[1]
    label = jnp.asarray(np.broadcast_to(~air, image.shape[:-1]), jnp.int32)
    augment = jax.jit(preset(name, (1.0,) * 3, background="min"))
    moved, moved_label = map(np.asarray, augment(KEYS, image, label))
    assert not np.array_equal(moved, image)
    for found, where in zip(moved, moved_label):
        # Beyond the moved head, and the voxels that interpolation blurs, there is only air.
        outside = ~ndimage.binary_dilation(where > 0, np.ones((3, 3, 3)), iterations=2)
        assert outside.mean() > 0.3
        np.testing.assert_array_equal(found[outside], np.tile(corner, (outside.sum(), 1)))


def test_statistics_are_those_of_the_head():
    image, air = heads()
    head, label = ~air, jnp.zeros(image.shape[:-1], jnp.int32)
    found, free = (
        np.asarray(jax.jit(preset("gamma", (1.0,) * 3, background=b))(KEYS, image, label)[0])
        for b in ("min", None)
    )
    changed = np.ptp(found - np.asarray(image), axis=(1, 2, 3)) > 1e-3
    assert changed.any() and not changed.all()
    for kind, same in ((found, True), (free, False)):
        means, spreads = kind[:, head].mean(1), kind[:, head].std(1)
        kept = np.abs(means) + np.abs(spreads - 1) < 1e-3
        assert kept[changed].all() if same else not kept[changed].any()


@pytest.mark.parametrize("spacing", [0.8, 1.3])
def test_air_is_found_in_scans_that_were_resampled(spacing):
    """A cubic spline undershoots beside the head: air is not the very lowest value."""
    image, air = heads(spacing, count=1)
    corner = np.asarray(image[0, 0, 0, 0])
    assert (np.asarray(image).min((0, 1, 2, 3)) < corner - 0.1).all()
    np.testing.assert_allclose(jax.jit(lowest_level)(image)[0], corner, atol=1e-5)
    head = np.asarray(jax.jit(lambda x: outside_of("min", x).head(x))(image))[0]
    assert (head == ~air).mean() > 0.9 and head[~air].mean() > 0.99


def test_the_lowest_level_without_air_is_the_minimum():
    image = jax.random.normal(jax.random.key(0), (3, 7, 6, 2))
    np.testing.assert_array_equal(lowest_level(image), image.min((1, 2)))
    flat = jnp.ones((1, 4, 1, 1))
    np.testing.assert_array_equal(lowest_level(flat), [[1.0]])
    assert not bool(outside_of("min", flat).head(flat).any())
    augment = preset("nnunet3d", (1.0, 1.0), background="min")
    assert bool(jnp.isfinite(augment(KEYS[:1], flat, flat[..., 0].astype(jnp.int32))[0]).all())


def test_noise_does_not_reach_the_air():
    image, air = heads()
    policy = preset("affine", (1.0,) * 3, background="min")
    noisy = preset("companions", (1.0,) * 3).intensity
    policy = dataclasses.replace(policy, spatial=None, intensity=Intensity(noise=noisy.noise))
    keys = jax.random.split(jax.random.key(1), 64)
    many = jnp.repeat(image[:1], 64, 0)
    found = np.asarray(jax.jit(policy)(keys, many, jnp.zeros(many.shape[:-1], jnp.int32))[0])
    np.testing.assert_array_equal(found[:, air], np.asarray(many)[:, air])
    assert not np.array_equal(found, many)


def test_redrawn_images_get_the_air_of_the_real_ones():
    """Decoded air is of no one value: what comes in from outside has the real image's."""

    def encode(x):
        return jnp.zeros((len(x), 1)), jnp.full((len(x), 1), -20.0)

    def decode(z):  # a shift by z half-widths
        return jnp.concatenate([jnp.zeros((len(z), 2)), z, jnp.zeros((len(z), 3))], -1)

    transform = LatentAugmentation(
        encode=encode,
        decode=decode,
        transformer=DiffeomorphicAffine(),
        means=jnp.asarray([[0.0], [1.0]]),
        log_variances=jnp.full((2, 1), -20.0),
        probability=1.0,
        redraw=lambda keys, x: x + 5.0,
        policy=preset("none", (1.0, 1.0), background="min"),
    )
    image = jnp.full((2, 8, 8, 1), -2.0).at[:, 3:5, 3:5].set(1.0)
    found = jax.jit(transform)(KEYS[:2], image, jnp.zeros((2, 8, 8), jnp.int32))[0]
    assert set(np.unique(found[:, -1])) == {-2.0} and float(found[:, 0].min()) == 3.0


def test_the_key_takes_a_number_min_or_nothing():
    for text, wanted in (("0", 0), ("-3.5", -3.5), ("min", "min"), ("None", None)):
        config = load_config("unet:cpu,arm=light", {"augment.background": text})
        policy = configured(config.augment, (1.0, 1.0), ("background", "head"))
        assert policy.background == wanted
    with pytest.raises(ValueError, match="background='darkest' is no value: give a number"):
        preset("light", (1.0, 1.0), background="darkest")
