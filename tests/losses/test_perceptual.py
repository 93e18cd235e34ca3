"""Perceptual losses against numpy; feature networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.losses.perceptual import WEIGHTS, gradient_features, perceptual_loss
from jaxmedgen.nets.vgg import Vgg, read_vgg19

RNG = np.random.default_rng(0)
FAKE, REAL = RNG.normal(size=(2, 2, 8, 6, 1)).astype(np.float32)


def test_the_loss_is_the_weighted_mean_of_differences_and_has_one_side():
    def features(x):
        return x, x[:, ::2] ** 2, x[:, ::4] ** 3

    expected = sum(
        w * np.abs(f - r).mean()
        for w, f, r in zip((1 / 8, 1 / 4, 1), features(FAKE), features(REAL))
    )
    value = perceptual_loss(features, jnp.asarray(FAKE), jnp.asarray(REAL))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    gradients = jax.grad(perceptual_loss, (1, 2))(features, jnp.asarray(FAKE), jnp.asarray(REAL))
    assert np.abs(gradients[0]).max() > 0
    np.testing.assert_array_equal(gradients[1], 0)
    assert len(WEIGHTS) == 5 and WEIGHTS[-1] == 1
    with pytest.raises(ValueError, match="2 weights for 3 feature maps"):
        perceptual_loss(features, jnp.asarray(FAKE), jnp.asarray(REAL), (1.0, 1.0))


def test_gradient_features_are_differences():
    first, second, _ = gradient_features(jnp.asarray(FAKE))
    np.testing.assert_array_equal(first[..., 0], FAKE[..., 0])
    np.testing.assert_allclose(first[:, :-1, :, 1], np.diff(FAKE[..., 0], axis=1), rtol=1e-6)
    np.testing.assert_allclose(first[:, :, :-1, 2], np.diff(FAKE[..., 0], axis=2), rtol=1e-6)
    assert second.shape == (2, 4, 3, 3)
    # A constant shift is seen by the image alone.
    moved = gradient_features(jnp.asarray(FAKE) + 0.5)[0]
    np.testing.assert_allclose(moved[..., 1:], first[..., 1:], atol=1e-6)


def test_vgg_reads_torchvision_weights(tmp_path):
    """Shapes of VGG-19, and the first map computed by hand."""
    widths = [64, 64, 128, 128, *[256] * 4, *[512] * 5]
    numbers = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
    arrays, before = {}, 3
    for number, width in zip(numbers, widths):
        scale = np.sqrt(2 / (9 * before)).astype(np.float32)
        kernel = scale * RNG.normal(size=(width, before, 3, 3)).astype(np.float32)
        arrays[f"features.{number}.weight"] = kernel
        arrays[f"features.{number}.bias"] = RNG.normal(size=width).astype(np.float32)
        before = width
    np.savez(tmp_path / "vgg19.npz", **arrays)
    image = RNG.uniform(-1, 1, size=(1, 16, 16, 1)).astype(np.float32)
    variables = read_vgg19(tmp_path / "vgg19.npz")
    maps = jax.jit(Vgg(64, natural=True).apply)(variables, jnp.asarray(image))
    assert [m.shape[1:] for m in maps] == [
        (16, 16, 64), (8, 8, 128), (4, 4, 256), (2, 2, 512), (1, 1, 512),
    ]  # fmt: skip
    natural = (image + 1) / 2
    natural = (natural - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    patch = natural[0, 4:7, 8:11].transpose(2, 0, 1)
    kernel = arrays["features.0.weight"]
    expected = np.maximum((kernel * patch).sum((1, 2, 3)) + arrays["features.0.bias"], 0)
    np.testing.assert_allclose(maps[0][0, 5, 9], expected, rtol=1e-4, atol=1e-4)
    del arrays["features.28.bias"]
    np.savez(tmp_path / "short.npz", **arrays)
    with pytest.raises(ValueError, match=r"features\.28\.bias"):
        read_vgg19(tmp_path / "short.npz")
