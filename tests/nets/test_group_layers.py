"""Layers of group networks, against their definition on fields moved element by element."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.nets.group_layers import (
    TRIVIAL,
    GroupConv3D,
    GroupConvTranspose3D,
    channel_dropout,
    pool_field,
    upsample_field,
)
from jaxmedgen.nets.layers import Norm
from jaxmedgen.ops.groups import act_on_field, act_on_image, point_group, subgroup_indices

CUBE, C4 = point_group("O"), point_group("C4")
RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def random_variables(layer, x, scale=0.2):
    """Variables of the layer's shapes; nothing is compiled for them."""
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    return jax.tree.map(lambda s: scale * normal(*s.shape), shapes)


def test_every_direction_of_group_conv():
    """Lifting, mixing, restricting to a subgroup, and back to images, with the slide's names."""
    layers = [
        GroupConv3D(2, 2, output_group=CUBE, activation=jax.nn.relu),
        GroupConv3D(2, 3, kernel_size=1, input_group=CUBE, output_group=CUBE),
        GroupConv3D(3, 2, 3, (1, 2, 2, 2, 1), input_group=CUBE, output_group=C4, reduce="max"),
        GroupConv3D(2, 1, input_group=C4, output_group=TRIVIAL),
    ]
    x = normal(1, 7, 7, 7, 2)
    shapes = [(7, 7, 7, 24, 2), (7, 7, 7, 24, 3), (4, 4, 4, 4, 2), (4, 4, 4, 1)]
    kernels = [(3, 3, 3, 2, 2), (1, 1, 1, 24, 2, 3), (3, 3, 3, 4, 3, 2), (3, 3, 3, 2, 1)]
    params = []

    def network(x):
        fields = [x]
        for layer, variables in zip(layers, params):
            fields.append(layer.apply(variables, fields[-1]))
        return fields[1:]

    field = x
    for layer, kernel in zip(layers, kernels):
        params.append(random_variables(layer, field))
        assert params[-1]["params"]["kernel"].shape == kernel
        field = jax.eval_shape(layer.apply, params[-1], field)
    turn = int(C4.generators[0])
    element = int(subgroup_indices(CUBE, C4)[turn])
    # One compilation for the image and its turned copy.
    both = jax.jit(network)(jnp.concatenate([x, act_on_image(x, C4.matrices[turn])]))
    for y, shape, group, g in zip(both, shapes, (CUBE, CUBE, C4), (element, element, turn)):
        assert y.shape[1:] == shape
        np.testing.assert_allclose(y[1:], act_on_field(y[:1], group, g), atol=2e-5)
    assert both[-1].shape[1:] == shapes[-1]


def test_weights_start_at_he_variance_over_group_and_taps():
    layer, x = GroupConv3D(20, 20, input_group=C4, output_group=C4), jnp.zeros((1, 3, 3, 3, 4, 20))
    kernel = jax.jit(lambda key: layer.init(key, x)["params"]["kernel"])(jax.random.key(0))
    assert float(kernel.std()) == pytest.approx((2 / (27 * 4 * 20)) ** 0.5, rel=0.02)


def test_pooling_upsampling_and_norm_commute_with_the_group():
    x = normal(2, 6, 6, 6, 24, 2) * (1 + jnp.arange(24.0)[:, None]) + 3
    up = GroupConvTranspose3D(3, CUBE)
    norm = Norm("instance")
    up_variables, norm_variables = (random_variables(layer, x) for layer in (up, norm))

    @jax.jit
    def layers(x):
        return {
            "max": pool_field(x, 2, CUBE),
            "mean": pool_field(x, 3, CUBE, "mean"),
            "nearest": upsample_field(x, 2, CUBE),
            "linear": upsample_field(x, 2, CUBE, "linear"),
            "transposed": up.apply(up_variables, x),
            "norm": norm.apply(norm_variables, x),
        }

    plain, moved = layers(x), layers(act_on_field(x, CUBE, 5))
    assert plain["transposed"].shape == (2, 12, 12, 12, 24, 3)
    for name, y in plain.items():
        np.testing.assert_allclose(moved[name], act_on_field(y, CUBE, 5), atol=2e-4, err_msg=name)
    # One mean for all group elements: their differences survive.
    by_element = plain["norm"].std((1, 2, 3))
    assert float(by_element.max() / by_element.min()) > 5
    with pytest.raises(ValueError, match="not divisible"):
        pool_field(normal(1, 7, 7, 7, 24, 1), 2, CUBE)


def test_dropout_has_one_mask_a_sample_and_channel():
    keys = jax.random.split(jax.random.key(0), 50)
    y = np.asarray(channel_dropout(jnp.ones((50, 4, 4, 4, 24, 8)), 0.25, keys))
    assert np.ptp(y, axis=(1, 2, 3, 4)).max() == 0
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert y.mean() == pytest.approx(1, abs=0.06)
    with pytest.raises(ValueError, match="rate 1"):
        channel_dropout(jnp.ones((1, 4, 4, 1)), 1.0, keys[:1])


def test_kernel_noise_acts_in_training_only_and_frozen_layers_learn_nothing():
    layer = GroupConv3D(1, 2, output_group=C4, kernel_noise=0.1)
    x = normal(1, 5, 5, 5, 1)
    variables = random_variables(layer, x)

    @jax.jit
    def run(keys):
        return layer.apply(variables, x), jax.vmap(lambda k: layer.apply(variables, x, k))(keys)

    plain, draws = run(jax.random.split(jax.random.key(1), 200))
    np.testing.assert_allclose(draws.mean(0), plain, atol=0.05)
    spread = draws.std(0)[:, 1:-1, 1:-1, 1:-1]
    # Noise of deviation 0.1 on 27 products: 0.1 times the norm of the products.
    kernel = variables["params"]["kernel"][..., 0, 0]
    first = 0.1 * jnp.linalg.norm(kernel * x[0, :3, :3, :3, 0])
    assert float(spread[0, 0, 0, 0, 0, 0]) == pytest.approx(float(first), rel=0.2)
    frozen = GroupConv3D(1, 2, output_group=C4, trainable=False)
    gradient = jax.jit(jax.grad(lambda v: frozen.apply(v, x).sum()))(variables)
    assert all(float(jnp.abs(g).max()) == 0 for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (GroupConv3D(2, 1), (1, 4, 4, 4, 3), "n_channels_in=2"),
        (GroupConv3D(2, 1, input_group=CUBE, output_group=CUBE), (1, 4, 4, 4, 2), "must be fields"),
        (GroupConv3D(1, 1, strides=(2, 1, 1, 1, 1)), (1, 4, 4, 4, 1), "1 first and last"),
        (GroupConv3D(1, 1, strides=2, output_group=CUBE), (1, 4, 4, 4, 1), "off centre"),
        (GroupConv3D(1, 1, input_group=C4, output_group=CUBE), (1, 4, 4, 4, 4, 1), "not contained"),
    ],
)
def test_what_does_not_fit_is_refused(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer.init(jax.random.key(0), jnp.zeros(shape))
