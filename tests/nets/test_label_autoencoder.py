import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxmedgen.nets.label_autoencoder import LabelAutoencoder
from jaxmedgen.ops.resize import resize_corners


def test_enlargement_with_aligned_corners_agrees_with_zoom():
    image = np.random.default_rng(0).normal(size=(4, 5, 3))
    made = resize_corners(jnp.asarray(image[None, ..., None], jnp.float32), (8, 10, 6))
    np.testing.assert_allclose(made[0, ..., 0], ndimage.zoom(image, 2, order=1), atol=1e-5)
    with pytest.raises(ValueError, match="2 spatial axes"):
        resize_corners(jnp.zeros((1, 4, 4, 1)), (8,))


def count(shape, features, latents, neck, classes):
    """Parameters after the table of layers: convolutions without bias, two numbers a norm."""

    def conv(a, b):
        return 9 * a * b + 2 * b

    def dense(a, b):
        return a * b + b

    total, before = 0, classes
    for width in features:
        total += conv(before, width) + 2 * conv(width, width)
        before = width
    flat = shape[0] * shape[1] // 4 ** len(features) * features[-1]
    total += dense(flat, neck) + dense(neck, neck) + 2 * dense(neck, latents)
    total += dense(latents, neck) + dense(neck, neck) + dense(neck, flat)
    for width, after in zip(features[::-1], [*features[-2::-1], features[0]]):
        total += conv(before, width) + conv(width, after)
        before = after
    half = features[0] // 2
    return total + conv(before, half) + 9 * half * classes + classes


def test_layers_are_those_of_the_table():
    widths = (64, 128, 256, 512)
    net = LabelAutoencoder((128, 128), 4, features=widths)
    shapes = jax.eval_shape(
        lambda key: net.init(key, jnp.zeros((1, 128, 128, 4)), jnp.zeros((1, 16)), True),
        jax.random.key(0),
    )
    found = sum(np.prod(x.shape, dtype=int) for x in jax.tree.leaves(shapes["params"]))
    assert found == count((128, 128), widths, 16, 256, 4)


@pytest.mark.parametrize(("shape", "kind"), [((32, 32), "residual"), ((16, 32, 16), "conv")])
def test_volumes_and_residual_blocks_have_the_same_interface(shape, kind):
    net = LabelAutoencoder(shape, 3, latents=5, features=(4, 4, 8, 8), neck=7, kind=kind)

    def run(key):
        onehot = jnp.zeros((2, *shape, 3))
        variables = net.init(key, onehot, jnp.zeros((2, 5)), True)
        mean, _ = net.apply(variables, onehot, method="encode")
        return mean, net.apply(variables, mean, method="decode")

    mean, scores = jax.eval_shape(run, jax.random.key(0))
    assert mean.shape == (2, 5) and scores.shape == (2, *shape, 3)


def test_shapes_that_do_not_halve_are_named():
    net = LabelAutoencoder((24, 20), 3, features=(4, 4, 4))
    with pytest.raises(ValueError, match="multiple of 8"):
        jax.eval_shape(
            lambda key: net.init(key, jnp.zeros((1, 24, 20, 3)), jnp.zeros((1, 16)), True),
            jax.random.key(0),
        )
