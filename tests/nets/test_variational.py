"""Encoders and decoders: sizes of the reference implementation, shapes, starting values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.nets import variational as nets


def built(net, *arguments):
    """Shapes of the output and number of parameters; nothing is computed."""
    *arrays, train = arguments if isinstance(arguments[-1], bool) else (*arguments, None)

    def make(key, *arrays):
        inputs = arrays if train is None else (*arrays, train)
        variables = net.init(key, *inputs)
        return net.apply(variables, *inputs, mutable=["batch_stats"])[0], variables["params"]

    output, params = jax.eval_shape(make, jax.random.key(0), *arrays)
    return output, sum(x.size for x in jax.tree.leaves(params))


def test_mlp_encoder_has_the_reference_sizes():
    """BatchNorm1d(784), 512, 256, 2; twice, for mean and variance."""
    trunk = 2 * 784 + (784 * 512 + 512) + (512 * 256 + 256) + (256 * 2 + 2)
    image = jnp.zeros((4, 28, 28, 1))
    net = nets.GaussianEncoder(nets.MLPEncoder(2), nets.MLPEncoder(2))
    (mean, log_variance), count = built(net, image, False)
    assert count == 2 * trunk
    assert mean.shape == log_variance.shape == (4, 2)


def test_conv_networks_have_the_reference_sizes():
    """28 -> 14 -> 7, and 7 -> 13 -> 25 -> 28."""
    kernel = 9 * 64 * 64 + 64
    _, count = built(nets.ConvEncoder(2), jnp.zeros((2, 28, 28, 1)), False)
    assert count == 2 + (9 * 64 + 64) + 2 * kernel + (7 * 7 * 64 * 2 + 2)
    image, count = built(nets.ConvDecoder((28, 28, 1)), jnp.zeros((2, 2)))
    assert image.shape == (2, 28, 28, 1)
    assert count == (2 * 49 + 49) + (9 * 64 + 64) + 2 * kernel + (25 * 25 * 64 * 784 + 784)


@pytest.mark.parametrize("shape", [(20, 18, 1), (9, 10, 11, 2)])
def test_volume_networks_take_any_size(shape):
    trunk = nets.ConvEncoder(6, (4, 8), (2, 2), "instance", "mean", 0.2, False)
    net = nets.GaussianEncoder(trunk, None)
    (mean, log_variance), _ = built(net, jnp.ones((2, *shape)), True)
    assert mean.shape == log_variance.shape == (2, 3)
    decoder = nets.UpsamplingDecoder(shape, (8, 8, 4))
    assert built(decoder, jnp.ones((2, 3)))[0].shape == (2, *shape)


def test_map_decoder_starts_at_the_identity():
    net, z = nets.MLPDecoder((6,), (8, 8), zero=True), jnp.ones((2, 3))
    out = jax.jit(lambda key: net.apply(net.init(key, z), z))(jax.random.key(0))
    np.testing.assert_array_equal(out, np.zeros((2, 6)))


def test_reparametrised_draws_have_the_posteriors_moments():
    noise = jax.random.normal(jax.random.key(0), (100000,))
    z = nets.sample_gaussian(noise, jnp.full(noise.shape, 2.0), jnp.full(noise.shape, np.log(9.0)))
    np.testing.assert_allclose([z.mean(), z.std()], [2, 3], rtol=0.01)
