"""Layers against numpy, flax and their definitions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmedgen.nets.layers import Conv, ConvTranspose, Norm, Upsample
from jaxmedgen.ops.collectives import batch_axis

X = jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, size=(4, 5, 4, 3, 8)), jnp.float32)


def test_conv_equals_flax_conv():
    ours, plain = Conv(6, 3, 2), nn.Conv(6, (3, 3, 3), strides=2)
    variables = ours.init(jax.random.key(0), X)
    np.testing.assert_allclose(
        ours.apply(variables, X), plain.apply(variables, X), rtol=1e-4, atol=1e-4
    )


def test_transposed_conv_equals_flax_conv_transpose():
    ours = ConvTranspose(6, 4, 2)
    plain = nn.ConvTranspose(6, (4, 4, 4), strides=(2, 2, 2), transpose_kernel=True)
    variables = ours.init(jax.random.key(0), X)
    kernel = jnp.swapaxes(variables["params"]["kernel"], -1, -2)
    expected = plain.apply({"params": {**variables["params"], "kernel": kernel}}, X)
    y = ours.apply(variables, X)
    assert y.shape == (4, 10, 8, 6, 6)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_he_initialisation_keeps_the_second_moment():
    x = jax.random.normal(jax.random.key(1), (2, 12, 12, 12, 64))
    for layer in (Conv(64, use_bias=False, padding="CIRCULAR"), Upsample(64), ConvTranspose(64)):
        y = layer.apply(layer.init(jax.random.key(2), x), x)
        inside = y[:, 2:-2, 2:-2, 2:-2]  # transposed ones have fewer taps at the edge
        assert jnp.mean(nn.leaky_relu(inside) ** 2) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_instance_norm(dtype):
    layer = Norm("instance")
    x = (X * 0.01 + 100).astype(jnp.float32)  # a large mean: one-pass variances would cancel
    y = layer.apply(layer.init(jax.random.key(0), x), x)
    exact = np.float64(x)
    axes = (1, 2, 3)
    exact = (exact - exact.mean(axes, keepdims=True)) / np.sqrt(
        exact.var(axes, keepdims=True) + 1e-5
    )
    np.testing.assert_allclose(y, exact, atol=2e-3)
    low = layer.apply(layer.init(jax.random.key(0), X), X.astype(dtype))
    assert low.dtype == dtype


def test_group_norm_equals_flax():
    ours, plain = Norm("group", groups=4), nn.GroupNorm(num_groups=4, epsilon=1e-5)
    variables = ours.init(jax.random.key(0), X)
    np.testing.assert_allclose(ours.apply(variables, X), plain.apply(variables, X), atol=1e-4)
    with pytest.raises(ValueError, match="groups=3"):
        Norm("group", groups=3).init(jax.random.key(0), X)


def test_batch_norm_equals_flax_in_values_and_running_statistics():
    ours = Norm("batch")
    variables = ours.init(jax.random.key(0), X)
    assert float(variables["batch_stats"]["mean"].sum()) == 0.0
    y, state = ours.apply(variables, X, train=True, mutable=["batch_stats"])
    plain = nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5)
    expected, expected_state = plain.apply(
        plain.init(jax.random.key(0), X), X, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(y, expected, atol=1e-4)
    for name in ("mean", "var"):
        np.testing.assert_allclose(
            state["batch_stats"][name], expected_state["batch_stats"][name], rtol=1e-4
        )
    evaluated = ours.apply({**variables, **state}, X, train=False)
    mean, var = state["batch_stats"]["mean"], state["batch_stats"]["var"]
    np.testing.assert_allclose(evaluated, (X - mean) / jnp.sqrt(var + 1e-5), rtol=1e-4, atol=1e-5)


def test_batch_norm_is_global_under_pmap():
    layer = Norm("batch")
    variables = layer.init(jax.random.key(0), X)

    def step(variables, x):
        with batch_axis("i"):
            return layer.apply(variables, x, train=True, mutable=["batch_stats"])

    y, state = jax.pmap(step, axis_name="i", in_axes=(None, 0))(variables, X[:, None])
    whole, whole_state = layer.apply(variables, X, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y[:, 0], whole, atol=1e-5)
    np.testing.assert_allclose(
        state["batch_stats"]["var"][3], whole_state["batch_stats"]["var"], rtol=1e-5
    )


def test_no_norm_has_no_parameters():
    assert Norm("none").init(jax.random.key(0), X) == {}


@pytest.mark.parametrize("method", ["conv", "nearest", "linear"])
def test_upsample_shapes_and_precision(method):
    layer = Upsample(6, (1, 2, 3), method, dtype=jnp.bfloat16)
    variables = layer.init(jax.random.key(0), X)
    y = layer.apply(variables, X)
    assert y.shape == (4, 5, 8, 9, 6) and y.dtype == jnp.bfloat16
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
