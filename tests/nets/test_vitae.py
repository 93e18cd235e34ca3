"""The transformational autoencoder: what is warped, by which map, and what each encoder sees."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, ndimage

from jaxmedgen.nets.vitae import Vitae
from jaxmedgen.ops.deformable_transformers import transformer
from jaxmedgen.ops.resample import resample

SHAPE = (12, 12)
LATENTS = 5


def build(*, family="affinediff", **settings):
    """A small network and random variables: its maps are not the identity that it starts from."""
    defaults = {"perspective": 2, "appearance": 3, "features": (8, 6)}
    net = Vitae(SHAPE, 1, transformer(family, 2) if family else None, **defaults | settings)
    return net, variables_of(net)


def variables_of(net):
    noise = jnp.zeros((1, net.perspective + net.appearance))
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *SHAPE, 1)), noise)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if "var" in str(path[-1]):
            return jnp.ones(leaf.shape)
        spread = leaf.shape[0] ** -0.5 if leaf.ndim > 1 else 0.1
        return jnp.asarray(rng.normal(0, spread, leaf.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def blobs(count=3):
    grid = np.indices(SHAPE)
    centres = np.random.default_rng(1).uniform(4, 7, (count, 2))
    images = [np.exp(-((grid - c[:, None, None]) ** 2).sum(0) / 6) for c in centres]
    return jnp.asarray(np.stack(images)[..., None], jnp.float32)


NOISE = jnp.asarray(np.random.default_rng(2).normal(size=(3, LATENTS)), jnp.float32)


def apply(net, variables, *arguments, **keywords):
    return jax.jit(functools.partial(net.apply, **keywords))(variables, *arguments)


def sampled(image, parameters, sign, mode="nearest"):
    """``x(exp(sign A) p)`` by SciPy, positions from -1 to 1 over the voxel centres."""
    scale = 2 / (np.array(SHAPE) - 1)
    points = np.indices(SHAPE).reshape(2, -1) * scale[:, None] - 1
    moved = []
    for picture, numbers in zip(np.asarray(image), np.asarray(parameters, np.float64)):
        matrix = linalg.expm(sign * np.vstack([numbers.reshape(2, 3), np.zeros((1, 3))]))
        where = matrix[:2, :2] @ points + matrix[:2, 2:]
        where = (where + 1) / scale[:, None]
        values = ndimage.map_coordinates(picture[..., 0].astype(np.float64), where, None, 1, mode)
        moved.append(values.reshape(*SHAPE, 1))
    return np.stack(moved)


@pytest.mark.parametrize("conditional", [True, False])
def test_the_pass_is_the_published_one(conditional):
    """z_P, its map, the image with the map undone, z_A of it (or of the image), the map again."""
    net, variables = build(conditional=conditional)
    image = blobs()
    found = apply(net, variables, image, NOISE)
    own = apply(net, variables, image, method="encode_perspective")
    z = own.mean + np.exp(0.5 * own.log_variance) * NOISE[:, :2]
    np.testing.assert_allclose(found.z_perspective, z, atol=1e-6)
    parameters = apply(net, variables, z, method="decode_perspective")
    assert np.abs(parameters).max() > 0.1
    np.testing.assert_allclose(found.parameters, parameters, atol=1e-6)
    canonical = sampled(image, parameters, -1)
    np.testing.assert_allclose(found.canonical, canonical, atol=1e-5)
    assert np.abs(canonical - image).max() > 0.1
    seen = jnp.asarray(canonical, jnp.float32) if conditional else image
    appearance = apply(net, variables, seen, method="encode_appearance")
    np.testing.assert_allclose(found.appearance.mean, appearance.mean, atol=1e-4)
    drawn = appearance.mean + np.exp(0.5 * appearance.log_variance) * NOISE[:, 2:]
    np.testing.assert_allclose(found.z_appearance, drawn, atol=1e-4)
    mean, variance = apply(net, variables, found.z_appearance, count=3, method="decode_appearance")
    np.testing.assert_allclose(found.mean, sampled(mean, parameters, 1), atol=1e-5)
    np.testing.assert_allclose(found.variance, sampled(variance, parameters, 1), atol=1e-5)
    generated = apply(net, variables, found.z_perspective, found.z_appearance, method="generate")
    np.testing.assert_allclose(generated, found.mean, atol=1e-6)


@pytest.mark.parametrize("family", ["affinediff", "affinediff+svf"])
def test_the_decoder_s_map_undoes_the_encoder_s(family):
    """A blob that the encoder's map moved stands where it stood after the decoder's."""
    net, variables = build(family=family)
    image = blobs()
    found = apply(net, variables, image, NOISE)
    shown = resample(found.canonical, net.transformer.coordinates(found.parameters, SHAPE))
    inner = (slice(None), slice(3, -3), slice(3, -3))
    moved = np.abs(found.canonical - image)[inner].max()
    # What two linear resamplings blur away is small beside what one map moves.
    assert np.abs(shown - image)[inner].max() < 0.3 * moved


def test_only_the_conditional_appearance_teaches_the_perspective():
    """In C-VITAE the gradient of q(z_A) reaches the P branch through the map, in U-VITAE never."""
    for conditional in (True, False):
        net, variables = build(conditional=conditional)

        def loss(params, net=net, variables=variables):
            found = net.apply(variables | {"params": params}, blobs(), NOISE)
            return (found.appearance.mean**2).sum()

        slopes = jax.jit(jax.grad(loss))(variables["params"])
        for name in ("perspective_encoder", "perspective_decoder"):
            largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(slopes[name]))
            assert (largest > 1e-4) == conditional, name


def test_a_variance_that_is_warped_from_beyond_the_border_stays_positive():
    for padding, zero in (("border", False), ("constant", True)):
        net, variables = build(family="affinediff", padding=padding)
        bias = variables["params"]["perspective_decoder"]["Dense_2"]["bias"]
        far = bias.at[2].set(3.0)  # by two thirds of the image
        variables["params"]["perspective_decoder"]["Dense_2"]["bias"] = far
        found = apply(net, variables, blobs(), NOISE)
        assert (np.asarray(found.variance) == 0).any() == zero
        assert np.isfinite(found.canonical).all()


def test_a_template_replaces_the_appearance():
    net, variables = build(appearance=0, likelihood="gaussian")
    found = apply(net, variables, blobs(), NOISE[:, :2])
    assert found.appearance is None and found.z_appearance is None
    template, _ = apply(net, variables, None, count=3, method="decode_appearance")
    np.testing.assert_array_equal(template[0], template[2])
    np.testing.assert_allclose(found.mean, sampled(template, found.parameters, 1), atol=1e-4)


def test_without_a_transformer_it_is_a_plain_autoencoder():
    net, variables = build(family="", perspective=0, appearance=4)
    image = blobs()
    found = apply(net, variables, image, NOISE[:, :4])
    assert found.perspective is None and found.parameters is None
    np.testing.assert_array_equal(found.canonical, image)
    decoded, _ = apply(net, variables, found.z_appearance, count=3, method="decode_appearance")
    np.testing.assert_allclose(found.mean, decoded, atol=1e-6)
    assert 0 < found.mean.min() and found.mean.max() < 1
    with pytest.raises(ValueError, match="both or neither"):
        build(family="", perspective=2)
    with pytest.raises(ValueError, match="above 0"):
        build(family="", perspective=0, appearance=0)


def test_architectures_for_small_pictures_and_for_volumes():
    """Sizes of the published convolutions, twice for each posterior; volumes share one trunk."""
    kernel = 9 * 64 * 64 + 64
    trunk = 2 + (9 * 64 + 64) + 2 * kernel + (7 * 7 * 64 * 2 + 2)
    drawn = (2 * 49 + 49) + (9 * 64 + 64) + 2 * kernel + (25 * 25 * 64 * 784 + 784)
    small = Vitae((28, 28), 1, transformer("affinediff", 2), 2, 2, architecture="conv",
                  features=(64, 64, 64))  # fmt: skip
    found, sizes = shapes_of(small)
    assert found.mean.shape == found.variance.shape == found.canonical.shape == (2, 28, 28, 1)
    assert sizes["perspective_encoder"] == sizes["appearance_encoder"] == 2 * trunk
    assert sizes["mean_decoder"] == sizes["variance_decoder"] == drawn
    family = transformer("affinediff+svf", 3, grid=8)
    volume = Vitae((64, 64, 64), 2, family, 32, 64, likelihood="gaussian", architecture="volume",
                   features=(16, 32, 64, 128, 128))  # fmt: skip
    found, sizes = shapes_of(volume)
    assert found.mean.shape == (2, 64, 64, 64, 2)
    assert found.parameters.shape == (2, 12 + 3 * 8**3)
    steps = (2, 16, 32, 64, 128, 128)
    pairs = list(itertools.pairwise(steps))
    strided = sum(27 * a * b + 3 * b for a, b in pairs)  # with bias, scale and shift
    assert sizes["perspective_encoder"] == strided + 128 * 64 + 64
    coarse = 4**3 * 128
    doubled = sum(27 * a * b + 3 * b for a, b in itertools.pairwise((128, 128, 64, 32, 16)))
    assert sizes["mean_decoder"] == 64 * coarse + coarse + doubled + 27 * 16 * 2 + 2
    hidden = (32 * 128 + 128) + (128 * 256 + 256)
    assert sizes["perspective_decoder"] == hidden + 256 * 1548 + 1548


def shapes_of(net):
    """Shapes of a pass of two images, and parameters by part; nothing is computed."""
    image = jnp.zeros((2, *net.shape, net.channels))
    noise = jnp.zeros((2, net.perspective + net.appearance))

    def both(key):
        variables = net.init(key, image, noise)
        return net.apply(variables, image, noise), variables["params"]

    found, params = jax.eval_shape(both, jax.random.key(0))
    count = {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in params.items()}
    return found, count
