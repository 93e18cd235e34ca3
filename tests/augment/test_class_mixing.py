"""Mixed images of two classes: weights are the shares that are seen, and the loss takes both."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmedgen.augment.class_mixing import mix_classes
from jaxmedgen.augment.mixing import Cutmix, Mixing, Mixup, sample_mixing
from jaxmedgen.configuration import load_config
from jaxmedgen.data.sources import DatasetInfo
from jaxmedgen.losses.mixed_classes import mixed_cross_entropy
from jaxmedgen.systems.base import build_system

KEYS = jax.random.split(jax.random.key(0), 64)


def mixed(settings, shape=(10, 9)):
    """Images whose value is their class's, all different."""
    target = jnp.arange(64)
    image = jnp.broadcast_to(target.reshape(-1, *(1,) * (len(shape) + 1)), (64, *shape, 1)) * 1.0
    run = jax.jit(
        lambda k: mix_classes(settings, sample_mixing(settings, k, len(shape)), image, target)
    )
    return run(KEYS)


@pytest.mark.parametrize("shape", [(10, 9), (6, 7, 8)])
def test_cutmix_weighs_by_what_is_left_in_the_image(shape):
    found = mixed(Mixing(cutmix=Cutmix(p=0.8)), shape)
    image = np.asarray(found.image)[..., 0].reshape(64, -1)
    share = (image == np.asarray(found.target)[:, None]).mean(1)
    np.testing.assert_allclose(found.weight, share, atol=1e-6)
    pasted = image != np.asarray(found.target)[:, None]
    other = np.broadcast_to(np.asarray(found.other)[:, None], image.shape)
    np.testing.assert_array_equal(image[pasted], other[pasted])
    assert 0.05 < (share == 1).mean() < 0.4
    assert (np.asarray(found.other) != np.arange(64)).all()


def test_mixup_weighs_as_it_mixes_and_cutmix_goes_first():
    found = mixed(Mixing(mixup=Mixup(p=1.0), classes=64))
    w, a, b = (np.asarray(x) for x in (found.weight, found.target, found.other))
    np.testing.assert_allclose(np.asarray(found.image)[:, 0, 0, 0], w * a + (1 - w) * b, rtol=1e-5)
    both = mixed(Mixing(mixup=Mixup(p=1.0), cutmix=Cutmix(p=1.0), classes=64))
    values = np.asarray(both.image)[..., 0].reshape(64, -1)
    own = np.asarray(both.target)[:, None]
    np.testing.assert_allclose(both.weight, (values == own).mean(1), atol=1e-6)
    with pytest.raises(ValueError, match="needs label maps"):
        mixed(Mixing(cutmix=Cutmix(region="lesion"), spacing=(1.0, 1.0)))


def test_the_loss_is_that_of_mixed_labels():
    logits = jax.random.normal(jax.random.key(1), (64, 64))
    a, b, w = jnp.arange(64), jnp.roll(jnp.arange(64), 3), jax.random.uniform(KEYS[0], (64,))
    soft = w[:, None] * jax.nn.one_hot(a, 64) + (1 - w[:, None]) * jax.nn.one_hot(b, 64)
    expected = optax.softmax_cross_entropy(logits, soft)
    np.testing.assert_allclose(mixed_cross_entropy(logits, a, b, w), expected, rtol=1e-5)
    constant = mixed_cross_entropy(logits, a, b, 0.9)  # moment exchange
    own = optax.softmax_cross_entropy_with_integer_labels
    np.testing.assert_allclose(constant, 0.9 * own(logits, a) + 0.1 * own(logits, b), rtol=1e-5)


def test_the_classifier_takes_a_mixing_policy():
    config = load_config("feature_extractor:cpu")
    info = DatasetInfo(("background", "a"), ("image",), (1.0, 1.0), ())
    with config.unlocked():
        config.targets, config.augment.preset = ("x", "y"), "flip+cutmix"
    system = build_system(config, info)
    assert system.mixing.cutmix is not None and system.augmentation.mixing is None
    image = jax.random.normal(KEYS[1], (8, 8, 8, 1))
    batch = {"image": image, system.target: jnp.arange(8) % 2}
    always = Mixing(cutmix=dataclasses.replace(system.mixing.cutmix, p=1.0))
    system = dataclasses.replace(system, mixing=always)
    made = jax.jit(system.prepare)(batch, KEYS[:8])
    assert made["mixed_weight"].shape == made["mixed_target"].shape == (8,)
    assert (made["mixed_weight"] < 1).any()
    with config.unlocked():
        config.augment.preset = "moex_in"
    with pytest.raises(ValueError, match="mixes features"):
        build_system(config, info)
