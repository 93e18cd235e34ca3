"""Generators from label maps: sizes of the sheet, what they depend on, equal parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.nets.modulation import Clade, class_offsets
from jaxmedgen.nets.pix2pix import Pix2PixHD, Pix2PixUNet
from jaxmedgen.nets.spade import SpadeBlock, SpadeGenerator
from jaxmedgen.nets.style import StyleEncoder, StyleNet
from jaxmedgen.nets.synthesizer import Synthesizer


def shapes(net, *arguments):
    """Shapes of parameters and outputs, nothing is computed."""
    return jax.eval_shape(lambda key: net.init_with_output(key, *arguments), jax.random.key(0))


def count(variables):
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(variables["params"]))


def test_the_generator_of_the_sheet():
    """128^2: latent grid 8^2 x 512, blocks 512, 512, 256, 128, 64, 32."""
    label, z = jnp.zeros((1, 128, 128, 4)), jnp.zeros((1, 256))
    image, variables = shapes(SpadeGenerator((128, 128)), label, z)
    params = variables["params"]
    assert image.shape == (1, 128, 128, 1)
    assert params["start"]["kernel"].shape == (256, 8 * 8 * 512)
    names = ("coarse_0", "coarse_1", "up_0", "up_1", "up_2", "up_3")
    outputs = [params[n]["conv_1"]["conv"]["kernel"].shape[-1] for n in names]
    assert outputs == [512, 512, 256, 128, 64, 32]
    inner = [params[n]["conv_0"]["conv"]["kernel"].shape[-2:] for n in names]
    assert inner == [(512, 512), (512, 512), (512, 256), (256, 128), (128, 64), (64, 32)]
    # A shortcut is learned where channels change, and has no bias.
    learned = [n for n in names if "conv_shortcut" in params[n]]
    assert learned == ["up_0", "up_1", "up_2", "up_3"]
    assert set(params["up_0"]["conv_shortcut"]["conv"]) == {"kernel"}
    assert params["up_0"]["modulation_0"]["shared"]["kernel"].shape == (3, 3, 4, 128)
    assert params["image"]["kernel"].shape == (3, 3, 32, 1)
    _, label_only = shapes(SpadeGenerator((128, 128)), label)
    assert label_only["params"]["start"]["kernel"].shape == (3, 3, 4, 512)
    # 256^2: one more doubling at 512 channels.
    large, deeper = shapes(
        SpadeGenerator((256, 256), levels=5, blocks=1), jnp.zeros((1, 256, 256, 4))
    )
    widths = [deeper["params"][f"up_{i}"]["conv_1"]["conv"]["kernel"].shape[-1] for i in range(5)]
    assert large.shape == (1, 256, 256, 1) and widths == [512, 256, 128, 64, 32]
    volume, _ = shapes(SpadeGenerator((16, 16, 8), width=2, levels=2), jnp.zeros((1, 16, 16, 8, 3)))
    assert volume.shape == (1, 16, 16, 8, 1)


def test_the_style_networks_of_the_sheet():
    image = jnp.zeros((1, 128, 128, 1))
    (mean, log_variance), variables = shapes(StyleEncoder(), image)
    assert mean.shape == log_variance.shape == (1, 256)
    kernels = [variables["params"][f"SpectralConv_{i}"]["conv"]["kernel"].shape for i in range(4)]
    assert [k[-1] for k in kernels] == [32, 64, 128, 256]
    assert variables["params"]["mean"]["kernel"].shape == (8 * 8 * 256, 256)
    code, variables = shapes(StyleNet(), image)
    assert code.shape == (1, 512)
    assert variables["params"]["code"]["kernel"].shape == (8 * 8 * 512, 512)
    assert variables["params"]["SpectralConv_0"]["conv"]["kernel"].shape == (7, 7, 1, 32)


def test_a_block_is_the_papers_formula():
    """norm(x)(1 + gamma) + beta, rectified, convolved by a kernel of spectral norm one, twice."""
    key = jax.random.key(1)
    x = jax.random.normal(key, (2, 4, 4, 3))
    label = jax.nn.one_hot(jax.random.randint(key, (2, 8, 8), 0, 2), 2)
    block = SpadeBlock(3, "clade", "instance", kernel_init=jax.nn.initializers.normal(1.0))
    variables = block.init(key, x, label, True, True)
    for _ in range(30):  # power iterations
        _, new = block.apply(variables, x, label, True, True, mutable=["spectral"])
        variables = {**variables, **new}
    found = block.apply(variables, x, label, True, False)
    params = jax.tree.map(np.asarray, variables["params"])
    expected = np.asarray(x)
    small = np.asarray(label)[:, 1::2, 1::2]
    for i in range(2):
        mean, var = (f(expected, axis=(1, 2), keepdims=True) for f in (np.mean, np.var))
        plain = (expected - mean) / np.sqrt(var + 1e-5)
        table = params[f"modulation_{i}"]
        y = plain * (small @ table["gamma"]) + small @ table["beta"]
        y = np.where(y > 0, y, 0.2 * y)
        layer = params[f"conv_{i}"]["conv"]
        kernel = layer["kernel"] / np.linalg.norm(layer["kernel"].reshape(-1, 3), 2)
        wide = np.pad(y, [(0, 0), (1, 1), (1, 1), (0, 0)])
        taps = [(i, j) for i in range(3) for j in range(3)]
        expected = layer["bias"] + sum(
            wide[:, i : i + 4, j : j + 4] @ kernel[i, j] for i, j in taps
        )
    np.testing.assert_allclose(found, np.asarray(x) + expected, rtol=1e-3, atol=1e-3)


def test_places_within_a_class():
    label = jnp.zeros((1, 4, 6), jnp.int32).at[:, :, 3:].set(1)
    offsets = np.asarray(class_offsets(jax.nn.one_hot(label, 2)))
    np.testing.assert_allclose(offsets[0, :, 0, 0], [-1, -1 / 3, 1 / 3, 1], rtol=1e-5)
    np.testing.assert_allclose(offsets[0, 0, :, 1], [-1, 0, 1, -1, 0, 1], atol=1e-6)
    # Nothing of it shows before training.
    x = jax.random.normal(jax.random.key(0), (1, 4, 6, 3))
    variables = Clade("instance", distance=True).init(
        jax.random.key(1), x, jax.nn.one_hot(label, 2)
    )
    plain = {"params": {k: v for k, v in variables["params"].items() if "distance" not in k}}
    one_hot = jax.nn.one_hot(label, 2)
    np.testing.assert_allclose(
        Clade("instance", distance=True).apply(variables, x, one_hot),
        Clade("instance").apply(plain, x, one_hot),
        rtol=1e-6,
    )


@pytest.mark.parametrize("generator", [
    SpadeGenerator((16, 16), width=2, levels=2, blocks=1, hidden=4, init_gain=1.0),
    Pix2PixHD((16, 16), width=2, levels=2, blocks=1, norm="batch", init_gain=1.0),
    Pix2PixUNet((16, 16), features=(2, 4, 8)),
], ids=["spade", "pix2pixhd", "unet"])  # fmt: skip
def test_images_depend_on_label_style_and_vendor(generator):
    key = jax.random.key(0)
    label = jax.nn.one_hot(jax.random.randint(key, (2, 16, 16), 0, 3), 3)
    noise = jax.random.normal(key, (2, 5))
    net = Synthesizer(generator, latent=5, vendors=3)
    image, vendor = jnp.zeros((2, 16, 16, 1)), jnp.array([0, 2])
    variables = jax.jit(net.init)(key, label, noise, image, vendor)

    @jax.jit
    def draw(label, noise, vendor):
        return net.apply(variables, label, noise, image, vendor).image

    first = draw(label, noise, vendor)
    assert first.shape == (2, 16, 16, 1) and np.abs(first).max() < 1
    for other in (
        (label[:, ::-1], noise, vendor),
        (label, 2 * noise, vendor),
        (label, noise, vendor[::-1]),
    ):
        assert np.abs(draw(*other) - first).max() > 1e-4


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"pad them to \(64, 72\)"):
        shapes(SpadeGenerator((64, 70), levels=3), jnp.zeros((1, 64, 70, 4)))
    with pytest.raises(ValueError, match="pad or crop them"):
        shapes(SpadeGenerator((64, 64), levels=3), jnp.zeros((1, 32, 32, 4)))
