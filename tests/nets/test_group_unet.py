"""The group U-Net: equivariance of the whole network, the sheet's parameter counts, its options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.nets.group_unet import GroupUNet3D
from jaxmedgen.ops.groups import act_on_image, point_group

COUNTS = {  # (group, filters): parameters, from the talk's table
    ("trivial", 12): 3_644_368,
    ("C4", 3): 911_095,
    ("C4", 6): 3_641_770,
    ("C4", 12): 14_561_872,
    ("D4", 4): 3_236_552,
    ("T", 3): 2_730_679,
    ("O", 2): 2_426_982,
    ("Oh", 2): 4_853_094,
    ("O", 1): 606_965,
}


def build(name, size=8, depth=1, filters=1, **settings):
    group = point_group(name)
    settings = {"patch_size": (size,) * group.dim, "dropout": 0.0} | settings
    return GroupUNet3D(group, 3, 2, filters=filters, depth=depth, **settings)


def random_variables(net, x):
    """Random kernels, and random biases and scales: what is shared wrongly must show."""
    shapes = jax.eval_shape(net.init, jax.random.key(0), x)
    rng = np.random.default_rng(1)

    def draw(leaf):
        limit = (12 / np.prod(leaf.shape[:-1])) ** 0.5
        low, high = (0.2, 0.7) if leaf.ndim == 1 else (-limit, limit)
        return jnp.asarray(rng.uniform(low, high, leaf.shape), jnp.float32)

    return jax.tree.map(draw, shapes)


def turned(net, variables, x):
    """Outputs for all ``L_g x`` as one batch, and ``L_g`` of the output for x."""
    matrices = net.group.matrices
    moved = jnp.concatenate([act_on_image(x, m) for m in matrices])
    outputs = jax.jit(net.apply)(variables, moved)
    expected = np.concatenate([act_on_image(outputs[:1], m) for m in matrices])
    return outputs, expected


@pytest.mark.parametrize(("group", "filters"), COUNTS)
def test_parameter_counts(group, filters):
    net = GroupUNet3D(point_group(group), 4, 4, filters=filters, patch_size=(16, 16, 16))
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 16, 16, 16, 4)))
    assert sum(p.size for p in jax.tree.leaves(shapes)) == COUNTS[group, filters]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("C4", {"depth": 2, "norm": "batch"}),
        ("V", {"filters": 2}),
        ("D4", {"upsample": "conv", "padding": "circular"}),
        ("T", {"reduce": "max", "upsample": "linear", "size": 6}),
        ("O", {"depth": 2, "head_features": 5}),
        ("Oh", {"size": 4}),
        ("p4m", {"depth": 2, "filters": 2, "max_pool": 3, "size": 9}),
    ],
)
def test_the_whole_network_commutes_with_every_element(name, settings):
    net = build(name, out_act="linear", **settings)  # a softmax may saturate, and hide errors
    shape = (1, *net.patch_size, 2)
    x = jax.random.normal(jax.random.key(0), shape)
    outputs, expected = turned(net, random_variables(net, x), x)
    axes = tuple(range(1, outputs.ndim - 1))
    spread = outputs.std(axes).min()  # over the voxels of each channel
    assert spread > 3e-3 * jnp.abs(outputs).max()  # far above the tolerance
    np.testing.assert_allclose(outputs, expected, atol=1e-4 * float(jnp.abs(outputs).max()))


def test_in_double_precision_the_error_is_round_off():
    """What is left in float32 is rounding and no small error of the construction."""
    net = build("T", out_act="linear")
    x = jax.random.normal(jax.random.key(0), (1, *net.patch_size, 2))
    variables = random_variables(net, x)
    with jax.enable_x64(True):
        outputs, expected = turned(net, variables, jnp.asarray(np.asarray(x), jnp.float64))
        assert outputs.dtype == jnp.float64
        scale = float(jnp.abs(outputs).max())
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-10 * scale)
        assert float(outputs.std()) > 1e-3 * scale


def test_the_baseline_does_not_commute():
    net = build("trivial", filters=4)
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 8, 2))
    variables = random_variables(net, x)
    apply, turn = jax.jit(net.apply), point_group("C4").matrices[1]
    difference = apply(variables, act_on_image(x, turn)) - act_on_image(apply(variables, x), turn)
    assert jnp.abs(difference).max() > 0.02


def test_dropout_is_equivariant_for_every_draw():
    net = build("C4", filters=4, dropout=0.5)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 8, 2))
    variables = random_variables(net, x)
    apply = jax.jit(lambda x, keys: net.apply(variables, x, True, keys))
    keys, turn = jax.random.split(jax.random.key(1), 2), net.group.matrices[1]
    one, moved = apply(x, keys), apply(act_on_image(x, turn), keys)
    np.testing.assert_allclose(moved, act_on_image(one, turn), atol=1e-4)
    assert jnp.abs(apply(x, keys[::-1]) - one).max() > 0.01
    # A sample's draw is its own: it does not depend on its neighbours.
    np.testing.assert_allclose(apply(x[::-1], keys[::-1])[::-1], one, atol=1e-5)


def test_capacity_slope_and_frozen_weights():
    assert [build("C4", c_factor=4.0, filters=3).features(i) for i in range(3)] == [6, 12, 24]
    x = jnp.ones((1, 8, 8, 8, 2)).at[0, 2].set(-1.0)
    net, frozen = build("C4"), build("C4", trainable=False, out_act="linear", remat=True)
    shapes = [jax.eval_shape(n.init, jax.random.key(0), x) for n in (net, frozen)]
    assert jax.tree.structure(shapes[0]) == jax.tree.structure(shapes[1])
    variables = random_variables(net, x)
    scores, gradient = jax.jit(jax.value_and_grad(lambda v: jnp.sum(frozen.apply(v, x) ** 2)))(
        variables
    )
    assert scores > 0
    assert all(float(jnp.abs(g).max()) == 0 for g in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spacing": (1.0, 1.0, 3.0)}, "V, or C4, D4, D4h about the axis"),
        ({"patch_size": (8, 8, 9)}, "multiples of 2"),
        ({"patch_size": (8, 8)}, "3 numbers"),
        ({"padding": "valid"}, "skip connections"),
        ({"val_samples": 0}, "at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build("O", **settings)
    build("D4", spacing=(1.0, 1.0, 3.0))
    with pytest.raises(ValueError, match=r"3 channel\(s\), the network n_channels_in=2: give"):
        jax.eval_shape(build("O").init, jax.random.key(0), jnp.zeros((1, 8, 8, 8, 3)))
