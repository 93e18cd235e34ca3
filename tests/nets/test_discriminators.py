"""Discriminators' sizes against the sheets' figures, spectral norms against numpy's SVD."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.nets.discriminators import MultiScaleDiscriminator, PatchDiscriminator
from jaxmedgen.nets.layers import Conv
from jaxmedgen.nets.spectral import COLLECTION, SpectralConv, SpectralNorm


def shapes(net, image):
    return jax.eval_shape(lambda: net.init_with_output(jax.random.key(0), image)[0])


def test_the_conditional_patch_discriminator_has_the_published_odd_sizes():
    scales = shapes(MultiScaleDiscriminator(PatchDiscriminator(), 2), jnp.zeros((1, 128, 128, 5)))
    assert [m.shape[1] for m in scales[0]] == [65, 33, 17, 18, 19]
    assert [m.shape[-1] for m in scales[0]] == [64, 128, 256, 512, 1]
    assert [m.shape[1] for m in scales[1]] == [33, 17, 9, 10, 11]


def test_the_layer_normalised_one_shrinks_by_eight_in_2d_and_3d():
    net = PatchDiscriminator((8, 16, 32), (2, 2, 2), "layer", 1, 1, spectral_ends=True)
    for shape in ((1, 48, 48, 1), (1, 16, 24, 32, 2)):
        maps = shapes(net, jnp.zeros(shape))
        assert maps[-1].shape == (1, *(s // 8 for s in shape[1:-1]), 1)


def test_weights_get_norm_one_and_move_in_updates_only():
    layer = SpectralConv(6, 3)
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 4))
    variables = layer.init(jax.random.key(0), x)

    @jax.jit
    def advance(variables):
        y, new = layer.apply(variables, x, True, mutable=[COLLECTION])
        return y, {**variables, **new}

    for _ in range(100):
        y, variables = advance(variables)
    kernel = np.asarray(variables["params"]["conv"]["kernel"])
    largest = np.linalg.svd(kernel.reshape(-1, 6), compute_uv=False)[0]
    plain = SpectralConv(6, 3, normalise=False).apply({"params": variables["params"]}, x)
    np.testing.assert_allclose(y, np.asarray(plain) / largest, rtol=1e-4, atol=1e-5)
    # Without `update` nothing may change: an apply with no mutable collection is allowed.
    again = layer.apply(variables, x)
    np.testing.assert_allclose(again, y, rtol=1e-5, atol=1e-6)


def test_spectral_norm_is_that_of_flax():
    """Variables, outputs, updates and gradients of the library's slower one."""

    class Layer(nn.Module):
        own: bool

        @nn.compact
        def __call__(self, x, update=False):
            layer = Conv(3, 3, name="conv")
            if self.own:
                return SpectralNorm(layer, name="norm")(x, update)
            theirs = nn.SpectralNorm(layer, collection_name=COLLECTION, name="norm")
            return theirs(x, update_stats=update)

    x = jax.random.normal(jax.random.key(1), (2, 5, 5, 2))
    found = []
    for own in (True, False):
        layer = Layer(own)
        variables = layer.init(jax.random.key(0), x)

        def total(params, layer=layer, variables=variables):
            y, new = layer.apply({**variables, "params": params}, x, True, mutable=[COLLECTION])
            return jnp.sin(y).sum(), (y, new)

        found.append((variables, jax.grad(total, has_aux=True)(variables["params"])))
    ours, theirs = found
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), ours, theirs)


def test_too_small_images_and_uneven_settings_are_named():
    with pytest.raises(ValueError, match="too small for 4 taps"):
        shapes(PatchDiscriminator((4, 4), (2, 2), padding=0), jnp.zeros((1, 6, 6, 1)))
    with pytest.raises(ValueError, match="2 features but 1 strides"):
        shapes(PatchDiscriminator((4, 4), (2,)), jnp.zeros((1, 16, 16, 1)))


class OneCall(nn.Module):
    """A discriminator called twice in a step, the second time without update."""

    @nn.compact
    def __call__(self, x):
        net = PatchDiscriminator((4, 4), (2, 2))
        return net(x, True), net(x, False)


def test_a_second_call_of_a_step_leaves_the_vectors_alone():
    x = jax.random.normal(jax.random.key(1), (1, 16, 16, 1))
    variables = OneCall().init(jax.random.key(0), x)
    _, both = OneCall().apply(variables, x, mutable=[COLLECTION])
    inner = {name: tree["PatchDiscriminator_0"] for name, tree in variables.items()}
    _, once = PatchDiscriminator((4, 4), (2, 2)).apply(inner, x, True, mutable=[COLLECTION])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        both[COLLECTION]["PatchDiscriminator_0"],
        once[COLLECTION],
    )
